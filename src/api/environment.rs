//! `WeightEnvironment`: namespaces and service accounts that weights may be permitted in, and what holds there.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reverification;

/// An environment: its members, the modes it is enforced in, and what its pods may mount and reach.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weightlock.dev",
    version = "v1alpha1",
    kind = "WeightEnvironment",
    plural = "weightenvironments",
    shortname = "wenv",
    category = "weights",
    status = "WeightEnvironmentStatus",
    derive = "PartialEq",
    doc = "WeightEnvironment declares the namespaces and service accounts in which weights may be mounted, and what holds there: admission, network and egress.",
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose"),
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.members[*].namespace"),
    printcolumn(name = "Admission", type_ = "string", json_path = ".spec.modes.admission"),
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.modes.network"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WeightEnvironmentSpec {
    /// What the environment is for.
    pub purpose: Purpose,

    /// The namespaces that belong to it. A namespace belongs to at most one environment.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".to_string()]))]
    pub members: Vec<Member>,

    /// How each aspect is enforced.
    pub modes: Modes,

    /// What becomes of pods that run although the rules refuse them. New pods are refused in any case.
    #[serde(default)]
    pub remediation: Remediation,

    /// What workloads of the environment may be.
    #[serde(default)]
    pub workloads: Workloads,

    /// Verification of weights while the pods run. Absent: at their start only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Reverification>,

    /// How weights arrive other than in a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,

    /// What pods of the environment may reach, and who may reach them. All else is refused in both directions.
    #[serde(default)]
    pub network: Network,

    /// How fast bytes may leave a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_limits: Option<EgressLimits>,
}

/// What an environment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Purpose {
    /// Weights are made.
    Training,
    /// Weights are judged.
    Evaluation,
    /// Releases are tried.
    Staging,
    /// Weights are served.
    Inference,
    /// Weights are studied.
    Research,
    /// Weights are served to customers.
    Production,
}

/// A namespace of an environment, and which of its service accounts may hold weights.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.namespace != 'kube-system'")
    .message("kube-system cannot belong to an environment: the cluster itself runs there. Put the workload into a namespace of its own."))]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// UID of the namespace. Weightlock pins the UID it first sees in status; a namespace that was deleted and made
    /// again is another one, and is confirmed by writing its UID here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub uid: Option<String>,
    /// Service accounts whose pods may mount weights; `*` stands for all and must be written out.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,
}

/// How one aspect is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Mode {
    /// What breaks a rule is refused.
    Enforce,
    /// Nothing is changed; what would be refused is said in warnings, events and status.
    Audit,
}

/// How each aspect is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Modes {
    /// Admission of pods. Audit: the text of a denial becomes a warning.
    pub admission: Mode,
    /// NetworkPolicies and, where the cluster has them, ClusterNetworkPolicies. Audit: none are written.
    pub network: Mode,
    /// Verification of bytes before a pod starts. Audit: no verifier is injected.
    pub verification: Mode,
    /// Limits on what leaves a pod. Audit: no limit is set.
    pub egress: Mode,
}

/// What becomes of pods that run although the rules refuse them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Remediation {
    /// They are named in the condition PodsConform and by events.
    #[default]
    Report,
    /// They are evicted besides, as PodDisruptionBudgets let. Pods whose verifier alone is another than that of now stay, and
    /// so do static pods.
    Evict,
}

/// What workloads of an environment may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workloads {
    /// What pods that mount weights or ask for a GPU may mount beside them.
    #[serde(default)]
    pub volumes: VolumeRules,
    /// Image prefixes of init containers that may run ahead of the verifier; such a container may not mount weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 2, max = 256), regex(pattern = r"^.*/$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub trusted_init: Vec<String>,
    /// exec, attach, port-forward and proxy into pods of the environment, and ephemeral containers.
    #[serde(default)]
    pub debug: DebugRule,
}

/// How weights arrive other than in a volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Delivery {
    /// By download into an emptyDir.
    pub download: Download,
}

/// Weights that init containers download into an emptyDir. The pod says with the annotation
/// `weights.weightlock.dev/VOLUME: ARTIFACT` what a volume receives; the downloader runs first and may write, then the
/// verifier, then everyone else, who may only read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct Download {
    /// Images that download: references as pods write them, best with a digest, or prefixes that end in "/". They run as
    /// init containers only, and only to fill volumes that are declared.
    #[schemars(length(min = 1, max = 16), inner(length(min = 2, max = 512), regex(pattern = r"^[^\s]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub images: Vec<String>,
}

/// What is allowed of exec, attach, port-forward, proxy and ephemeral containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Debug")]
pub enum DebugRule {
    /// Nothing is.
    #[default]
    Deny,
}

