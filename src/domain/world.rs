//! What is known of the cluster when a decision is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compact_str::CompactString;

use super::backend::BackendKey;
use super::packed::PackedPod;
use super::registered::Registered;
pub use super::settings::{AdminTierUse, Administrators, GpuPodsOutside, NodeAgent, RestartAllContainers, Settings};
use crate::api::{Mode, Modes, VolumeRules};

/// A snapshot of all that the rules look at. [`crate::index`] folds watches into it; the CLI fills it from a cluster or from files.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Kinds whose first listing has not arrived. While there is one, nothing that depends on the graph can be allowed.
    pub unsynced: BTreeSet<&'static str>,
    /// Settings of the installation.
    pub settings: Settings,
    /// WeightArtifacts by name.
    pub artifacts: Map<String, Artifact>,
    /// Names of WeightArtifacts that exist but could not be read, with the reason. While there is one, no unregistered
    /// storage can be told from a registered one.
    pub unreadable_artifacts: BTreeMap<String, String>,
    /// WeightEnvironments by name.
    pub environments: Map<String, Environment>,
    /// WeightIncidents by name.
    pub incidents: Map<String, Incident>,
    /// Namespaces: name to UID.
    pub namespaces: Map<String, String>,
    /// PersistentVolumeClaims.
    pub claims: Map<ClaimName, Claim>,
    /// PersistentVolumes by name.
    pub volumes: Map<String, Volume>,
    /// VolumeSnapshotContents by name. The controller and the CLI fill it, where the cluster has the kind.
    pub snapshots: Map<String, SnapshotContent>,
    /// Nodes: name, and whether the kubelet declares that it restarts all containers of a pod where a rule of one says so.
    /// No refusal rests on it, so it is never among `unsynced`. The webhook fills it; the controller does not need it.
    pub nodes: Map<String, bool>,
    /// Pods by namespace and name. The controller and the CLI fill it; the webhook does not need it.
    /// Shared, so that to keep a pod costs little.
    pub pods: Map<(String, String), Arc<PackedPod>>,
    /// Where registered storage is, looked up in advance: see [`World::look_up`].
    pub registered: Registered,
}

/// A table whose copies share what did not change in them.
pub type Map<K, V> = imbl::OrdMap<K, V>;
/// The same for names alone.
pub type Set<K> = imbl::OrdSet<K>;

/// Extended resources that count as a GPU wherever Weightlock runs, by the beginning of their names: NVIDIA with MIG and
/// shared ones, AMD, Intel, Google TPU, AWS Neuron, Gaudi.
pub const GPU_RESOURCES: [&str; 7] = [
    "nvidia.com/gpu",
    "nvidia.com/mig-",
    "amd.com/gpu",
    "gpu.intel.com/",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "habana.ai/gaudi",
];

/// Variables by which container runtimes of NVIDIA, AMD and Gaudi give devices to a container that asks for none.
pub const GPU_VARIABLES: [&str; 3] = ["NVIDIA_VISIBLE_DEVICES", "AMD_VISIBLE_DEVICES", "HABANA_VISIBLE_DEVICES"];
/// Values of these variables that give no device.
pub const NO_DEVICES: [&str; 3] = ["", "void", "none"];
/// Runtime classes of those runtimes, by the names under which their operators install them.
pub const GPU_RUNTIME_CLASSES: [&str; 5] = ["nvidia", "nvidia-cdi", "nvidia-legacy", "amd", "habana"];
/// Device classes of Dynamic Resource Allocation that are accelerators, by the names under which drivers install them.
pub const GPU_DEVICE_CLASSES: [&str; 7] = [
    "gpu.nvidia.com",
    "mig.nvidia.com",
    "vfio.gpu.nvidia.com",
    "gpu.amd.com",
    "gpu.intel.com",
    "gaudi.intel.com",
    "tpu.google.com",
];
/// Extended resources that begin with this stand for the device class that follows (Kubernetes 1.34 and later).
pub const DEVICE_CLASS_RESOURCE: &str = "deviceclass.resource.kubernetes.io/";
/// Annotations that begin with this give devices by the Container Device Interface.
pub const DEVICE_ANNOTATIONS: &str = "cdi.k8s.io/";
/// The standard annotation that bandwidth-limiting network plugins read: bits per second that leave the pod.
pub const EGRESS_BANDWIDTH: &str = "kubernetes.io/egress-bandwidth";

