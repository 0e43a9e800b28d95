//! Settings of the installation, from the chart.

use std::collections::BTreeSet;

use super::world::GPU_RUNTIME_CLASSES;
use crate::api::Mode;

/// Name of the service account that the controller runs under, in the namespace of the installation.
const CONTROLLER_SERVICE_ACCOUNT: &str = "weightlock-controller";

/// Name of the Lease by which the controller's replicas agree who leads.
pub const CONTROLLER_LEASE: &str = "weightlock-controller";
/// Name of the Secret that holds the certificate authority of the webhook.
pub const AUTHORITY_SECRET: &str = "weightlock-webhook-ca";
/// Name of the Secret that holds the certificate the webhook serves with.
pub const SERVING_SECRET: &str = "weightlock-webhook-tls";

/// User name of the controller of an installation in this namespace.
pub fn controller_of(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{CONTROLLER_SERVICE_ACCOUNT}")
}

/// Settings of the installation, from the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image reference of `weightlock-verify`.
    pub verifier_image: String,
    /// Extended resources that count as a GPU, besides the built-in ones.
    pub gpu_resources: BTreeSet<String>,
    /// Runtime classes that give a container GPUs without a request, besides those of vendors.
    pub gpu_runtime_classes: BTreeSet<String>,
    /// GPU pods outside every environment.
    pub gpu_pods_outside: GpuPodsOutside,
    /// What becomes of pods that reach their node without being one of its agents: a warning, or a refusal.
    pub node_access: Mode,
    /// Whose pods may reach the node, besides those of kube-system and of Weightlock itself.
    pub node_agents: BTreeSet<NodeAgent>,
    /// Whether the kubelet itself ends a pod whose weights changed.
    pub restart_all_containers: RestartAllContainers,
    /// Whether environments get policies in the Admin tier.
    pub admin_tier: AdminTierUse,
    /// Who may change Weightlock's own namespace; nobody listed: whom the cluster's RBAC lets.
    pub administrators: Administrators,
    /// Namespace that Weightlock runs in.
    pub own_namespace: String,
}

/// People and programs that install and change Weightlock, by the names under which the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Administrators {
    /// User names; a service account is `system:serviceaccount:NAMESPACE:NAME`.
    pub users: BTreeSet<String>,
    /// Groups.
    pub groups: BTreeSet<String>,
}

impl Administrators {
    /// Whether nobody is listed.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// A service account whose pods are agents of the node: storage and network drivers, collectors of logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAgent {
    /// Namespace.
    pub namespace: String,
    /// Name of the service account.
    pub service_account: String,
}

impl std::str::FromStr for NodeAgent {
    type Err = String;

    /// Reads `NAMESPACE/SERVICEACCOUNT`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, account)) if !namespace.is_empty() && !account.is_empty() && !account.contains('/') => {
                Ok(Self { namespace: namespace.into(), service_account: account.into() })
            }
            _ => Err(format!("{text:?} is no service account: write NAMESPACE/NAME")),
        }
    }
}

impl std::fmt::Display for NodeAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

impl Settings {
    /// Every runtime class that gives a container GPUs without a request.
    pub fn gpu_classes(&self) -> impl Iterator<Item = &str> {
        GPU_RUNTIME_CLASSES.into_iter().chain(self.gpu_runtime_classes.iter().map(String::as_str))
    }

    /// User name of the controller.
    pub fn controller(&self) -> String {
        controller_of(&self.own_namespace)
    }

    /// The namespaces of the cluster's own pods and of ours. What is asked of all pods is not asked there.
    pub fn cluster_namespaces(&self) -> [&str; 2] {
        ["kube-system", &self.own_namespace]
    }

    /// Whether pods of this service account may reach their node.
    pub fn is_node_agent(&self, namespace: &str, service_account: &str) -> bool {
        let listed = |agent: &NodeAgent| agent.namespace == namespace && agent.service_account == service_account;
        self.cluster_namespaces().contains(&namespace) || self.node_agents.iter().any(listed)
    }

    /// The namespaces with such pods, each once.
    pub fn node_agent_namespaces(&self) -> BTreeSet<&str> {
        let agents = self.node_agents.iter().map(|agent| agent.namespace.as_str());
        self.cluster_namespaces().into_iter().chain(agents).collect()
    }

    /// Whether there are such pods in this namespace.
    pub fn has_node_agents(&self, namespace: &str) -> bool {
        self.node_agent_namespaces().contains(namespace)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            verifier_image: "registry.invalid/weightlock/weightlock-verify:dev".into(),
            gpu_resources: BTreeSet::new(),
            gpu_runtime_classes: BTreeSet::new(),
            gpu_pods_outside: GpuPodsOutside::Warn,
            node_access: Mode::Audit,
            node_agents: BTreeSet::new(),
            restart_all_containers: RestartAllContainers::Auto,
            admin_tier: AdminTierUse::Auto,
            administrators: Administrators::default(),
            own_namespace: "weightlock-system".into(),
        }
    }
}

/// What becomes of a GPU pod outside every environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum GpuPodsOutside {
    /// Nothing.
    Allow,
    /// A warning.
    #[default]
    Warn,
    /// It is refused.
    Deny,
}

/// Whether pods carry the rule by which the kubelet restarts all their containers, the verifier first, where weights changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartAllContainers {
    /// Where every node of the cluster declares that it can. A pod with the rule is placed on no other node.
    #[default]
    Auto,
    /// Nowhere.
    Never,
}

/// Whether environments get ClusterNetworkPolicies in the Admin tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminTierUse {
    /// Where the cluster has them, and no network plugin that may refuse what is declared because of them.
    #[default]
    Auto,
    /// Wherever the cluster has them.
    Always,
    /// Nowhere.
    Never,
}
