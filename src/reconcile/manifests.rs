//! Manifests that are not in the volume are brought to the namespaces in which pods are verified against them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use sha2::{Digest, Sha256};

use super::{
    Context, Next,
    apply::{Applied, ObjectId},
    conditions::Wanted,
    error::ReconcileError,
    hex,
};
use crate::{
    api::{WeightManifest, shard_name},
    domain::{
        carrier::{self, Carried},
        world::Artifact,
    },
    render::manifest::{MANIFESTS, config_map},
};

const KIND: &str = "ManifestBrought";

/// What is known of manifests and ConfigMaps that were read, so that steady state reads nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    /// By digest and name: the UIDs of the shards, and what they were found to be.
    texts: BTreeMap<(String, String), (Vec<String>, Found)>,
    /// By namespace and name: UID and resource version of ConfigMaps that are as they should be.
    maps: BTreeMap<(String, String), (String, String)>,
}

/// What the shards were found to be: the size of all files, where it can be told, or what is wrong.
type Found = Result<Option<i64>, Problem>;

/// Reason and text of a condition that does not hold.
type Problem = (&'static str, String);

/// A manifest that is what the digest pins.
struct Text {
    shards: Vec<String>,
    /// Size of all files, where it can be told.
    size: Option<i64>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How things stand with the manifest of an artifact.
pub(super) struct Brought {
    pub condition: Wanted,
    /// Size of all files in bytes.
    pub size: Option<i64>,
    /// When to look again.
    pub next: Next,
    /// The first error that occurred. It does not keep the other namespaces waiting, nor what else is done for the artifact:
    /// a tenant can cause one (by a ConfigMap of that name, by a quota).
    pub error: Option<ReconcileError>,
}

impl Brought {
    fn no(reason: &'static str, text: String) -> Self {
        Self { condition: Wanted::no(KIND, reason, text), size: None, next: None, error: None }
    }

    fn failed(error: ReconcileError) -> Self {
        let reason = match error {
            ReconcileError::NotOurs { .. } => "ForeignObject",
            _ => "BringFailed",
        };
        let text = format!("Pods that are verified against what cannot be brought wait before they start: {error}");
        Self { error: Some(error), ..Self::no(reason, text) }
    }
}

/// Brings the manifest of an artifact to its pods; `None` where it is elsewhere.
pub(super) async fn bring(context: &Context, artifact: &Artifact) -> Option<Brought> {
    let carried = carrier::carried(&context.world, artifact)?;
    Some(bring_to_all(context, &carried).await.unwrap_or_else(Brought::failed))
}

async fn bring_to_all(context: &Context, carried: &Carried<'_>) -> Result<Brought, ReconcileError> {
    let no = |(reason, text): Problem| Ok(Brought::no(reason, text));
    let uids = match uids(context, carried) {
        Ok(uids) => uids,
        Err(problem) => return no(problem),
    };
    let key = (carried.digest.to_owned(), carried.name.to_owned());
    let known = context.memory.manifests.lock().texts.get(&key).filter(|(seen, _)| *seen == uids).cloned();
    let known = match known {
        Some((_, Err(problem))) => return no(problem),
        Some((_, Ok(size))) => Some(size),
        None => None,
    };
    let due: Vec<_> = carried.config_maps().filter(|(namespace, name, _)| !settled(context, namespace, name)).collect();
    let mut size = known.flatten();
    let mut next = None;
    let mut error = None;
    if known.is_none() || !due.is_empty() {
        let read = read(context, carried).await?;
        let found = read.as_ref().map(|text| text.size).map_err(Clone::clone);
        context.memory.manifests.lock().texts.insert(key, (uids, found));
        let text = match read {
            Ok(text) => text,
            Err(problem) => return no(problem),
        };
        size = text.size;
        for (namespace, name, shard) in due {
            let data = text.shards.get(shard as usize).map(String::as_str).unwrap_or_default();
            match write(context, carried, &namespace, &name, shard, data).await {
                Ok(later) => next = next.into_iter().chain(later).min(),
                Err(failure) => error = error.or(Some(failure)),
            }
        }
    }
    if let Some(error) = error {
        return Ok(Brought { size, next, ..Brought::failed(error) });
    }
    let text = format!(
        "WeightManifest {:?} is what manifestDigest pins, and is in the {} namespaces in which pods are verified.",
        carried.name,
        carried.namespaces.len()
    );
    Ok(Brought { condition: Wanted::yes(KIND, "Brought", text), size, next, error: None })
}

/// The UIDs of the shards.
fn uids(context: &Context, carried: &Carried<'_>) -> Result<Vec<String>, Problem> {
    let mut missing = Vec::new();
    let mut uids = Vec::new();
    for shard in 0..carried.shards {
        let name = shard_name(carried.name, shard);
        match context.observed.manifest(&name) {
            Some(uid) => uids.push(uid),
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Ok(uids);
    }
    let text = format!(
        "WeightManifest {} does not exist, so pods with the weights wait for it before they start. Remedy: apply what \"kubectl weightlock digest -o weightmanifest\" prints.",
        super::members::name_some(&missing)
    );
    Err(("ManifestMissing", text))
}

fn settled(context: &Context, namespace: &str, name: &str) -> bool {
    let live = context.observed.manifest_map(namespace, name);
    live.is_some()
        && context.memory.manifests.lock().maps.get(&(namespace.to_owned(), name.to_owned())) == live.as_ref()
}

/// The shards, if together they are what the digest pins.
async fn read(context: &Context, carried: &Carried<'_>) -> Result<Result<Text, Problem>, ReconcileError> {
    let api: Api<WeightManifest> = Api::all(context.writer.client().clone());
    let mut shards = Vec::new();
    let mut hasher = Sha256::new();
    for shard in 0..carried.shards {
        let name = shard_name(carried.name, shard);
        let id = ObjectId::new("WeightManifest", None, &name);
        let object = api.get(&name).await.map_err(|error| ReconcileError::api("get", id, error))?;
        let says = (object.spec.manifest.as_str(), i64::from(object.spec.shard), i64::from(object.spec.shards));
        if says != (carried.name, i64::from(shard), i64::from(carried.shards)) {
            let text = format!(
                "WeightManifest {name:?} says that it is shard {} of {} of {:?}, and the artifact looks for shard {shard} of {} of {:?}. Remedy: correct spec.manifest.object of the artifact, or delete the WeightManifest and make it anew.",
                says.1, says.2, says.0, carried.shards, carried.name
            );
            return Ok(Err(("ManifestUnfit", text)));
        }
        hasher.update(object.spec.data.as_bytes());
        shards.push(object.spec.data);
    }
    let digest = hex(&hasher.finalize());
    if carried.digest != format!("sha256:{digest}") {
        let text = format!(
            "The digest of WeightManifest {:?} is sha256:{digest}, not manifestDigest; it is not brought to pods, and none with the weights starts. Remedy: delete its objects and apply those that \"kubectl weightlock digest -o weightmanifest\" prints for these weights.",
            carried.name
        );
        return Ok(Err(("ManifestMismatch", text)));
    }
    let size = total(&shards.concat());
    Ok(Ok(Text { shards, size }))
}

/// Size of all files of a manifest.
fn total(json: &str) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Sizes {
        files: Vec<Size>,
    }
    #[derive(serde::Deserialize)]
    struct Size {
        size: i64,
    }
    let sizes: Sizes = serde_json::from_str(json).ok()?;
    sizes.files.iter().try_fold(0i64, |sum, file| sum.checked_add(file.size))
}

async fn write(
    context: &Context,
    carried: &Carried<'_>,
    namespace: &str,
    name: &str,
    shard: u32,
    text: &str,
) -> Result<Next, ReconcileError> {
    let live = context.observed.manifest_map(namespace, name);
    match context.writer.apply(&config_map(namespace, carried.digest, shard, text)).await {
        Ok(Applied::Unchanged) => {
            if let Some(live) = live {
                let key = (namespace.to_owned(), name.to_owned());
                context.memory.manifests.lock().maps.insert(key, live);
            }
            Ok(None)
        }
        Ok(Applied::Deferred(at)) => Ok(Some(at)),
        Ok(_) => Ok(None),
        // One with another text was made under our marks: it is immutable, so it is made anew.
        Err(ReconcileError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 422) =>
        {
            context.writer.delete_of_owner::<ConfigMap>(Some(namespace), name, MANIFESTS).await?;
            Ok(Some(std::time::Instant::now() + super::CATCH_UP))
        }
        Err(error) => Err(error),
    }
}

/// Removes the ConfigMaps that no artifact needs any more.
///
/// # Errors
/// The first that occurred.
pub(super) async fn remove_unneeded(context: &Context) -> Result<Next, ReconcileError> {
    // Which ones an artifact needs that cannot be read is not known.
    if !context.world.unreadable_artifacts.is_empty() {
        return Ok(None);
    }
    let artifacts = context.world.artifacts.values();
    let carried: Vec<Carried<'_>> =
        artifacts.filter_map(|artifact| carrier::carried(&context.world, artifact)).collect();
    let needed: BTreeSet<(String, String)> =
        carried.iter().flat_map(Carried::config_maps).map(|(namespace, name, _)| (namespace, name)).collect();
    let ids: Vec<ObjectId> =
        needed.iter().map(|(namespace, name)| ObjectId::new("ConfigMap", Some(namespace), name)).collect();
    context.writer.forget_unwanted(MANIFESTS, &ids);
    {
        let mut memory = context.memory.manifests.lock();
        memory.maps.retain(|key, _| needed.contains(key));
        memory.texts.retain(|(digest, name), _| carried.iter().any(|c| c.digest == digest && c.name == name));
    }
    let mut error = None;
    for (namespace, name) in context.observed.manifest_maps() {
        if needed.contains(&(namespace.clone(), name.clone())) {
            continue;
        }
        match context.writer.delete_of_owner::<ConfigMap>(Some(&namespace), &name, MANIFESTS).await {
            // Someone else's with our label.
            Ok(_) | Err(ReconcileError::NotOurs { .. }) => {}
            Err(failure) => error = error.or(Some(failure)),
        }
    }
    error.map_or(Ok(None), Err)
}
