//! Ring 1 keeps what it stands on: the definitions of the custom resources, the index, and the installation.

use super::{Check, Namespaces, PREFIX, Parameter, Policy, cel, fallback, rule, tag};
use crate::api::GROUP;
use crate::domain::Rule;
use crate::domain::settings::{AUTHORITY_SECRET, CONTROLLER_LEASE, SERVING_SECRET, Settings};
use crate::render::{MANAGED_BY, OWNER};

/// Our definitions are not deleted while this policy is bound. Without the definition of their parameter, policies
/// refuse every request that they match; without the others, all declarations are gone.
pub fn definitions() -> Policy {
    Policy {
        name: "protect-definitions",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule("apiextensions.k8s.io", &["*"], &["customresourcedefinitions"], &["DELETE"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "oldObject.spec.group == {} ? [{} + 'CustomResourceDefinition \"' + oldObject.metadata.name + '\" is what Weightlock protects weights by. Remedy: ' + {}] : []",
                cel::literal(GROUP),
                tag(Rule::OwnObject),
                cel::literal(UNINSTALL)
            ),
            unless: None,
            fallback: format!("[{}] a definition of Weightlock is deleted. Remedy: {UNINSTALL}", Rule::OwnObject.id()),
        }],
    }
}

/// Only the controller writes the index.
pub fn index(settings: &Settings) -> Policy {
    let controller = settings.controller();
    let remedy = "change WeightArtifacts and WeightEnvironments; the controller writes the index from them.";
    Policy {
        name: "protect-index",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule(GROUP, &["*"], &["weightindexes"], &["CREATE", "UPDATE", "DELETE"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "request.userInfo.username == {} ? [] : [{} + 'WeightIndex \"' + (has(request.name) ? request.name : '') + '\" is written by the controller only, and not by \"' + request.userInfo.username + '\". Remedy: ' + {}]",
                cel::literal(&controller),
                tag(Rule::OwnObject),
                cel::literal(remedy)
            ),
            unless: None,
            fallback: format!(
                "[{}] a WeightIndex is written by the controller only. Remedy: {remedy}",
                Rule::OwnObject.id()
            ),
        }],
    }
}

/// Only the controller writes incidents; a person deletes them. Who could write one could block any weights.
pub fn incidents(settings: &Settings) -> Policy {
    let controller = settings.controller();
    let remedy = "to clear an incident, delete it (kubectl weightlock clear).";
    Policy {
        name: "protect-incidents",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule(GROUP, &["*"], &["weightincidents"], &["CREATE", "UPDATE"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "request.userInfo.username == {} ? [] : [{} + 'WeightIncident \"' + (has(request.name) ? request.name : '') + '\" is written by the controller only, and not by \"' + request.userInfo.username + '\". Remedy: ' + {}]",
                cel::literal(&controller),
                tag(Rule::OwnObject),
                cel::literal(remedy)
            ),
            unless: None,
            fallback: format!(
                "[{}] a WeightIncident is written by the controller only. Remedy: {remedy}",
                Rule::OwnObject.id()
            ),
        }],
    }
}

/// Only the controller writes the Lease by which its replicas agree who leads, and the Secrets with the certificate of the
/// webhook: who could would silence the controller, or answer in place of the webhook. A Secret may be deleted, to have the
/// certificate made anew.
pub fn state(settings: &Settings) -> Policy {
    let remedy = "leave it to the controller; to have the certificate made anew, delete its Secrets.";
    Policy {
        name: "protect-state",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![
            rule("coordination.k8s.io", &["*"], &["leases"], &["CREATE", "UPDATE", "DELETE"]),
            rule("", &["v1"], &["secrets"], &["CREATE", "UPDATE"]),
        ],
        scope: Namespaces::Only(vec![settings.own_namespace.clone()]),
        variables: vec![
            name(),
            (
                "ours",
                format!(
                    "(request.resource.resource == 'leases' ? [{}] : [{}, {}]).exists(n, n == variables.name)",
                    cel::literal(CONTROLLER_LEASE),
                    cel::literal(AUTHORITY_SECRET),
                    cel::literal(SERVING_SECRET)
                ),
            ),
        ],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "!variables.ours || request.userInfo.username == {} || {} ? [] : [{} + request.kind.kind + ' \"' + variables.name + '\" is written by the controller only, and not by \"' + request.userInfo.username + '\". Remedy: ' + {}]",
                cel::literal(&settings.controller()),
                cel::cluster(),
                tag(Rule::OwnObject),
                cel::literal(remedy)
            ),
            unless: None,
            fallback: fallback(
                Rule::OwnObject,
                "the controller's Lease and the webhook's certificate are written by the controller only",
            ),
        }],
    }
}

