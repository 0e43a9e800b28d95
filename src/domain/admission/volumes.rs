//! What is behind the volumes of a pod.
//!
//! Claims that are not bound yet are the hard part. In an environment a pod starts only when it can be told what its
//! claims hold:
//!
//! - A claim that does not exist could be made later for any storage that is permitted in the namespace, and the pod
//!   would then read weights that nothing verified: it is refused (WL-111). Controllers that make claims for their pods
//!   (StatefulSet) make the claim first; generic ephemeral volumes are decided by their template.
//! - An unbound claim that names a volume is decided as that volume.
//! - One for which a volume is reserved is decided as that volume and as a claim that is to be provisioned: the binder passes
//!   over a reservation that does not fit (too small, another mode, of an earlier claim of that name).
//! - An unbound claim with a data source is decided by that source; one that cannot be followed is refused.
//! - Any other unbound claim is to be provisioned anew, and passes for pods without weights and GPU, so that
//!   WaitForFirstConsumer works. It is refused while there is an unclaimed volume of registered storage that is permitted
//!   in the namespace, since it could be bound to that. Where it is not permitted, the policies inside the API server
//!   refuse the binding. What is declared after the pod was admitted is found by the watch.
//!
//! When the pod is placed on a node all of them are bound, and it is decided again by what they are then: see [`placement`].

use serde_json::{Value, json};

use super::placement;
use super::pod::{Object, Pod, Volume, object, text};
use super::text::quoted;
use crate::domain::backend::{self, BackendKey};
use crate::domain::lookup::ClaimStorage;
use crate::domain::world::{Artifact, ClaimName, DataSource, World};

/// What is behind a volume.
pub(super) enum Content<'a> {
    /// Nothing that lives outside the pod or the API server.
    Local,
    /// Files of an image.
    Image(String),
    /// Storage with a key.
    Storage {
        /// How it was found, for messages: `PVC "scratch" -> v1:csi:…`.
        via: String,
        /// The key.
        key: BackendKey,
        /// The artifacts whose storage overlaps it. Empty: it is not registered.
        artifacts: Vec<&'a Artifact>,
    },
    /// An emptyDir that receives weights by download.
    Download {
        /// How it was found, for messages.
        via: String,
        /// The artifact that it is declared to receive.
        artifact: &'a Artifact,
    },
    /// A volume that is to be provisioned, and empty then.
    Fresh(String),
    /// A clone of the storage of these artifacts.
    Clone(String, Vec<&'a Artifact>),
    /// It cannot be told. Why, and what to do.
    Unresolved(String, String),
    /// A source of a type that is not known.
    Unknown(String),
}

/// Sources that hold nothing from outside the pod but objects of the API server.
const LOCAL: &[&str] = &["configMap", "secret", "projected", "downwardAPI", "emptyDir"];

/// Drivers of inline CSI volumes that hold credentials, not data.
const INLINE_DRIVERS: &[&str] =
    &["secrets-store.csi.k8s.io", "csi.cert-manager.io", "spiffe.csi.cert-manager.io", "csi.spiffe.io"];

/// How many clones of clones are followed.
const CLONES: usize = 8;

const BIND_FIRST: &str = "create the claim and let it bind first (volumeName, or a storage class that binds at once), then create the pod again.";

/// What is behind a volume: one entry per source that it names.
pub(super) fn contents<'a>(world: &'a World, namespace: &str, pod: &Pod<'_>, volume: &Volume<'_>) -> Vec<Content<'a>> {
    let mut found = Vec::new();
    for (field, source) in volume.raw {
        if field == "name" || source.is_null() {
            continue;
        }
        found.push(match field.as_str() {
            "ephemeral" => own_claim(world, namespace, pod, volume, source),
            _ => content(world, namespace, field, source),
        });
    }
    if found.is_empty() {
        // The API server makes an emptyDir of a volume without a source.
        found.push(Content::Local);
    }
    found
}

