//! Arguments that the subcommands share. Each can be given as an environment variable as well.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use crate::api::Mode;
use crate::domain::world::{AdminTierUse, Administrators, GpuPodsOutside, NodeAgent, RestartAllContainers, Settings};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Arguments of every long-running process.
#[derive(Args, Clone, Debug)]
pub struct ProcessArgs {
    /// How log lines look.
    #[arg(long, env = "WEIGHTLOCK_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged: a level, or targets with levels, such as "info,weightlock=debug".
    #[arg(long, env = "WEIGHTLOCK_LOG", default_value = "info")]
    pub log: String,
    /// Address of /livez, /readyz and /metrics. An unspecified IPv6 address falls back to IPv4 where there is no IPv6.
    #[arg(long, env = "WEIGHTLOCK_HEALTH_LISTEN", default_value = "[::]:8081")]
    pub health_listen: SocketAddr,
    /// Name of this instance, unique among the replicas: the name of the pod.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
}

impl ProcessArgs {
    /// The name of this instance: the pod's, else the process id, which is unique on one machine only.
    pub fn instance(&self) -> String {
        self.pod_name.clone().unwrap_or_else(|| format!("process-{}", std::process::id()))
    }
}

/// Arguments that describe the installation. Controller and webhook take the same ones, so that they decide alike.
#[derive(Args, Clone, Debug)]
pub struct InstallationArgs {
    /// Image of weightlock-verify, as it stands in pods.
    #[arg(long, env = "WEIGHTLOCK_VERIFIER_IMAGE")]
    pub verifier_image: String,
    /// An extended resource that counts as a GPU besides the built-in ones. May be repeated; commas separate in the variable.
    #[arg(long = "gpu-resource", env = "WEIGHTLOCK_GPU_RESOURCES", value_delimiter = ',')]
    pub gpu_resources: Vec<String>,
    /// A runtime class that gives containers GPUs without a request, besides those of vendors. May be repeated; commas separate in the variable.
    #[arg(long = "gpu-runtime-class", env = "WEIGHTLOCK_GPU_RUNTIME_CLASSES", value_delimiter = ',')]
    pub gpu_runtime_classes: Vec<String>,
    /// What becomes of GPU pods outside every environment.
    #[arg(
        long,
        env = "WEIGHTLOCK_GPU_PODS_OUTSIDE_ENVIRONMENTS",
        value_enum,
        default_value = "Warn",
        ignore_case = true
    )]
    pub gpu_pods_outside_environments: OutsideRule,
    /// What becomes of pods that reach their node and are none of its agents: Audit warns, Enforce refuses.
    #[arg(long, env = "WEIGHTLOCK_NODE_ACCESS", value_enum, default_value = "Audit", ignore_case = true)]
    pub node_access: NodeAccess,
    /// A service account whose pods are agents of the node, as NAMESPACE/NAME. May be repeated; commas separate in the variable.
    #[arg(long = "node-agent", env = "WEIGHTLOCK_NODE_AGENTS", value_delimiter = ',')]
    pub node_agents: Vec<NodeAgent>,
    /// Whether the kubelet itself ends a pod whose weights changed.
    #[arg(long, env = "WEIGHTLOCK_RESTART_ALL_CONTAINERS", value_enum, default_value = "Auto", ignore_case = true)]
    pub restart_all_containers: RestartRule,
    /// Whether environments get policies in the Admin tier.
    #[arg(long, env = "WEIGHTLOCK_ADMIN_TIER", value_enum, default_value = "Auto", ignore_case = true)]
    pub admin_tier: TierRule,
    /// A user who may change Weightlock's own namespace, as the API server names them. May be repeated.
    #[arg(long = "administrator-user")]
    pub administrator_users: Vec<String>,
    /// A group whose members may change Weightlock's own namespace. May be repeated.
    #[arg(long = "administrator-group")]
    pub administrator_groups: Vec<String>,
    /// Namespace that Weightlock runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "weightlock-system")]
    pub own_namespace: String,
}

