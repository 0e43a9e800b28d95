//! WL-3xx and WL-601: weights are verified before they are read, and cannot change afterwards.

use std::collections::BTreeMap;

use serde_json::Value;

use super::assessment::Assessment;
use super::earlier;
use super::identity;
use super::pod::{Container, Kind};
use super::sealing;
use super::shape::bandwidth;
use super::text::{Findings, quoted};
use super::verifier::{self, REVERIFIER, VERIFIER};
use crate::domain::carrier;
use crate::domain::rules::Rule;
use crate::domain::world::EGRESS_BANDWIDTH;
use crate::domain::world::Effort;

const LEAVE_OUT: &str =
    "leave the container weightlock-verify out: Weightlock injects it. Exclude it from whatever changes it.";

/// The verifier is there, as rendered, and ahead of everything that reads weights.
pub(super) fn verifier(assessment: &Assessment<'_>, findings: &mut Findings) {
    let plan = verifier::plan(assessment);
    if assessment.verifies() {
        for partial in &plan.partial {
            findings.add(
                Rule::PartialMount,
                format!(
                    "volume {} mounts only a part of WeightArtifact {:?} ({} within {}), which cannot be verified.",
                    quoted(partial.volume),
                    partial.artifact,
                    partial.mounted,
                    partial.whole
                ),
                format!("mount {} and pick the part with subPath; or ask {}.", partial.whole, partial.contact),
            );
        }
    }
    let expected = !plan.is_empty();
    carrier_volume(assessment, &plan, findings);
    let inits: Vec<_> = assessment.pod.containers.iter().filter(|c| c.kind.is_init()).collect();
    let position = inits.iter().position(|c| c.name == VERIFIER);
    let differing = position
        .and_then(|index| inits.get(index))
        .map(|actual| earlier::differences(assessment, actual, verifier::render(assessment, &plan)))
        .unwrap_or_default();
    if !(expected && assessment.verifies()) {
        if position.is_some() && (!expected || !differing.is_empty()) {
            reserved(Kind::Init, VERIFIER, findings);
        }
        if let Some(sidecar) = inits.iter().find(|c| c.name == REVERIFIER) {
            reserved(sidecar.kind, REVERIFIER, findings);
        }
        return;
    }
    again(assessment, &plan, &inits, position, findings);
    let Some(position) = position else {
        let volumes: Vec<String> = plan.mounts.iter().map(|(volume, _)| quoted(volume)).collect();
        findings.add(
            Rule::VerifierMissing,
            format!("the pod mounts weights (volume {}) but has no init container weightlock-verify.", volumes.join(", ")),
            "create the pod through the API server with the webhook inject.weightlock.dev in force, and do not remove what it adds.".into(),
        );
        return;
    };
    if !differing.is_empty() {
        findings.add(
            Rule::VerifierAltered,
            format!("the init container weightlock-verify is not as Weightlock renders it: {}.", differing.join(", ")),
            LEAVE_OUT.into(),
        );
    }
    for ahead in inits.iter().take(position) {
        let subject = format!("{} {}", ahead.kind.noun(), quoted(ahead.name));
        if assessment.reads_weights(ahead) {
            findings.add(
                Rule::PrecedesVerifier,
                format!("{subject} mounts weights and runs ahead of weightlock-verify."),
                "put it after weightlock-verify, or remove its mounts of weights.".into(),
            );
        } else if !assessment.trusts(ahead.image) && !assessment.is_downloader(ahead) {
            findings.add(
                Rule::PrecedesVerifier,
                format!(
                    "{subject} runs ahead of weightlock-verify, and its image {} is not trusted to.",
                    quoted(ahead.image)
                ),
                "put it after weightlock-verify, or list its image under workloads.trustedInit of the environment."
                    .into(),
            );
        }
    }
}

/// The volumes that have the name of the one with manifests.
pub(super) fn carriers(assessment: &Assessment<'_>) -> impl Iterator<Item = Value> {
    let named = assessment.pod.volumes.iter().filter(|volume| volume.name == carrier::VOLUME);
    named.map(|volume| Value::Object(volume.raw.clone()))
}

