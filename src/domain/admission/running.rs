//! WL-4xx: what may not be done to pods that run, or be opened into them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::shape::bandwidth;
use super::text::{Findings, quoted};
use crate::domain::consumers::DOWNLOAD;
use crate::domain::request::Request;
use crate::domain::rules::Rule;
use crate::domain::world::{EGRESS_BANDWIDTH, Environment};

/// An update of a pod: its images stay, and no ephemeral container comes. All else that the API server lets change
/// (labels, tolerations, resources) does not concern weights.
pub(super) fn update(request: &Request<'_>, environment: &Environment, findings: &mut Findings) {
    let (Some(new), Some(old)) = (request.object, request.old_object) else {
        findings.add(
            Rule::Malformed,
            "the request to update a pod lacks the object or the old object.".into(),
            "send a complete AdmissionReview.".into(),
        );
        return;
    };
    if is_going(new) {
        return;
    }
    annotation(old, new, environment, findings);
    downloads(old, new, findings);
    let (new, old) = (new.get("spec").unwrap_or(&Value::Null), old.get("spec").unwrap_or(&Value::Null));
    if new == old {
        return;
    }
    for (field, noun) in [("initContainers", "init container"), ("containers", "container")] {
        let before = images(old, field);
        for (name, image) in images(new, field) {
            match before.get(&name) {
                Some(was) if *was == image => {}
                was => findings.add(
                    Rule::ImageChanged,
                    format!(
                        "the image of {noun} {} of a pod in environment {:?} becomes {}, from {}.",
                        quoted(&name),
                        environment.name,
                        quoted(&image),
                        was.map_or("none".to_owned(), |was| quoted(was))
                    ),
                    "change the template of the workload: it makes a new pod, which is decided and verified anew."
                        .into(),
                ),
            }
        }
    }
    if list(new, "ephemeralContainers") != list(old, "ephemeralContainers") {
        let names: Vec<String> = list(new, "ephemeralContainers")
            .iter()
            .filter_map(|c| c.get("name"))
            .filter_map(Value::as_str)
            .map(quoted)
            .collect();
        findings.add(
            Rule::EphemeralContainer,
            format!(
                "ephemeral containers ({}) would read what a pod of environment {:?} reads.",
                names.join(", "),
                environment.name
            ),
            "debug a copy of the pod that mounts no weights, in a namespace outside the environment.".into(),
        );
    }
}

/// Network plugins read the bandwidth annotation of running pods, too: it changes only to what the environment sets.
fn annotation(old: &Value, new: &Value, environment: &Environment, findings: &mut Findings) {
    let of = |object: &Value| {
        object.get("metadata").and_then(|m| m.get("annotations")).and_then(|a| a.get(EGRESS_BANDWIDTH)).cloned()
    };
    let Some(rate) = bandwidth(environment) else { return };
    let value = of(new);
    if value != of(old) && value.as_ref().and_then(Value::as_str) != Some(&rate) {
        findings.add(
            Rule::ReservedName,
            format!(
                "annotation {EGRESS_BANDWIDTH} of a running pod changes; environment {:?} sets {rate:?}.",
                environment.name
            ),
            "leave the annotation as it is.".into(),
        );
    }
}

/// What a volume received is not another artifact later.
fn downloads(old: &Value, new: &Value, findings: &mut Findings) {
    let of = |object: &Value| -> BTreeMap<String, Value> {
        let annotations = object.get("metadata").and_then(|m| m.get("annotations")).and_then(Value::as_object);
        let declared = annotations.into_iter().flatten().filter(|(key, _)| key.starts_with(DOWNLOAD));
        declared.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let (before, after) = (of(old), of(new));
    if let Some(changed) = before.keys().chain(after.keys()).find(|key| before.get(*key) != after.get(*key)) {
        findings.add(
            Rule::ReservedName,
            format!("annotation {changed} of a running pod changes, which says what a volume of it received."),
            "leave the annotation as it is.".into(),
        );
    }
}

/// A connection into a pod or service of an environment.
pub(super) fn connect(request: &Request<'_>, environment: &Environment, findings: &mut Findings) {
    let what = request.subresource.unwrap_or("a connection");
    let kind = if request.resource == "services" { "Service" } else { "Pod" };
    findings.add(
        Rule::Connection,
        format!(
            "{} into {kind} {}/{} by {}: environment {:?} allows no connections into its pods (workloads.debug: Deny).",
            quoted(what),
            request.namespace,
            request.name,
            quoted(request.user.name),
            environment.name
        ),
        "read logs and metrics instead, or reach the pod through the declared ingress of the environment.".into(),
    );
}

/// Whether an object is being deleted: its finalizers have to be able to go.
pub(super) fn is_going(object: &Value) -> bool {
    object.get("metadata").and_then(|m| m.get("deletionTimestamp")).is_some_and(|t| !t.is_null())
}

fn list<'a>(spec: &'a Value, field: &str) -> &'a [Value] {
    spec.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn images(spec: &Value, field: &str) -> BTreeMap<String, String> {
    let part =
        |container: &Value, field: &str| container.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    list(spec, field).iter().map(|container| (part(container, "name"), part(container, "image"))).collect()
}
