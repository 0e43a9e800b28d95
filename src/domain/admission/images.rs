//! Images that are weights: WL-101, WL-115 and WL-116.

use super::assessment::Assessment;
use super::pod::{object, text};
use super::text::{Findings, quoted};
use crate::domain::backend::{self, BackendKey};
use crate::domain::rules::Rule;

/// Whether the weights that are images of containers may be here.
pub(super) fn containers(assessment: &Assessment<'_>, findings: &mut Findings) {
    let account = assessment.pod.service_account();
    for found in &assessment.images {
        for artifact in &found.artifacts {
            let subject = format!(
                "{} has image {}, which is WeightArtifact {:?} ({})",
                found.container,
                quoted(found.image),
                artifact.name,
                found.key
            );
            if let Some(refusal) = assessment.world.refusal(artifact, assessment.namespace, Some(account)) {
                findings.add(refusal.rule, format!("{subject}, {}.", refusal.reason), refusal.remedy);
            } else if assessment.environment().is_some() && found.key == BackendKey::repository(found.image) {
                findings.add(
                    Rule::ImageNotPinned,
                    format!("{subject} by its repository alone: nothing verifies what is in the image of a container but its digest."),
                    format!(
                        "name the image by a digest that a location of WeightArtifact {:?} declares, or mount it as an image volume, which is verified; or ask {}.",
                        artifact.name, artifact.contact
                    ),
                );
            }
        }
    }
}

/// Images of which it cannot be told whether they are weights, while there are such.
pub(super) fn ids(assessment: &Assessment<'_>, findings: &mut Findings) {
    if !assessment.world.registers_images() {
        return;
    }
    let containers =
        assessment.pod.containers.iter().map(|c| (format!("{} {}", c.kind.noun(), quoted(c.name)), c.image));
    let volumes = assessment.pod.volumes.iter().filter_map(|volume| {
        let source = object(volume.raw, "image")?;
        Some((format!("volume {}", quoted(volume.name)), text(source, "reference")?))
    });
    for (subject, image) in containers.chain(volumes).filter(|(_, image)| backend::is_id(image)) {
        findings.add(
            Rule::ImageById,
            format!(
                "{subject} has image {}, an ID, of which it cannot be told whether the image is registered weights.",
                quoted(image)
            ),
            "name the image by its repository, with a tag or a digest.".into(),
        );
    }
}