/// Namespace and name of a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimName {
    /// Namespace.
    pub namespace: CompactString,
    /// Name.
    pub name: CompactString,
}

impl ClaimName {
    /// A claim of a namespace.
    pub fn new(namespace: impl Into<CompactString>, name: impl Into<CompactString>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// A WeightArtifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Name.
    pub name: String,
    /// Digest of the canonical manifest (`sha256:…`); `None` while the artifact is open.
    pub digest: Option<String>,
    /// Where the list of files is.
    pub manifest: Manifest,
    /// What the content may be.
    pub content: ContentRules,
    /// Whose signature the files must have besides.
    pub signature: Option<Signature>,
    /// Where the bytes live.
    pub locations: Vec<ArtifactLocation>,
    /// Names of the environments in which it may be mounted once it is sealed.
    pub permitted: BTreeSet<String>,
    /// Who may mount it while it is open.
    pub producers: Vec<Producer>,
    /// Whether not even the producers may write it.
    pub frozen: bool,
    /// What verifying it takes, where that is known.
    pub effort: Option<Effort>,
    /// Whom to ask.
    pub contact: String,
}

/// The signature that the files of an artifact must have.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// As it is declared.
    pub declared: crate::api::Signature,
    /// Which authorities the verifier cannot use, and why: it verifies nothing while there is one.
    pub problems: Vec<String>,
}

/// What it takes to verify an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Size of all files.
    pub bytes: u64,
    /// About how long it takes.
    pub seconds: u64,
}

impl Effort {
    /// Bytes per second that are assumed where no verification was seen yet: a network disk of the middle class.
    pub const ASSUMED_RATE: u64 = 300_000_000;

    /// What so many bytes take at a rate of bytes per second.
    pub fn at(bytes: u64, rate: u64) -> Self {
        Self { bytes, seconds: bytes.div_ceil(rate.max(1)) }
    }
}

impl Artifact {
    /// Whether it has a digest: nobody writes it any more.
    pub fn sealed(&self) -> bool {
        self.digest.is_some()
    }

    /// The environments in which its storage may be: those that it permits and, while it is open, those that make it.
    pub fn places(&self) -> BTreeSet<&str> {
        let producers = self.producers.iter().filter(|_| !self.sealed()).map(|producer| producer.environment.as_str());
        self.permitted.iter().map(String::as_str).chain(producers).collect()
    }
}

/// An environment whose pods write an artifact while it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Name of the environment.
    pub environment: String,
    /// Service accounts; `*` stands for all members of the environment.
    pub service_accounts: BTreeSet<String>,
}

/// What the content of an artifact may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentRules {
    /// The commit, where the locations are repositories of Hugging Face's cache.
    pub revision: Option<String>,
    /// Formats of its files; empty: any.
    pub formats: Vec<crate::api::Format>,
}

/// Where the list of files of an artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// A file in the volume, relative to the location's path.
    Path(String),
    /// In the artifact itself.
    Inline(Vec<crate::api::ManifestFile>),
    /// In WeightManifest objects.
    Object {
        /// Name of the manifest.
        name: String,
        /// Number of its shards.
        shards: u32,
    },
}

/// One place where the bytes of an artifact live.
#[derive(Clone, Debug, PartialEq)]
pub struct ArtifactLocation {
    /// Name.
    pub name: String,
    /// Where it was declared to be.
    pub source: LocationSource,
    /// The key that was pinned in status.
    pub pinned: Option<BackendKey>,
    /// Keys of the same storage under other names.
    pub aliases: Vec<BackendKey>,
    /// Directory within the volume that holds the artifact.
    pub path: Option<String>,
}

