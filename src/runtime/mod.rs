//! What every long-running process of Weightlock has: arguments, telemetry, metrics, health, shutdown and leases.

pub mod args;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod telemetry;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use args::{InstallationArgs, ProcessArgs};
pub use health::Health;
pub use metrics::Metrics;

/// A running process: the client of the API server, metrics, health, and the token that is cancelled when it is to end.
#[derive(Clone)]
pub struct Process {
    /// Client of the API server.
    pub client: Client,
    /// Metrics, served at `/metrics`.
    pub metrics: Metrics,
    /// Readiness, served at `/readyz`.
    pub health: Health,
    /// Cancelled on SIGTERM or SIGINT, and when a vital part of the process fails.
    pub shutdown: CancellationToken,
    /// Name of this instance: the name of its pod.
    pub instance: String,
}

/// Why a process could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The log filter cannot be read.
    #[error("--log {value:?}: {reason}. Remedy: a level (\"info\") or targets with levels (\"info,weightlock=debug\")")]
    LogFilter {
        /// What was given.
        value: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// Telemetry or cryptography was installed twice.
    #[error("{what} was installed twice in one process")]
    InstalledTwice {
        /// What was.
        what: &'static str,
    },
    /// There is no way to the API server.
    #[error(
        "cannot set up the client of the API server: {0}. Remedy: run in a pod with a service account, or set KUBECONFIG"
    )]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address for health and metrics is taken or not allowed.
    #[error("--health-listen {address}: cannot listen: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The lease was lost, so another process may lead.
    #[error("the lease {lease} was lost: {reason}; this process ends so that it starts anew as a follower")]
    LeaseLost {
        /// Namespace and name of the lease.
        lease: String,
        /// Why.
        reason: String,
    },
}

impl Process {
    /// Installs telemetry and cryptography, connects to the API server, and serves health and metrics.
    ///
    /// # Errors
    /// If any of these is not possible.
    pub async fn start(args: &ProcessArgs) -> Result<Self, RuntimeError> {
        telemetry::install(args)?;
        install_crypto()?;
        let config = kube::Config::infer().await.map_err(|error| RuntimeError::Client(Box::new(error)))?;
        let client = Client::try_from(config).map_err(|error| RuntimeError::Client(Box::new(error)))?;
        let shutdown = CancellationToken::new();
        watch_signals(shutdown.clone())?;
        let (metrics, health) = (Metrics::default(), Health::default());
        health::serve(args.health_listen, health.clone(), metrics.clone(), shutdown.clone()).await?;
        Ok(Self { client, metrics, health, shutdown, instance: args.instance() })
    }
}

/// One provider of cryptography for all TLS of the process.
fn install_crypto() -> Result<(), RuntimeError> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| RuntimeError::InstalledTwice { what: "the provider of cryptography" })
}

fn watch_signals(shutdown: CancellationToken) -> Result<(), RuntimeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(RuntimeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RuntimeError::Signals)?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        shutdown.cancel();
    });
    Ok(())
}