fn content<'a>(world: &'a World, namespace: &str, field: &str, source: &Value) -> Content<'a> {
    match field {
        local if LOCAL.contains(&local) => Content::Local,
        "image" => image(world, source.get("reference").and_then(Value::as_str).unwrap_or_default()),
        "persistentVolumeClaim" => match source.get("claimName").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => {
                claim(world, &ClaimName::new(namespace, name), &format!("PVC {}", quoted(name)))
            }
            _ => Content::Unresolved("persistentVolumeClaim.claimName is missing".into(), "name the claim.".into()),
        },
        "csi" => inline_csi(world, source),
        known if backend::STORAGE_SOURCES.contains(&known) => {
            let mut only = Object::new();
            only.insert(field.to_owned(), source.clone());
            match backend::of_volume_source(&Value::Object(only)) {
                Ok(key) => storage(world, key, field),
                Err(reason) => Content::Unresolved(reason, format!("correct {field}.")),
            }
        }
        unknown => Content::Unknown(unknown.to_owned()),
    }
}

fn storage<'a>(world: &'a World, key: BackendKey, via: &str) -> Content<'a> {
    let artifacts = world.artifacts_at(&key);
    Content::Storage { via: format!("{via} -> {key}"), key, artifacts }
}

fn image<'a>(world: &'a World, reference: &str) -> Content<'a> {
    match world.artifacts_of_image(reference) {
        Some((key, artifacts)) => {
            Content::Storage { via: format!("image {} -> {key}", quoted(reference)), key, artifacts }
        }
        None => Content::Image(reference.to_owned()),
    }
}

/// Of most drivers an inline volume does not tell what is in it; some go by attributes, which do.
fn inline_csi<'a>(world: &'a World, source: &Value) -> Content<'a> {
    let driver = source.get("driver").and_then(Value::as_str).unwrap_or_default();
    if INLINE_DRIVERS.contains(&driver) {
        return Content::Local;
    }
    if let Ok(key) = backend::of_volume_source(&json!({"csi": source})) {
        return storage(world, key, "csi");
    }
    Content::Unresolved(
        format!("an inline CSI volume of driver {} does not tell what is in it", quoted(driver)),
        "mount it through a PersistentVolumeClaim.".into(),
    )
}

/// A claim that the pod makes for itself. One of that name that is there may be another than the template says: it is what a pod gets
/// that was placed. Before, whoever may edit claims can give it to the pod, so it counts if it leads to weights.
fn own_claim<'a>(world: &'a World, namespace: &str, pod: &Pod<'_>, volume: &Volume<'_>, source: &Value) -> Content<'a> {
    let made = placement::claim_of(namespace, pod, volume).filter(|made| world.claims.contains_key(made));
    let there = made.map(|made| claim(world, &made, &format!("PVC {}", quoted(&made.name))));
    match there {
        Some(there) if pod.node().is_some() => there,
        Some(there @ Content::Clone(..)) => there,
        Some(Content::Storage { via, key, artifacts }) if !artifacts.is_empty() => {
            Content::Storage { via, key, artifacts }
        }
        _ => template(world, namespace, source),
    }
}

fn template<'a>(world: &'a World, namespace: &str, source: &Value) -> Content<'a> {
    let Some(spec) = source.get("volumeClaimTemplate").and_then(|t| t.get("spec")).and_then(Value::as_object) else {
        return Content::Unresolved("ephemeral.volumeClaimTemplate.spec is missing".into(), "write it out.".into());
    };
    if let Some(volume) = text(spec, "volumeName") {
        return volume_named(world, volume, "claim template");
    }
    match data_source(spec, namespace) {
        Some(source) => from_source(world, &source, "claim template", CLONES)
            .unwrap_or_else(|| fresh(world, namespace, "claim template")),
        None => fresh(world, namespace, "claim template"),
    }
}

/// What the spec of a claim is to be filled from.
pub(super) fn data_source(spec: &Object, namespace: &str) -> Option<DataSource> {
    let source = object(spec, "dataSourceRef").or_else(|| object(spec, "dataSource"))?;
    Some(DataSource {
        kind: text(source, "kind").unwrap_or_default().to_owned(),
        namespace: text(source, "namespace").unwrap_or(namespace).to_owned(),
        name: text(source, "name").unwrap_or_default().to_owned(),
    })
}

