//! `WeightIncident`: weights that were found to be other than what was sealed.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weights that were found tampered with while a pod used them. The controller writes it; a person deletes it once the
/// bytes were restored. It is known by digest and storage, so that declaring the weights again, or anew under another
/// name, changes nothing.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weightlock.dev",
    version = "v1alpha1",
    kind = "WeightIncident",
    plural = "weightincidents",
    shortname = "wi",
    category = "weights",
    derive = "PartialEq",
    doc = "WeightIncident records weights that were found tampered with. Until a person deletes it, no new pod mounts that content or that storage.",
    printcolumn(name = "Artifact", type_ = "string", json_path = ".spec.artifact"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod.name"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.pod.namespace"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.pod.node"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("an incident is not changed: it is cleared by deleting it (kubectl weightlock clear)."))]
#[serde(rename_all = "camelCase")]
pub struct WeightIncidentSpec {
    /// What was found.
    pub reason: IncidentReason,
    /// Name of the WeightArtifact as it was declared then.
    #[schemars(length(min = 1, max = 63))]
    pub artifact: String,
    /// The digest that the bytes no longer fit. No pod mounts an artifact with this digest.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub manifest_digest: String,
    /// Canonical keys of the storage. No pod mounts storage that overlaps one of them.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub backend_keys: Vec<String>,
    /// The pod in which it was found.
    pub pod: IncidentPod,
    /// What the verifier said.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum IncidentReason {
    /// The bytes changed after they had been verified.
    Tampered,
}

/// The pod in which it was found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct IncidentPod {
    /// Namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The node it ran on.
    #[schemars(length(max = 253))]
    pub node: String,
}
