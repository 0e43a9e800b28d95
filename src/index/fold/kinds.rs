//! The kinds that are watched, each as the world holds it.

use std::sync::Arc;

use kube::core::DynamicObject;

use super::super::convert;
use super::Folded;
use crate::domain::world::{
    Artifact, Claim, ClaimName, Environment, EnvironmentMember, Incident, SnapshotContent, Volume,
};
use crate::domain::{PackedPod, World};

/// A WeightArtifact, or its name and why it could not be read.
pub struct ArtifactObject(Result<Artifact, (String, String)>);

impl Folded for ArtifactObject {
    const KIND: &'static str = "WeightArtifact";
    type Key = String;

    fn convert(object: DynamicObject) -> Self {
        Self(convert::artifact(&object).map_err(|reason| (convert::name_of(&object), reason)))
    }
    fn key(&self) -> String {
        match &self.0 {
            Ok(artifact) => artifact.name.clone(),
            Err((name, _)) => name.clone(),
        }
    }
    fn held(&self, world: &World) -> bool {
        match &self.0 {
            Ok(artifact) => {
                world.artifacts.get(&artifact.name) == Some(artifact)
                    && !world.unreadable_artifacts.contains_key(&artifact.name)
            }
            Err((name, reason)) => world.unreadable_artifacts.get(name) == Some(reason),
        }
    }
    fn put(self, world: &mut World) {
        match self.0 {
            Ok(artifact) => {
                world.unreadable_artifacts.remove(&artifact.name);
                world.artifacts.insert(artifact.name.clone(), artifact);
            }
            // The last form that could be read stays beside it: its storage is still protected by name.
            Err((name, reason)) => {
                world.unreadable_artifacts.insert(name, reason);
            }
        }
    }
    fn remove(world: &mut World, key: &String) -> bool {
        let unreadable = world.unreadable_artifacts.remove(key).is_some();
        world.artifacts.remove(key).is_some() || unreadable
    }
    fn keys(world: &World) -> impl Iterator<Item = &String> {
        world.artifacts.keys().chain(world.unreadable_artifacts.keys())
    }
    fn problem(&self) -> Option<(&str, &str)> {
        self.0.as_ref().err().map(|(name, reason)| (name.as_str(), reason.as_str()))
    }
}

/// A WeightEnvironment; where it could not be read, its strictest reading and why.
pub struct EnvironmentObject {
    environment: Environment,
    problem: Option<String>,
}

impl Folded for EnvironmentObject {
    const KIND: &'static str = "WeightEnvironment";
    type Key = String;

    fn convert(object: DynamicObject) -> Self {
        match convert::environment(&object) {
            Ok(environment) => Self { environment, problem: None },
            Err(reason) => Self { environment: convert::environment_in_doubt(&object), problem: Some(reason) },
        }
    }
    fn key(&self) -> String {
        self.environment.name.clone()
    }
    fn held(&self, world: &World) -> bool {
        match world.environments.get(&self.environment.name) {
            Some(last) if self.problem.is_some() => self.environment.members.iter().all(|m| is_member(last, m)),
            last => last == Some(&self.environment),
        }
    }
    fn put(self, world: &mut World) {
        match world.environments.get_mut(&self.environment.name) {
            // The last form that could be read stays in force, for the members that came since as well.
            Some(last) if self.problem.is_some() => {
                let new: Vec<_> = self.environment.members.into_iter().filter(|m| !is_member(last, m)).collect();
                last.members.extend(new);
            }
            _ => {
                world.environments.insert(self.environment.name.clone(), self.environment);
            }
        }
    }
    fn remove(world: &mut World, key: &String) -> bool {
        world.environments.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &String> {
        world.environments.keys()
    }
    fn problem(&self) -> Option<(&str, &str)> {
        self.problem.as_deref().map(|reason| (self.environment.name.as_str(), reason))
    }
}

fn is_member(environment: &Environment, member: &EnvironmentMember) -> bool {
    environment.members.iter().any(|m| m.namespace == member.namespace)
}

/// A namespace: name and UID.
pub struct NamespaceObject(String, String);

impl Folded for NamespaceObject {
    const KIND: &'static str = "Namespace";
    type Key = String;

    fn convert(object: DynamicObject) -> Self {
        Self(convert::name_of(&object), object.metadata.uid.unwrap_or_default())
    }
    fn key(&self) -> String {
        self.0.clone()
    }
    fn held(&self, world: &World) -> bool {
        world.namespaces.get(&self.0) == Some(&self.1)
    }
    fn put(self, world: &mut World) {
        world.namespaces.insert(self.0, self.1);
    }
    fn remove(world: &mut World, key: &String) -> bool {
        world.namespaces.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &String> {
        world.namespaces.keys()
    }
}

/// A PersistentVolumeClaim.
pub struct ClaimObject(ClaimName, Claim);

impl Folded for ClaimObject {
    const KIND: &'static str = "PersistentVolumeClaim";
    type Key = ClaimName;

