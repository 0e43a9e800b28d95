//! CiliumNetworkPolicies, as far as they say what a NetworkPolicy can say too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::foreign::{ALL_PORTS, EVERYONE, Reading, items, protocol};
use super::opening::{Far, Ports};
use super::{Direction, NAMESPACE_NAME};
use crate::api::Protocol;

/// How Cilium calls the namespace of a pod among its labels.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Under which it has the labels of the namespace.
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";

pub(super) fn read(policy: &Value, reading: &mut Reading<'_>) {
    let one = policy.get("spec").map(|spec| ("spec".to_owned(), spec));
    let empty = Map::new();
    let several = items(policy.as_object().unwrap_or(&empty), "specs", "").map(|(at, spec)| (at[1..].to_owned(), spec));
    for (at, spec) in one.into_iter().chain(several) {
        let Some(spec) = spec.as_object() else { continue };
        let known = [
            "endpointSelector",
            "description",
            "labels",
            "enableDefaultDeny",
            "ingressDeny",
            "egressDeny",
            "ingress",
            "egress",
            "log",
        ];
        reading.only(&at, spec, &known);
        for (direction, field, prefix) in [(Direction::Ingress, "ingress", "from"), (Direction::Egress, "egress", "to")]
        {
            for (at, rule) in items(spec, field, &at) {
                rule_of(direction, prefix, &at, rule, reading);
            }
        }
    }
}

fn rule_of(direction: Direction, prefix: &str, at: &str, rule: &Value, reading: &mut Reading<'_>) {
    let Some(rule) = rule.as_object().filter(|rule| !rule.is_empty()) else { return };
    let [endpoints, cidrs, sets] = ["Endpoints", "CIDR", "CIDRSet"].map(|name| format!("{prefix}{name}"));
    if !reading.only(at, rule, &[&endpoints, &cidrs, &sets, "toPorts"]) {
        return;
    }
    let mut ends: Vec<(String, Vec<Far>)> = Vec::new();
    let mut listed = false;
    for (at, selector) in items(rule, &endpoints, at) {
        listed = true;
        ends.extend(pods(&at, selector, reading).map(|far| (at, far)));
    }
    for (at, cidr) in items(rule, &cidrs, at) {
        listed = true;
        ends.extend(reading.block(&at, &serde_json::json!({"cidr": cidr})).map(|far| (at, vec![far])));
    }
    for (at, set) in items(rule, &sets, at) {
        listed = true;
        ends.extend(reading.block(&at, set).map(|far| (at, vec![far])));
    }
    if !listed {
        return reading.refuse(at, "without peers it is for everyone", EVERYONE);
    }
    if let Some(ports) = ports(at, rule, reading) {
        reading.open(direction, ends, &ports);
    }
}

fn ports(at: &str, rule: &Map<String, Value>, reading: &mut Reading<'_>) -> Option<Vec<Ports>> {
    let mut ports = Vec::new();
    for (at, entry) in items(rule, "toPorts", at) {
        let entry = entry.as_object()?;
        // Rules for what is said through a port narrow it.
        if !reading.only(&at, entry, &["ports", "rules"]) {
            return None;
        }
        for (at, port) in items(entry, "ports", &at) {
            let object = port.as_object().cloned().unwrap_or_default();
            if !reading.only(&at, &object, &["port", "protocol", "endPort"]) {
                return None;
            }
            let number = |value: Option<&Value>| match value {
                Some(Value::String(text)) => text.parse::<u16>().ok(),
                Some(value) => value.as_u64().and_then(|number| u16::try_from(number).ok()),
                None => None,
            };
            let first = number(object.get("port")).filter(|port| *port > 0);
            let last = match object.get("endPort") {
                Some(Value::Number(end)) if end.as_u64() == Some(0) => first,
                None => first,
                end => number(end),
            };
            let protocols = match object.get("protocol").and_then(Value::as_str).unwrap_or("ANY") {
                "ANY" => vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP],
                name => protocol(name).into_iter().collect(),
            };
            let (Some(first), Some(last), false) = (first, last, protocols.is_empty()) else {
                reading.refuse(&at, "it is no protocol and port number", ALL_PORTS);
                return None;
            };
            ports.extend(protocols.into_iter().map(|protocol| Ports { protocol, first, last }));
        }
    }
    if ports.is_empty() {
        reading.refuse(at, "without \"toPorts\" it is for all ports", ALL_PORTS);
        return None;
    }
    Some(ports)
}

/// The pods that Cilium's selector is for: of the namespace of the policy, unless it says another.
fn pods(at: &str, selector: &Value, reading: &mut Reading<'_>) -> Option<Vec<Far>> {
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let elsewhere = expressions.into_iter().flatten().any(|expression| {
        let key = expression.get("key").and_then(Value::as_str).map(bare);
        key.is_some_and(|key| key == NAMESPACE || key.starts_with(NAMESPACE_LABELS))
            && expression.get("operator").and_then(Value::as_str) != Some("In")
    });
    let mut required: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, values) in reading.required(at, selector)? {
        let key = bare(&key);
        // Who is no pod (`reserved:host`), or known by another source than its labels.
        if key.contains(':') {
            reading.refuse(at, format!("{key:?} is no label of a pod"), "select pods by labels of Kubernetes");
            return None;
        }
        required.insert(key.into(), values);
    }
    let by_label = required.remove(&format!("{NAMESPACE_LABELS}{NAMESPACE_NAME}"));
    let mut namespaces = required.remove(NAMESPACE).or(by_label).unwrap_or_default();
    let before = required.len();
    required.retain(|key, _| !key.starts_with(NAMESPACE_LABELS));
    let elsewhere = elsewhere || (namespaces.is_empty() && required.len() < before);
    if elsewhere {
        let what = "it selects pods of namespaces that it does not name";
        reading.refuse(at, what, "select namespaces by io.kubernetes.pod.namespace");
        return None;
    }
    if namespaces.is_empty() {
        namespaces.insert(reading.namespace.to_owned());
    }
    reading.pods(at, &namespaces, &required)
}

/// A label without the source that Cilium puts ahead of it. Other sources than Kubernetes are no labels of pods.
fn bare(key: &str) -> &str {
    key.strip_prefix("k8s:").or_else(|| key.strip_prefix("any:")).unwrap_or(key)
}
