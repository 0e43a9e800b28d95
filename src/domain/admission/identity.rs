//! WL-1xx: where weights may be, and what may be mounted beside them.

use super::assessment::Assessment;
use super::pod::{Volume, object, text};
use super::text::{Findings, quoted};
use super::volumes::Content;
use crate::api::{PersistentWrites, UnregisteredReads};
use crate::domain::backend::BackendKey;
use crate::domain::node;
use crate::domain::rules::{COPY_REMEDY, Rule};
use crate::domain::world::Artifact;

/// Which artifacts are mounted, and whether they may be here.
pub(super) fn artifacts(assessment: &Assessment<'_>, findings: &mut Findings) {
    let account = assessment.pod.service_account();
    for weights in assessment.weights() {
        let artifact = weights.artifact;
        let subject =
            format!("volume {} is WeightArtifact {:?} ({})", quoted(weights.volume), artifact.name, weights.via);
        if let Some(refusal) = assessment.world.refusal(artifact, assessment.namespace, Some(account)) {
            findings.add(refusal.rule, format!("{subject}, {}.", refusal.reason), refusal.remedy);
        }
        if !artifact.sealed() && assessment.environment().is_some() && !assessment.produces(artifact) {
            findings.add(
                Rule::OpenArtifact,
                format!("{subject}, which is open: without a digest there is nothing to verify its bytes against, and only its producers may mount it ({}).", producers(artifact)),
                format!(
                    "seal it (kubectl weightlock seal {}), run the pod as one of its producers, or list them in spec.producers; or ask {}.",
                    artifact.name, artifact.contact
                ),
            );
        }
    }
}

/// Whether weights are mounted that were found tampered with, by content or by storage, whatever they are declared to be.
pub(super) fn incidents(assessment: &Assessment<'_>, findings: &mut Findings) {
    for (volume, contents) in assessment.pod.volumes.iter().zip(&assessment.contents) {
        for content in contents {
            let Content::Storage { via, key, artifacts } = content else { continue };
            let digests = artifacts.iter().map(|artifact| artifact.digest.as_deref()).chain([None]);
            let Some(incident) = digests.into_iter().find_map(|digest| assessment.world.incident(digest, [key])) else {
                continue;
            };
            // One that cannot be read concerns all weights, and nothing else.
            let found = match &incident.subject {
                Some(subject) => {
                    format!("found tampered with as WeightArtifact {:?}: {}", subject.artifact, subject.found)
                }
                None if artifacts.is_empty() => continue,
                None => "which cannot be read, so that it concerns all weights".into(),
            };
            let contact =
                artifacts.first().map(|artifact| format!("; or ask {}", artifact.contact)).unwrap_or_default();
            findings.add(
                Rule::Tampered,
                format!("volume {} ({via}) is blocked by WeightIncident {:?}: {found}.", quoted(volume.name), incident.name),
                format!(
                    "find out who changed the storage, restore it from a copy that verifies, then clear the incident (kubectl weightlock clear {}){contact}.",
                    incident.name
                ),
            );
        }
    }
}

/// Who makes an artifact, for messages.
pub(super) fn producers(artifact: &Artifact) -> String {
    let listed: Vec<String> = artifact
        .producers
        .iter()
        .map(|producer| {
            let accounts: Vec<&str> = producer.service_accounts.iter().take(8).map(String::as_str).collect();
            format!("environment {:?}, service account {}", producer.environment, accounts.join(", "))
        })
        .collect();
    if listed.is_empty() { "it has none".into() } else { listed.join("; ") }
}

/// What every pod of an environment has to be: its volumes can be told.
pub(super) fn volumes(assessment: &Assessment<'_>, findings: &mut Findings) {
    for (volume, contents) in assessment.pod.volumes.iter().zip(&assessment.contents) {
        let subject = format!("volume {}", quoted(volume.name));
        for content in contents {
            match content {
                Content::Unknown(field) => findings.add(
                    Rule::UnknownVolumeType,
                    format!("{subject} has a source of an unknown type, {}, so that it cannot be told whether weights are in it.", quoted(field)),
                    "use a volume of a known type, or upgrade Weightlock.".into(),
                ),
                Content::Unresolved(why, remedy) => {
                    findings.add(Rule::UnresolvedVolume, format!("{subject} cannot be told from weights: {why}."), remedy.clone());
                }
                Content::Clone(via, artifacts) => {
                    for artifact in artifacts {
                        findings.add(
                            Rule::RegisteredStorageElsewhere,
                            format!("{subject} is an unregistered copy of WeightArtifact {:?} ({via}).", artifact.name),
                            format!("{COPY_REMEDY}; or ask {}.", artifact.contact),
                        );
                    }
                }
                Content::Storage { via, key, artifacts } => {
                    node_storage(&subject, via, path_on_node(volume, key), findings);
                    if artifacts.is_empty()
                        && let Some(why) = assessment.world.unreadable()
                    {
                        findings.add(
                            Rule::NotSynced,
                            format!("{subject} ({via}) cannot be told from registered storage: {why}."),
                            "correct or delete the named WeightArtifact, then retry.".into(),
                        );
                    }
                }
                Content::Local | Content::Image(_) | Content::Fresh(_) | Content::Download { .. } => {}
            }
        }
    }
}

