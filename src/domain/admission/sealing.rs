//! Sealing an open artifact: who still writes it, and the one pod that may while it is frozen.

use serde_json::Value;

use super::assessment::Assessment;
use super::identity;
use super::pod::Kind;
use super::verifier::is_ours;
use crate::domain::BackendKey;
use crate::domain::world::World;

/// Whether the pod is the Job that hashes an artifact to seal it, which may have to write the manifest into the volume:
/// it runs `weightlock-verify digest` and nothing else.
///
/// Who may make pods as a producer could make this one as well. All it can do is to write a manifest where its arguments
/// say; whatever that replaces is then part of what is hashed, or makes the verification fail.
pub(super) fn is_job(assessment: &Assessment<'_>) -> bool {
    let mut containers = assessment.pod.containers.iter().filter(|c| !is_ours(c));
    let (Some(only), None) = (containers.next(), containers.next()) else { return false };
    let first = only.raw.get("args").and_then(Value::as_array).and_then(|args| args.first());
    let replaces = |field: &str| only.raw.get(field).is_some_and(|v| !v.is_null() && *v != Value::Array(Vec::new()));
    only.kind == Kind::Main
        && only.image == assessment.world.settings.verifier_image
        && first.and_then(Value::as_str) == Some("digest")
        && !["command", "lifecycle", "env", "envFrom"].into_iter().any(replaces)
}

/// The keys of the storage of an artifact that a pod mounts.
pub fn keys_mounted(world: &World, namespace: &str, pod: &Value, artifact: &str) -> Vec<BackendKey> {
    let Ok(assessment) = Assessment::new(world, namespace, pod) else { return Vec::new() };
    assessment.weights().filter(|w| w.artifact.name == artifact).filter_map(|w| w.key.cloned()).collect()
}

/// How a pod writes, or could write, the storage of an artifact: `container "x" (volume "w")`; `None` if it cannot.
/// Whether it has ended is not looked at.
pub fn writes(world: &World, namespace: &str, pod: &Value, artifact: &str) -> Option<String> {
    let assessment = match Assessment::new(world, namespace, pod) {
        Ok(assessment) => assessment,
        Err(problems) => return Some(format!("a pod that cannot be read ({})", problems.join("; "))),
    };
    // Whoever downloads it writes a copy.
    let stored = assessment.weights().filter(|w| w.key.is_some() && w.artifact.name == artifact);
    let volumes: Vec<&str> = stored.map(|w| w.volume).collect();
    let written = assessment.pod.volumes.iter().filter(|volume| volumes.contains(&volume.name));
    written
        .filter_map(|volume| Some(format!("{} (volume {:?})", identity::writer(&assessment, volume)?, volume.name)))
        .next()
}
