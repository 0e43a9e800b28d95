//! Worlds without watches: one listing of a cluster, or manifests.

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use serde_json::Value;

use super::fold::{self, Fold, Folded};
use super::{Kind, PAGE, watch};
use crate::api::{WeightArtifact, WeightEnvironment, WeightIncident};
use crate::domain::World;
use crate::domain::world::{ClaimName, Settings};

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The API server did not list a kind.
    #[error(
        "cannot list {kind} objects: {source}. The check needs \"list\" on namespaces, persistentvolumes, persistentvolumeclaims, pods, volumesnapshotcontents, weightartifacts, weightenvironments and weightincidents"
    )]
    List {
        /// The kind.
        kind: &'static str,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A manifest is no Kubernetes object.
    #[error("manifest {position}: {reason}")]
    Manifest {
        /// Its place among the manifests, from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest of one of our kinds does not have the shape of its type.
    #[error("{kind} \"{name}\" cannot be read: {reason}")]
    Unreadable {
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The world as a cluster shows it now, pods included.
///
/// # Errors
/// Where a kind cannot be listed. An object that cannot be read is no error: it is held at its strictest.
pub async fn snapshot(client: &Client, settings: Settings) -> Result<World, IndexError> {
    let mut world = World { settings, unsynced: Kind::decisive().map(Kind::name).collect(), ..World::default() };
    list::<fold::ArtifactObject, WeightArtifact>(client, &mut world).await?;
    list::<fold::EnvironmentObject, WeightEnvironment>(client, &mut world).await?;
    list::<fold::NamespaceObject, Namespace>(client, &mut world).await?;
    list::<fold::ClaimObject, PersistentVolumeClaim>(client, &mut world).await?;
    list::<fold::VolumeObject, PersistentVolume>(client, &mut world).await?;
    list::<fold::IncidentObject, WeightIncident>(client, &mut world).await?;
    list::<fold::PodObject, Pod>(client, &mut world).await?;
    list_of::<fold::SnapshotObject>(client, &mut world, &watch::snapshots()).await?;
    world.look_up();
    Ok(world)
}

async fn list<T: Folded, K: Resource<DynamicType = ()>>(client: &Client, world: &mut World) -> Result<(), IndexError> {
    list_of::<T>(client, world, &ApiResource::erase::<K>(&())).await
}

async fn list_of<T: Folded>(client: &Client, world: &mut World, resource: &ApiResource) -> Result<(), IndexError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let mut fold = Fold::<T>::new();
    fold.apply(world, Event::Init);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(error) if T::OPTIONAL && watch::not_served(&error) => break,
            Err(error) => return Err(IndexError::List { kind: T::KIND, source: Box::new(error) }),
        };
        for object in page.items {
            fold.apply(world, Event::InitApply(T::convert(object)));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    fold.apply(world, Event::InitDone);
    Ok(())
}

/// The world as manifests declare it. Kinds that no rule looks at are passed over; lists are taken apart.
///
/// What a cluster would add is assumed: UIDs, the namespaces that are named, the pinning of each member, and the binding
/// of claims and volumes that name each other.
///
/// # Errors
/// Where a manifest is no object, or one of ours does not have the shape of its type.
pub fn from_objects(objects: Vec<Value>, settings: Settings) -> Result<World, IndexError> {
    let mut world = World { settings, ..World::default() };
    for (position, object) in objects.into_iter().enumerate() {
        add(&mut world, object, position + 1)?;
    }
    assume_what_a_cluster_adds(&mut world);
    world.look_up();
    Ok(world)
}

fn add(world: &mut World, mut object: Value, position: usize) -> Result<(), IndexError> {
    if object.is_null() {
        return Ok(()); // an empty YAML document
    }
    let manifest = |reason: &str| IndexError::Manifest { position, reason: reason.to_owned() };
    let kind = object.get("kind").and_then(Value::as_str).ok_or_else(|| manifest("kind is missing"))?.to_owned();
    let version =
        object.get("apiVersion").and_then(Value::as_str).ok_or_else(|| manifest("apiVersion is missing"))?.to_owned();
    if let Some(item_kind) = kind.strip_suffix("List") {
        let items = object.get_mut("items").map(Value::take).unwrap_or_default();
        let Value::Array(items) = items else { return Err(manifest("items of a list is missing")) };
        for mut item in items {
            // Items of a typed list do not repeat their kind.
            if let (Some(map), false) = (item.as_object_mut(), item_kind.is_empty()) {
                map.entry("kind").or_insert_with(|| item_kind.into());
                map.entry("apiVersion").or_insert_with(|| version.clone().into());
            }
            add(world, item, position)?;
        }
        return Ok(());
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind.as_str()) {
        (crate::api::GROUP, "WeightArtifact") => put::<fold::ArtifactObject>(world, object, position),
        (crate::api::GROUP, "WeightEnvironment") => put::<fold::EnvironmentObject>(world, object, position),
        (crate::api::GROUP, "WeightIncident") => put::<fold::IncidentObject>(world, object, position),
        ("", "Namespace") => put::<fold::NamespaceObject>(world, object, position),
        ("", "PersistentVolumeClaim") => put::<fold::ClaimObject>(world, object, position),
        ("", "PersistentVolume") => put::<fold::VolumeObject>(world, object, position),
        ("", "Pod") => put::<fold::PodObject>(world, object, position),
        ("snapshot.storage.k8s.io", "VolumeSnapshotContent") => put::<fold::SnapshotObject>(world, object, position),
        _ => Ok(()),
    }
}

fn put<T: Folded>(world: &mut World, object: Value, position: usize) -> Result<(), IndexError> {
    let manifest = |reason: String| IndexError::Manifest { position, reason };
    let mut object: DynamicObject = serde_json::from_value(object).map_err(|e| manifest(e.to_string()))?;
    let name = object.metadata.name.clone().or_else(|| object.metadata.generate_name.clone());
    let Some(name) = name.filter(|n| !n.is_empty()) else {
        return Err(manifest(format!("metadata.name of a {} is missing", T::KIND)));
    };
    object
        .metadata
        .uid
        .get_or_insert_with(|| synthetic_uid(T::KIND, object.metadata.namespace.as_deref().unwrap_or_default(), &name));
    object.metadata.name = Some(name);
    let folding = Fold::<T>::new().apply(world, Event::Apply(T::convert(object)));
    match folding.unreadable.into_iter().next() {
        Some((name, reason)) => Err(IndexError::Unreadable { kind: T::KIND, name, reason }),
        None => Ok(()),
    }
}

fn assume_what_a_cluster_adds(world: &mut World) {
    let named: Vec<String> = world
        .environments
        .values()
        .flat_map(|e| e.members.iter().map(|m| m.namespace.clone()))
        .chain(world.claims.keys().map(|c| c.namespace.to_string()))
        .chain(world.pods.keys().map(|(namespace, _)| namespace.clone()))
        .collect();
    for namespace in named {
        let uid = synthetic_uid("Namespace", "", &namespace);
        world.namespaces.entry(namespace).or_insert(uid);
    }
    let environments = std::mem::take(&mut world.environments);
    for (name, mut environment) in environments {
        for member in &mut environment.members {
            if member.uid.is_none() {
                member.uid = world.namespaces.get(&member.namespace).cloned();
            }
        }
        world.environments.insert(name, environment);
    }
    let reserved: Vec<(ClaimName, String)> =
        world.volumes.iter().filter_map(|(name, v)| Some((v.claim.clone()?, name.clone()))).collect();
    for (claim, volume) in reserved {
        if let Some(claim) = world.claims.get_mut(&claim) {
            claim.volume.get_or_insert(volume);
        }
    }
    for (name, mut claim) in std::mem::take(&mut world.claims) {
        if let Some(volume) = claim.volume.as_ref().and_then(|v| world.volumes.get_mut(v)) {
            claim.bound |= *volume.claim.get_or_insert_with(|| name.clone()) == name;
        }
        world.claims.insert(name, claim);
    }
}

/// A UID for an object that no cluster gave one.
fn synthetic_uid(kind: &str, namespace: &str, name: &str) -> String {
    format!("manifest:{kind}:{namespace}:{name}")
}