/// The path on the node that a volume is. One that the pod names itself is taken as it is spelled: what lies behind
/// `/proc/PID/root` depends on the process.
fn path_on_node<'a>(volume: &'a Volume<'_>, key: &'a BackendKey) -> Option<&'a str> {
    let inline = object(volume.raw, "hostPath").and_then(|source| text(source, "path"));
    key.host_path().map(|path| inline.unwrap_or(path))
}

fn node_storage(subject: &str, via: &str, path: Option<&str>, findings: &mut Findings) {
    if let Some(directory) = path.and_then(|path| node::directory(path, &[])) {
        findings.add(
            Rule::NodeStorage,
            format!("{subject} ({via}) reaches {directory} of the node, and through it the volumes of all its pods."),
            format!("mount only the directory that is needed, outside {directory}; run node tools outside environment namespaces."),
        );
    }
}

/// What a pod that holds weights or asks for a GPU may mount besides.
pub(super) fn neighbours(assessment: &Assessment<'_>, findings: &mut Findings) {
    let Some(environment) = assessment.environment() else { return };
    let holder = if assessment.holds_weights() { "a pod that holds weights" } else { "a pod that asks for a GPU" };
    for (volume, contents) in assessment.pod.volumes.iter().zip(&assessment.contents) {
        for content in contents {
            let (what, writable_source) = match content {
                Content::Storage { via, key, artifacts } if !covered(assessment, key, artifacts) => (via.clone(), true),
                Content::Fresh(via) => (via.clone(), true),
                Content::Image(reference) => (format!("image {}", quoted(reference)), false),
                _ => continue,
            };
            let subject = format!("volume {} ({what})", quoted(volume.name));
            let fact = format!(
                "{subject} is no registered artifact; {holder} may not read it in environment {:?}.",
                environment.name
            );
            match environment.volumes.unregistered_reads {
                UnregisteredReads::Deny => findings.add(
                    Rule::UnregisteredRead,
                    fact,
                    format!(
                        "register it as a WeightArtifact, remove it, or set workloads.volumes.unregisteredReads in WeightEnvironment {:?}.",
                        environment.name
                    ),
                ),
                UnregisteredReads::Warn => findings.warn(format!(
                    "[{}] {subject} is no registered artifact; nothing verified what is read there.",
                    Rule::UnregisteredRead.id()
                )),
                UnregisteredReads::Allow => {}
            }
            if writable_source
                && environment.volumes.persistent_writes == PersistentWrites::ProducedOnly
                && let Some(container) = writer(assessment, volume)
            {
                findings.add(
                    Rule::PersistentWrite,
                    format!("{container} can write to {subject}; {holder} may not write to storage outside the pod."),
                    format!(
                        "mount it with readOnly: true, use an emptyDir, or set workloads.volumes.persistentWrites: Allow in WeightEnvironment {:?}.",
                        environment.name
                    ),
                );
            }
        }
    }
}

/// Whether registered storage holds all that is mounted: a mount of its ancestor reads what is beside it, too.
fn covered(assessment: &Assessment<'_>, key: &BackendKey, artifacts: &[&Artifact]) -> bool {
    artifacts
        .iter()
        .any(|artifact| assessment.world.locations_at(artifact, key).iter().any(|(_, own)| own.relative(key).is_some()))
}

/// The first container that can write to a volume.
pub(super) fn writer(assessment: &Assessment<'_>, volume: &Volume<'_>) -> Option<String> {
    if volume.read_only_source() {
        return None;
    }
    let writes = |c: &&super::pod::Container<'_>| {
        c.devices.contains(&volume.name) || c.mounts.iter().any(|m| m.volume == volume.name && !m.read_only)
    };
    assessment.pod.containers.iter().find(writes).map(|c| format!("{} {}", c.kind.noun(), quoted(c.name)))
}
