//! What does nothing, in place of ours: a webhook that allows everything without looking at it, served as ours is, and a policy that
//! is about no pod that is measured. It is what an API server pays for asking at all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weightlock::webhook::server::serve;
use weightlock::webhook::tls::Certificates;

/// Where the webhook listens; the Service has the port before it.
pub const PORT: u16 = 9444;
pub const SERVICE_PORT: u16 = 444;

/// The node of the pods that the policy refuses.
pub const NODE: &str = "none";

/// One of our configurations of webhooks with nothing but what is asked when a pod is made, and with the webhook that does nothing.
pub fn configuration(of: &Value) -> Option<Value> {
    let mut idling = of.clone();
    let webhooks = idling.get_mut("webhooks")?.as_array_mut()?;
    webhooks.retain(|webhook| webhook["name"] == "inject.weightlock.dev" || webhook["name"] == "pods.weightlock.dev");
    for webhook in webhooks {
        webhook["clientConfig"]["service"]["port"] = SERVICE_PORT.into();
    }
    idling["metadata"]["name"] = "idle".into();
    Some(idling)
}

/// The policy and its binding: asked about each new pod of a namespace, and by a condition that costs next to nothing.
pub fn policy(namespace: &str) -> [Value; 2] {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "idle"},
        "spec": {
            "matchConstraints": {"resourceRules":
                [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
            "matchConditions": [{"name": "concerned",
                "expression": format!("has(object.spec.nodeName) && object.spec.nodeName == '{NODE}'")}],
            "validations": [{"expression": "false", "message": "the idle policy is in force", "reason": "Forbidden"}],
        },
    });
    let selector =
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}]});
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "idle"},
        "spec": {"policyName": "idle", "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": selector}},
    });
    [policy, binding]
}

/// How often the webhook was asked.
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

/// Begins to serve the webhook, with the certificate of ours.
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