/// The volume with manifests is there where it is needed, as rendered, and nobody else's volume has its name.
fn carrier_volume(assessment: &Assessment<'_>, plan: &verifier::Plan<'_>, findings: &mut Findings) {
    let mut found = carriers(assessment);
    let actual = found.next();
    let expected = verifier::render_volume(plan);
    let foreign = actual.as_ref().is_some_and(|actual| expected.is_none() || !verifier::is_carrier(actual));
    if foreign || found.next().is_some() {
        findings.add(
            Rule::ReservedName,
            format!("volume {:?} takes the name of the volume that brings manifests to the verifier.", carrier::VOLUME),
            "rename the volume.".into(),
        );
    } else if actual != expected && assessment.verifies() {
        let what = if actual.is_some() { "is not as Weightlock renders it" } else { "is missing" };
        findings.add(
            Rule::VerifierAltered,
            format!("volume {:?}, which brings manifests to weightlock-verify, {what}.", carrier::VOLUME),
            LEAVE_OUT.into(),
        );
    }
}

/// Says before the pod is made that its containers wait for minutes.
pub(super) fn duration(assessment: &Assessment<'_>, findings: &mut Findings) {
    /// Seconds of waiting that nobody has to be told of.
    const SHORT: u64 = 120;
    if !assessment.verifies() {
        return;
    }
    let mut read: Vec<(&str, &str, Effort)> = assessment
        .weights()
        .filter(|w| w.artifact.sealed())
        .filter_map(|w| Some((w.volume, w.artifact.name.as_str(), w.artifact.effort?)))
        .collect();
    read.sort_by_key(|(volume, name, _)| (*volume, *name));
    read.dedup_by_key(|(volume, name, _)| (*volume, *name));
    let sum = |of: fn(&Effort) -> u64| read.iter().fold(0u64, |sum, (_, _, effort)| sum.saturating_add(of(effort)));
    let (bytes, seconds) = (sum(|effort| effort.bytes), sum(|effort| effort.seconds));
    if seconds > SHORT {
        let names: Vec<String> = read.iter().map(|(_, name, _)| format!("{name:?}")).collect();
        findings.warn(format!(
            "verifying {} GB (WeightArtifact {}) takes about {} minutes before the containers of this pod start.",
            bytes.div_ceil(1_000_000_000),
            names.join(", "),
            seconds.div_ceil(60)
        ));
    }
}

/// Says before the pod is made that no signature will be accepted.
pub(super) fn signatures(assessment: &Assessment<'_>, findings: &mut Findings) {
    if !assessment.verifies() {
        return;
    }
    let artifacts: BTreeMap<&str, _> =
        assessment.weights().map(|weights| (weights.artifact.name.as_str(), weights.artifact)).collect();
    for (name, artifact) in artifacts {
        for problem in artifact.signature.iter().flat_map(|signature| &signature.problems) {
            findings.warn(format!(
                "weightlock-verify will end with exit code 10: WeightArtifact {name:?}: {problem}. Ask {}.",
                artifact.contact
            ));
        }
    }
}

