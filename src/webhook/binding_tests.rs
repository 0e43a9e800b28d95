//! Pods that are placed on a node, with the rules of the domain and an API server that is a list of objects.

use std::sync::Arc;
use std::time::Duration;

use kube::client::Body;
use serde_json::{Value, json};

use super::metrics::WebhookMetrics;
use super::router::{AUDIT_BIND, BIND, Decider, Limits, VALIDATE, WebhookState, router};
use super::tests::post;
use crate::domain::World;
use crate::domain::backend::BackendKey;
use crate::domain::world::{Artifact, ArtifactLocation, Claim, ClaimName, LocationSource, Manifest, Volume};
use crate::index::{Fresh, Index};

/// A client of an API server that has these objects, by path, and takes its time.
pub fn cluster_of(objects: Vec<(&'static str, Value)>, takes: Duration) -> kube::Client {
    let objects = Arc::new(objects);
    let service = tower::service_fn(move |request: axum::http::Request<Body>| {
        let objects = Arc::clone(&objects);
        async move {
            tokio::time::sleep(takes).await;
            let path = request.uri().path();
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving", "uid": "uid-serving"}});
            let namespace = (NAMESPACE, namespace);
            let found = objects.iter().chain([&namespace]).find(|(of, _)| *of == path);
            let gone =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            let (code, body) = found.map_or((404, gone), |(_, object)| (200, object.clone()));
            let code = body["code"].as_u64().map_or(code, |code| code as u16);
            let response = axum::http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }
    });
    kube::Client::new(service, "default")
}

const NAMESPACE: &str = "/api/v1/namespaces/serving";
const POD: &str = "/api/v1/namespaces/serving/pods/nb";
const CLAIM: &str = "/api/v1/namespaces/serving/persistentvolumeclaims/scratch";

fn pod(account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "serving", "name": "nb", "uid": "u"},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "nb", "image": "tools", "volumeMounts": [{"name": "w", "mountPath": "/w"}]}],
            "volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "scratch"}}],
        }
    })
}

/// Claim and volume, bound to each other.
fn bound(volume: &'static str, path: &'static str, handle: &str) -> Vec<(&'static str, Value)> {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "serving", "name": "scratch", "uid": "c"},
        "spec": {"volumeName": volume}, "status": {"phase": "Bound"},
    });
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
        "spec": {
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": handle},
            "claimRef": {"namespace": "serving", "name": "scratch", "uid": "c"},
        },
    });
    vec![(CLAIM, claim), (path, volume)]
}

fn scratch() -> Vec<(&'static str, Value)> {
    bound("pv-scratch", "/api/v1/persistentvolumes/pv-scratch", "vol-2")
}

/// The claim is deleted and made again with a second volume of the weights.
fn weights() -> Vec<(&'static str, Value)> {
    bound("pv-spare", "/api/v1/persistentvolumes/pv-spare", "vol-weights")
}

/// Environment `inference` in namespace `serving`, with the weights `vol-weights`. The watches have seen claim `scratch`
/// bound to something else.
fn world() -> World {
    let mut world = World::default();
    world.namespaces.insert("serving".into(), "uid-serving".into());
    let environment = crate::domain::admission::test_environment("inference", "serving", "vllm");
    world.environments.insert("inference".into(), environment);
    let weights = LocationSource::Key(BackendKey::csi("ebs.csi.aws.com", "vol-weights"));
    let location = ArtifactLocation { name: "a".into(), source: weights, pinned: None, aliases: vec![], path: None };
    world.artifacts.insert(
        "orion".into(),
        Artifact {
            name: "orion".into(),
            digest: Some(format!("sha256:{}", "5c1e0b7d".repeat(8))),
            manifest: Manifest::Path(".weightlock/manifest.json".into()),
            content: Default::default(),
            signature: None,
            locations: vec![location],
            permitted: ["inference".to_owned()].into(),
            producers: vec![],
            frozen: false,
            effort: None,
            contact: "weights-team@example.com".into(),
        },
    );
    let name = ClaimName::new("serving", "scratch");
    let claim = Claim { volume: Some("pv-scratch".into()), bound: true, ..Claim::default() };
    world.claims.insert(name.clone(), claim);
    let key = Ok(BackendKey::csi("ebs.csi.aws.com", "vol-2"));
    world.volumes.insert("pv-scratch".into(), Volume { key, claim: Some(name) });
    world
}

/// What is answered to a binding, or another request, with the pod and these objects stored.
async fn answer(path: &str, request: &Value, world: World, cluster: kube::Client) -> Value {
    let limits = Limits { deadline: Duration::from_secs(60), concurrency: 4 };
    answer_within(limits, path, request, world, cluster).await
}

async fn answer_within(limits: Limits, path: &str, request: &Value, world: World, cluster: kube::Client) -> Value {
    let (index, fresh) = (Index::fixed(world), Fresh::new(cluster));
    let state = WebhookState::new(index, fresh, Decider::default(), limits, WebhookMetrics::default());
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    post(&router(Arc::new(state)), path, review.to_string()).await.1["response"].clone()
}

fn binding(resource: &str, subresource: Option<&str>) -> Value {
    json!({
        "uid": "u-1", "operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "Binding"},
        "resource": {"group": "", "version": "v1", "resource": resource}, "subResource": subresource,
        "namespace": "serving", "name": "nb", "userInfo": {"username": "system:kube-scheduler"},
        "object": {"metadata": {"name": "nb", "namespace": "serving"}, "target": {"kind": "Node", "name": "n1"}},
    })
}

