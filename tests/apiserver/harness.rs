//! The API server under test and what the tests share.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

/// Name of the control plane that is started when no other is given.
const CLUSTER: &str = "apitest";

/// The user that the controller is. Only it may write WeightIndexes.
pub const CONTROLLER: &str = "system:serviceaccount:weightlock-system:weightlock-controller";

/// A client of the API server under test, with rights to everything.
pub async fn client() -> Client {
    client_as(None).await
}

/// The same, but known to the API server under the name of the controller.
pub async fn controller() -> Client {
    client_as(Some(CONTROLLER)).await
}

/// The same, but known to the API server under this name, with these groups beside the one that has rights to everything.
pub async fn somebody(user: &str, groups: &[&str]) -> Client {
    client_with(Some(user), &[&[MASTERS], groups].concat()).await
}

/// A user with these rights and no others: a ClusterRole of its own, bound to it.
pub async fn limited(user: &str, rules: Value) -> Client {
    let everything = client().await;
    let group = "rbac.authorization.k8s.io";
    let role =
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}]});
    for object in [role, binding] {
        create(&everything, &object).await.expect("rights of a user");
    }
    client_with(Some(user), &[]).await
}

/// The group that has rights to everything.
const MASTERS: &str = "system:masters";

async fn client_as(user: Option<&str>) -> Client {
    client_with(user, &[MASTERS]).await
}

async fn client_with(user: Option<&str>, groups: &[&str]) -> Client {
    static KUBECONFIG: OnceLock<Result<Kubeconfig, String>> = OnceLock::new();
    let mut kubeconfig = match KUBECONFIG.get_or_init(find) {
        Ok(kubeconfig) => kubeconfig.clone(),
        Err(why) => panic!("no API server to test against: {why}"),
    };
    if let Some(user) = user {
        for auth in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
            auth.impersonate = Some(user.to_string());
            let all = ["system:authenticated"].iter().chain(groups);
            auth.impersonate_groups = Some(all.map(|group| (*group).to_string()).collect());
        }
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("kubeconfig");
    Client::try_from(config).expect("client")
}

fn find() -> Result<Kubeconfig, String> {
    let path = match std::env::var("WEIGHTLOCK_TEST_KUBECONFIG") {
        Ok(path) if !path.is_empty() => path,
        _ => start()?,
    };
    Kubeconfig::read_from(&path).map_err(|e| format!("{path}: {e}"))
}

fn start() -> Result<String, String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/cluster/cluster");
    let run = |arguments: &[&str]| {
        let output = Command::new(&program)
            .args(["--name", CLUSTER])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| {
                format!("{}: {e}; set WEIGHTLOCK_TEST_KUBECONFIG to use another API server", program.display())
            })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
        } else {
            Err(format!("`e2e/cluster/cluster --name {CLUSTER} {}` failed: {}", arguments.join(" "), output.status))
        }
    };
    run(&["up", "--control-plane-only"])?;
    run(&["kubeconfig"])
}

/// A name that no other test and no earlier run has.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static RUN: OnceLock<u32> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (since.as_millis() as u32) ^ std::process::id().rotate_left(16)
    });
    format!("{prefix}-{run:08x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Reads one YAML document.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e} in:\n{text}"))
}

/// Installs our definitions and waits until they are served. Repeating it changes nothing.
pub async fn install_definitions(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in weightlock::api::definitions() {
        let name = definition.name_any();
        let mut value = serde_json::to_value(&definition).unwrap();
        value["apiVersion"] = "apiextensions.k8s.io/v1".into();
        value["kind"] = "CustomResourceDefinition".into();
        api.patch(&name, &PatchParams::apply("weightlock-test").force(), &Patch::Apply(&value))
            .await
            .unwrap_or_else(|e| panic!("CustomResourceDefinition {name}: {e}"));
        eventually(&format!("{name} is served"), async || {
            let live = api.get(&name).await.map_err(|e| e.to_string())?;
            let conditions = live.status.and_then(|s| s.conditions).unwrap_or_default();
            match conditions.iter().find(|c| c.type_ == "Established") {
                Some(c) if c.status == "True" => Ok(()),
                _ => Err(format!("conditions: {conditions:?}")),
            }
        })
        .await;
    }
}

/// Repeats `attempt` until it succeeds, for at most 30 seconds.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(why) if Instant::now() > deadline => panic!("not within 30 s: {what}; last: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// An interface to whatever kind `value` is of.
pub fn api_of(client: &Client, value: &Value) -> Api<DynamicObject> {
    let (group, version) = match value["apiVersion"].as_str().expect("apiVersion").split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", value["apiVersion"].as_str().unwrap_or_default()),
    };
    let kind = value["kind"].as_str().expect("kind");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match value["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Creates an object; `Err` is the message of the refusal.
pub async fn create(client: &Client, value: &Value) -> Result<Value, String> {
    post(client, value, false).await
}

/// Asks for the creation of an object without storing it.
pub async fn try_create(client: &Client, value: &Value) -> Result<Value, String> {
    post(client, value, true).await
}

async fn post(client: &Client, value: &Value, dry_run: bool) -> Result<Value, String> {
    let object: DynamicObject = serde_json::from_value(value.clone()).expect("object");
    match api_of(client, value).create(&PostParams { dry_run, ..Default::default() }, &object).await {
        Ok(created) => Ok(serde_json::to_value(created).unwrap()),
        Err(e) => Err(message(e)),
    }
}

/// Stand-ins for definitions that are not part of Kubernetes, where they are missing: plural, kind and scope of each.
pub async fn stand_ins(client: &Client, group: &str, kinds: &[(&str, &str, &str)]) {
    for (plural, kind, scope) in kinds {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{group}"),
                "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
            },
            "spec": {
                "group": group, "scope": scope,
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
            },
        });
        if let Err(said) = create(client, &definition).await {
            assert!(said.starts_with("409"), "{said}");
        }
    }
}