/// The sidecar that verifies again is there where the environment wants it, as rendered, and behind the verifier.
fn again(
    assessment: &Assessment<'_>,
    plan: &verifier::Plan<'_>,
    inits: &[&Container<'_>],
    verifier: Option<usize>,
    findings: &mut Findings,
) {
    let position = inits.iter().position(|c| c.name == REVERIFIER);
    let found = position.and_then(|index| inits.get(index));
    let Some((how, environment)) = assessment.environment().and_then(|e| Some((e.reverify.as_ref()?, e))) else {
        if let Some(sidecar) = found {
            reserved(sidecar.kind, REVERIFIER, findings);
        }
        return;
    };
    let problem = match found {
        None => "is missing".to_owned(),
        Some(_) if position < verifier => "runs ahead of weightlock-verify".to_owned(),
        Some(sidecar) => {
            let differing = earlier::differences(assessment, sidecar, verifier::render_again(assessment, plan, how));
            if differing.is_empty() {
                return;
            }
            format!("is not as Weightlock renders it: {}", differing.join(", "))
        }
    };
    findings.add(
        Rule::ReverifierAltered,
        format!("the sidecar container {REVERIFIER}, with which environment {:?} verifies weights while pods run, {problem}.", environment.name),
        format!("leave the container {REVERIFIER} out: Weightlock injects it. Exclude it from whatever changes it."),
    );
}

/// How weights are mounted: read-only, as files, without propagation.
pub(super) fn mounts(assessment: &Assessment<'_>, findings: &mut Findings) {
    for container in &assessment.pod.containers {
        let subject = format!("{} {}", container.kind.noun(), quoted(container.name));
        for mount in container.mounts.iter().filter(|mount| assessment.is_weights(mount.volume)) {
            let place = format!("volume {} at {}", quoted(mount.volume), quoted(mount.path));
            let read_only_source =
                assessment.pod.volumes.iter().any(|volume| volume.name == mount.volume && volume.read_only_source());
            if !mount.read_only && !read_only_source && !assessment.downloads_into(container, mount.volume) {
                writable(assessment, mount.volume, &format!("{subject} mounts weights writable ({place})"), findings);
            }
            let propagation = mount.raw.get("mountPropagation").filter(|p| !p.is_null() && *p != "None");
            if propagation.is_some() {
                findings.add(
                    Rule::MountPropagation,
                    format!("{subject} mounts weights with propagation ({place})."),
                    "remove mountPropagation from the volumeMount.".into(),
                );
            }
        }
        for device in container.devices.iter().filter(|device| assessment.is_weights(device)) {
            findings.add(
                Rule::RawBlockDevice,
                format!("{subject} attaches weights as a raw block device (volume {}).", quoted(device)),
                "mount the volume with volumeMounts instead of volumeDevices.".into(),
            );
        }
    }
}

/// A writable mount: of sealed weights nobody has one, of open weights their producers.
fn writable(assessment: &Assessment<'_>, volume: &str, fact: &str, findings: &mut Findings) {
    let weights = || assessment.weights().filter(|w| w.volume == volume).map(|w| w.artifact);
    let produced = weights().any(|artifact| assessment.produces(artifact));
    let sealed = weights().find(|artifact| artifact.sealed());
    let stranger = weights().find(|artifact| !assessment.produces(artifact));
    let frozen = weights().find(|artifact| artifact.frozen);
    match (sealed, stranger, frozen) {
        (Some(artifact), _, _) if produced || weights().any(|artifact| !artifact.sealed()) => findings.add(
            Rule::NotAWriter,
            format!("{fact}; WeightArtifact {:?} is in it and is sealed: nobody writes it any more, its producers no less.", artifact.name),
            format!(
                "set readOnly: true on the volumeMount, and write to another volume that is a new WeightArtifact; or ask {}.",
                artifact.contact
            ),
        ),
        (Some(_), _, _) => findings.add(
            Rule::WritableMount,
            format!("{fact}."),
            "set readOnly: true on the volumeMount.".into(),
        ),
        (None, Some(artifact), _) => findings.add(
            Rule::NotAWriter,
            format!(
                "{fact}; WeightArtifact {:?} is open, and this pod is none of its producers ({}).",
                artifact.name,
                identity::producers(artifact)
            ),
            format!(
                "run the pod as one of its producers, or list it in spec.producers of WeightArtifact {:?}; or ask {}.",
                artifact.name, artifact.contact
            ),
        ),
        (None, None, Some(artifact)) if !sealing::is_job(assessment) => findings.add(
            Rule::NotAWriter,
            format!("{fact}; WeightArtifact {:?} is being sealed (spec.writes: Frozen).", artifact.name),
            format!(
                "write to a new WeightArtifact. If the sealing was given up, set spec.writes: Producers; or ask {}.",
                artifact.contact
            ),
        ),
        (None, None, _) => {}
    }
}

/// Names and annotations that belong to Weightlock.
pub(super) fn names(assessment: &Assessment<'_>, findings: &mut Findings) {
    let taken = |c: &&Container<'_>| [VERIFIER, REVERIFIER].contains(&c.name) && !c.kind.is_init();
    for container in assessment.pod.containers.iter().filter(taken) {
        reserved(container.kind, container.name, findings);
    }
    let Some(rate) = assessment.environment().and_then(bandwidth) else { return };
    let found = assessment.pod.annotations.and_then(|a| a.get(EGRESS_BANDWIDTH));
    let value = found.and_then(Value::as_str);
    if value != Some(&rate) {
        let shown = match (found, value) {
            (None, _) => "is missing".to_owned(),
            (_, Some(value)) => format!("is {}", quoted(value)),
            (_, None) => "is no string".to_owned(),
        };
        findings.add(
            Rule::ReservedName,
            format!("annotation {EGRESS_BANDWIDTH} {shown}; the environment sets {rate:?}."),
            "leave the annotation out: Weightlock sets it.".into(),
        );
    }
}

fn reserved(kind: Kind, name: &str, findings: &mut Findings) {
    findings.add(
        Rule::ReservedName,
        format!("{} {name:?} takes the name of the verifier.", kind.noun()),
        "rename the container.".into(),
    );
}
