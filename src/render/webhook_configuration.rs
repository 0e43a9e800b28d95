//! The webhook configurations, from the namespaces they are for.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use crate::domain::network::POLICIES;
use crate::domain::settings::controller_of;
use crate::domain::webhook_scope::WebhookScope;
use crate::domain::world::EGRESS_BANDWIDTH;

/// Name of both configurations.
pub const NAME: &str = "weightlock";
/// Service in front of the webhook's pods.
pub const SERVICE_NAME: &str = "weightlock-webhook";
/// Port of the Service.
pub const SERVICE_PORT: i32 = 443;
/// Seconds that the API server waits. The webhook answers well within.
pub const TIMEOUT_SECONDS: i32 = 5;

/// Path of the mutating webhook.
pub const MUTATE: &str = "/mutate";
/// Path of the validating webhook.
pub const VALIDATE: &str = "/validate";
/// Path of the webhook that is asked when a pod is placed on a node.
pub const BIND: &str = "/bind";
/// Path of the mutating webhook for namespaces in Audit mode: what cannot be decided is allowed with a warning.
pub const AUDIT_MUTATE: &str = "/audit/mutate";
/// Path of the validating webhook for namespaces in Audit mode.
pub const AUDIT_VALIDATE: &str = "/audit/validate";
/// Path of the webhook that is asked when a pod is placed on a node, for namespaces in Audit mode.
pub const AUDIT_BIND: &str = "/audit/bind";
/// Path of the webhook that warns the authors of workloads.
pub const FORETELL: &str = "/foretell";

/// Seconds that the API server waits for a warning. It goes on without.
const FORETELL_SECONDS: i32 = 2;

/// What makes pods, by group: the workloads of Kubernetes, and the kinds that are common where models are trained and
/// served. That a kind is not served does no harm. ReplicaSets are left out, since their Deployment was told.
const WORKLOADS: &[(&str, &[&str])] = &[
    ("", &["replicationcontrollers"]),
    ("apps", &["deployments", "statefulsets", "daemonsets"]),
    ("batch", &["jobs", "cronjobs"]),
    ("serving.kserve.io", &["inferenceservices", "servingruntimes", "llminferenceservices"]),
    ("ray.io", &["rayclusters", "rayjobs", "rayservices"]),
    ("kubeflow.org", &["pytorchjobs", "tfjobs", "mpijobs", "xgboostjobs", "paddlejobs", "jaxjobs", "notebooks"]),
    ("trainer.kubeflow.org", &["trainingruntimes", "trainjobs"]),
    ("leaderworkerset.x-k8s.io", &["leaderworkersets"]),
    ("jobset.x-k8s.io", &["jobsets"]),
];

/// Where the API server finds the webhook.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Namespace of the Service.
    pub namespace: &'a str,
    /// Certificates (PEM) by which the webhook is known. Empty: the API server will trust none, and so refuse.
    pub ca_bundle: &'a [u8],
}

