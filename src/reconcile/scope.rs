//! Whether the admission webhook is asked for pods of a namespace, and whether the API server protects their statuses,
//! read from the configuration in the cluster.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::observed::{Ring, by_name};
use crate::render::policies::pod_statuses;

/// The label by which namespaces are selected.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What has to be asked about a pod: when it is created, and when it is placed on a node.
const ASKED: [&str; 2] = ["pods", "pods/binding"];

/// The namespaces of `candidates` in which no pod starts unless the webhook allowed it, by a validating webhook
/// configuration: for each of [`ASKED`] a webhook that fails closed and whose selector takes the namespace.
pub fn enforced<'a>(configuration: &Value, candidates: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let webhooks: Vec<&Value> = configuration
        .get("webhooks")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|webhook| webhook.get("failurePolicy").and_then(Value::as_str) == Some("Fail"))
        .collect();
    let is_asked = |resource: &str, namespace: &str| {
        webhooks.iter().any(|webhook| {
            takes(webhook, resource) && selects(webhook.get("namespaceSelector").unwrap_or(&Value::Null), namespace)
        })
    };
    candidates.into_iter().filter(|namespace| ASKED.iter().all(|resource| is_asked(resource, namespace))).collect()
}

/// Since when, at the earliest, only its node says what the containers of a pod of the namespace did: policy and binding
/// are there. `None`: it is not so.
pub fn protected(ring: &Ring, namespace: &str) -> Option<Time> {
    let name = pod_statuses();
    let (policy, binding) = (by_name(&ring.policies, &name)?, by_name(&ring.bindings, &name)?);
    let selector = binding.data.pointer("/spec/matchResources/namespaceSelector")?;
    let made = policy.metadata.creation_timestamp.clone().max(binding.metadata.creation_timestamp.clone())?;
    selects(selector, namespace).then_some(made)
}

fn takes(webhook: &Value, asked: &str) -> bool {
    let rules = webhook.get("rules").and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| {
        list(rule, "resources").any(|resource| resource == asked)
            && list(rule, "operations").any(|operation| operation == "CREATE" || operation == "*")
    })
}

/// Whether a label selector takes a namespace, of which only the label with its name is known. What rests on another
/// label is taken for a no.
fn selects(selector: &Value, namespace: &str) -> bool {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let by_label =
        labels.into_iter().flatten().all(|(key, value)| key == NAMESPACE_NAME && value.as_str() == Some(namespace));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    by_label
        && expressions.into_iter().flatten().all(|expression| {
            let named = list(expression, "values").any(|value| value == namespace);
            expression.get("key").and_then(Value::as_str) == Some(NAMESPACE_NAME)
                && match expression.get("operator").and_then(Value::as_str) {
                    Some("In") => named,
                    Some("NotIn") => !named,
                    Some("Exists") => true,
                    _ => false,
                }
        })
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(policy: &str, resources: &[&str], selector: Value) -> Value {
        let webhook = |resource: &&str| {
            json!({"failurePolicy": policy, "namespaceSelector": selector,
                "rules": [{"operations": ["CREATE"], "resources": [resource]}]})
        };
        json!({"webhooks": resources.iter().map(webhook).collect::<Vec<_>>()})
    }

    fn is_in(values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": NAMESPACE_NAME, "operator": "In", "values": values}]})
    }

    #[test]
    fn only_namespaces_that_the_selector_takes_are_enforced() {
        let configuration = configuration("Fail", &ASKED, is_in(&["a", "b"]));
        assert_eq!(enforced(&configuration, ["a", "c"]), BTreeSet::from(["a"]));
    }

    #[test]
    fn a_webhook_that_fails_open_or_is_not_for_pods_enforces_nothing() {
        assert!(enforced(&configuration("Ignore", &ASKED, is_in(&["a"])), ["a"]).is_empty());
        for part in [&["jobs"], &["pods"], &["pods/binding"]] {
            assert!(enforced(&configuration("Fail", part, is_in(&["a"])), ["a"]).is_empty(), "{part:?}");
        }
        assert!(enforced(&Value::Null, ["a"]).is_empty());
    }

    #[test]
    fn a_selector_on_a_label_that_others_can_set_enforces_nothing() {
        let selector = json!({"matchLabels": {"weights": "yes"}});
        assert!(enforced(&configuration("Fail", &ASKED, selector), ["a"]).is_empty());
    }
}