/// What pods that mount weights or ask for a GPU may mount beside registered weights. configMap, secret, projected,
/// downwardAPI and emptyDir volumes are always allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRules {
    /// Reading a persistent or network volume that is no registered artifact.
    #[serde(default)]
    pub unregistered_reads: UnregisteredReads,
    /// Writing to a persistent or network volume. The node does the I/O, so no network rule sees it.
    #[serde(default)]
    pub persistent_writes: PersistentWrites,
}

/// Reading a persistent volume that is no registered artifact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum UnregisteredReads {
    /// Refused.
    #[default]
    Deny,
    /// Allowed with a warning.
    Warn,
    /// Allowed.
    Allow,
}

/// Writing to a persistent volume from a pod that mounts weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PersistentWrites {
    /// Refused but for what the environment produces.
    #[default]
    ProducedOnly,
    /// Allowed.
    Allow,
}

/// What pods of an environment may reach, and who may reach them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.openEgress) || !has(self.egress) || !self.egress.exists(r, has(r.to.cidr) && isCIDR(r.to.cidr) && cidr(r.to.cidr).prefixLength() < 8)")
    .message("an egress rule with a CIDR wider than /8 opens the environment to the outside: narrow it, or write network.openEgress: Acknowledged."))]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Who may reach pods of the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub ingress: Vec<IngressRule>,
    /// What pods of the environment may reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub egress: Vec<EgressRule>,
    /// Name resolution.
    #[serde(default)]
    pub dns: Dns,
    /// Says that the environment is meant to reach addresses at large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_egress: Option<OpenEgress>,
}

/// The acknowledgement that an environment may reach addresses at large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OpenEgress {
    /// It is meant.
    Acknowledged,
}

/// Name resolution of pods of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Dns {
    /// The cluster's DNS pods and its node-local cache.
    #[default]
    Cluster,
    /// None.
    None,
}

/// Who may reach pods of the environment, on which ports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct IngressRule {
    /// Name of the rule.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The source.
    pub from: Peer,
    /// The ports of the environment's pods.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ports: Vec<Port>,
}

/// What pods of the environment may reach, on which ports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct EgressRule {
    /// Name of the rule.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The destination.
    pub to: Peer,
    /// The ports of the destination.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ports: Vec<Port>,
}

/// The other end of a connection: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("[has(self.environment), has(self.self), has(self.pods), has(self.cidr)].filter(x, x).size() == 1")
    .message("a peer takes exactly one of: environment, self, pods, cidr."))]
pub struct Peer {
    /// Pods of another WeightEnvironment, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub environment: Option<String>,
    /// Pods of this environment.
    #[serde(default, rename = "self", skip_serializing_if = "Option::is_none")]
    pub itself: Option<SelfPeer>,
    /// Pods outside environments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodPeer>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("isCIDR(self)").message("cidr is an IPv4 or IPv6 network such as 10.20.0.0/24."))]
    pub cidr: Option<String>,
}

/// Pods of the same environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct SelfPeer {}

/// Pods by namespace and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct PodPeer {
    /// Name of the namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Labels that the pods carry. At least one: a whole namespace is too wide a peer.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub labels: BTreeMap<String, String>,
}

/// A port or a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.endPort) || self.endPort >= self.port").message("endPort is not below port."))]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The port, or the first of a range.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The last port of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Protocol {
    /// TCP.
    TCP,
    /// UDP.
    UDP,
    /// SCTP.
    SCTP,
}

/// How fast bytes may leave a pod, by who opened the flow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.initiated) || has(self.replies)").message("egressLimits takes at least one of: initiated, replies."))]
pub struct EgressLimits {
    /// Flows that the pod opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiated: Option<FlowLimit>,
    /// Replies to clients that may reach the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replies: Option<FlowLimit>,
}

/// The limit of one class of flows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct FlowLimit {
    /// Bits per second of one pod, as a quantity ("50M").
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("rate is a positive quantity of bits per second, such as 50M."))]
    pub rate: String,
}

/// What the controller knows of an environment. It changes only when something happened.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightEnvironmentStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The member namespaces with their pinned UIDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".to_string()]))]
    pub members: Vec<MemberStatus>,
    /// Accepted, AdmissionEnforced, NetworkPoliciesApplied, AdminTierApplied, NetworkContained, EgressLimited, RightsPastAdmission, Contested, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

/// A member namespace as the controller found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name of the namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The pinned UID. Absent while the namespace does not exist or belongs to another environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// Why the namespace is not a member now, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub problem: Option<String>,
    /// Since when only its node says what the containers of a pod did (WL-404). What pods that are older say is no proof.
    /// Absent while anybody with the rights may say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_status_protected_since: Option<Time>,
}
