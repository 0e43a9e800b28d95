//! Weights that changed while a pod used them: the pod goes, an incident stays until a person clears it.
//!
//! An incident blocks weights in the whole cluster, so it is made only of what nobody but a node can say: the exit code
//! of the sidecar that admission compared field by field, in an environment that enforces both, of a pod that was made
//! after only its node could say it: else a tenant would write it before, and wait. Elsewhere the finding is told in an
//! event and nothing is changed. That a verifier refuses bytes before the start is no incident: the pod does
//! not start anyway, and an artifact that was declared wrongly must not block the right ones.

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod},
    jiff::{SignedDuration, Timestamp},
};
use kube::core::ObjectMeta;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Context,
    conditions::Wanted,
    error::ReconcileError,
    events::{Event, shorten, text},
    hex,
    verification::{self, Holder},
};
use crate::{
    api::{IncidentPod, IncidentReason, Mode, WeightIncident, WeightIncidentSpec},
    domain::{
        BackendKey, Membership, World, admission,
        verdict::Verdict,
        world::{Artifact, EnvironmentMember},
    },
    render,
};

/// By how much a pod has to be younger than the protection of its status: clocks differ, and an API server obeys a policy
/// a moment after it has stored it.
const SETTLES: SignedDuration = SignedDuration::from_secs(10);
/// The longest message that an incident keeps, in bytes.
const LONGEST_MESSAGE: usize = 4096;
/// Most keys that an incident holds.
const MAX_KEYS: usize = 64;

/// Whether the artifact was found tampered with.
pub fn condition(world: &World, artifact: &Artifact) -> Wanted {
    const KIND: &str = "Tampered";
    let keys: Vec<BackendKey> = world.keys_of(artifact).into_iter().filter_map(|(_, key)| key.ok()).collect();
    match world.incident(artifact.digest.as_deref(), &keys) {
        None => Wanted::no(KIND, "NoIncident", "No WeightIncident concerns the content or the storage."),
        Some(incident) => {
            let found = incident.subject.as_ref().map_or("it cannot be read", |subject| subject.found.as_str());
            let text = format!(
                "WeightIncident {:?} concerns the content or the storage ({found}), so no new pod mounts it. \
                 Remedy: find out who changed it, restore it from a copy that verifies, then: kubectl weightlock clear {}",
                incident.name, incident.name
            );
            Wanted::yes(KIND, "IncidentOpen", text)
        }
    }
}

/// Records what sidecars found, and deletes their pods.
///
/// # Errors
/// If the API server refuses; the next run tries again.
pub async fn handle(
    context: &Context,
    artifact: &Artifact,
    reference: &ObjectReference,
    holders: &[Holder<'_>],
) -> Result<(), ReconcileError> {
    for holder in holders {
        let (Some(drift), Some(digest)) = (&holder.drift, &artifact.digest) else { continue };
        let pod = &holder.pod.unpack();
        // What is being deleted was handled; its incident may have been cleared since.
        if !text(pod, "/metadata/deletionTimestamp").is_empty() {
            continue;
        }
        if !is_proof(&context.world, pod) {
            context.writer.event(&event(reference, holder, drift, "DriftReported", NOT_ENFORCED)).await?;
            continue;
        }
        let incident = incident(&context.world, artifact, digest, pod, drift);
        let name = incident.metadata.name.clone().unwrap_or_default();
        context.writer.create(&incident).await?;
        let consequence =
            format!("the pod is deleted, and WeightIncident {name:?} blocks these weights until it is cleared");
        context.writer.event(&event(reference, holder, drift, "Tampered", &consequence)).await?;
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        context.writer.delete_exactly::<Pod>(Some(namespace), name, holder.pod.uid()).await?;
    }
    Ok(())
}

const NOT_ENFORCED: &str = "nothing is done, since the environment does not enforce admission and verification, or did not when the pod was made, or the sidecar is not as Weightlock injects it";

/// Whether the finding is proof: see the documentation of the module.
fn is_proof(world: &World, pod: &Value) -> bool {
    let namespace = text(pod, "/metadata/namespace");
    let Membership::Member { environment, member } = world.membership(namespace) else { return false };
    environment.enforces_admission()
        && environment.modes.verification == Mode::Enforce
        && made_under(member, pod)
        && admission::reverifies(world, namespace, pod)
}

/// Whether a pod was made when only its node could say what its containers did. The time of the statement itself would
/// prove nothing: whoever can forge the one can forge the other.
fn made_under(member: &EnvironmentMember, pod: &Value) -> bool {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let since = member.pod_status_protected_since.as_deref().and_then(time);
    let made = time(text(pod, "/metadata/creationTimestamp"));
    since.zip(made).is_some_and(|(since, made)| made.duration_since(since) >= SETTLES)
}

fn incident(world: &World, artifact: &Artifact, digest: &str, pod: &Value, drift: &Verdict) -> WeightIncident {
    let keys = keys(world, artifact, pod);
    let of_pod = |pointer: &str| text(pod, pointer).to_string();
    WeightIncident {
        metadata: ObjectMeta {
            name: Some(name(digest, &keys)),
            labels: Some(render::labels(None)),
            annotations: Some(render::owner(None)),
            ..ObjectMeta::default()
        },
        spec: WeightIncidentSpec {
            reason: IncidentReason::Tampered,
            artifact: artifact.name.clone(),
            manifest_digest: digest.into(),
            backend_keys: keys,
            pod: IncidentPod {
                namespace: of_pod("/metadata/namespace"),
                name: of_pod("/metadata/name"),
                uid: of_pod("/metadata/uid"),
                node: of_pod("/spec/nodeName"),
            },
            message: shorten(&verification::told(drift), LONGEST_MESSAGE).into(),
        },
    }
}

/// The storage of the artifact that the pod mounts.
fn keys(world: &World, artifact: &Artifact, pod: &Value) -> Vec<String> {
    let mut keys = admission::keys_mounted(world, text(pod, "/metadata/namespace"), pod, &artifact.name);
    keys.sort();
    keys.dedup();
    keys.into_iter().map(|key| key.0).take(MAX_KEYS).collect()
}

/// One name for one content in one place, so that a second pod that finds the same adds nothing.
fn name(digest: &str, keys: &[String]) -> String {
    let hash = Sha256::digest(format!("{digest}\n{}", keys.join("\n")));
    format!("tampered-{}", hex(&hash[..8]))
}

fn event(
    artifact: &ObjectReference,
    holder: &Holder<'_>,
    drift: &Verdict,
    reason: &'static str,
    consequence: &str,
) -> Event {
    let name = artifact.name.as_deref().unwrap_or_default();
    Event {
        regarding: artifact.clone(),
        related: Some(holder.reference.clone()),
        warning: true,
        reason,
        action: "Reverify",
        note: format!(
            "WeightArtifact {name:?} changed while pod {} used it; {consequence}: {}",
            holder.name,
            verification::told(drift)
        ),
        occurrence: format!("{} {}", holder.pod.uid(), verification::end_of(drift)),
    }
}

#[cfg(test)]
#[path = "tampering_tests.rs"]
mod tests;
