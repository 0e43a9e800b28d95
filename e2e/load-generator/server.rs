//! The API server: bulk creation, and requests whose answers are not read.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::idle;
use super::objects::{Plan, SERVER_ACCOUNT};

/// Namespace of the installation.
pub const OWN_NAMESPACE: &str = "weightlock-system";
/// Where environments are.
pub const ENVIRONMENTS: &str = "/apis/weightlock.dev/v1alpha1/weightenvironments";
/// How many requests are in flight while objects are made in bulk.
const AT_ONCE: usize = 48;

/// A client with rights to everything.
#[derive(Clone)]
pub struct Server {
    client: Client,
}

/// What the API server answered.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Server {
    pub async fn connect(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)? })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request; the answer is read and not parsed.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Answer> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = axum::http::Request::builder().method(method).uri(path).header("content-type", kind);
        let response = self.client.send(request.body(kube::client::Body::from(body))?).await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.into_body().collect().await?.to_bytes().to_vec() })
    }

    /// Sends an object; anything but success is an error, unless it is there already.
    pub async fn put(&self, method: &str, path: &str, object: &Value) -> Result<()> {
        let answer = self.send(method, path, serde_json::to_vec(object)?).await?;
        match answer.status {
            200..=299 => Ok(()),
            409 if method == "POST" => Ok(()),
            status => bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    /// The object at a path; `Null` if there is none.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.send("GET", path, Vec::new()).await?;
        match answer.status {
            200 => Ok(serde_json::from_slice(&answer.body)?),
            404 => Ok(Value::Null),
            status => bail!("GET {path}: {status} {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    /// Creates objects, many at once. Says how long it took.
    pub async fn create_all(
        &self,
        what: &str,
        count: usize,
        object: impl Fn(usize) -> (String, Value),
    ) -> Result<Duration> {
        let started = Instant::now();
        let creations = stream::iter(0..count).map(|number| {
            let (path, object) = object(number);
            async move {
                if number > 0 && number % 10_000 == 0 {
                    eprintln!("load: {number} {what} after {:.0} s", started.elapsed().as_secs_f64());
                }
                self.put("POST", &path, &object).await
            }
        });
        creations.buffer_unordered(AT_ONCE).try_collect::<()>().await.with_context(|| format!("create {what}"))?;
        eprintln!("load: {count} {what} in {:.0} s", started.elapsed().as_secs_f64());
        Ok(started.elapsed())
    }

    /// The definitions, until they are served.
    pub async fn define(&self) -> Result<()> {
        for definition in weightlock::api::definitions() {
            let mut definition = serde_json::to_value(&definition)?;
            definition["apiVersion"] = "apiextensions.k8s.io/v1".into();
            definition["kind"] = "CustomResourceDefinition".into();
            self.put("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.send("GET", ENVIRONMENTS, Vec::new()).await?.status == 404 {
            if Instant::now() > deadline {
                bail!("the definitions are not served after 30 s");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The definitions, the namespaces with the service accounts that no controller makes here, the environments, and the
    /// Service that leads to the webhook.
    pub async fn prepare(&self, plan: &Plan, address: &str) -> Result<()> {
        self.define().await?;
        for name in plan.namespaces().iter().map(String::as_str).chain([OWN_NAMESPACE]) {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.put("POST", "/api/v1/namespaces", &namespace).await?;
            for account in ["default", SERVER_ACCOUNT] {
                let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
                self.put("POST", &format!("/api/v1/namespaces/{name}/serviceaccounts"), &account).await?;
            }
        }
        for number in 0..plan.environments {
            self.put("POST", ENVIRONMENTS, &plan.environment(number)).await?;
        }
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "weightlock-webhook"},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 9443},
                {"name": "idle", "port": idle::SERVICE_PORT, "targetPort": idle::PORT}]}});
        self.put("POST", &format!("/api/v1/namespaces/{OWN_NAMESPACE}/services"), &service).await?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "weightlock-webhook-1", "labels": {"kubernetes.io/service-name": "weightlock-webhook"}},
            "addressType": "IPv4", "ports": [{"name": "https", "port": 9443, "protocol": "TCP"},
                {"name": "idle", "port": idle::PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        });
        self.put("POST", &format!("/apis/discovery.k8s.io/v1/namespaces/{OWN_NAMESPACE}/endpointslices"), &slice).await
    }
}
