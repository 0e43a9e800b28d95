//! The admission webhook: an HTTP router that asks the rules, behind a TLS listener whose certificate rotates.
//!
//! Where nothing can be decided the answer is a denial. Only for namespaces of environments in Audit mode, which have
//! paths of their own, it is a warning.

mod case;
pub mod metrics;
pub mod review;
pub mod router;
pub mod server;
pub mod tls;
mod warnings;

#[cfg(test)]
mod binding_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::domain::world::Settings;
use crate::index::{Fresh, Index, Scope};
use crate::runtime::Process;

/// How often the certificate files are read.
const RELOAD: Duration = Duration::from_secs(2);
/// How long requests are still taken after readiness was withdrawn, until the endpoints of the Service know.
const DRAIN: Duration = Duration::from_secs(5);

/// Arguments of the webhook.
#[derive(clap::Args, Clone, Debug)]
pub struct WebhookArgs {
    /// Address for admission requests. An unspecified IPv6 address falls back to IPv4 where there is no IPv6.
    #[arg(long, env = "WEIGHTLOCK_LISTEN", default_value = "[::]:9443")]
    pub listen: SocketAddr,
    /// Directory with tls.crt and tls.key; they are read again when they change.
    #[arg(long, env = "WEIGHTLOCK_TLS_DIR", default_value = "/etc/weightlock/tls")]
    pub tls_dir: PathBuf,
}

/// Why the webhook could not start.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The address is taken or not allowed.
    #[error("--listen {address}: cannot listen: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// Serves admission until the process is told to shut down.
///
/// Ready once every kind was listed and a certificate is loaded. On shutdown readiness goes first, then new connections,
/// then the requests in flight finish.
///
/// # Errors
/// If it cannot listen, or TLS cannot be configured.
pub async fn run(process: &Process, settings: Settings, args: &WebhookArgs) -> Result<(), WebhookError> {
    process.health.set("index", false);
    process.health.set("certificate", false);
    let metrics = metrics::WebhookMetrics::default();
    let (index, watches) = Index::start(process.client.clone(), settings, Scope::Webhook);
    process.metrics.register(|registry| {
        metrics.register(registry);
        index.register(registry);
    });

    let certificates = Arc::new(tls::Certificates::new(&args.tls_dir, metrics.certificate_expiry.clone()));
    let tls = certificates.server_config()?;
    let listener = listen(args.listen).await?;
    let fresh = Fresh::new(process.client.clone());
    let (decider, limits) = (router::Decider::default(), router::Limits::default());
    let state = router::WebhookState::new(index.clone(), fresh, decider, limits, metrics);
    let router = router::leaving(router::router(Arc::new(state)), process.shutdown.clone());

    let background = tokio::spawn(futures::future::join3(
        watches,
        Arc::clone(&certificates).follow(RELOAD),
        report_readiness(process.clone(), index, certificates),
    ));
    let shutdown = process.shutdown.clone();
    let health = process.health.clone();
    let stop = async move {
        shutdown.cancelled().await;
        health.set("serving", false);
        tokio::time::sleep(DRAIN).await;
    };
    tracing::info!(listen = %args.listen, "admission is served");
    server::serve(listener, tls, router, stop).await;
    background.abort();
    Ok(())
}

async fn report_readiness(process: Process, index: Index, certificates: Arc<tls::Certificates>) {
    loop {
        process.health.set("index", index.synced());
        process.health.set("certificate", certificates.loaded());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, WebhookError> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    }
    .map_err(|source| WebhookError::Listen { address, source })
}
