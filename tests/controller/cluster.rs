//! The control plane under test, the one controller that runs on it, and what the tests share.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weightlock::{
    domain::world::Settings,
    reconcile,
    runtime::{Health, Metrics, Process},
};

const NAME: &str = "ctltest";
pub const OWN_NAMESPACE: &str = "weightlock-system";

/// Other tests hold it for reading; one that counts all writes has the controller for itself.
pub static ALONE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

fn kubeconfig() -> Kubeconfig {
    static PATH: OnceLock<String> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/cluster/cluster");
        let run = |arguments: &[&str]| {
            let output = Command::new(&program)
                .args(["--name", NAME])
                .args(arguments)
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()
                .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            assert!(output.status.success(), "cluster {}: {}", arguments.join(" "), output.status);
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        };
        run(&["up", "--control-plane-only"]);
        run(&["kubeconfig"])
    });
    Kubeconfig::read_from(path).unwrap()
}

/// A client with rights to everything.
pub async fn client() -> Client {
    client_of(kubeconfig()).await
}

/// The same, known to the API server under the name of the controller: policies let only it write the index.
pub async fn as_controller() -> Client {
    as_user(&format!("system:serviceaccount:{OWN_NAMESPACE}:weightlock-controller"), "system:authenticated").await
}

/// The same, known as the kubelet of a node: policies let only it say what the containers of a pod did.
pub async fn as_node(node: &str) -> Client {
    as_user(&format!("system:node:{node}"), "system:nodes").await
}

async fn as_user(name: &str, group: &str) -> Client {
    let mut kubeconfig = kubeconfig();
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        user.impersonate = Some(name.into());
        user.impersonate_groups = Some(vec!["system:masters".into(), group.into()]);
    }
    client_of(kubeconfig).await
}

async fn client_of(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// The definitions, and one controller in a thread of its own for all tests. Gives its metrics.
pub async fn controller() -> (Client, Metrics) {
    static METRICS: tokio::sync::OnceCell<Metrics> = tokio::sync::OnceCell::const_new();
    let client = client().await;
    let metrics = METRICS
        .get_or_init(async || {
            for definition in weightlock::api::definitions() {
                define(&client, &definition.spec.names.kind, |_| {}).await;
            }
            apply(&client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN_NAMESPACE}}))
                .await;
            let metrics = Metrics::default();
            let given = metrics.clone();
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(async {
                    let process = Process {
                        client: as_controller().await,
                        metrics: given,
                        health: Health::default(),
                        shutdown: CancellationToken::new(),
                        instance: unique("controller"),
                    };
                    reconcile::run(&process, Settings::default()).await
                })
            });
            metrics
        })
        .await;
    (client, metrics.clone())
}

/// Writes the definition of a kind, with a change to it.
pub async fn define(client: &Client, kind: &str, change: impl Fn(&mut Value)) {
    for definition in weightlock::api::definitions().iter().filter(|definition| definition.spec.names.kind == kind) {
        let mut definition = serde_json::to_value(definition).unwrap();
        definition["apiVersion"] = "apiextensions.k8s.io/v1".into();
        definition["kind"] = "CustomResourceDefinition".into();
        change(&mut definition);
        apply(client, &definition).await;
    }
}

/// All writes that the controller has counted so far.
pub fn writes(metrics: &Metrics) -> f64 {
    let text = metrics.encode().unwrap();
    let counted = text.lines().filter(|line| line.starts_with("weightlock_writes_total"));
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A name that no other test and no earlier run has.
pub fn unique(prefix: &str) -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{prefix}-{:x}-{count}", since.as_millis() & 0xffff_ffff)
}

/// Repeats `attempt` until it succeeds, for at most a minute: the lease of an earlier run may have to run out first.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(why) if Instant::now() > deadline => panic!("not within 60 s: {what}; last: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap_or(("", "v1"));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Applies an object, waiting for its definition if that is new.
pub async fn apply(client: &Client, object: &Value) -> Value {
    eventually(&format!("apply {} {}", object["kind"], name(object)), async || {
        let params = PatchParams::apply("weightlock-test").force();
        let applied = api(client, object).patch(name(object), &params, &Patch::Apply(object)).await;
        applied.map(|object| serde_json::to_value(object).unwrap()).map_err(|error| error.to_string())
    })
    .await
}

