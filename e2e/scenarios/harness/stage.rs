//! The stage of one scenario: its namespaces, its objects, its weights on the first node's disk.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Mutex;

use futures::FutureExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{SOON, artifact, cluster, environment, eventually, kubeconfig};

/// Node whose disk holds the weights of scenarios.
pub const NODE: &str = "node1";
/// Directory of that node, as its pods see it.
pub const NODE_DIR: &str = "/mnt/weights";

/// The stage of one scenario.
pub struct Stage {
    pub client: Client,
    /// Unique within the cluster; every name of the scenario starts with it.
    pub id: String,
    made: Mutex<Vec<(ApiResource, Option<String>, String)>>,
    dirs: Mutex<Vec<PathBuf>>,
}

/// Weights on the node's disk with the claim that leads to them.
#[derive(Clone, Debug)]
pub struct Weights {
    pub namespace: String,
    pub claim: String,
    pub volume: String,
    pub node_path: String,
    pub host_dir: PathBuf,
    pub digest: String,
    pub files: Vec<Value>,
}

/// Sets a stage, plays the scenario, clears the stage whatever happened.
pub async fn scenario<F, Fut>(name: &str, play: F)
where
    F: FnOnce(std::sync::Arc<Stage>) -> Fut,
    Fut: Future<Output = ()>,
{
    let start = std::time::Instant::now();
    let stage = std::sync::Arc::new(Stage::new(name).await);
    let outcome = AssertUnwindSafe(play(stage.clone())).catch_unwind().await;
    if outcome.is_err() && std::env::var_os("WEIGHTLOCK_TEST_KEEP").is_some() {
        eprintln!("kept for a look: everything named {}*", stage.id);
    } else {
        stage.clear().await;
    }
    note_time(name, start.elapsed());
    if let Err(cause) = outcome {
        std::panic::resume_unwind(cause);
    }
}

/// Adds a line to the file that `e2e/test` reads the slowest scenarios from.
fn note_time(name: &str, took: std::time::Duration) {
    use std::io::Write;
    let Some(path) = std::env::var_os("WEIGHTLOCK_TEST_TIMES") else { return };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{:7.1} s  {name}\n", took.as_secs_f64()).as_bytes()).unwrap();
}

impl Stage {
    async fn new(name: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::from_custom_kubeconfig(
            kube::config::Kubeconfig::read_from(kubeconfig()).unwrap(),
            &Default::default(),
        )
        .await
        .unwrap();
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let id = format!("{name}-{:05x}", nanos & 0xfffff);
        Self { client: Client::try_from(config).unwrap(), id, made: Mutex::default(), dirs: Mutex::default() }
    }

