//! WL-311 and WL-312: weights that arrive by download into an emptyDir.
//!
//! A pod says with an annotation which artifact a volume receives. That is a claim, and all it can do is to narrow: the
//! artifact has to exist, be sealed and be permitted here, the volume then counts as those weights in every rule, and the
//! verifier holds the bytes against the digest. Writable it is to the declared downloaders only, which run ahead of the
//! verifier.

use serde_json::Value;

use super::assessment::Assessment;
use super::pod::{Container, Kind, Object, Volume};
use super::text::{Findings, quoted};
use super::verifier::VERIFIER;
use super::volumes::Content;
use crate::domain::consumers::DOWNLOAD;
use crate::domain::rules::Rule;
use crate::domain::world::World;

/// What a volume receives, as an annotation says: an emptyDir, and an artifact that exists and is sealed. What does not
/// fit is refused by [`rules`].
pub(super) fn content<'a>(world: &'a World, annotations: Option<&Object>, volume: &Volume<'_>) -> Option<Content<'a>> {
    let key = format!("{DOWNLOAD}{}", volume.name);
    let name = annotations?.get(&key)?.as_str()?;
    let artifact = world.artifacts.get(name).filter(|artifact| artifact.sealed())?;
    is_empty_dir(volume).then(|| Content::Download { via: format!("annotation {key}"), artifact })
}

fn is_empty_dir(volume: &Volume<'_>) -> bool {
    let mut sources = volume.raw.iter().filter(|(field, source)| *field != "name" && !source.is_null());
    sources.next().is_some_and(|(field, _)| field == "emptyDir") && sources.next().is_none()
}

/// What is declared can be, and downloaders are where they may be.
pub(super) fn rules(assessment: &Assessment<'_>, findings: &mut Findings) {
    for (key, value) in assessment.pod.annotations.into_iter().flatten() {
        let Some(volume) = key.strip_prefix(DOWNLOAD) else { continue };
        if let Err((why, remedy)) = target(assessment, volume, value) {
            findings.add(Rule::DownloadTarget, format!("annotation {key} cannot be followed: {why}."), remedy);
        }
    }
    let inits = || assessment.pod.containers.iter().filter(|container| container.kind.is_init());
    let verifier = inits().position(|container| container.name == VERIFIER);
    for container in assessment.pod.containers.iter().filter(|container| assessment.fetches(container.image)) {
        let late = verifier.is_some_and(|verifier| {
            inits().skip(verifier).any(|c| c.kind == container.kind && c.name == container.name)
        });
        if let Err((why, remedy)) = downloader(assessment, container, late) {
            let subject = format!("{} {}", container.kind.noun(), quoted(container.name));
            findings.add(
                Rule::Downloader,
                format!("{subject} has the image of a downloader ({}), {why}.", quoted(container.image)),
                remedy,
            );
        }
    }
}

type Refusal = (String, String);

/// Whether an annotation names an artifact and a volume that can receive it.
fn target(assessment: &Assessment<'_>, name: &str, value: &Value) -> Result<(), Refusal> {
    let artifact = value.as_str().and_then(|artifact| assessment.world.artifacts.get(artifact));
    let Some(artifact) = artifact else {
        return Err((
            format!("{} is no WeightArtifact", value.as_str().map_or_else(|| value.to_string(), quoted)),
            "name the WeightArtifact that is downloaded, or remove the annotation.".into(),
        ));
    };
    if !artifact.sealed() {
        return Err((
            format!("WeightArtifact {:?} is open: there is nothing to verify a download against", artifact.name),
            format!("download a sealed WeightArtifact; or ask {}.", artifact.contact),
        ));
    }
    let Some(volume) = assessment.pod.volumes.iter().find(|volume| volume.name == name) else {
        return Err((
            format!("the pod has no volume {}", quoted(name)),
            "name a volume of the pod after weights.weightlock.dev/.".into(),
        ));
    };
    if !is_empty_dir(volume) {
        return Err((
            format!("volume {} is no emptyDir", quoted(name)),
            "download into an emptyDir; storage that outlives the pod is registered as a location instead.".into(),
        ));
    }
    let fetched = assessment.pod.containers.iter().any(|c| assessment.downloads_into(c, name) && writes(c, name));
    if !fetched {
        return Err((
            format!("no init container with an image of delivery.download mounts volume {} writable", quoted(name)),
            "add the downloader as an init container, or list its image under delivery.download.images of the environment.".into(),
        ));
    }
    Ok(())
}

/// Whether a container with the image of a downloader runs ahead of the verifier, and fills volumes that are declared.
fn downloader(assessment: &Assessment<'_>, container: &Container<'_>, late: bool) -> Result<(), Refusal> {
    if container.kind != Kind::Init {
        return Err((
            "and would go on writing after the weights were verified".into(),
            "make it an init container without restartPolicy.".into(),
        ));
    }
    let declared = || container.mounts.iter().filter(|mount| !mount.read_only && assessment.is_download(mount.volume));
    if declared().next().is_none() {
        return Err((
            "but fills no volume of which is declared what it receives".into(),
            format!("mount an emptyDir writable, and annotate the pod: {DOWNLOAD}VOLUME: ARTIFACT."),
        ));
    }
    let is_shared = |volume: &str| {
        assessment.pod.containers.iter().any(|other| other.name != container.name && other.uses(volume))
            && assessment.pod.volumes.iter().any(|v| v.name == volume && is_empty_dir(v))
    };
    let undeclared = container
        .mounts
        .iter()
        .find(|mount| !mount.read_only && !assessment.is_download(mount.volume) && is_shared(mount.volume));
    if let Some(mount) = undeclared {
        return Err((
            format!(
                "and fills volume {} for other containers, of which is not declared what it receives",
                quoted(mount.volume)
            ),
            format!(
                "annotate the pod: {DOWNLOAD}{}: ARTIFACT; or mount the volume in this container only.",
                mount.volume
            ),
        ));
    }
    if late && assessment.verifies() {
        return Err((
            "and runs after weightlock-verify".into(),
            "put it ahead of all init containers whose images are not under workloads.trustedInit of the environment."
                .into(),
        ));
    }
    Ok(())
}

fn writes(container: &Container<'_>, volume: &str) -> bool {
    container.mounts.iter().any(|mount| mount.volume == volume && !mount.read_only)
}