fn stored(pod: Value, mut objects: Vec<(&'static str, Value)>) -> kube::Client {
    objects.push((POD, pod));
    cluster_of(objects, Duration::ZERO)
}

#[track_caller]
fn refused(answer: &Value, says: &[&str]) {
    assert_eq!(answer["allowed"], json!(false), "{answer}");
    let text = answer["status"]["message"].as_str().unwrap();
    for part in says {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[tokio::test]
async fn a_pod_is_placed_by_what_its_claims_are_now() {
    for (resource, subresource) in [("pods", Some("binding")), ("bindings", None)] {
        let binding = binding(resource, subresource);
        for account in ["vllm", "default"] {
            let good = answer(BIND, &binding, world(), stored(pod(account), scratch())).await;
            assert_eq!(good, json!({"uid": "u-1", "allowed": true}), "{account}");
        }
        let stranger = answer(BIND, &binding, world(), stored(pod("default"), weights())).await;
        refused(&stranger, &["in Pod serving/nb", "[WL-102]", "[WL-301]", "WeightArtifact \"orion\""]);
        refused(&answer(BIND, &binding, world(), stored(pod("vllm"), weights())).await, &["[WL-301]"]);
    }
}

#[tokio::test]
async fn a_claim_that_is_gone_or_unbound_places_no_pod() {
    let binding = binding("pods", Some("binding"));
    refused(
        &answer(BIND, &binding, world(), stored(pod("vllm"), vec![])).await,
        &["[WL-111]", "[WL-117]", "does not exist"],
    );
    let mut unbound = scratch();
    unbound[0].1["spec"] = json!({});
    refused(&answer(BIND, &binding, world(), stored(pod("vllm"), unbound)).await, &["[WL-117]", "is not bound"]);
    let mut going = scratch();
    going[0].1["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    refused(&answer(BIND, &binding, world(), stored(pod("vllm"), going)).await, &["[WL-117]", "is being deleted"]);
}

/// The watch of namespaces may be behind those of claims and volumes.
#[tokio::test]
async fn a_namespace_that_was_made_again_is_seen_when_a_pod_is_placed() {
    let binding = binding("pods", Some("binding"));
    let again = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "serving", "uid": "uid-new"}});
    let mut objects = weights();
    objects.push((NAMESPACE, again));
    refused(&answer(BIND, &binding, world(), stored(pod("vllm"), objects)).await, &["[WL-103]", "uid-new"]);
}

#[tokio::test]
async fn without_an_answer_of_the_api_server_no_pod_is_placed() {
    let binding = binding("pods", Some("binding"));
    let says =
        ["[WL-901] a pod is placed on a node only after its claims were read again", "the scheduler tries again"];
    let gone = answer(BIND, &binding, world(), cluster_of(scratch(), Duration::ZERO)).await;
    refused(&gone, &[says[0], says[1], "Pod \"nb\" does not exist"]);
    let broken =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "etcd is away", "code": 500});
    let failed = answer(BIND, &binding, world(), stored(broken.clone(), scratch())).await;
    refused(&failed, &[says[0], "Pod \"nb\" cannot be read", "etcd is away"]);
    let half = stored(pod("vllm"), vec![(CLAIM, broken)]);
    refused(
        &answer(BIND, &binding, world(), half).await,
        &[says[0], "PersistentVolumeClaim \"scratch\" cannot be read"],
    );
    let limits = Limits { deadline: Duration::from_millis(100), concurrency: 4 };
    let slow = cluster_of(vec![(POD, pod("vllm"))], Duration::from_secs(5));
    refused(&answer_within(limits, BIND, &binding, world(), slow).await, &[says[0], "did not answer in time"]);
    // Where an environment is in Audit an outage is not felt.
    let audited = answer(AUDIT_BIND, &binding, world(), cluster_of(vec![], Duration::ZERO)).await;
    assert_eq!(audited["allowed"], json!(true));
    assert!(audited["warnings"][0].as_str().unwrap().starts_with("[WL-901] a pod is placed"), "{audited}");
    // What the watches have not listed is not made up for by reading.
    let unsynced = World { unsynced: ["WeightArtifact"].into(), ..world() };
    refused(
        &answer(BIND, &binding, unsynced, stored(pod("vllm"), scratch())).await,
        &["[WL-901] the webhook has not yet listed WeightArtifact"],
    );
}

#[tokio::test]
async fn a_pod_that_names_its_node_is_decided_by_what_is_read_too() {
    let create = |node: Option<&str>| {
        let mut pod = pod("vllm");
        pod["spec"]["nodeName"] = json!(node);
        json!({
            "uid": "u-1", "operation": "CREATE", "kind": {"kind": "Pod"}, "resource": {"resource": "pods"},
            "namespace": "serving", "name": "nb", "userInfo": {"username": "eve"}, "object": pod,
        })
    };
    // The watches have seen another volume behind the claim.
    let placed = answer(VALIDATE, &create(Some("n1")), world(), cluster_of(weights(), Duration::ZERO)).await;
    refused(&placed, &["[WL-301]"]);
    let placed = answer(VALIDATE, &create(Some("n1")), world(), cluster_of(scratch(), Duration::ZERO)).await;
    assert_eq!(placed["allowed"], json!(true));
    // One that waits is decided by the watches alone, and again when it is placed.
    let waits = answer(VALIDATE, &create(None), world(), cluster_of(vec![], Duration::from_secs(60))).await;
    assert_eq!(waits["allowed"], json!(true));
}

#[tokio::test]
async fn a_binding_at_the_wrong_door_is_refused() {
    let binding = binding("pods", Some("binding"));
    refused(&answer(VALIDATE, &binding, world(), stored(pod("vllm"), scratch())).await, &["[WL-902]"]);
}