    /// A namespace of this scenario, with the default service account and those named.
    pub async fn namespace(&self, role: &str, service_accounts: &[&str]) -> String {
        let name = format!("{}-{role}", self.id);
        self.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await.unwrap();
        for account in service_accounts {
            self.create(
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}}),
            )
            .await
            .unwrap();
        }
        eventually("the default service account", SOON, || async {
            self.get("v1", "ServiceAccount", Some(&name), "default").await.map_err(|e| e.to_string())
        })
        .await;
        name
    }

    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(ns) => Api::namespaced_with(self.client.clone(), ns, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// Creates an object and remembers to delete it.
    pub async fn create(&self, object: Value) -> Result<DynamicObject, kube::Error> {
        let resource = resource_of(&object);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api = self.api(&resource, object.namespace().as_deref());
        let made = api.create(&PostParams::default(), &object).await?;
        self.made.lock().unwrap().push((resource, made.namespace(), made.name_any()));
        Ok(made)
    }

    /// Asserts that creating the object is refused with code 403, and gives the message.
    pub async fn refused(&self, object: Value) -> String {
        let shown = object.to_string();
        match self.create(object).await {
            Ok(made) => panic!("{} was accepted, though it must be refused: {shown}", made.name_any()),
            Err(kube::Error::Api(status)) => {
                let (code, message) = (status.code, status.message.clone());
                assert!(code == 403 || code == 422, "refused with code {code}: {message}");
                message
            }
            Err(other) => panic!("not an answer of the API server: {other}"),
        }
    }

    /// Merge-patches an object.
    pub async fn patch(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        patch: Value,
    ) -> Result<DynamicObject, kube::Error> {
        let resource = resource_of(&json!({"apiVersion": api_version, "kind": kind}));
        self.api(&resource, namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Reads an object.
    pub async fn get(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<DynamicObject, kube::Error> {
        let resource = resource_of(&json!({"apiVersion": api_version, "kind": kind}));
        self.api(&resource, namespace).get(name).await
    }

    /// Lists the objects of a kind in a namespace.
    pub async fn list(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Vec<DynamicObject> {
        let resource = resource_of(&json!({"apiVersion": api_version, "kind": kind}));
        self.api(&resource, namespace).list(&Default::default()).await.unwrap().items
    }

    /// Deletes an object without waiting.
    pub async fn delete(&self, api_version: &str, kind: &str, namespace: Option<&str>, name: &str) {
        let resource = resource_of(&json!({"apiVersion": api_version, "kind": kind}));
        self.api(&resource, namespace).delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// Writes files to the first node's disk and makes a local volume and a bound claim in `namespace` that lead there.
    pub async fn weights(&self, namespace: &str, role: &str, files: &[(&str, &[u8])]) -> Weights {
        let (dir, host_dir) = self.directory(role, files).await;
        let volume = format!("{}-{role}", self.id);
        self.volume(&volume, &dir, Some((namespace, role))).await.unwrap();
        self.claim(namespace, role, &volume).await.unwrap();
        eventually("the claim to be bound", SOON, || async {
            let claim =
                self.get("v1", "PersistentVolumeClaim", Some(namespace), role).await.map_err(|e| e.to_string())?;
            if claim.data["status"]["phase"] == "Bound" { Ok(()) } else { Err(claim.data["status"].to_string()) }
        })
        .await;
        let listed: BTreeMap<&str, &[u8]> = files.iter().copied().collect();
        let entries: Vec<Value> = listed
            .iter()
            .map(
                |(path, content)| json!({"path": path, "sha256": hex(&Sha256::digest(content)), "size": content.len()}),
            )
            .collect();
        let canonical = json!({"files": entries, "version": 1}).to_string();
        Weights {
            namespace: namespace.into(),
            claim: role.into(),
            volume,
            node_path: dir,
            host_dir,
            digest: format!("sha256:{}", hex(&Sha256::digest(canonical.as_bytes()))),
            files: entries,
        }
    }

    /// A namespace that is an environment of its own, in force, with the service account `vllm`.
    pub async fn inference(&self) -> String {
        let namespace = self.namespace("in", &["vllm"]).await;
        self.create(environment(&self.id, &namespace, &["vllm"])).await.unwrap();
        self.condition("WeightEnvironment", &self.id, "Ready", "True").await;
        namespace
    }

    /// A namespace that is an environment of its own, with an artifact at its claim `w`, and everything in force.
    /// `adjust` may change the environment before it is declared.
    pub async fn serving(&self, service_accounts: &[&str], adjust: impl FnOnce(&mut Value)) -> (String, Weights) {
        let namespace = self.namespace("in", service_accounts).await;
        let weights = self.weights(&namespace, "w", &[("model.safetensors", b"x")]).await;
        let mut environment = environment(&self.id, &namespace, &["vllm"]);
        adjust(&mut environment);
        self.create(environment).await.unwrap();
        self.create(artifact(&self.id, &weights, &[&self.id])).await.unwrap();
        self.condition("WeightEnvironment", &self.id, "Ready", "True").await;
        self.condition("WeightArtifact", &self.id, "Ready", "True").await;
        (namespace, weights)
    }

    /// A directory with files on the first node's disk: its path for pods, and on this machine.
    pub async fn directory(&self, role: &str, files: &[(&str, &[u8])]) -> (String, PathBuf) {
        let host = cluster(&["node", "path", "1"]).await.success();
        let host_dir = PathBuf::from(host.trim()).join(format!("{}-{role}", self.id));
        for (path, content) in files {
            let file = host_dir.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        std::fs::create_dir_all(&host_dir).unwrap();
        self.dirs.lock().unwrap().push(host_dir.clone());
        (format!("{NODE_DIR}/{}-{role}", self.id), host_dir)
    }

    /// A local volume on the first node, reserved for a claim if one is given.
    pub async fn volume(
        &self,
        name: &str,
        node_path: &str,
        claim: Option<(&str, &str)>,
    ) -> Result<DynamicObject, kube::Error> {
        let mut spec = json!({
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "", "local": {"path": node_path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}]}},
        });
        if let Some((namespace, name)) = claim {
            spec["claimRef"] = json!({"namespace": namespace, "name": name});
        }
        self.create(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}))
            .await
    }

    /// A claim for a volume by name.
    pub async fn claim(&self, namespace: &str, name: &str, volume: &str) -> Result<DynamicObject, kube::Error> {
        self.create(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": volume,
                     "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .await
    }

    /// Waits until a condition of a custom resource of ours has a status, and gives its reason and message.
    pub async fn condition(&self, kind: &str, name: &str, condition: &str, status: &str) -> (String, String) {
        eventually(&format!("{kind} {name} to be {condition}={status}"), SOON, || async {
            let object = self.get("weightlock.dev/v1alpha1", kind, None, name).await.map_err(|e| e.to_string())?;
            let found =
                object.data["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == condition);
            let fresh = object.data["status"]["observedGeneration"].as_i64() == object.metadata.generation;
            match found {
                Some(c) if c["status"] == status && fresh => Ok((text(&c["reason"]), text(&c["message"]))),
                _ => Err(object.data["status"].to_string()),
            }
        })
        .await
    }

    /// Waits until what pods of an environment's first member say counts as proof of drift: their statuses are protected,
    /// and a pod that is made now is younger by as much as clocks may differ.
    pub async fn protected(&self, environment: &str) {
        eventually("the statuses of pods to be protected", SOON, || async {
            let found = self.get("weightlock.dev/v1alpha1", "WeightEnvironment", None, environment).await;
            let member = found.map_err(|e| e.to_string())?.data["status"]["members"][0].clone();
            if member["podStatusProtectedSince"].is_string() { Ok(()) } else { Err(member.to_string()) }
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    }

    /// Waits until a pod's phase is as named, and gives the pod.
    pub async fn phase(&self, namespace: &str, pod: &str, phase: &str) -> DynamicObject {
        self.phase_of(namespace, pod, &[phase]).await
    }

    /// Waits until a pod's phase is one of these, and gives the pod.
    pub async fn phase_of(&self, namespace: &str, pod: &str, phases: &[&str]) -> DynamicObject {
        eventually(&format!("pod {namespace}/{pod} to be {}", phases.join(" or ")), SOON, || async {
            let pod = self.get("v1", "Pod", Some(namespace), pod).await.map_err(|e| e.to_string())?;
            let phase = pod.data["status"]["phase"].as_str().unwrap_or_default();
            if phases.contains(&phase) { Ok(pod) } else { Err(pod.data["status"].to_string()) }
        })
        .await
    }

    /// Deletes all that the scenario made, newest first, and its directories.
    pub async fn clear(&self) {
        let mut made = std::mem::take(&mut *self.made.lock().unwrap());
        // Environments wait for their pods, so pods go first; namespaces take what is in them along.
        made.sort_by_key(|(resource, _, _)| match resource.kind.as_str() {
            "Pod" | "Job" | "Deployment" => 0,
            "WeightArtifact" => 1,
            "WeightEnvironment" => 2,
            "Namespace" => 4,
            _ => 3,
        });
        for (resource, namespace, name) in made {
            if namespace.is_some() && resource.kind != "Pod" {
                continue;
            }
            let params = DeleteParams::default().grace_period(0);
            let _ = self.api(&resource, namespace.as_deref()).delete(&name, &params).await;
        }
        for dir in std::mem::take(&mut *self.dirs.lock().unwrap()) {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

fn resource_of(object: &Value) -> ApiResource {
    let (group, version) =
        object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", object["apiVersion"].as_str().unwrap()));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()))
}

/// A JSON string, or the JSON text of anything else.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
