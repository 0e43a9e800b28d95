//! A webhook that allows everything without looking at it, served as ours is: what an API server pays for asking at all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use weightlock::webhook::server::serve;
use weightlock::webhook::tls::Certificates;

/// Where it listens; the Service has the port before it.
pub const PORT: u16 = 9444;
pub const SERVICE_PORT: u16 = 444;

/// How often it was asked.
#[derive(Clone, Default)]
pub struct Calls(Arc<AtomicU64>);

impl Calls {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
struct Asked {
    uid: String,
}

/// Begins to serve, with the certificate of the webhook.
pub async fn start(address: &str, tls: &Path) -> Result<Calls> {
    let certificates = Arc::new(Certificates::new(tls, Default::default()));
    certificates.load()?;
    let listener = TcpListener::bind((address, PORT)).await?;
    let calls = Calls::default();
    let counted = calls.clone();
    let allow = move |body: Bytes| {
        counted.0.fetch_add(1, Ordering::Relaxed);
        let uid = serde_json::from_slice::<Review>(&body).map(|review| review.request.uid).unwrap_or_default();
        let response = json!({"uid": uid, "allowed": true});
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        async move { axum::Json(review) }
    };
    let router = Router::new().route("/{*path}", post(allow));
    let config = certificates.server_config()?;
    tokio::spawn(serve(listener, config, router, std::future::pending()));
    Ok(calls)
}
