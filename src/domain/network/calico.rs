//! Calico's NetworkPolicies, as far as they say what a NetworkPolicy can say too.
//!
//! What they allow comes ahead of Kubernetes' policies, so that an allowance of theirs is one whatever ours say.

use serde_json::{Map, Value};

use super::Direction;
use super::foreign::{ALL_PORTS, EVERYONE, Reading, items, protocol};
use super::opening::{Far, Ports};

pub(super) fn read(policy: &Value, reading: &mut Reading<'_>) {
    let Some(spec) = policy.get("spec").and_then(Value::as_object) else { return };
    let known =
        ["tier", "order", "selector", "types", "ingress", "egress", "serviceAccountSelector", "performanceHints"];
    reading.only("spec", spec, &known);
    for (direction, field, far) in
        [(Direction::Ingress, "ingress", "source"), (Direction::Egress, "egress", "destination")]
    {
        for (at, rule) in items(spec, field, "spec") {
            let Some(rule) = rule.as_object() else {
                reading.refuse(&at, "it is no object", "correct it");
                continue;
            };
            match rule.get("action").and_then(Value::as_str) {
                Some("Deny" | "Log") => {}
                Some("Allow") => allow(direction, far, &at, rule, reading),
                _ => reading.refuse(&at, "it leaves the decision to others than this policy", "use Allow or Deny"),
            }
        }
    }
}

fn allow(direction: Direction, far: &str, at: &str, rule: &Map<String, Value>, reading: &mut Reading<'_>) {
    let near = if far == "source" { "destination" } else { "source" };
    if !reading.only(at, rule, &["action", "metadata", "protocol", "ipVersion", "source", "destination", "http"]) {
        return;
    }
    let side = |side: &str| rule.get(side).and_then(Value::as_object).cloned().unwrap_or_default();
    let (peer, own) = (side(far), side(near));
    let (far_at, near_at) = (format!("{at}.{far}"), format!("{at}.{near}"));
    // The ports are those of the end that is connected to; ports of the other end only narrow.
    let (ports_of, ports_at) = if far == "destination" { (&peer, &far_at) } else { (&own, &near_at) };
    let narrowing = ["notNets", "notSelector", "notPorts", "ports", "selector", "nets", "serviceAccounts"];
    if !reading.only(&near_at, &own, &narrowing)
        || !reading.only(&far_at, &peer, &["nets", "notNets", "ports", "notPorts", "namespaceSelector"])
    {
        return;
    }
    let protocol = match rule.get("protocol") {
        Some(Value::String(name)) => protocol(name),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(6) => protocol("TCP"),
            Some(17) => protocol("UDP"),
            Some(132) => protocol("SCTP"),
            _ => None,
        },
        _ => None,
    };
    let mut ports = Vec::new();
    for (at, port) in items(ports_of, "ports", ports_at) {
        match (protocol, span(port)) {
            (Some(protocol), Some((first, last))) => ports.push(Ports { protocol, first, last }),
            _ => return reading.refuse(&at, "it is no port number of TCP, UDP or SCTP", ALL_PORTS),
        }
    }
    if ports.is_empty() {
        return reading.refuse(at, "without a protocol and \"ports\" of the destination it is for all", ALL_PORTS);
    }
    let mut ends: Vec<(String, Vec<Far>)> = Vec::new();
    for (at, net) in items(&peer, "nets", &far_at) {
        ends.extend(reading.block(&at, &serde_json::json!({"cidr": net})).map(|far| (at, vec![far])));
    }
    // Both together select less than either, and either is enough to judge.
    if ends.is_empty() && !peer.contains_key("nets") {
        match peer.get("namespaceSelector").and_then(Value::as_str).and_then(named) {
            Some(namespace) => {
                ends.extend(
                    reading.pods(&far_at, &[namespace].into(), &Default::default()).map(|far| (far_at.clone(), far)),
                );
            }
            None => {
                return reading.refuse(&far_at, "it is for more than \"nets\" or one namespace by its name", EVERYONE);
            }
        }
    }
    reading.open(direction, ends, &ports);
}

/// A port, or a range such as `8000:8010`.
fn span(port: &Value) -> Option<(u16, u16)> {
    let number = |number: u64| u16::try_from(number).ok();
    match port {
        Value::Number(port) => port.as_u64().and_then(number).map(|port| (port, port)),
        Value::String(text) => {
            let (first, last) = text.split_once(':').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)
        }
        _ => None,
    }
}

/// The name in a selector that is for one namespace by its name.
fn named(selector: &str) -> Option<String> {
    let (key, value) = selector.split_once("==")?;
    let key = key.trim();
    if key != "projectcalico.org/name" && key != super::NAMESPACE_NAME {
        return None;
    }
    let value = value.trim();
    let inner = ['\'', '"'].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))?;
    let plain = !inner.is_empty() && inner.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    plain.then(|| inner.to_owned())
}
