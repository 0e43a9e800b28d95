//! Telling what others changed in an object that is ours.

use serde_json::{Map, Value};

/// The manager name under which Weightlock applies.
pub const MANAGER: &str = "weightlock";

/// A field that another manager added to an object of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The field manager that owns the field.
    pub manager: String,
    /// Dotted path of the field.
    pub path: String,
}

/// All of an object that is to be as we want it: everything but metadata, status and type.
pub fn body(object: &Value) -> Map<String, Value> {
    let mut body = object.as_object().cloned().unwrap_or_default();
    for key in ["metadata", "status", "apiVersion", "kind"] {
        body.remove(key);
    }
    body
}

/// Whether the labels and annotations that are wanted are there. Others may stand beside them.
pub fn marked(desired: &Value, live: &Value) -> bool {
    ["labels", "annotations"].iter().all(|kind| {
        let wanted = desired.pointer(&format!("/metadata/{kind}")).and_then(Value::as_object);
        let found = live.pointer(&format!("/metadata/{kind}")).and_then(Value::as_object);
        wanted.is_none_or(|wanted| {
            wanted.iter().all(|(key, value)| found.and_then(|found| found.get(key)) == Some(value))
        })
    })
}

/// Fields outside metadata that a manager owns (ourselves included) and that are not part of `desired`. A server-side
/// apply leaves them in place.
pub fn foreign(desired: &Value, live: &Value) -> Vec<Foreign> {
    let mut found = Vec::new();
    for entry in managers(live) {
        let manager = entry.get("manager").and_then(Value::as_str).unwrap_or("unknown");
        if let Some(fields) = entry.get("fieldsV1").and_then(Value::as_object) {
            for (key, inner) in fields {
                if let Some(name) = key.strip_prefix("f:").filter(|name| !matches!(*name, "metadata" | "status")) {
                    walk(manager, name.to_string(), desired.get(name), inner, &mut found);
                }
            }
        }
    }
    found
}

/// The manager other than ourselves that last wrote an object, by its managed fields.
pub fn rival(live: &Value) -> Option<String> {
    managers(live)
        .filter(|entry| !is_ours(entry))
        .filter(|entry| {
            entry
                .get("fieldsV1")
                .and_then(Value::as_object)
                .is_some_and(|fields| fields.keys().any(|key| key != "f:metadata" && key != "f:status"))
                || entry.pointer("/fieldsV1/f:metadata").is_some()
        })
        .max_by_key(|entry| entry.get("time").and_then(Value::as_str).unwrap_or_default().to_string())
        .and_then(|entry| entry.get("manager").and_then(Value::as_str).map(String::from))
}

/// Whether Weightlock has applied the object before, whatever became of its labels since.
pub fn applied_by_us(live: &Value) -> bool {
    managers(live).any(is_ours)
}

fn is_ours(entry: &Value) -> bool {
    entry.get("manager").and_then(Value::as_str) == Some(MANAGER)
}

fn managers(live: &Value) -> impl Iterator<Item = &Value> {
    live.pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("subresource").is_none_or(|subresource| subresource.as_str() == Some("")))
}

fn walk(manager: &str, path: String, desired: Option<&Value>, fields: &Value, found: &mut Vec<Foreign>) {
    let Some(desired) = desired else {
        found.push(Foreign { manager: manager.to_string(), path });
        return;
    };
    for (key, inner) in fields.as_object().into_iter().flatten() {
        if let Some(name) = key.strip_prefix("f:") {
            walk(manager, format!("{path}.{name}"), desired.get(name), inner, found);
        } else if let Some(selector) = key.strip_prefix("k:") {
            let item = serde_json::from_str::<Value>(selector).ok().and_then(|selector| select(desired, &selector));
            walk(manager, format!("{path}[{selector}]"), item, inner, found);
        } else if let Some(member) = key.strip_prefix("v:") {
            let item = serde_json::from_str::<Value>(member)
                .ok()
                .and_then(|member| desired.as_array().and_then(|list| list.iter().find(|item| **item == member)));
            walk(manager, format!("{path}[{member}]"), item, inner, found);
        }
    }
}

fn select<'a>(list: &'a Value, selector: &Value) -> Option<&'a Value> {
    let keys = selector.as_object()?;
    list.as_array()?.iter().find(|item| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn desired() -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "weightlock-default-deny", "labels": {"app.kubernetes.io/managed-by": "weightlock"}},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}})
    }

    fn live(entries: Value) -> Value {
        let mut live = desired();
        live["metadata"]["managedFields"] = entries;
        live
    }

    #[test]
    fn an_egress_rule_that_a_rival_adds_beside_ours_is_foreign() {
        let live = live(json!([
            {"manager": "weightlock", "operation": "Apply", "time": "2026-01-01T00:00:00Z",
             "fieldsV1": {"f:metadata": {"f:labels": {}}, "f:spec": {"f:podSelector": {}, "f:policyTypes": {}}}},
            {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-02T00:00:00Z",
             "fieldsV1": {"f:spec": {"f:egress": {}}}},
        ]));
        assert_eq!(
            foreign(&desired(), &live),
            [Foreign { manager: "kubectl-edit".into(), path: "spec.egress".into() }]
        );
        assert_eq!(rival(&live).as_deref(), Some("kubectl-edit"));
    }

    #[test]
    fn what_a_rival_owns_in_common_with_us_and_in_status_is_not_foreign() {
        let live = live(json!([
            {"manager": "argocd", "operation": "Apply", "fieldsV1": {"f:spec": {"f:podSelector": {}}}},
            {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
             "fieldsV1": {"f:status": {"f:conditions": {}}}},
        ]));
        assert_eq!(foreign(&desired(), &live), []);
    }

    #[test]
    fn items_of_keyed_lists_are_found_by_their_key() {
        let desired = json!({"webhooks": [{"name": "a", "failurePolicy": "Fail"}]});
        let mut live = desired.clone();
        live["metadata"] = json!({"managedFields": [{"manager": "m", "fieldsV1": {"f:webhooks": {
            "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:objectSelector": {}},
            "k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}}}]});
        let paths: Vec<_> = foreign(&desired, &live).into_iter().map(|field| field.path).collect();
        assert_eq!(paths, ["webhooks[{\"name\":\"a\"}].objectSelector", "webhooks[{\"name\":\"b\"}]"]);
    }

    #[test]
    fn a_missing_label_is_seen_and_an_extra_one_is_left() {
        let mut other = desired();
        other["metadata"]["labels"]["team"] = json!("x");
        assert!(marked(&desired(), &other));
        assert!(!marked(&other, &desired()));
    }
}
