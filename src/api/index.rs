//! `WeightIndex`: what the policies inside the API server look things up in. Written by the controller only.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;

/// One shard of the index that ValidatingAdmissionPolicies take as their parameter.
///
/// Lookups are by map key, since a list would be scanned at each request. What does not fit into one object (etcd takes
/// 1.5 MB) is in other shards. Every shard has its own bindings, so a request is asked of each of them, and each costs: so what pods
/// are asked about is apart from what only claims and snapshots are asked about, and what many entries say alike stands in `terms`.
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
    /// Which of the tables this shard has.
    #[serde(default)]
    pub part: IndexPart,
    /// Number of this shard among those of its part, from 0.
    #[schemars(range(min = 0))]
    pub shard: i32,
    /// How many shards of this part there are.
    #[schemars(range(min = 1))]
    pub shards: i32,
    /// What entries say that others say, too, by the name that they give it.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub terms: BTreeMap<String, IndexTerms>,
    /// Registered storage by canonical backend key, for storage that is matched by equality.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub keys: BTreeMap<String, IndexEntry>,
    /// Last steps of the repositories in `keys`: an image whose name ends otherwise need not be looked up.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub images: BTreeMap<String, bool>,
    /// Registered storage by canonical backend key, for storage with paths, which is matched by overlap.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub paths: BTreeMap<String, IndexEntry>,
    /// What holds registered storage, by key: each directory above a key of `paths`, and the beginning of each key up
    /// to its kind (of a CSI volume: up to its driver), for volumes of which no more is known.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub parents: BTreeMap<String, IndexEntry>,
    /// Those of the claims that are in a namespace where what they lead to is not permitted.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub misplaced: BTreeMap<String, IndexEntry>,
    /// Claims (`namespace/name`) behind which registered storage lies, or that are declared to lead to it.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub claims: BTreeMap<String, IndexEntry>,
    /// VolumeSnapshots (`namespace/name`) of registered storage, from before it was registered.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub snapshots: BTreeMap<String, IndexEntry>,
    /// PersistentVolumes, by name, that are registered storage.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20000, "x-kubernetes-map-type" = "atomic"))]
    pub volumes: BTreeMap<String, IndexEntry>,
    /// Member namespaces by name. Every shard has all of them.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 5000, "x-kubernetes-map-type" = "atomic"))]
    pub members: BTreeMap<String, IndexMember>,
}

impl WeightIndexSpec {
    /// The entries of all tables, with their table and key.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str, &IndexEntry)> {
        let tables = [
            ("keys", &self.keys),
            ("paths", &self.paths),
            ("parents", &self.parents),
            ("misplaced", &self.misplaced),
            ("claims", &self.claims),
            ("snapshots", &self.snapshots),
            ("volumes", &self.volumes),
        ];
        tables.into_iter().flat_map(|(name, table)| table.iter().map(move |(key, entry)| (name, key.as_str(), entry)))
    }

    /// The terms of one of its entries. None: something else than the controller wrote the shard.
    pub fn terms_of(&self, entry: &IndexEntry) -> Option<&IndexTerms> {
        self.terms.get(&entry.terms)
    }
}

/// Tables that are asked about together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum IndexPart {
    /// Storage by its keys, and misplaced claims: `keys`, `paths`, `parents`, `misplaced`.
    #[default]
    Storage,
    /// Objects that lead to it: `claims`, `snapshots`, `volumes`.
    Claims,
}

/// Registered storage. Where several artifacts share it, the terms are what all of them permit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexEntry {
    /// Names of the artifacts, for messages.
    #[serde(rename = "of")]
    #[schemars(length(max = 512))]
    pub artifacts: String,
    /// Name of its terms, within the same object.
    #[schemars(length(max = 16))]
    pub terms: String,
}

/// Where registered storage may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexTerms {
    /// Names of the environments in which all of the artifacts may be used.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub environments: Vec<String>,
    /// Whom to ask.
    #[schemars(length(max = 512))]
    pub contact: String,
}

/// A namespace that belongs to an environment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexMember {
    /// The pinned UID. A namespace of the same name with another UID is no member.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Name of the environment.
    #[schemars(length(max = 63))]
    pub environment: String,
    /// Whether admission is enforced there. In Audit the policies refuse nothing in the namespace.
    pub admission: Mode,
    /// Who outside the environment may reach its pods, as its network.ingress declares it.
    #[serde(default)]
    pub reach: IndexReach,
}

/// Who outside an environment may reach its pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum IndexReach {
    /// Nobody.
    #[default]
    Nobody,
    /// Pods.
    Pods,
    /// Addresses, and pods.
    Addresses,
}
