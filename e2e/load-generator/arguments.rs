//! What `e2e/load` tells the generator.

use std::path::PathBuf;

/// Measures decisions, the webhook and admission on a control plane that runs already.
#[derive(clap::Parser, Clone, Debug)]
pub struct Arguments {
    /// Part of the full scale: 1 is 10,000 artifacts, 50,000 volumes and claims, 100,000 pods.
    #[arg(long, default_value_t = 0.1)]
    pub scale: f64,
    /// Pairs of measurements with and without Weightlock's configurations.
    #[arg(long, default_value_t = 24)]
    pub pairs: usize,
    /// Requests in each half of a pair.
    #[arg(long, default_value_t = 60)]
    pub requests: usize,
    /// Seconds for each measurement of the webhook alone.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Changes whose way to the index is timed.
    #[arg(long, default_value_t = 500)]
    pub changes: usize,
    /// Instead of all that, how fast a thousand namespaces get their policies, and what is written after that.
    #[arg(long)]
    pub convergence: bool,
    /// Audit log of the API server; needed for that.
    #[arg(long, required_if_eq("convergence", "true"))]
    pub audit_log: Option<PathBuf>,
    /// The program `weightlock`.
    #[arg(long)]
    pub weightlock: PathBuf,
    /// Kubeconfig with rights to everything.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Directory for certificates, kubeconfigs and logs.
    #[arg(long)]
    pub directory: PathBuf,
    /// Process of the API server, whose time on the processors is counted.
    #[arg(long)]
    pub server_process: u32,
    /// Address in the network namespace of the control plane at which the webhook listens.
    #[arg(long)]
    pub address: String,
}