/// Asks for the creation of an object without storing it, once its kind is served.
pub async fn try_create_served(client: &Client, value: &Value) -> Result<Value, String> {
    eventually("the kind is served", async || match try_create(client, value).await {
        Err(said) if said.starts_with("404") => Err(said),
        answer => Ok(answer),
    })
    .await
}

/// Changes an object by a JSON merge patch.
pub async fn merge(client: &Client, value: &Value, patch: &Value) -> Result<Value, String> {
    merge_with(client, value, patch, &PatchParams::default()).await
}

/// Asks for a change of an object without storing it.
pub async fn try_merge(client: &Client, value: &Value, patch: &Value) -> Result<Value, String> {
    merge_with(client, value, patch, &PatchParams { dry_run: true, ..PatchParams::default() }).await
}

async fn merge_with(client: &Client, value: &Value, patch: &Value, params: &PatchParams) -> Result<Value, String> {
    let name = value["metadata"]["name"].as_str().expect("name");
    match api_of(client, value).patch(name, params, &Patch::Merge(patch)).await {
        Ok(patched) => Ok(serde_json::to_value(patched).unwrap()),
        Err(e) => Err(message(e)),
    }
}

/// What the API server said.
pub fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        other => format!("not an answer of the API server: {other}"),
    }
}

/// A namespace of that name; gives its UID.
pub async fn namespace(client: &Client, name: &str) -> String {
    let created = create(client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
    if let Err(why) = created {
        panic!("namespace {name}: {why}");
    }
    default_service_account(client, name).await;
    let api: Api<Namespace> = Api::all(client.clone());
    api.get(name).await.unwrap().uid().unwrap()
}

/// Waits until pods can be made in a namespace.
pub async fn default_service_account(client: &Client, namespace: &str) {
    let service_accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    eventually("the default service account", async || {
        service_accounts.get("default").await.map(|_| ()).map_err(|e| e.to_string())
    })
    .await;
}

/// Changes a subresource of an object by a JSON merge patch.
pub async fn merge_subresource(
    client: &Client,
    value: &Value,
    subresource: &str,
    patch: &Value,
) -> Result<Value, String> {
    let name = value["metadata"]["name"].as_str().expect("name");
    match api_of(client, value)
        .patch_subresource(subresource, name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(patched) => Ok(serde_json::to_value(patched).unwrap()),
        Err(e) => Err(message(e)),
    }
}

/// Deletes an object at once.
pub async fn delete(client: &Client, value: &Value) {
    let name = value["metadata"]["name"].as_str().expect("name");
    let now = DeleteParams::default().grace_period(0);
    if let Err(e) = api_of(client, value).delete(name, &now).await {
        panic!("deletion of {} {name}: {e}", value["kind"]);
    }
}

/// Asks for the deletion of an object without doing it.
pub async fn try_delete(client: &Client, value: &Value) -> Result<Value, String> {
    let name = value["metadata"]["name"].as_str().expect("name");
    match api_of(client, value).delete(name, &DeleteParams { dry_run: true, ..Default::default() }).await {
        Ok(_) => Ok(Value::Null),
        Err(e) => Err(message(e)),
    }
}

/// The warnings that come with an accepted creation, which is not stored.
pub async fn warnings(client: &Client, value: &Value) -> Vec<String> {
    let url = api_of(client, value).resource_url().to_owned();
    let params = PostParams { dry_run: true, ..Default::default() };
    let request = kube::core::Request::new(url).create(&params, serde_json::to_vec(value).unwrap()).unwrap();
    warnings_to(client, request).await
}

/// The warnings about an object that is there, were it changed so.
pub async fn warnings_of_change(client: &Client, value: &Value, change: &Value) -> Vec<String> {
    let url = api_of(client, value).resource_url().to_owned();
    let params = PatchParams { dry_run: true, ..Default::default() };
    let name = value["metadata"]["name"].as_str().unwrap();
    let request = kube::core::Request::new(url).patch(name, &params, &Patch::Merge(change)).unwrap();
    warnings_to(client, request).await
}

async fn warnings_to(client: &Client, request: axum::http::Request<Vec<u8>>) -> Vec<String> {
    let response = client.send(request.map(kube::client::Body::from)).await.expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
    response.headers().get_all("warning").iter().map(|w| w.to_str().unwrap_or_default().to_string()).collect()
}

/// Tries to connect to a pod or service; gives the refusal, or how the attempt failed after it was admitted.
pub async fn connect(client: &Client, method: &str, namespace: &str, path: &str) -> String {
    connect_to(client, method, &format!("/api/v1/namespaces/{namespace}/{path}")).await
}

/// The same, for a path from the root.
pub async fn connect_to(client: &Client, method: &str, path: &str) -> String {
    let mut request = kube::core::Request::new("/api/v1").get("x", &Default::default()).unwrap();
    *request.uri_mut() = path.parse().unwrap();
    *request.method_mut() = method.parse().unwrap();
    match client.request::<Value>(request).await {
        Ok(answer) => format!("connected: {answer}"),
        Err(e) => message(e),
    }
}
