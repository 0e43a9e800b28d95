//! Pods: registered storage is mounted only where it is permitted (WL-101), nobody connects into pods of an environment
//! (WL-403) or writes what their containers did (WL-404), and GPU pods outside environments follow the installation's setting (WL-501).

use super::storage::claim_violations;
use super::{Namespaces, Parameter, Policy, cel, cluster_namespaces, fallback, rule, source, tag};
use crate::domain::Rule;
use crate::domain::world::{
    DEVICE_ANNOTATIONS, DEVICE_CLASS_RESOURCE, GPU_DEVICE_CLASSES, GPU_RESOURCES, GPU_RUNTIME_CLASSES, GPU_VARIABLES,
    GpuPodsOutside, NO_DEVICES, Settings,
};

/// Registered storage is not mounted in a namespace where it is not permitted, by a claim, inline, or through a claim
/// that the pod makes for itself.
pub fn volumes(settings: &Settings) -> Policy {
    let mut variables = cel::membership();
    variables.extend([
        ("volumes", "has(object.spec.volumes) ? object.spec.volumes : []".to_string()),
        (
            "sources",
            format!(
                "variables.volumes.map(v, {{'name': string(v.name), 'exact': {}, 'path': {}, 'unclear': {}}}).filter(v, v.exact != '' || v.path != '' || v.unclear != '')",
                source::exact("v"),
                source::path("v"),
                source::unclear("v")
            ),
        ),
        (
            "found",
            format!(
                "variables.sources.map(v, {{'name': dyn(v.name), 'unclear': dyn(v.unclear), 'keys': dyn({}), 'paths': dyn({}), 'parents': dyn({})}})",
                source::forbidden_keys("v.exact"),
                source::forbidden_paths("v.path"),
                source::forbidden_parents("v.path", "v.unclear")
            ),
        ),
    ]);
    let claim = "request.namespace + '/' + v.persistentVolumeClaim.claimName";
    let entry = format!("params.spec.claims[{claim}]");
    let mut lists = vec![format!(
        "variables.volumes.filter(v, has(v.persistentVolumeClaim) && ({claim}) in params.spec.claims && !{}).map(v, {})",
        cel::permitted(&entry),
        text("'is '", &entry, "' (PVC \"' + v.persistentVolumeClaim.claimName + '\")'")
    )];
    for violation in claim_violations("v.ephemeral.volumeClaimTemplate.spec", "run in") {
        lists.push(format!(
            "variables.volumes.filter(v, has(v.ephemeral) && has(v.ephemeral.volumeClaimTemplate) && {}).map(v, {} + {})",
            violation.condition,
            subject(),
            violation.text
        ));
    }
    for table in ["keys", "paths", "parents"] {
        let entry = format!("params.spec.{table}[v.{table}[0]]");
        lists.push(format!(
            "variables.found.filter(v, size(v.{table}) > 0).map(v, {})",
            text(
                &source::relation(table, &format!("v.{table}[0]"), "v.unclear"),
                &entry,
                &format!("' (' + v.{table}[0] + ')'")
            )
        ));
    }
    Policy {
        name: "pods",
        parameter: Parameter::EveryShard,
        actions: &["Deny"],
        rules: vec![
            // The volumes of a pod never change, so other updates of it (labels, finalizers) are not asked about.
            rule("", &["v1"], &["pods"], &["CREATE"]),
            rule("", &["v1"], &["pods/ephemeralcontainers"], &["UPDATE"]),
        ],
        scope: Namespaces::Except(cluster_namespaces(settings)),
        variables,
        violations: lists.join(" + "),
        unless: None,
        fallback: fallback(
            Rule::NotPermittedHere,
            "a volume of this pod is registered storage, which is not permitted in its namespace",
        ),
    }
}

/// The beginning of the text of a violation by volume `v`.
fn subject() -> String {
    format!("{} + 'volume \"' + v.name + '\" '", tag(Rule::NotPermittedHere))
}

/// The text of a violation by volume `v`.
fn text(what: &str, entry: &str, detail: &str) -> String {
    format!(
        "{} + {what} + {} + {detail} + {}",
        subject(),
        cel::artifact(entry),
        cel::not_permitted(entry, "request.namespace", "run in")
    )
}

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
        violations: format!(
            "variables.environment == '' || variables.audit ? [] : [{} + request.subResource + ' into ' + (request.resource.resource == 'services' ? 'Service' : 'Pod') + ' \"' + request.namespace + '/' + request.name + '\" of environment \"' + variables.environment + '\" is refused (workloads.debug: Deny). Remedy: ' + {}]",
            tag(Rule::Connection),
            cel::literal(rule_text.remedy)
        ),
        unless: None,
        fallback: fallback(Rule::Connection, "connections into pods of this environment are refused"),
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
        violations: format!(
            "!variables.unclear && size(variables.into) == 0 ? [] : [{} + 'the proxy of Node \"' + request.name + '\" with path \"' + variables.steps.join('/') + '\" ' + (variables.unclear ? 'cannot be told from a connection into pods of an environment' : 'leads into namespace \"' + variables.into[0] + '\" of environment \"' + params.spec.members[variables.into[0]].environment + '\"') + ' and is refused (workloads.debug: Deny). Remedy: ' + {}]",
            tag(Rule::Connection),
            cel::literal(rule_text.remedy)
        ),
        unless: None,
        fallback: fallback(Rule::Connection, "connections into pods of an environment through a node are refused"),
    }
}

