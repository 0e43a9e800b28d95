//! `WeightIndex`: what the policies inside the API server look things up in. Written by the controller only.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One shard of the index that ValidatingAdmissionPolicies take as their parameter.
///
/// Lookups are by map key, since a list would be scanned at each request. A shard holds at most 2,000 keys.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weightlock.dev",
    version = "v1alpha1",
    kind = "WeightIndex",
    plural = "weightindexes",
    shortname = "widx",
    category = "weights",
    derive = "PartialEq",
    derive = "Default",
    doc = "WeightIndex is internal: the lookup tables of the policies that Weightlock runs inside the API server. Do not edit it.",
    printcolumn(name = "Shard", type_ = "integer", json_path = ".spec.shard"),
    printcolumn(name = "Shards", type_ = "integer", json_path = ".spec.shards"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WeightIndexSpec {
    /// Number of this shard, from 0.
    #[schemars(range(min = 0))]
    pub shard: i32,
    /// How many shards there are.
    #[schemars(range(min = 1))]
    pub shards: i32,
    /// Registered storage by canonical backend key, for storage that is matched by equality.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub keys: BTreeMap<String, IndexEntry>,
    /// Registered storage by canonical backend key, for storage with paths, which is matched by overlap.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub paths: BTreeMap<String, IndexEntry>,
    /// Claims (`namespace/name`) behind which registered storage lies.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub claims: BTreeMap<String, IndexEntry>,
    /// PersistentVolumes, by name, that are registered storage.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub volumes: BTreeMap<String, IndexEntry>,
    /// Member namespaces: pinned UID to name of the environment. Every shard has all of them.
    #[serde(default)]
    #[schemars(length(max = 2000), inner(length(max = 63)))]
    pub environments: BTreeMap<String, String>,
}

/// What is known of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexEntry {
    /// Names of the artifacts, for messages.
    #[schemars(length(max = 512))]
    pub artifacts: String,
    /// UIDs of the namespaces in which the storage may be used.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespace_uids: Vec<String>,
    /// Names of the same namespaces, for objects that name a namespace instead of living in it.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// Whom to ask.
    #[schemars(length(max = 1024))]
    pub contact: String,
}