/// The mutating configuration. It has no webhook where there is no namespace.
pub fn mutating(scope: &WebhookScope, target: &Target<'_>) -> MutatingWebhookConfiguration {
    let webhook = |name: &str, path: &str, namespaces: &BTreeSet<String>, failure_policy: &str| MutatingWebhook {
        name: name.to_owned(),
        client_config: client_config(target, path),
        rules: Some(vec![rule(&["CREATE"], &["pods"])]),
        namespace_selector: Some(selector(namespaces)),
        failure_policy: Some(failure_policy.to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
        admission_review_versions: vec!["v1".to_owned()],
        // Another webhook may add a container after us; then we look again.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        ..MutatingWebhook::default()
    };
    let mut webhooks = Vec::new();
    if !scope.enforced.is_empty() {
        webhooks.push(webhook("inject.weightlock.dev", MUTATE, &scope.enforced, "Fail"));
    }
    if !scope.audited.is_empty() {
        webhooks.push(webhook("inject.audit.weightlock.dev", AUDIT_MUTATE, &scope.audited, "Ignore"));
    }
    MutatingWebhookConfiguration { metadata: metadata(), webhooks: Some(webhooks) }
}

/// The validating configuration. It has no webhook where there is no namespace.
pub fn validating(scope: &WebhookScope, target: &Target<'_>) -> ValidatingWebhookConfiguration {
    let pods = vec![
        rule(&["CREATE"], &["pods"]),
        rule(&["CONNECT"], &["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy"]),
    ];
    // Apart from the others, so that conditions cost a pod nothing when it is made.
    let updates = vec![rule(&["UPDATE"], &["pods", "pods/ephemeralcontainers", "pods/resize"])];
    let policies: Vec<_> = POLICIES.iter().map(|(group, resource)| written(group, &[resource])).collect();
    // Both ways to write one. It says nothing of the pod that is placed, so that there is nothing to spare it by.
    let bindings = vec![rule(&["CREATE"], &["pods/binding", "bindings"])];
    // One for each kind of object, so that each has conditions of its own.
    let kinds = [
        ("pods", pods, None, [VALIDATE, AUDIT_VALIDATE]),
        ("pod-updates", updates, Some(update_conditions()), [VALIDATE, AUDIT_VALIDATE]),
        ("bindings", bindings, None, [BIND, AUDIT_BIND]),
        ("network", policies, Some(policy_conditions(target.namespace)), [VALIDATE, AUDIT_VALIDATE]),
    ];
    let mut webhooks = Vec::new();
    for (infix, audit, namespaces, failure_policy) in
        [("", false, &scope.enforced, "Fail"), (".audit", true, &scope.audited, "Ignore")]
    {
        if namespaces.is_empty() {
            continue;
        }
        webhooks.extend(kinds.iter().map(|(name, rules, conditions, paths)| ValidatingWebhook {
            name: format!("{name}{infix}.weightlock.dev"),
            client_config: client_config(target, paths[usize::from(audit)]),
            rules: Some(rules.clone()),
            namespace_selector: Some(selector(namespaces)),
            match_conditions: conditions.clone(),
            failure_policy: Some(failure_policy.to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
            admission_review_versions: vec!["v1".to_owned()],
            ..ValidatingWebhook::default()
        }));
    }
    if !webhooks.is_empty() {
        webhooks.push(foretelling(scope, target));
    }
    ValidatingWebhookConfiguration { metadata: metadata(), webhooks: Some(webhooks) }
}

/// The webhook that tells the author of a workload what will become of its pods. It refuses nothing, and an outage of ours
/// is not felt.
fn foretelling(scope: &WebhookScope, target: &Target<'_>) -> ValidatingWebhook {
    let workloads = WORKLOADS.iter().map(|(group, resources)| written(group, resources));
    ValidatingWebhook {
        name: "workloads.weightlock.dev".to_owned(),
        client_config: client_config(target, FORETELL),
        rules: Some(workloads.collect()),
        namespace_selector: Some(selector(&scope.enforced.union(&scope.audited).cloned().collect())),
        match_conditions: Some(vec![
            condition(NOT_BEING_DELETED.0, NOT_BEING_DELETED.1),
            condition("spec-changes", "request.operation != 'UPDATE' || object.?spec != oldObject.?spec"),
        ]),
        failure_policy: Some("Ignore".to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(FORETELL_SECONDS),
        admission_review_versions: vec!["v1".to_owned()],
        ..ValidatingWebhook::default()
    }
}

const NOT_BEING_DELETED: (&str, &str) =
    ("not-being-deleted", "request.operation != 'UPDATE' || !has(object.metadata.deletionTimestamp)");

/// What keeps finalizers, job tracking and label changes going with every pod of ours dead.
fn update_conditions() -> Vec<MatchCondition> {
    // Reserved: the annotation that limits bandwidth, and every key of ours.
    let annotation = |from: &str, to: &str| {
        format!(
            "{from}.metadata.?annotations.orValue({{}}).exists(k, (k == '{EGRESS_BANDWIDTH}' || \
             k.contains('weightlock.dev/')) && {from}.metadata.?annotations[?k] != {to}.metadata.?annotations[?k])"
        )
    };
    let label = |from: &str, to: &str| {
        format!(
            "{from}.metadata.?labels.orValue({{}}).exists(k, k.contains('weightlock.dev/') && \
             {from}.metadata.?labels[?k] != {to}.metadata.?labels[?k])"
        )
    };
    vec![
        condition(NOT_BEING_DELETED.0, NOT_BEING_DELETED.1),
        condition(
            "spec-or-reserved-metadata-changes",
            [
                "object.spec != oldObject.spec".to_owned(),
                annotation("object", "oldObject"),
                annotation("oldObject", "object"),
                label("object", "oldObject"),
                label("oldObject", "object"),
            ]
            .join(" || "),
        ),
    ]
}

/// The controller writes its policies with the webhook dead. Labels and finalizers of others' policies change freely.
fn policy_conditions(own_namespace: &str) -> Vec<MatchCondition> {
    vec![
        condition(NOT_BEING_DELETED.0, NOT_BEING_DELETED.1),
        condition("not-the-controller", format!("request.userInfo.username != '{}'", controller_of(own_namespace))),
        condition(
            "what-it-opens-changes",
            "request.operation != 'UPDATE' || object.?spec != oldObject.?spec || object.?specs != oldObject.?specs",
        ),
    ]
}

fn condition(name: &str, expression: impl Into<String>) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression: expression.into() }
}

/// What is made or changed of these resources of a group, in whichever version.
fn written(group: &str, resources: &[&str]) -> RuleWithOperations {
    RuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec!["*".to_owned()]),
        ..rule(&["CREATE", "UPDATE"], resources)
    }
}