/// What becomes of GPU pods outside every environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum OutsideRule {
    /// Nothing.
    Allow,
    /// A warning.
    Warn,
    /// They are refused.
    Deny,
}

/// What becomes of pods that reach their node and are none of its agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum NodeAccess {
    /// A warning, and a mark in the API server's audit log.
    Audit,
    /// They are refused.
    Enforce,
}

/// Whether pods carry the rule by which the kubelet restarts all their containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum RestartRule {
    /// Where every node declares that it can.
    Auto,
    /// Nowhere.
    Never,
}

/// Whether environments get policies in the Admin tier of the cluster's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum TierRule {
    /// Where the cluster has it, but for Cilium.
    Auto,
    /// Wherever the cluster has it.
    Always,
    /// Nowhere.
    Never,
}

impl InstallationArgs {
    /// The settings that the rules look at.
    pub fn settings(&self) -> Settings {
        Settings {
            verifier_image: self.verifier_image.clone(),
            gpu_resources: self.gpu_resources.iter().filter(|name| !name.is_empty()).cloned().collect(),
            gpu_runtime_classes: self.gpu_runtime_classes.iter().filter(|name| !name.is_empty()).cloned().collect(),
            gpu_pods_outside: match self.gpu_pods_outside_environments {
                OutsideRule::Allow => GpuPodsOutside::Allow,
                OutsideRule::Warn => GpuPodsOutside::Warn,
                OutsideRule::Deny => GpuPodsOutside::Deny,
            },
            node_access: match self.node_access {
                NodeAccess::Audit => Mode::Audit,
                NodeAccess::Enforce => Mode::Enforce,
            },
            node_agents: self.node_agents.iter().cloned().collect(),
            restart_all_containers: match self.restart_all_containers {
                RestartRule::Auto => RestartAllContainers::Auto,
                RestartRule::Never => RestartAllContainers::Never,
            },
            admin_tier: match self.admin_tier {
                TierRule::Auto => AdminTierUse::Auto,
                TierRule::Always => AdminTierUse::Always,
                TierRule::Never => AdminTierUse::Never,
            },
            administrators: Administrators {
                users: self.administrator_users.iter().cloned().collect(),
                groups: self.administrator_groups.iter().cloned().collect(),
            },
            own_namespace: self.own_namespace.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        installation: InstallationArgs,
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from([
            "weightlock",
            "--verifier-image=registry.example.com/verify@sha256:0",
            "--gpu-resource=example.com/npu",
            "--gpu-runtime-class=fast",
            "--gpu-pods-outside-environments=Deny",
            "--node-access=Enforce",
            "--node-agent=monitoring/node-exporter",
            "--node-agent=rook-ceph/rook-csi",
            "--own-namespace=wl",
            "--pod-name=wl-0",
        ]);
        let settings = cli.installation.settings();
        assert_eq!(settings.verifier_image, "registry.example.com/verify@sha256:0");
        assert!(settings.gpu_resources.contains("example.com/npu"));
        assert!(settings.gpu_classes().any(|class| class == "fast"));
        assert_eq!(settings.gpu_pods_outside, GpuPodsOutside::Deny);
        assert_eq!(settings.own_namespace, "wl");
        assert_eq!(settings.node_access, Mode::Enforce);
        assert!(settings.is_node_agent("monitoring", "node-exporter") && settings.is_node_agent("wl", "any"));
        assert!(!settings.is_node_agent("monitoring", "default") && settings.has_node_agents("monitoring"));
        assert_eq!(cli.process.instance(), "wl-0");
    }

    #[test]
    fn a_node_agent_is_a_namespace_and_a_name() {
        for wrong in ["monitoring", "/x", "monitoring/", "a/b/c"] {
            let error = Cli::try_parse_from(["weightlock", "--verifier-image=x", &format!("--node-agent={wrong}")]);
            assert!(error.err().unwrap().to_string().contains("write NAMESPACE/NAME"), "{wrong}");
        }
    }

    #[test]
    fn the_verifier_image_is_required() {
        let error = Cli::try_parse_from(["weightlock"]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("--verifier-image"), "{error}");
    }
}
