//! Nobody connects into pods of an environment (WL-403), writes what their containers did (WL-404), or writes reserved
//! annotations by way of their statuses (WL-601).

use super::{Check, Namespaces, Parameter, Policy, cel, fallback, rule, tag};
use crate::domain::world::EGRESS_BANDWIDTH;
use crate::domain::{Rule, consumers::DOWNLOAD};

/// Nobody connects into pods and services of an environment whose admission is enforced. What the connection is to
/// does not show which pod is behind it, so the namespace decides.
pub fn connections() -> Policy {
    let rule_text = Rule::Connection.describe();
    Policy {
        name: "connections",
        parameter: Parameter::FirstShard,
        actions: &["Deny"],
        rules: vec![rule(
            "",
            &["v1"],
            &["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy"],
            &["CONNECT"],
        )],
        scope: Namespaces::Except(vec![]),
        variables: cel::membership(),
        gate: None,
        checks: vec![Check {
            violations: format!(
                "variables.environment == '' || variables.audit ? [] : [{} + request.subResource + ' into ' + (request.resource.resource == 'services' ? 'Service' : 'Pod') + ' \"' + request.namespace + '/' + request.name + '\" of environment \"' + variables.environment + '\" is refused (workloads.debug: Deny). Remedy: ' + {}]",
                tag(Rule::Connection),
                cel::literal(rule_text.remedy)
            ),
            unless: None,
            fallback: fallback(Rule::Connection, "connections into pods of this environment are refused"),
        }],
    }
}

/// Nobody goes around that by way of a node: its proxy leads to the kubelet, which runs commands in any pod of the node. The
/// path says in which namespace; what else a kubelet answers (metrics, statistics, health) is nobody's business here.
pub fn node_connections() -> Policy {
    let rule_text = Rule::Connection.describe();
    let enforced = |name: &str| format!("params.spec.members[{name}].admission == 'Enforce'");
    Policy {
        name: "node-connections",
        parameter: Parameter::FirstShard,
        actions: &["Deny"],
        rules: vec![rule("", &["v1"], &["nodes/proxy"], &["CONNECT"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![
            ("steps", "(has(object.path) ? object.path : '').split('/').filter(s, s != '')".into()),
            (
                "unclear",
                format!(
                    "variables.steps.exists(s, s == '.' || s == '..' || s.contains('%')) && params.spec.members.exists(n, {})",
                    enforced("n")
                ),
            ),
            ("into", format!("variables.steps.filter(s, s in params.spec.members && {})", enforced("s"))),
        ],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "!variables.unclear && size(variables.into) == 0 ? [] : [{} + 'the proxy of Node \"' + request.name + '\" with path \"' + variables.steps.join('/') + '\" ' + (variables.unclear ? 'cannot be told from a connection into pods of an environment' : 'leads into namespace \"' + variables.into[0] + '\" of environment \"' + params.spec.members[variables.into[0]].environment + '\"') + ' and is refused (workloads.debug: Deny). Remedy: ' + {}]",
                tag(Rule::Connection),
                cel::literal(rule_text.remedy)
            ),
            unless: None,
            fallback: fallback(Rule::Connection, "connections into pods of an environment through a node are refused"),
        }],
    }
}

/// Name of the policy of [`statuses`].
pub(super) const STATUSES: &str = "pod-statuses";

/// What containers of a pod did is said by its node alone. The verdict of a verifier counts from there, and whether a pod
/// that writes weights still runs; so nobody else may write container statuses, and only the cluster's own controllers
/// may say that a pod has ended. Annotations can be written with a status, too: those that the webhook keeps as they are in updates
/// of a pod stay so here. `None`: there is no namespace to guard.
///
/// It takes no parameter: one that is lost would stop the kubelets of the cluster.
pub fn statuses(enforced: Vec<String>) -> Option<Policy> {
    if enforced.is_empty() {
        return None;
    }
    let rule_text = Rule::ForgedStatus.describe();
    let changed = |field: &str| {
        let of = |object: &str| {
            format!("(has({object}.status) && has({object}.status.{field}) ? {object}.status.{field} : [])")
        };
        format!("({} != {} ? ['status.{field}'] : [])", of("object"), of("oldObject"))
    };
    let phase =
        |object: &str| format!("(has({object}.status) && has({object}.status.phase) ? {object}.status.phase : '')");
    let annotations =
        |object: &str| format!("(has({object}.metadata.annotations) ? {object}.metadata.annotations : {{}})");
    let reserved = format!("(k == {} || k.startsWith({}))", cel::literal(EGRESS_BANDWIDTH), cel::literal(DOWNLOAD));
    Some(Policy {
        name: STATUSES,
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule("", &["v1"], &["pods/status"], &["UPDATE"])],
        scope: Namespaces::Only(enforced),
        variables: vec![
            (
                "node",
                "has(object.spec.nodeName) && request.userInfo.username == 'system:node:' + object.spec.nodeName && 'system:nodes' in request.userInfo.groups".to_string(),
            ),
            ("cluster", cel::cluster().to_string()),
            ("annotations", annotations("object")),
            ("earlier", annotations("oldObject")),
            (
                "reserved",
                format!(
                    "variables.annotations.filter(k, {reserved} && !(k in variables.earlier && variables.earlier[k] == variables.annotations[k])) + variables.earlier.filter(k, {reserved} && !(k in variables.annotations))"
                ),
            ),
            (
                "containers",
                ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"].map(changed).join(" + "),
            ),
            (
                "ended",
                format!("{} in ['Succeeded', 'Failed'] && {0} != {} ? ['status.phase'] : []", phase("object"), phase("oldObject")),
            ),
        ],
        gate: None,
        checks: vec![
            Check {
                violations: format!(
                    "variables.node ? [] : (variables.containers + (variables.cluster ? [] : variables.ended)).map(f, {} + f + ' of Pod \"' + request.namespace + '/' + request.name + '\" is changed by \"' + request.userInfo.username + '\", which is not its node. Remedy: ' + {})",
                    tag(Rule::ForgedStatus),
                    cel::literal(rule_text.remedy)
                ),
                unless: None,
                fallback: fallback(Rule::ForgedStatus, "what the containers of a pod did is said by its node alone"),
            },
            Check {
                violations: format!(
                    "variables.reserved.map(k, {} + 'annotation ' + k + ' of Pod \"' + request.namespace + '/' + request.name + '\" is written by way of its status. Remedy: leave the annotation as it is.')",
                    tag(Rule::ReservedName)
                ),
                unless: None,
                fallback: fallback(Rule::ReservedName, "a reserved annotation is written by way of the status of a pod"),
            },
        ],
    })
}