/// Creates an object once.
pub async fn create(client: &Client, object: &Value) {
    let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    eventually(&format!("create {} {}", object["kind"], name(object)), async || {
        let created = api(client, object).create(&PostParams::default(), &parsed).await;
        created.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
}

/// Changes an object by a merge patch, as the field manager of this name.
pub async fn patch(client: &Client, object: &Value, manager: &str, patch: &Value) {
    let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
    api(client, object).patch(name(object), &params, &Patch::Merge(patch)).await.unwrap();
}

/// Deletes an object without waiting for its end.
pub async fn delete(client: &Client, object: &Value) {
    api(client, object).delete(name(object), &DeleteParams::default().grace_period(0)).await.unwrap();
}

/// The live object; `Null` if there is none.
pub async fn get(client: &Client, object: &Value) -> Value {
    let live = api(client, object).get_opt(name(object)).await.unwrap();
    live.map(|live| serde_json::to_value(live).unwrap()).unwrap_or_default()
}

/// A condition in the live object's status; `Null` if there is none.
pub async fn condition(client: &Client, object: &Value, kind: &str) -> Value {
    let live = get(client, object).await;
    let conditions = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// Waits until a condition has this status and reason; gives its message.
pub async fn wait_for(client: &Client, object: &Value, kind: &str, status: &str, reason: &str) -> String {
    eventually(&format!("{kind}={status} {reason} on {} {}", object["kind"], name(object)), async || {
        let found = condition(client, object, kind).await;
        match found["status"] == status && found["reason"] == reason {
            true => Ok(found["message"].as_str().unwrap_or_default().to_string()),
            false => Err(found.to_string()),
        }
    })
    .await
}

/// Waits for an event of this reason that begins as told.
pub async fn noted(client: &Client, reason: &str, note: &str) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("events.k8s.io", "v1", "Event"));
    let events: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    eventually(&format!("event {reason}: {note}"), async || {
        let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let of_reason = all.iter().filter(|event| event.data["reason"] == reason);
        let notes: Vec<&str> = of_reason.filter_map(|event| event.data["note"].as_str()).collect();
        if notes.iter().any(|text| text.starts_with(note)) { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
}

/// A new namespace; gives its UID.
pub async fn namespace(client: &Client, name: &str) -> String {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    create(client, &object).await;
    get(client, &object).await["metadata"]["uid"].as_str().unwrap().to_string()
}

/// An environment of one namespace with NetworkPolicies enforced and admission in Audit, so that pods can be made
/// although no webhook answers.
pub fn environment(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": name},
        "spec": {
            "purpose": "Inference",
            "members": [{"namespace": namespace, "serviceAccounts": ["*"]}],
            "modes": {"admission": "Audit", "network": "Enforce", "verification": "Enforce", "egress": "Audit"},
        },
    })
}

/// A new namespace and an environment of it, both of this name and in force.
pub async fn ready_environment(client: &Client, name: &str) -> Value {
    namespace(client, name).await;
    let environment = environment(name, name);
    apply(client, &environment).await;
    wait_for(client, &environment, "Ready", "True", "Ready").await;
    environment
}

/// A NetworkPolicy by its name only.
pub fn policy(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": namespace, "name": name}})
}

/// A pod that mounts an NFS export.
pub fn pod(namespace: &str, name: &str, path: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "registry.invalid/none",
                "volumeMounts": [{"name": "w", "mountPath": "/w", "readOnly": true}]}],
            "volumes": [{"name": "w", "nfs": {"server": "nas.example.com", "path": path, "readOnly": true}}],
        },
    })
}

/// An artifact with one location, permitted in these environments.
pub fn artifact(name: &str, location: Value, environments: &[&str]) -> Value {
    let permitted: Vec<Value> = environments.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": name},
        "spec": {
            "type": "FineTune", "model": {"name": "orion"}, "contact": "weights@example.com",
            "manifestDigest": format!("sha256:{}", "1".repeat(64)), "manifest": {"path": "m.json"},
            "locations": [location],
            "permittedEnvironments": permitted,
        },
    })
}

/// An artifact that the API server protects, permitted nowhere.
pub fn registered(name: &str) -> Value {
    let path = format!("/models/{name}");
    let location = json!({"name": "share", "role": "Primary", "nfs": {"server": "nas.example.com", "path": path}});
    artifact(name, location, &["not-there"])
}

/// A shard of the index that pods and volumes are asked with; `Null` if there is none.
pub async fn shard(client: &Client, number: usize) -> Value {
    let metadata = json!({"name": format!("weightlock-storage-{number}")});
    get(client, &json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightIndex", "metadata": metadata})).await
}

/// Whether the API server would take an object.
pub async fn would_take(client: &Client, object: &Value) -> Result<(), String> {
    let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    api(client, object).create(&params, &parsed).await.map(|_| ()).map_err(|error| error.to_string())
}
