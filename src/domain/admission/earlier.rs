//! Containers that Weightlock injected on another day: with another version of its image, or an interval and a rate that the
//! environment had then.

use serde_json::Value;

use super::assessment::Assessment;
use super::pod::{Container, Kind, Object};
use super::verification::carriers;
use super::verifier::{self, REVERIFIER, VERIFIER};
use crate::domain::world::{Reverify, World};

/// In which protected fields a container differs from the rendered one. One of a pod that waited for its node may be of the
/// day on which that was made: an update of Weightlock does not stop what waits.
pub(super) fn differences(assessment: &Assessment<'_>, actual: &Container<'_>, expected: Object) -> Vec<String> {
    let expected = if assessment.waited { adapted(assessment.world, actual, expected) } else { expected };
    verifier::differences(assessment, actual, &expected)
}

/// Whether the verifier of a pod and the sidecar that verifies again are the ones that Weightlock injects. The interval,
/// the rate and the version of the image may be those of another day.
pub fn reverifies(world: &World, namespace: &str, pod: &Value) -> bool {
    let Ok(assessment) = Assessment::new(world, namespace, pod) else { return false };
    let plan = verifier::plan(&assessment);
    let sidecar = assessment.pod.containers.iter().find(|c| c.kind == Kind::Sidecar && c.name == REVERIFIER);
    let verifier = assessment.pod.containers.iter().find(|c| c.kind == Kind::Init && c.name == VERIFIER);
    let (Some(sidecar), Some(verifier), false) = (sidecar, verifier, plan.is_empty()) else { return false };
    let how = Reverify { every_seconds: 0, max_bytes_per_second: 0, cpu: String::new(), memory: String::new() };
    let as_rendered = |container: &Container<'_>, expected: Object| {
        verifier::differences(&assessment, container, &adapted(world, container, expected)).is_empty()
    };
    as_rendered(sidecar, verifier::render_again(&assessment, &plan, &how))
        && as_rendered(verifier, verifier::render(&assessment, &plan))
        && carriers(&assessment).next() == verifier::render_volume(&plan)
}

/// A rendered container with what may be of another day taken from the one in the pod.
fn adapted(world: &World, actual: &Container<'_>, mut expected: Object) -> Object {
    /// The interval and the rate of the sidecar, each after its name.
    const FREE: usize = 4;
    if repository(actual.image) == repository(&world.settings.verifier_image) {
        expected.insert("image".into(), actual.image.into());
    }
    let given = actual.raw.get("args").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if actual.name == REVERIFIER
        && let Some(Value::Array(args)) = expected.get_mut("args")
        && let (Some(theirs), Some(ours)) = (given.get(..FREE), args.get_mut(..FREE))
        && theirs.iter().zip(ours.iter()).step_by(2).all(|(theirs, ours)| theirs == ours)
    {
        ours.clone_from_slice(theirs);
    }
    expected
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}
