//! How a manifest that is not in the volume gets into a pod: shards in ConfigMaps of the pod's namespace, which the
//! verifier alone mounts. Nothing of it needs trust, as the digest pins the text.

use std::collections::BTreeSet;

use super::network;
use super::world::{Artifact, Manifest, World};
use crate::api::Mode;

/// Name of the volume; reserved in pods of environments.
pub const VOLUME: &str = "weightlock-manifest";
/// Where the verifier mounts it.
pub const DIRECTORY: &str = "/weightlock/manifest";
/// The key of a ConfigMap that holds the shard.
pub const KEY: &str = "shard";

/// The ConfigMap that holds a shard. The digest in its name is whole: no other manifest can have that name.
pub fn config_map(digest: &str, shard: u32) -> String {
    format!("{VOLUME}-{}-{shard}", digest.trim_start_matches("sha256:"))
}

/// A manifest that is brought to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Digest that pins it.
    pub digest: &'a str,
    /// Name of the manifest.
    pub name: &'a str,
    /// Number of its shards.
    pub shards: u32,
    /// Namespaces in which pods are verified against it.
    pub namespaces: BTreeSet<&'a str>,
}

impl Carried<'_> {
    /// Namespace, name and number of each ConfigMap.
    pub fn config_maps(&self) -> impl Iterator<Item = (String, String, u32)> {
        self.namespaces.iter().flat_map(|namespace| {
            (0..self.shards).map(|shard| ((*namespace).to_owned(), config_map(self.digest, shard), shard))
        })
    }
}

/// What has to be brought to pods that mount an artifact; `None` where its manifest is elsewhere, or it is open.
pub fn carried<'a>(world: &'a World, artifact: &'a Artifact) -> Option<Carried<'a>> {
    let (Some(digest), Manifest::Object { name, shards }) = (&artifact.digest, &artifact.manifest) else { return None };
    let namespaces = world
        .environments_of(artifact)
        .filter(|environment| environment.modes.verification == Mode::Enforce)
        .flat_map(|environment| network::accepted(world, environment))
        .collect();
    Some(Carried { digest, name, shards: *shards, namespaces })
}