/// Where a location was declared to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationSource {
    /// Behind a claim.
    Claim(ClaimName),
    /// At a key that the declaration gives itself.
    Key(BackendKey),
}

/// A WeightEnvironment.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// Name.
    pub name: String,
    /// Creation time and name order claimants of a namespace: the first keeps it. RFC 3339, empty for a file.
    pub created: String,
    /// Its namespaces.
    pub members: Vec<EnvironmentMember>,
    /// How each aspect is enforced.
    pub modes: Modes,
    /// What may be mounted beside weights.
    pub volumes: VolumeRules,
    /// Image prefixes of init containers that may run ahead of the verifier.
    pub trusted_init: Vec<String>,
    /// Verification while pods run; `None`: at their start only.
    pub reverify: Option<Reverify>,
    /// Images of init containers that fetch weights, or prefixes of them that end in "/".
    pub downloaders: Vec<String>,
    /// What it may reach and who may reach it.
    pub network: crate::api::Network,
    /// Sum of the declared egress rates in bits per second of one pod.
    pub egress_rate: Option<u64>,
    /// It is being deleted, and stays in force until no pod with weights is left.
    pub deleting: bool,
}

/// How weights are verified while pods run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverify {
    /// Seconds from the end of one reading to the next.
    pub every_seconds: u64,
    /// Most bytes that are read in a second.
    pub max_bytes_per_second: u64,
    /// Processor time of the sidecar, as a quantity.
    pub cpu: String,
    /// Memory of the sidecar, as a quantity.
    pub memory: String,
}

/// Weights that were found tampered with, and that nobody cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Name.
    pub name: String,
    /// What it concerns; `None`: it cannot be read, so it concerns everything.
    pub subject: Option<IncidentSubject>,
}

/// What an incident concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentSubject {
    /// Name of the artifact as it was declared then.
    pub artifact: String,
    /// Digest of the content.
    pub digest: String,
    /// The storage.
    pub keys: Vec<BackendKey>,
    /// What was found, in one line.
    pub found: String,
}

impl Environment {
    /// Whether admission is enforced, rather than reported.
    pub fn enforces_admission(&self) -> bool {
        self.modes.admission == Mode::Enforce
    }
}

/// A namespace of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentMember {
    /// Name of the namespace.
    pub namespace: String,
    /// UID that the declaration confirms, else the one pinned in status. `None`: not yet pinned, so nothing is permitted there yet.
    pub uid: Option<String>,
    /// Service accounts whose pods may mount weights; `*` stands for all.
    pub service_accounts: BTreeSet<String>,
    /// Since when only its node says what the containers of a pod did, RFC 3339; `None`: others may say it too.
    pub pod_status_protected_since: Option<String>,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The volume it is bound to or asks for by name; `None` while it is open which one it will be.
    pub volume: Option<String>,
    /// Whether the binding is complete (phase Bound).
    pub bound: bool,
    /// Names what it is to be filled from (`dataSource`, `dataSourceRef`). Most claims have none, so it takes no place there.
    pub data_source: Option<Box<DataSource>>,
    /// UID of what controls it; of a claim that was made for a generic ephemeral volume that is the pod.
    pub controller: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What a claim is to be filled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The content of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotContent {
    /// The VolumeSnapshot that claims are made from to have it.
    pub snapshot: SnapshotName,
    /// Canonical key of the volume that it was taken of, if it says.
    pub volume: Option<BackendKey>,
    /// Canonical keys of the snapshot itself.
    pub handles: Vec<BackendKey>,
}

impl SnapshotContent {
    /// All keys by which it can be told what is in it.
    pub fn keys(&self) -> impl Iterator<Item = &BackendKey> {
        self.volume.iter().chain(&self.handles)
    }
}

/// Namespace and name of a VolumeSnapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Canonical key of its storage; an error text where it has none that is known.
    pub key: Result<BackendKey, String>,
    /// The claim it is bound to or reserved for.
    pub claim: Option<ClaimName>,
}
