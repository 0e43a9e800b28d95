//! `WeightArtifact`: what the weights are, where their bytes live and where they may be.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::location::Location;

/// Model weights: their content (by digest), the storage that holds them and the environments they are permitted in.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weightlock.dev",
    version = "v1alpha1",
    kind = "WeightArtifact",
    plural = "weightartifacts",
    shortname = "wa",
    category = "weights",
    status = "WeightArtifactStatus",
    derive = "PartialEq",
    doc = "WeightArtifact declares model weights: what they are, where their bytes live and in which environments they may be mounted.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.manifestDigest", priority = 1),
    printcolumn(name = "Permitted", type_ = "string", json_path = ".status.effective.permittedEnvironments"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("!has(oldSelf.manifestDigest) || (has(self.manifestDigest) && self.manifestDigest == oldSelf.manifestDigest)")
        .message("manifestDigest seals the artifact for ever: it cannot be changed or removed. Declare the new bytes as a new WeightArtifact."),
    validation = Rule::new("(has(self.layout) && self.layout == 'HuggingFaceCache') == has(self.revision)")
        .message("revision is required with layout: HuggingFaceCache, and only there: it names the snapshot that the artifact is."),
    validation = Rule::new("!has(self.manifestDigest) || has(self.manifest)")
        .message("manifest is required with manifestDigest: say where the list of files is (manifest.path, a file in the volume, manifest.inline or manifest.object)."),
    validation = Rule::new("!has(self.signature) || has(self.manifestDigest)")
        .message("signature requires manifestDigest: a signature stands beside the digest, never instead of it.")
)]
#[serde(rename_all = "camelCase")]
pub struct WeightArtifactSpec {
    /// What kind of weights these are.
    #[serde(rename = "type")]
    pub artifact_type: ArtifactType,

    /// The line of models that the weights belong to.
    pub model: Model,

    /// SHA-256 of the canonical manifest (path, size and SHA-256 of every file), as `sha256:` and 64 lower-case hex
    /// digits. Absent: the artifact is open, protected by its locations and mounted by pods of its producers only. Setting
    /// it seals the artifact, for ever: nobody writes it any more, and `permittedEnvironments` may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub manifest_digest: Option<String>,

    /// Who may mount the storage, and write it, while the artifact is open. Once it is sealed, nobody writes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["environment".to_string()]))]
    pub producers: Vec<Producer>,

    /// Whether the producers may write while the artifact is open. `kubectl weightlock seal` stops them before it hashes,
    /// so that what is hashed is what is sealed.
    #[serde(default, skip_serializing_if = "Writes::is_default")]
    pub writes: Writes,

    /// Where the list of files is. Its content is pinned by the digest, so its carrier needs no trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestSource>,

    /// How the directory at a location is laid out.
    #[serde(default, skip_serializing_if = "Layout::is_directory")]
    pub layout: Layout,

    /// The commit of a repository that the artifact is; with `layout: HuggingFaceCache` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^([0-9a-f]{40}|[0-9a-f]{64})$"))]
    pub revision: Option<String>,

    /// What the content of the files may be, recognised by their bytes, never by their names. Text, images and the
    /// vocabularies of tokenizers may always be there; anything else that is not recognised is `Other`. Absent: anything.
    /// A file that claims a format and is malformed is refused whatever is listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub formats: Vec<Format>,

    /// Who must have signed the files besides: OpenSSF Model Signing (OMS) v1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<super::Signature>,

    /// Where the bytes live. A location is known by the canonical key of its storage, never by the name of a claim.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub locations: Vec<Location>,

    /// The environments in which the weights may be mounted. It cannot be empty: to retire weights, delete their storage.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub permitted_environments: Vec<PermittedEnvironment>,

    /// Whom to ask; printed in every remedy.
    #[schemars(length(min = 1, max = 256))]
    pub contact: String,
}

/// An environment whose pods write an artifact while it is open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Producer {
    /// Name of the WeightEnvironment. It need not be among `permittedEnvironments`: then its pods lose the weights when
    /// they are sealed.
    #[schemars(length(min = 1, max = 63))]
    pub environment: String,
    /// Service accounts whose pods may write; they have to be members of the environment as well. `*` stands for all of
    /// its members and must be written out.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,
}

/// Whether the producers of an open artifact may write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Writes {
    /// They may.
    #[default]
    Producers,
    /// Nobody may: the artifact is about to be sealed. Its producers may read it.
    Frozen,
}

impl Writes {
    /// Whether it is what stands for an absent field.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What kind of weights an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ArtifactType {
    /// Pre-trained weights that others derive from.
    Base,
    /// A state of a training run.
    Checkpoint,
    /// Weights tuned from a base.
    FineTune,
    /// A low-rank or other adapter, applied on top of a base.
    Adapter,
    /// A copy in fewer bits.
    Quantized,
    /// An embedding model.
    Embedding,
}

