//! Who could reach weights past admission: rights that the API server gives without asking anybody, found in RBAC.
//!
//! Admission is not asked for reads, for tokens, or by a kubelet. Whoever has these rights is trusted, knowingly or not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::world::Settings;

/// A way past admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// What pods print.
    Logs,
    /// The kubelet: it runs commands in pods without asking the API server.
    Kubelet,
    /// A token of another service account.
    Tokens,
    /// The name of somebody else.
    Impersonation,
    /// Rights that one does not have.
    Escalation,
    /// A certificate of a node, or of anybody.
    Certificates,
    /// Admission itself.
    Admission,
    /// The declarations.
    Declarations,
}

/// What a way needs: any of these verbs on any of these resources of a group.
struct Needed {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];

impl Way {
    /// Every way.
    pub const ALL: [Self; 8] = [
        Self::Logs,
        Self::Kubelet,
        Self::Tokens,
        Self::Impersonation,
        Self::Escalation,
        Self::Certificates,
        Self::Admission,
        Self::Declarations,
    ];

    /// Its name, in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Kubelet => "kubelet",
            Self::Tokens => "tokens",
            Self::Impersonation => "impersonation",
            Self::Escalation => "escalation",
            Self::Certificates => "certificates",
            Self::Admission => "admission",
            Self::Declarations => "declarations",
        }
    }

    /// What one can do by it.
    pub fn means(self) -> &'static str {
        match self {
            Self::Logs => "read what pods of the environment print (pods/log)",
            Self::Kubelet => "run commands in pods through the kubelet, which asks no admission (nodes/proxy)",
            Self::Tokens => "get a token of a service account of the environment (serviceaccounts/token, secrets)",
            Self::Impersonation => "act as somebody else (impersonate)",
            Self::Escalation => "give rights that they do not have (bind, escalate)",
            Self::Certificates => {
                "have a certificate signed in the name of a node (certificatesigningrequests/approval)"
            }
            Self::Admission => "change what admission asks (webhook configurations, ValidatingAdmissionPolicies)",
            Self::Declarations => "declare where weights are permitted (weightlock.dev)",
        }
    }

    /// Whether a right in a namespace of the environment is enough. The others are rights on the whole cluster.
    fn in_namespace(self) -> bool {
        matches!(self, Self::Logs | Self::Tokens | Self::Impersonation | Self::Escalation)
    }

    fn needed(self) -> &'static [Needed] {
        match self {
            Self::Logs => &[Needed { group: "", resources: &["pods/log"], verbs: &["get"] }],
            Self::Kubelet => &[Needed { group: "", resources: &["nodes/proxy"], verbs: &["get", "create"] }],
            Self::Tokens => &[
                Needed { group: "", resources: &["serviceaccounts/token"], verbs: &["create"] },
                Needed { group: "", resources: &["secrets"], verbs: &["get", "list", "watch"] },
            ],
            Self::Impersonation => {
                &[Needed { group: "", resources: &["users", "groups", "serviceaccounts"], verbs: &["impersonate"] }]
            }
            Self::Escalation => &[Needed {
                group: "rbac.authorization.k8s.io",
                resources: &["roles", "clusterroles"],
                verbs: &["bind", "escalate"],
            }],
            Self::Certificates => &[Needed {
                group: "certificates.k8s.io",
                resources: &["certificatesigningrequests/approval"],
                verbs: &["update", "patch"],
            }],
            Self::Admission => &[Needed {
                group: "admissionregistration.k8s.io",
                resources: &[
                    "mutatingwebhookconfigurations",
                    "validatingwebhookconfigurations",
                    "validatingadmissionpolicies",
                    "validatingadmissionpolicybindings",
                ],
                verbs: WRITE,
            }],
            Self::Declarations => &[Needed {
                group: crate::api::GROUP,
                resources: &["weightartifacts", "weightenvironments"],
                verbs: WRITE,
            }],
        }
    }
}