/// What the parts of Weightlock run with, and who they are: whoever changes it decides what is verified, by which image.
/// `None`: nobody is declared to be an administrator, so the cluster's RBAC alone says who changes it.
///
/// Pods may be deleted and evicted by all, for nodes are drained; ConfigMaps are none of ours.
pub fn installation(settings: &Settings) -> Option<Policy> {
    if settings.administrators.is_empty() {
        return None;
    }
    let remedy = "ask an administrator of Weightlock, or have yourself listed in administrators of its chart.";
    let writes = &["CREATE", "UPDATE", "DELETE"];
    let listed = |names: &std::collections::BTreeSet<String>| cel::literals(names.iter().cloned());
    Some(Policy {
        name: "protect-installation",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![
            rule("apps", &["*"], &["deployments", "replicasets", "statefulsets", "daemonsets"], writes),
            rule("batch", &["*"], &["jobs", "cronjobs"], writes),
            rule("", &["v1"], &["pods", "pods/ephemeralcontainers"], &["CREATE", "UPDATE"]),
            rule(
                "",
                &["v1"],
                &["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy"],
                &["CONNECT"],
            ),
            rule("", &["v1"], &["secrets", "serviceaccounts", "serviceaccounts/token", "services"], writes),
            rule("discovery.k8s.io", &["*"], &["endpointslices"], writes),
            rule("networking.k8s.io", &["*"], &["networkpolicies"], writes),
            rule("policy.networking.k8s.io", &["*"], &["clusternetworkpolicies"], writes),
            rule("rbac.authorization.k8s.io", &["*"], &["roles", "rolebindings"], writes),
            rule("rbac.authorization.k8s.io", &["*"], &["clusterroles", "clusterrolebindings"], writes),
            rule("", &["v1"], &["namespaces"], &["DELETE"]),
        ],
        scope: Namespaces::Only(vec![settings.own_namespace.clone()]),
        variables: vec![
            name(),
            ("user", "request.userInfo.username".into()),
            // Objects without a namespace are all asked about; the namespace itself is matched by its name.
            (
                "ours",
                format!(
                    "(has(request.namespace) && request.namespace == {}) || variables.name.startsWith({})",
                    cel::literal(&settings.own_namespace),
                    cel::literal(PREFIX)
                ),
            ),
            (
                "administrator",
                format!(
                    "variables.user in {} || (has(request.userInfo.groups) && request.userInfo.groups.exists(g, g in {}))",
                    listed(&settings.administrators.users),
                    listed(&settings.administrators.groups)
                ),
            ),
            (
                "part",
                format!(
                    "variables.user.startsWith({}) || variables.user.startsWith('system:node:') || {}",
                    cel::literal(&format!("system:serviceaccount:{}:", settings.own_namespace)),
                    cel::cluster()
                ),
            ),
        ],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "!variables.ours || variables.administrator || variables.part ? [] : [{} + request.kind.kind + ' \"' + variables.name + '\" is a part of Weightlock, and \"' + variables.user + '\" is none of its administrators. Remedy: ' + {}]",
                tag(Rule::OwnObject),
                cel::literal(remedy)
            ),
            unless: None,
            fallback: format!(
                "[{}] this is a part of Weightlock, which its administrators change. Remedy: {remedy}",
                Rule::OwnObject.id()
            ),
        }],
    })
}

/// The name that a request is for: there is none while it is to be generated.
fn name() -> (&'static str, String) {
    ("name", "has(request.name) ? request.name : ''".into())
}

/// The NetworkPolicies of environments are changed and deleted by the controller, and with their namespace. The controller
/// would put them back, but what flows until then has flown. `None`: there is no namespace to guard.
pub fn network_policies(settings: &Settings, enforced: &[String]) -> Option<Policy> {
    if enforced.is_empty() {
        return None;
    }
    let remedy = "change spec.network of the WeightEnvironment; the controller writes its policies from it.";
    // What others may write into any object: owners, finalizers, annotations of their own.
    let kept = "has(object.spec) && object.spec == oldObject.spec && has(object.metadata.labels) && oldObject.metadata.labels.all(k, k in object.metadata.labels && object.metadata.labels[k] == oldObject.metadata.labels[k]) && has(object.metadata.annotations) && variables.owner in object.metadata.annotations && object.metadata.annotations[variables.owner] == oldObject.metadata.annotations[variables.owner]";
    let ours = format!(
        "has(oldObject.metadata.labels) && {0} in oldObject.metadata.labels && oldObject.metadata.labels[{0}] == {1} && has(oldObject.metadata.annotations) && variables.owner in oldObject.metadata.annotations",
        cel::literal(MANAGED_BY.0),
        cel::literal(MANAGED_BY.1)
    );
    Some(Policy {
        name: "protect-network-policies",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule("networking.k8s.io", &["*"], &["networkpolicies"], &["UPDATE", "DELETE"])],
        scope: Namespaces::Only(enforced.to_vec()),
        variables: vec![
            ("owner", cel::literal(OWNER)),
            ("ours", ours),
            (
                "allowed",
                format!(
                    "request.userInfo.username == {} || {} || (request.operation == 'UPDATE' && {kept})",
                    cel::literal(&settings.controller()),
                    cel::cluster()
                ),
            ),
        ],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "!variables.ours || variables.allowed ? [] : [{} + 'NetworkPolicy \"' + request.namespace + '/' + oldObject.metadata.name + '\" of Weightlock is changed by the controller only, and not by \"' + request.userInfo.username + '\". Remedy: ' + {}]",
                tag(Rule::OwnObject),
                cel::literal(remedy)
            ),
            unless: None,
            fallback: fallback(Rule::OwnObject, "a NetworkPolicy of Weightlock is changed by the controller only"),
        }],
    })
}

const UNINSTALL: &str =
    "to uninstall, delete the ValidatingAdmissionPolicyBindings of Weightlock first (docs/recovery.md).";