/// How the directory of an artifact is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Layout {
    /// It holds the files of the artifact and nothing else; links are refused.
    #[default]
    Directory,
    /// It is the directory of one repository in Hugging Face's cache (`models--…`), with one revision. The artifact is that
    /// snapshot, with its links followed into `blobs/`; other revisions and blobs are refused, since the server could read
    /// them.
    HuggingFaceCache,
}

impl Layout {
    /// Whether it is a plain directory, which need not be written out.
    pub fn is_directory(&self) -> bool {
        *self == Self::Directory
    }
}

/// A format of weights. Each is another risk: a pickle runs code while it is loaded, the first two hold numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Format {
    /// safetensors; its header is validated.
    Safetensors,
    /// GGUF of llama.cpp; its header is validated.
    GGUF,
    /// ONNX models; weights that they keep in files of their own are `Other`.
    ONNX,
    /// Python's pickle, also within the files of PyTorch and within NumPy arrays of objects. It runs code while it is loaded.
    Pickle,
    /// NumPy's npy and npz without objects.
    NumPy,
    /// HDF5, and Keras.
    HDF5,
    /// TensorFlow's SavedModel and TensorFlow Lite; the variables of a SavedModel are `Other`.
    TensorFlow,
    /// Anything that is not recognised, programs too.
    Other,
}

impl Format {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "Safetensors",
            Self::GGUF => "GGUF",
            Self::ONNX => "ONNX",
            Self::Pickle => "Pickle",
            Self::NumPy => "NumPy",
            Self::HDF5 => "HDF5",
            Self::TensorFlow => "TensorFlow",
            Self::Other => "Other",
        }
    }
}

/// The line of models that weights belong to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Model {
    /// Name of the line, the same for all its versions.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Version within the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub version: Option<String>,
}

/// Where the list of files is: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("[has(self.path), has(self.inline), has(self.object)].filter(x, x).size() == 1")
    .message("manifest takes exactly one of: path, inline, object."))]
pub struct ManifestSource {
    /// A file in the volume, relative to the location's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(s, s == '..' || s == '.' || s == '')")
        .message("manifest.path is relative, with no empty, '.' or '..' step."))]
    pub path: Option<String>,
    /// The files themselves, for artifacts of up to 256 files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".to_string()]))]
    pub inline: Option<Vec<ManifestFile>>,
    /// WeightManifest objects, for storage that cannot hold the list: images, read-only and foreign volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ManifestObject>,
}

/// A manifest in WeightManifest objects. A pod does not start before they exist and are what the digest pins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct ManifestObject {
    /// Name of the manifest. Its shards are the WeightManifests of this name with `-0`, `-1` and so on added.
    #[schemars(length(min = 1, max = 60), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How many shards it has.
    #[schemars(range(min = 1, max = 64))]
    pub shards: i32,
}

/// One file of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct ManifestFile {
    /// Path relative to the location's path, with `/` between its steps.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
    /// Length in bytes.
    #[schemars(range(min = 0))]
    pub size: i64,
    /// SHA-256 of the content, 64 lower-case hex digits.
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// An environment in which weights may be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct PermittedEnvironment {
    /// Name of the WeightEnvironment. One that does not exist yet is a condition, not an error.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// What the controller knows of an artifact. It changes only when something happened.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightArtifactStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Size of all files in bytes: from an inline manifest or a verification, never declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// About how many seconds a pod waits for the verification: the size at the rate that was last seen, or at 300 MB/s
    /// before one was seen. It moves only when the rate does, by more than a quarter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_verification_seconds: Option<i64>,
    /// What is in force once everything was taken into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectivePermissions>,
    /// The storage behind each location.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub locations: Vec<LocationStatus>,
    /// Pods that mount the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,
    /// Outcomes of verifications, added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifications: Option<Verifications>,
    /// Accepted, LocationsResolved, Sealed, Enforced, Verified, Tampered, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

/// What is in force once everything was taken into account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectivePermissions {
    /// Environments that exist and in which the weights may be mounted.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub permitted_environments: Vec<String>,
}

/// The storage behind a location.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocationStatus {
    /// Name of the location.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Canonical key of the storage, pinned when it was first resolved. It stays when the claim is gone: the bytes are still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub backend_key: Option<String>,
    /// Where the key can no longer be derived, or now differs from the pinned one: why, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub problem: Option<String>,
}

/// How many pods mount the weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Consumers {
    /// Pods that mount the weights and have not ended.
    pub pods: i32,
    /// Those of them whose verifier was seen to succeed.
    pub verified: i32,
}

/// Outcomes of verifications of pods that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verifications {
    /// Pods whose verifier succeeded.
    pub succeeded: i32,
    /// Pods whose verifier refused the bytes or could not decide.
    pub failed: i32,
    /// First reason of a failed verification, as the verifier gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub failure: Option<String>,
}
