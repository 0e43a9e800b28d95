//! WL-117: a pod is placed on a node once it can be told what it mounts.
//!
//! A pod that waits does not hold its claims: one can be deleted and made again as weights, or a volume of weights made for
//! it, after the pod was decided. So it is decided a second time when it is bound to a node (`pods/binding`), by its claims
//! as they are then. From there on they stay what they are: Kubernetes deletes no claim that a placed pod uses (WL-118), and
//! a bound claim changes its volume no more. A pod that is created with `spec.nodeName` is placed by that, and never bound.
//!
//! Static pods are not exempt: their mirrors have no claims, for the API server lets no kubelet make one that has.

use serde_json::{Value, json};

use super::assessment::Assessment;
use super::pod::{Pod, Volume, object, text};
use super::text::{Findings, quoted};
use crate::domain::request::{Operation, Request};
use crate::domain::rules::Rule;
use crate::domain::world::ClaimName;

/// The subresource that places a pod on a node.
pub const BINDING: &str = "binding";

/// Whether a request places a pod on a node: it is then decided by its claims as they are, not as a watch has seen them last.
pub fn places(request: &Request<'_>) -> bool {
    let pods = request.group.is_empty() && request.resource == "pods" && request.operation == Operation::Create;
    let node = || request.object.and_then(|pod| pod.pointer("/spec/nodeName")).and_then(Value::as_str);
    let named = || node().is_some_and(|node| !node.is_empty());
    pods && (request.subresource == Some(BINDING) || (request.subresource.is_none() && named()))
}

/// The pod that a binding makes of one that is stored: with a node, and with the annotations that the binding brings, which
/// no other request is made for.
pub fn placed(mut pod: Value, binding: &Value) -> Value {
    let annotations = binding.pointer("/metadata/annotations").and_then(Value::as_object);
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(brought) = annotations
    {
        let own = metadata.entry("annotations").or_insert_with(|| json!({}));
        match own.as_object_mut() {
            Some(own) => own.extend(brought.clone()),
            None => *own = json!(brought),
        }
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        // A target without a name is refused by the API server, but after us.
        let node = binding.pointer("/target/name").and_then(Value::as_str).filter(|node| !node.is_empty());
        spec.insert("nodeName".into(), node.unwrap_or("(none)").into());
    }
    pod
}

/// The claims that a pod mounts: those that it names, and those that are made for it. Empty where it cannot be read.
pub fn claims(namespace: &str, pod: &Value) -> Vec<ClaimName> {
    let Ok(pod) = Pod::read(pod) else { return Vec::new() };
    pod.volumes.iter().filter_map(|volume| claim_of(namespace, &pod, volume)).collect()
}

/// The claim behind a volume of a pod.
pub(super) fn claim_of(namespace: &str, pod: &Pod<'_>, volume: &Volume<'_>) -> Option<ClaimName> {
    let named = object(volume.raw, "persistentVolumeClaim").and_then(|source| text(source, "claimName"));
    let made = || object(volume.raw, "ephemeral").map(|_| format!("{}-{}", pod.name, volume.name));
    let name = named.map(str::to_owned).or_else(made)?;
    Some(ClaimName::new(namespace, name))
}

/// The claims of a pod that is placed are bound.
pub(super) fn bound(assessment: &Assessment<'_>, findings: &mut Findings) {
    let pod = &assessment.pod;
    let Some(node) = pod.node() else { return };
    for volume in &pod.volumes {
        let Some(name) = claim_of(assessment.namespace, pod, volume) else { continue };
        let claim = assessment.world.claims.get(&name);
        let ephemeral = volume.raw.contains_key("ephemeral");
        let is_its_own = || claim.is_some_and(|c| !pod.uid.is_empty() && c.controller.as_deref() == Some(pod.uid));
        let why = match claim {
            None if ephemeral => "is not made yet",
            None => "does not exist",
            Some(claim) if claim.deleting => "is being deleted",
            Some(_) if ephemeral && !is_its_own() => "was not made for it",
            Some(_) if !assessment.world.is_bound(&name) => "is not bound",
            Some(_) => continue,
        };
        findings.add(
            Rule::PlacedUnbound,
            format!(
                "volume {} (PVC {}) {why}, while the pod is placed on node {}: what is mounted there later would be decided by nobody.",
                quoted(volume.name),
                quoted(&name.name),
                quoted(node)
            ),
            "leave out nodeName and let the scheduler place it: it binds claims first; or let the claim bind, then create the pod again.".into(),
        );
    }
}