/// Name of the policy of [`statuses`].
pub(super) const STATUSES: &str = "pod-statuses";

/// What containers of a pod did is said by its node alone. The verdict of a verifier counts from there, and whether a pod
/// that writes weights still runs; so nobody else may write container statuses, and only the cluster's own controllers
/// may say that a pod has ended. `None`: there is no namespace to guard.
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
            (
                "containers",
                ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"].map(changed).join(" + "),
            ),
            (
                "ended",
                format!("{} in ['Succeeded', 'Failed'] && {0} != {} ? ['status.phase'] : []", phase("object"), phase("oldObject")),
            ),
        ],
        violations: format!(
            "variables.node ? [] : (variables.containers + (variables.cluster ? [] : variables.ended)).map(f, {} + f + ' of Pod \"' + request.namespace + '/' + request.name + '\" is changed by \"' + request.userInfo.username + '\", which is not its node. Remedy: ' + {})",
            tag(Rule::ForgedStatus),
            cel::literal(rule_text.remedy)
        ),
        unless: None,
        fallback: fallback(Rule::ForgedStatus, "what the containers of a pod did is said by its node alone"),
    })
}

/// What becomes of GPUs outside every environment; `None`: nothing.
pub(super) fn gpu_actions(settings: &Settings) -> Option<&'static [&'static str]> {
    match settings.gpu_pods_outside {
        GpuPodsOutside::Allow => None,
        GpuPodsOutside::Warn => Some(&["Warn"]),
        GpuPodsOutside::Deny => Some(&["Deny"]),
    }
}

/// A pod that asks for a GPU outside every environment is warned of or refused, as the installation says.
pub fn gpus(settings: &Settings) -> Option<Policy> {
    let actions = gpu_actions(settings)?;
    let rule_text = Rule::GpuPodOutside.describe();
    let mut variables = cel::membership();
    variables.extend([
        (
            "containers",
            "object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])".to_string(),
        ),
        ("account", cel::account().to_string()),
        ("agent", format!("variables.account in {}", cel::literals(settings.node_agents.iter().map(ToString::to_string)))),
        (
            "given",
            format!(
                "variables.containers.filter(c, has(c.env) && c.env.exists(e, e.name in {} && (has(e.valueFrom) || (has(e.value) && !(e.value in {}))))).map(c, 'container \"' + c.name + '\" sets ' + c.env.filter(e, e.name in {0})[0].name)",
                cel::literals(GPU_VARIABLES),
                cel::literals(NO_DEVICES)
            ),
        ),
        (
            "classes",
            format!(
                "has(object.spec.runtimeClassName) && object.spec.runtimeClassName in {} ? ['the pod has runtimeClassName \"' + object.spec.runtimeClassName + '\"'] : []",
                cel::literals(GPU_RUNTIME_CLASSES)
            ),
        ),
        (
            "annotations",
            format!(
                "has(object.metadata.annotations) ? object.metadata.annotations.filter(k, k.startsWith({})).map(k, 'the pod has annotation \"' + k + '\"') : []",
                cel::literal(DEVICE_ANNOTATIONS)
            ),
        ),
        (
            "gpus",
            format!(
                "variables.containers.filter(c, has(c.resources) && [has(c.resources.limits) ? c.resources.limits : {{}}, has(c.resources.requests) ? c.resources.requests : {{}}].exists(l, l.exists(r, {})))",
                is_gpu("r", settings)
            ),
        ),
    ]);
    Some(Policy {
        name: "gpu-pods",
        parameter: Parameter::FirstShard,
        actions,
        rules: vec![rule("", &["v1"], &["pods"], &["CREATE"])],
        scope: Namespaces::Except(cluster_namespaces(settings)),
        variables,
        violations: format!(
            "variables.environment != '' || variables.agent ? [] : (variables.gpus.map(c, 'container \"' + c.name + '\" asks for a GPU') + (variables.given + variables.classes + variables.annotations).map(t, t + ', which gives it GPUs without a request')).map(t, {} + t + ', and namespace \"' + request.namespace + '\" is in no environment. Remedy: ' + {})",
            tag(Rule::GpuPodOutside),
            cel::literal(rule_text.remedy)
        ),
        unless: None,
        fallback: fallback(Rule::GpuPodOutside, "this pod asks for a GPU in a namespace of no environment"),
    })
}

fn is_gpu(resource: &str, settings: &Settings) -> String {
    let mut tests: Vec<String> = Vec::new();
    for name in &settings.gpu_resources {
        tests.push(format!("{resource} == {}", cel::literal(name)));
    }
    for prefix in GPU_RESOURCES {
        tests.push(format!("{resource}.startsWith({})", cel::literal(prefix)));
    }
    let classes = GPU_DEVICE_CLASSES.map(|class| format!("{DEVICE_CLASS_RESOURCE}{class}"));
    tests.push(format!("{resource} in {}", cel::literals(classes)));
    format!("({})", tests.join(" || "))
}
