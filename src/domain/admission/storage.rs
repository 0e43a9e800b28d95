//! WL-112: registered storage is bound, re-declared and cloned only where it is permitted. In the cluster the policies
//! inside the API server decide this; the CLI and the audit decide it here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::node_access;
use super::pod::{Object, object, text};
use super::text::{Findings, quoted};
use super::volumes::data_source;
use crate::domain::backend::{self, BackendKey};
use crate::domain::lookup::ClaimStorage;
use crate::domain::request::Request;
use crate::domain::rules::{COPY_REMEDY, Rule};
use crate::domain::world::{ClaimName, DataSource, SnapshotContent, SnapshotName, World};

/// A PersistentVolumeClaim: the volume it names, or is bound to, and what it clones. Returns the namespace it concerns.
pub(super) fn claim<'a>(world: &World, request: &Request<'a>, findings: &mut Findings) -> &'a str {
    let Some(spec) = spec(request, findings) else { return request.namespace };
    if let Some(volume) = text(spec, "volumeName")
        && let Some(Ok(key)) = world.volumes.get(volume).map(|v| &v.key)
    {
        elsewhere(
            world,
            key,
            request.namespace,
            &format!("the claim binds PersistentVolume {}", quoted(volume)),
            findings,
        );
    }
    let Some(source) = data_source(spec, request.namespace) else { return request.namespace };
    for key in copied(world, &source) {
        for artifact in world.artifacts_at(&key) {
            findings.add(
                Rule::RegisteredStorageElsewhere,
                format!("the claim is a copy of {} {} -> {key}, which is WeightArtifact {:?}; a copy would be storage that nobody registered.", source.kind, quoted(&format!("{}/{}", source.namespace, source.name)), artifact.name),
                format!("{COPY_REMEDY}; or ask {}.", artifact.contact),
            );
        }
    }
    request.namespace
}

/// The keys of what a claim is to be filled from, as far as they are known.
fn copied(world: &World, source: &DataSource) -> Vec<BackendKey> {
    match source.kind.as_str() {
        "PersistentVolumeClaim" => {
            let name = ClaimName::new(&source.namespace, &source.name);
            match world.storage_of_claim(&name) {
                ClaimStorage::Volume { key: Ok(key), .. } => vec![key.clone()],
                _ => Vec::new(),
            }
        }
        "VolumeSnapshot" => {
            let name = SnapshotName { namespace: source.namespace.clone(), name: source.name.clone() };
            let contents = || world.snapshots.values().filter(|content| content.snapshot == name);
            let handles: BTreeSet<&BackendKey> = contents().flat_map(|content| &content.handles).collect();
            // Another content of the same snapshot may say what it was taken of.
            let same = world.snapshots.values().filter(|other| other.handles.iter().any(|key| handles.contains(key)));
            contents()
                .chain(same)
                .flat_map(SnapshotContent::keys)
                .cloned()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A PersistentVolume: whether it is the node itself, and its storage, if it is for a claim. That of one for nobody is
/// decided when it is bound. Returns the
/// namespace it concerns, empty for none.
pub(super) fn volume<'a>(world: &World, request: &Request<'a>, findings: &mut Findings) -> &'a str {
    let Some(spec) = spec(request, findings) else { return "" };
    let reference = object(spec, "claimRef");
    let namespace = reference.and_then(|reference| text(reference, "namespace")).unwrap_or_default();
    node_access::volume(world, request.name, spec, namespace, findings);
    let Some(reference) = reference else { return "" };
    let Ok(key) = backend::of_volume_source(&Value::Object(spec.clone())) else { return namespace };
    let claim = format!("{namespace}/{}", text(reference, "name").unwrap_or_default());
    elsewhere(world, &key, namespace, &format!("the volume is for PVC {}", quoted(&claim)), findings);
    namespace
}

fn elsewhere(world: &World, key: &BackendKey, namespace: &str, subject: &str, findings: &mut Findings) {
    for artifact in world.artifacts_at(key) {
        if let Some(refusal) = world.refusal(artifact, namespace, None) {
            findings.add(
                Rule::RegisteredStorageElsewhere,
                format!("{subject} ({key}), which is WeightArtifact {:?}, {}.", artifact.name, refusal.reason),
                refusal.remedy,
            );
        }
    }
}

fn spec<'a>(request: &Request<'a>, findings: &mut Findings) -> Option<&'a Object> {
    let spec = request.object.and_then(|o| o.get("spec")).and_then(Value::as_object);
    if spec.is_none() {
        findings.add(Rule::Malformed, "spec is missing or not an object.".into(), "correct spec.".into());
    }
    spec
}