fn volume_named<'a>(world: &'a World, volume: &str, via: &str) -> Content<'a> {
    match world.volumes.get(volume).map(|v| &v.key) {
        Some(Ok(key)) => storage(world, key.clone(), &format!("{via} -> PersistentVolume {}", quoted(volume))),
        Some(Err(reason)) => Content::Unresolved(
            format!("{via} leads to PersistentVolume {}: {reason}", quoted(volume)),
            "use a PersistentVolume of a known type.".into(),
        ),
        None => Content::Unresolved(
            format!("{via} leads to PersistentVolume {}, which does not exist", quoted(volume)),
            BIND_FIRST.into(),
        ),
    }
}

fn claim<'a>(world: &'a World, name: &ClaimName, via: &str) -> Content<'a> {
    let Some(found) = world.claims.get(name) else {
        return Content::Unresolved(format!("{via} does not exist"), BIND_FIRST.into());
    };
    let own = match world.storage_of_claim(name) {
        ClaimStorage::Volume { key: Ok(key), .. } => storage(world, key.clone(), via),
        ClaimStorage::Volume { key: Err(reason), .. } => {
            return Content::Unresolved(
                format!("{via}: {reason}"),
                "bind the claim to a PersistentVolume that exists and is of a known type.".into(),
            );
        }
        ClaimStorage::Unbound | ClaimStorage::Absent => fresh(world, &name.namespace, via),
    };
    // Registered storage is decided by its artifact, wherever it was filled from.
    if matches!(&own, Content::Storage { artifacts, .. } if !artifacts.is_empty()) {
        return own;
    }
    if let Some(filled) = found.data_source.as_ref().and_then(|source| from_source(world, source, via, CLONES)) {
        return filled;
    }
    // What is reserved for a claim need not be what it gets.
    if found.volume.is_none()
        && let unresolved @ Content::Unresolved(..) = fresh(world, &name.namespace, via)
    {
        return unresolved;
    }
    own
}

/// What a claim with this data source may hold; `None` where the source holds no weights.
fn from_source<'a>(world: &'a World, source: &DataSource, via: &str, depth: usize) -> Option<Content<'a>> {
    let shown = format!("{} {}/{}", source.kind, source.namespace, source.name);
    let unresolved = |why: &str| {
        Some(Content::Unresolved(
            format!("{via} is filled from {}, {why}", quoted(&shown)),
            "use a claim that is not made from another volume, or register what it holds as a WeightArtifact.".into(),
        ))
    };
    if source.kind != "PersistentVolumeClaim" {
        return unresolved("of which it cannot be told whether it holds weights");
    }
    if depth == 0 {
        return unresolved("a clone of too many clones to follow");
    }
    let name = ClaimName::new(&source.namespace, &source.name);
    let Some(claim) = world.claims.get(&name) else { return unresolved("which does not exist") };
    match world.storage_of_claim(&name) {
        ClaimStorage::Volume { key: Ok(key), .. } => {
            let artifacts = world.artifacts_at(key);
            if !artifacts.is_empty() {
                return Some(Content::Clone(format!("{via} clones {} -> {key}", quoted(&shown)), artifacts));
            }
        }
        ClaimStorage::Volume { key: Err(reason), .. } => {
            return unresolved(&format!("of which the storage cannot be told ({reason})"));
        }
        ClaimStorage::Unbound | ClaimStorage::Absent => {}
    }
    claim.data_source.as_ref().and_then(|source| from_source(world, source, via, depth - 1))
}

/// A claim that is to be provisioned, unless it may be bound to registered storage.
fn fresh<'a>(world: &'a World, namespace: &str, via: &str) -> Content<'a> {
    let may_bind = world.bindable().find_map(|(name, artifacts)| {
        let may = artifacts.into_iter().find(|artifact| world.refusal(artifact, namespace, None).is_none());
        may.map(|artifact| (name, artifact))
    });
    match may_bind {
        Some((volume, artifact)) => Content::Unresolved(
            format!(
                "{via} is not bound yet, and may be bound to PersistentVolume {volume:?} of WeightArtifact {:?}",
                artifact.name
            ),
            format!(
                "let the claim bind first, or reserve PersistentVolume {volume:?} with spec.claimRef; or ask {}.",
                artifact.contact
            ),
        ),
        None => Content::Fresh(format!("{via}, not bound yet")),
    }
}