    fn convert(object: DynamicObject) -> Self {
        let (name, claim) = convert::claim(&object);
        Self(name, claim)
    }
    fn key(&self) -> ClaimName {
        self.0.clone()
    }
    fn held(&self, world: &World) -> bool {
        world.claims.get(&self.0) == Some(&self.1)
    }
    fn put(self, world: &mut World) {
        world.claims.insert(self.0, self.1);
    }
    fn remove(world: &mut World, key: &ClaimName) -> bool {
        world.claims.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &ClaimName> {
        world.claims.keys()
    }
}

/// A PersistentVolume.
pub struct VolumeObject(String, Volume);

impl Folded for VolumeObject {
    const KIND: &'static str = "PersistentVolume";
    type Key = String;

    fn convert(object: DynamicObject) -> Self {
        let (name, volume) = convert::volume(&object);
        Self(name, volume)
    }
    fn key(&self) -> String {
        self.0.clone()
    }
    fn held(&self, world: &World) -> bool {
        world.volumes.get(&self.0) == Some(&self.1)
    }
    fn put(self, world: &mut World) {
        world.volumes.insert(self.0, self.1);
    }
    fn remove(world: &mut World, key: &String) -> bool {
        world.volumes.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &String> {
        world.volumes.keys()
    }
}

/// A WeightIncident, and why it could not be read.
pub struct IncidentObject(Incident, Option<String>);

impl Folded for IncidentObject {
    const KIND: &'static str = "WeightIncident";
    type Key = String;

    fn convert(object: DynamicObject) -> Self {
        let (subject, problem) = match convert::incident(&object) {
            Ok(subject) => (Some(subject), None),
            Err(reason) => (None, Some(reason)),
        };
        Self(Incident { name: convert::name_of(&object), subject }, problem)
    }
    fn key(&self) -> String {
        self.0.name.clone()
    }
    fn held(&self, world: &World) -> bool {
        world.incidents.get(&self.0.name) == Some(&self.0)
    }
    fn put(self, world: &mut World) {
        world.incidents.insert(self.0.name.clone(), self.0);
    }
    fn remove(world: &mut World, key: &String) -> bool {
        world.incidents.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &String> {
        world.incidents.keys()
    }
    fn problem(&self) -> Option<(&str, &str)> {
        self.1.as_deref().map(|reason| (self.0.name.as_str(), reason))
    }
}

/// A pod.
pub struct PodObject((String, String), Arc<PackedPod>);

impl Folded for PodObject {
    const KIND: &'static str = "Pod";
    type Key = (String, String);

    fn convert(object: DynamicObject) -> Self {
        let (name, pod) = convert::pod(object);
        Self(name, pod)
    }
    fn key(&self) -> (String, String) {
        self.0.clone()
    }
    fn held(&self, world: &World) -> bool {
        world.pods.get(&self.0) == Some(&self.1)
    }
    fn put(self, world: &mut World) {
        world.pods.insert(self.0, self.1);
    }
    fn remove(world: &mut World, key: &(String, String)) -> bool {
        world.pods.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &(String, String)> {
        world.pods.keys()
    }
}

/// A VolumeSnapshotContent.
pub struct SnapshotObject(String, SnapshotContent);

impl Folded for SnapshotObject {
    const KIND: &'static str = "VolumeSnapshotContent";
    const OPTIONAL: bool = true;
    type Key = String;

    fn convert(object: DynamicObject) -> Self {
        let (name, content) = convert::snapshot(&object);
        Self(name, content)
    }
    fn key(&self) -> String {
        self.0.clone()
    }
    fn held(&self, world: &World) -> bool {
        world.snapshots.get(&self.0) == Some(&self.1)
    }
    fn put(self, world: &mut World) {
        world.snapshots.insert(self.0, self.1);
    }
    fn remove(world: &mut World, key: &String) -> bool {
        world.snapshots.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &String> {
        world.snapshots.keys()
    }
}

/// A node: name, and whether its kubelet restarts all containers of a pod where a rule says so.
pub struct NodeObject(String, bool);

impl Folded for NodeObject {
    const KIND: &'static str = "Node";
    type Key = String;

    fn convert(object: DynamicObject) -> Self {
        Self(convert::name_of(&object), convert::restarts_all_containers(&object))
    }
    fn key(&self) -> String {
        self.0.clone()
    }
    fn held(&self, world: &World) -> bool {
        world.nodes.get(&self.0) == Some(&self.1)
    }
    fn put(self, world: &mut World) {
        world.nodes.insert(self.0, self.1);
    }
    fn remove(world: &mut World, key: &String) -> bool {
        world.nodes.remove(key).is_some()
    }
    fn keys(world: &World) -> impl Iterator<Item = &String> {
        world.nodes.keys()
    }
}