/// A role or a binding.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Its namespace; empty for one of the whole cluster.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// All but its metadata, as raw JSON.
    pub content: &'a Value,
}

/// Who could, each with the binding that lets them.
pub type Could = BTreeMap<Way, BTreeSet<String>>;

/// Who could reach the weights of an environment with these namespaces, by way. Left out are the cluster's own controllers
/// and Weightlock, and `system:masters`, to whom no role applies.
pub fn who_could(roles: &[Grant<'_>], bindings: &[Grant<'_>], settings: &Settings, namespaces: &[&str]) -> Could {
    let roles: BTreeMap<(&str, &str), &Value> =
        roles.iter().map(|role| ((role.namespace, role.name), role.content)).collect();
    let mut could = Could::new();
    for Grant { namespace, name, content } in bindings {
        let whole = namespace.is_empty();
        if !whole && !namespaces.contains(namespace) {
            continue;
        }
        let reference = |field: &str| content.pointer(field).and_then(Value::as_str).unwrap_or_default();
        let home = if reference("/roleRef/kind") == "Role" { *namespace } else { "" };
        let Some(role) = roles.get(&(home, reference("/roleRef/name"))) else { continue };
        let subjects: Vec<String> =
            list(content, "subjects").iter().filter_map(|subject| named(subject, namespace, settings)).collect();
        let through =
            if whole { format!("ClusterRoleBinding {name}") } else { format!("RoleBinding {namespace}/{name}") };
        for way in Way::ALL.into_iter().filter(|way| whole || way.in_namespace()) {
            if way.needed().iter().any(|needed| list(role, "rules").iter().any(|rule| grants_it(rule, needed))) {
                could.entry(way).or_default().extend(subjects.iter().map(|who| format!("{who} ({through})")));
            }
        }
    }
    could.retain(|_, subjects| !subjects.is_empty());
    could
}

fn list<'v>(object: &'v Value, field: &str) -> &'v [Value] {
    object.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether a rule of a role gives what is needed. One for objects by name gives it for these objects, which is told too.
fn grants_it(rule: &Value, needed: &Needed) -> bool {
    let has = |field: &str, wanted: &str| {
        list(rule, field).iter().filter_map(Value::as_str).any(|value| value == "*" || value == wanted)
    };
    let resource = |wanted: &str| {
        let any = wanted.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
        has("resources", wanted) || any.is_some_and(|any| has("resources", &any))
    };
    has("apiGroups", needed.group)
        && needed.resources.iter().any(|wanted| resource(wanted))
        && needed.verbs.iter().any(|verb| has("verbs", verb))
}

