//! `/livez`, `/readyz` and `/metrics`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Metrics, RuntimeError};

/// What must be so before the process is ready. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Health {
    /// Says whether a part is ready. The process is ready when every part that was ever named is.
    pub fn set(&self, part: &'static str, ready: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, ready);
    }

    /// The parts that are not ready. A process that has named no part is not ready either.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.is_empty() {
            return vec!["start"];
        }
        parts.iter().filter(|(_, ready)| !**ready).map(|(part, _)| *part).collect()
    }
}

/// Serves health and metrics until `shutdown`, in a task of its own.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<SocketAddr, RuntimeError> {
    let failed = |source| RuntimeError::Listen { address, source };
    let listener = match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    }
    .map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        let served =
            axum::serve(listener, router(health, metrics)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "health and metrics are no longer served");
            shutdown.cancel();
        }
    });
    Ok(bound)
}

fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(expose).with_state(metrics))
}

async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    match health.missing() {
        missing if missing.is_empty() => (StatusCode::OK, "ok\n".into()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))),
    }
}

async fn expose(State(metrics): State<Metrics>) -> impl IntoResponse {
    match metrics.encode() {
        Ok(text) => {
            (StatusCode::OK, [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain; charset=utf-8")],
            format!("metrics cannot be formatted: {error}\n"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    async fn fetch(health: &Health, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(health.clone(), Metrics::default()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_names_the_parts_that_are_missing() {
        let health = Health::default();
        assert_eq!(fetch(&health, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "not ready: start\n".into()));
        health.set("index", false);
        health.set("tls", true);
        assert_eq!(fetch(&health, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "not ready: index\n".into()));
        health.set("index", true);
        assert_eq!(fetch(&health, "/readyz").await, (StatusCode::OK, "ok\n".into()));
        assert_eq!(fetch(&health, "/livez").await.0, StatusCode::OK);
        assert!(fetch(&health, "/metrics").await.1.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = serve(address, Health::default(), Metrics::default(), CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("--health-listen {address}: cannot listen: ")), "{error}");
    }
}
