//! `WeightManifest`: a shard of the list of files of weights whose storage cannot hold that list.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Most shards of one manifest.
pub const MAX_MANIFEST_SHARDS: u32 = 64;
/// Most characters of a shard, and most bytes that `kubectl weightlock` writes into one: `kubectl apply` keeps a copy of
/// the object in an annotation, which takes 256 KiB.
pub const MAX_SHARD_CHARACTERS: usize = 200_000;

/// Name of the WeightManifest with a shard, counted from 0.
pub fn shard_name(manifest: &str, shard: impl std::fmt::Display) -> String {
    format!("{manifest}-{shard}")
}

/// One shard of a manifest: a slice of its canonical JSON. The slices, in the order of their numbers, are the manifest. It
/// needs no trust: the digest of the WeightArtifact pins it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weightlock.dev",
    version = "v1alpha1",
    kind = "WeightManifest",
    plural = "weightmanifests",
    shortname = "wm",
    category = "weights",
    derive = "PartialEq",
    doc = "WeightManifest holds a shard of the list of files of weights whose storage cannot hold it: images, read-only and foreign volumes. Its name is that of the manifest, a hyphen and the number of the shard.",
    printcolumn(name = "Manifest", type_ = "string", json_path = ".spec.manifest"),
    printcolumn(name = "Shard", type_ = "integer", json_path = ".spec.shard"),
    printcolumn(name = "Shards", type_ = "integer", json_path = ".spec.shards"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a manifest is not changed: declare another one, under another name."),
    validation = Rule::new("self.shard < self.shards").message("shard is a number from 0 to shards - 1.")
)]
pub struct WeightManifestSpec {
    /// Name of the whole manifest, as `spec.manifest.object.name` of a WeightArtifact says it.
    #[schemars(length(min = 1, max = 60), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub manifest: String,
    /// Number of this shard, from 0.
    #[schemars(range(min = 0, max = 63))]
    pub shard: i32,
    /// How many shards the manifest has.
    #[schemars(range(min = 1, max = 64))]
    pub shards: i32,
    /// A slice of the canonical JSON of the manifest.
    #[schemars(length(min = 1, max = 200_000))]
    pub data: String,
}