/// A subject of a binding, unless it is the cluster itself.
fn named(subject: &Value, binding_namespace: &str, settings: &Settings) -> Option<String> {
    let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    if kind == "ServiceAccount" {
        let namespace = if text("namespace").is_empty() { binding_namespace } else { text("namespace") };
        let own = settings.cluster_namespaces().contains(&namespace);
        return (!own).then(|| format!("ServiceAccount {namespace}/{name}"));
    }
    let own = name == "system:masters" || name == "system:nodes" || name.starts_with("system:kube-");
    let cluster = own || name.starts_with("system:serviceaccounts:kube-system");
    (!cluster).then(|| format!("{kind} {name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Namespace, name and content.
    type Made = (&'static str, &'static str, Value);

    fn role(namespace: &'static str, name: &'static str, rules: Value) -> Made {
        (namespace, name, json!({"rules": rules}))
    }

    fn binding(namespace: &'static str, name: &'static str, role: &str, subjects: Value) -> Made {
        let (kind, name_of_role) = role.split_once('/').unwrap();
        (namespace, name, json!({"roleRef": {"kind": kind, "name": name_of_role}, "subjects": subjects}))
    }

    fn rule(group: &str, resource: &str, verb: &str) -> Value {
        json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
    }

    fn found(role: Made, binding: Made) -> Vec<(&'static str, Vec<String>)> {
        fn grant((namespace, name, content): &Made) -> Grant<'_> {
            Grant { namespace, name, content }
        }
        let could = who_could(&[grant(&role)], &[grant(&binding)], &Settings::default(), &["serving"]);
        could.into_iter().map(|(way, who)| (way.name(), who.into_iter().collect())).collect()
    }

    #[test]
    fn each_way_is_found_by_the_right_that_it_needs() {
        let user = json!([{"kind": "User", "name": "eve"}]);
        for (way, group, resource, verb) in [
            ("logs", "", "pods/log", "get"),
            ("kubelet", "", "nodes/proxy", "get"),
            ("kubelet", "", "*/proxy", "create"),
            ("tokens", "", "serviceaccounts/token", "create"),
            ("tokens", "", "secrets", "list"),
            ("impersonation", "", "groups", "impersonate"),
            ("escalation", "rbac.authorization.k8s.io", "clusterroles", "bind"),
            ("certificates", "certificates.k8s.io", "certificatesigningrequests/approval", "update"),
            ("admission", "admissionregistration.k8s.io", "validatingadmissionpolicybindings", "delete"),
            ("declarations", "weightlock.dev", "weightartifacts", "patch"),
        ] {
            let granted = role("", "r", json!([rule("", "configmaps", "get"), rule(group, resource, verb)]));
            let whole = found(granted, binding("", "b", "ClusterRole/r", user.clone()));
            assert_eq!(whole, [(way, vec!["User eve (ClusterRoleBinding b)".to_owned()])], "{resource} {verb}");
        }
        let all = role("", "r", json!([rule("*", "*", "*")]));
        assert_eq!(found(all, binding("", "b", "ClusterRole/r", user)).len(), Way::ALL.len());
    }

    #[test]
    fn a_right_in_a_namespace_counts_where_it_is_enough() {
        let user = || json!([{"kind": "Group", "name": "devs"}]);
        let logs = || json!([rule("", "pods/log", "get"), rule("", "nodes/proxy", "get")]);
        let expected = [("logs", vec!["Group devs (RoleBinding serving/b)".to_owned()])];
        assert_eq!(found(role("", "r", logs()), binding("serving", "b", "ClusterRole/r", user())), expected);
        assert_eq!(found(role("serving", "r", logs()), binding("serving", "b", "Role/r", user())), expected);
        assert_eq!(found(role("research", "r", logs()), binding("serving", "b", "Role/r", user())), []);
        assert_eq!(found(role("", "r", logs()), binding("research", "b", "ClusterRole/r", user())), []);
        assert_eq!(found(role("", "other", logs()), binding("serving", "b", "ClusterRole/r", user())), []);
    }

    #[test]
    fn the_cluster_itself_is_left_out_and_nobody_else() {
        let subjects = json!([
            {"kind": "Group", "name": "system:masters"}, {"kind": "User", "name": "system:kube-controller-manager"},
            {"kind": "ServiceAccount", "namespace": "kube-system", "name": "x"},
            {"kind": "ServiceAccount", "namespace": "weightlock-system", "name": "weightlock-controller"},
            {"kind": "Group", "name": "system:authenticated"}, {"kind": "ServiceAccount", "name": "here"},
            {"kind": "ServiceAccount", "namespace": "monitoring", "name": "prometheus"},
        ]);
        let logs = role("", "r", json!([rule("", "*", "get")]));
        let who = found(logs, binding("serving", "b", "ClusterRole/r", subjects));
        let names =
            ["Group system:authenticated", "ServiceAccount monitoring/prometheus", "ServiceAccount serving/here"];
        let expected: Vec<String> = names.iter().map(|name| format!("{name} (RoleBinding serving/b)")).collect();
        assert_eq!(who, [("logs", expected.clone()), ("tokens", expected)]);
    }
}