fn rule(operations: &[&str], resources: &[&str]) -> RuleWithOperations {
    let owned = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[""]),
        api_versions: owned(&["v1"]),
        operations: owned(operations),
        resources: owned(resources),
        scope: Some("Namespaced".to_owned()),
    }
}

/// By the name that the API server itself writes on each namespace, which nobody can change.
fn selector(namespaces: &BTreeSet<String>) -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(namespaces.iter().cloned().collect()),
        }]),
        match_labels: None,
    }
}

fn client_config(target: &Target<'_>, path: &str) -> WebhookClientConfig {
    WebhookClientConfig {
        ca_bundle: (!target.ca_bundle.is_empty()).then(|| ByteString(target.ca_bundle.to_vec())),
        service: Some(ServiceReference {
            namespace: target.namespace.to_owned(),
            name: SERVICE_NAME.to_owned(),
            path: Some(path.to_owned()),
            port: Some(SERVICE_PORT),
        }),
        url: None,
    }
}

fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.to_owned()),
        labels: Some(super::labels(None)),
        annotations: Some(super::owner(None)),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(enforced: &[&str], audited: &[&str]) -> WebhookScope {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        WebhookScope { enforced: set(enforced), audited: set(audited) }
    }

    const TARGET: Target<'static> = Target { namespace: "weightlock-system", ca_bundle: b"PEM" };

    /// Compares with `tests/golden/webhook/NAME.json`; `WEIGHTLOCK_BLESS=1` writes it anew.
    fn golden(name: &str, scope: &WebhookScope) {
        let path = format!("{}/tests/golden/webhook/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let rendered = serde_json::json!([mutating(scope, &TARGET), validating(scope, &TARGET)]);
        let rendered = format!("{}\n", serde_json::to_string_pretty(&rendered).unwrap());
        if std::env::var_os("WEIGHTLOCK_BLESS").is_some() {
            std::fs::write(&path, &rendered).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(rendered, wanted, "{path} differs; WEIGHTLOCK_BLESS=1 writes it anew");
    }

    #[test]
    fn without_a_namespace_there_is_no_webhook() {
        let empty = scope(&[], &[]);
        assert_eq!(validating(&empty, &TARGET).webhooks, Some(vec![]));
        assert_eq!(mutating(&empty, &TARGET).webhooks, Some(vec![]));
        golden("none", &empty);
    }

    #[test]
    fn enforced_namespaces_fail_closed() {
        golden("enforce", &scope(&["eval", "llm-serving"], &[]));
    }

    #[test]
    fn audited_namespaces_are_apart_and_do_not_feel_an_outage() {
        golden("enforce-and-audit", &scope(&["llm-serving"], &["research"]));
        let audited = scope(&[], &["research"]);
        let policies: Vec<_> =
            validating(&audited, &TARGET).webhooks.unwrap().into_iter().map(|w| w.failure_policy.unwrap()).collect();
        assert_eq!(policies, ["Ignore"; 5]);
    }

    #[test]
    fn without_a_bundle_no_certificate_is_trusted() {
        let target = Target { namespace: "wl", ca_bundle: b"" };
        let webhooks = validating(&scope(&["a"], &[]), &target).webhooks.unwrap();
        assert_eq!(webhooks[0].client_config.ca_bundle, None);
        assert_eq!(webhooks[0].failure_policy.as_deref(), Some("Fail"));
    }
}
