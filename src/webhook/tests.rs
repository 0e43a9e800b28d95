//! The router without sockets, and TLS over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request as HttpRequest, StatusCode, Version};
use base64::Engine;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::binding_tests::cluster_of;
use super::metrics::WebhookMetrics;
use super::router::{AUDIT_VALIDATE, BODY_LIMIT, Decider, FORETELL, Limits, MUTATE, VALIDATE, WebhookState, router};
use crate::domain::admission::Shaped;
use crate::domain::rules::Rule;
use crate::domain::{Decision, Violation, World};
use crate::index::{Fresh, Index};

/// A decision on a pod named `held` has begun, and may end.
static ENTERED: AtomicBool = AtomicBool::new(false);
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Limits that a busy machine does not reach.
const PATIENT: Limits = Limits { deadline: Duration::from_secs(60), concurrency: 64 };

fn violation() -> Violation {
    Violation {
        rule: Rule::Privileged,
        fact: "container \"nb\" is privileged".into(),
        remedy: "remove securityContext.privileged.".into(),
    }
}

/// Stands in for the rules, so that the tests are about the router: pods named `bad` are refused.
fn decider() -> Decider {
    Decider {
        shape: |_, request| {
            let object = request.object.map(|o| {
                let mut o = o.clone();
                o["spec"]["shaped/by~us"] = json!([1, 2]);
                o
            });
            Shaped { object, warnings: vec![] }
        },
        decide: |_, request| match request.name {
            "bad" => Decision { violations: vec![violation()], warnings: vec![] },
            "warned" => Decision { violations: vec![], warnings: vec![violation().to_string()] },
            "slow" => {
                std::thread::sleep(Duration::from_millis(400));
                Decision::default()
            }
            "held" => {
                ENTERED.store(true, Ordering::SeqCst);
                while !RELEASED.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Decision::default()
            }
            "panics" => panic!("a defect"),
            _ => Decision::default(),
        },
        foretell: |_, object, namespace| match object["told"].as_str() {
            Some(told) => vec![format!("[WL-102] {told} in {namespace}")],
            None => vec![],
        },
    }
}

fn state_of(world: World, limits: Limits) -> (axum::Router, WebhookMetrics) {
    let metrics = WebhookMetrics::default();
    // None of these reads anything.
    let fresh = Fresh::new(cluster_of(vec![], Duration::ZERO));
    let state = WebhookState::new(Index::fixed(world), fresh, decider(), limits, metrics.clone());
    (router(Arc::new(state)), metrics)
}

fn pod_review(name: &str, object: Value) -> Vec<u8> {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "llm", "name": name,
        "userInfo": {"username": "eve"}, "object": object}})
    .to_string()
    .into_bytes()
}

pub async fn post(router: &axum::Router, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = HttpRequest::post(path).header("content-type", "application/json").body(body.into()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 26).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::String(String::from_utf8_lossy(&body).into_owned())))
}

fn usual() -> axum::Router {
    state_of(World::default(), PATIENT).0
}

#[tokio::test]
async fn a_denial_has_the_code_the_reason_and_the_text_of_the_domain() {
    let (status, answer) = post(&usual(), VALIDATE, pod_review("bad", json!({}))).await;
    assert_eq!(status, StatusCode::OK);
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(false)));
    assert_eq!((&response["status"]["code"], &response["status"]["reason"]), (&json!(403), &json!("Forbidden")));
    let expected = Decision { violations: vec![violation()], warnings: vec![] };
    let text = crate::domain::admission::denial_text("Pod", "llm", "bad", &expected);
    assert!(text.contains("[WL-204] container \"nb\" is privileged"), "{text}");
    assert_eq!(response["status"]["message"], json!(text));
    assert_eq!(response["auditAnnotations"]["rules"], json!("WL-204"));
}

#[tokio::test]
async fn what_is_good_passes_without_a_word() {
    let (status, answer) = post(&usual(), VALIDATE, pod_review("good", json!({}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
}

#[tokio::test]
async fn a_warning_passes_and_is_one_line_with_its_rule() {
    let (_, answer) = post(&usual(), VALIDATE, pod_review("warned", json!({}))).await;
    assert_eq!(answer["response"]["allowed"], json!(true));
    assert_eq!(
        answer["response"]["warnings"],
        json!(["[WL-204] container \"nb\" is privileged Remedy: remove securityContext.privileged."])
    );
    assert_eq!(answer["response"]["auditAnnotations"]["warned"], json!("WL-204"));
}

#[tokio::test]
async fn what_is_foretold_is_a_warning_and_never_a_refusal() {
    let (router, metrics) = state_of(World::default(), PATIENT);
    // `bad` is what the rules would refuse: they are not asked.
    let (_, answer) = post(&router, FORETELL, pod_review("bad", json!({"told": "no member"}))).await;
    assert_eq!(answer["response"]["allowed"], json!(true));
    assert_eq!(answer["response"]["warnings"], json!(["[WL-102] no member in llm"]));
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("foretold"), "{text}");
    let (_, answer) = post(&router, FORETELL, pod_review("bad", json!({}))).await;
    assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
}

#[tokio::test]
async fn a_patch_leads_from_the_object_to_its_shape() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
    let (_, answer) = post(&usual(), MUTATE, pod_review("p", pod.clone())).await;
    let response = &answer["response"];
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod;
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["spec"], json!({"containers": [{"name": "a"}], "shaped/by~us": [1, 2]}));
}

#[tokio::test]
async fn garbage_and_other_versions_are_refused_with_a_text_and_never_allowed() {
    let v1beta1 = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}"#;
    for path in [VALIDATE, MUTATE, AUDIT_VALIDATE] {
        for (body, text) in [
            (&b"\x00\xff not json"[..], "weightlock: the body is no AdmissionReview: expected value"),
            (b"", "weightlock: the body is no AdmissionReview: EOF while parsing"),
            (v1beta1, "version \"admission.k8s.io/v1beta1\" is not spoken here"),
        ] {
            let (status, answer) = post(&usual(), path, body.to_vec()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert_eq!(answer["kind"], "Status");
            assert!(answer["message"].as_str().unwrap().contains(text), "{answer}");
        }
    }
}

#[tokio::test]
async fn an_object_of_three_megabytes_is_decided_on() {
    let big = json!({"spec": {"containers": [{"env": [{"value": "x".repeat(3 << 20)}]}]}});
    for (name, allowed) in [("good", true), ("bad", false)] {
        let (status, answer) = post(&usual(), VALIDATE, pod_review(name, big.clone())).await;
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(allowed)));
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let (status, answer) = post(&usual(), VALIDATE, vec![b' '; BODY_LIMIT + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer["message"], "weightlock: the body is larger than 8388608 bytes");
}

#[tokio::test]
async fn deep_nesting_is_denied_as_malformed() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u-9","operation":"CREATE","resource":{{"resource":"pods"}},"namespace":"llm","name":"deep","object":{deep}}}}}"#
    );
    for path in [VALIDATE, MUTATE] {
        let (status, answer) = post(&usual(), path, body.clone()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!("u-9"), &json!(false)));
        let text = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(text.contains("[WL-902]") && text.contains("recursion limit exceeded"), "{text}");
        assert!(text.contains("in Pod llm/deep"), "{text}");
    }
}

#[tokio::test]
async fn without_a_complete_world_enforce_denies_and_audit_warns() {
    let world = || World { unsynced: ["WeightArtifact"].into(), ..World::default() };
    let (router, _) = state_of(world(), PATIENT);
    for path in [VALIDATE, MUTATE] {
        let (_, answer) = post(&router, path, pod_review("good", json!({}))).await;
        assert_eq!(answer["response"]["allowed"], json!(false));
        let text = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(text.contains("[WL-901] the webhook has not yet listed WeightArtifact"), "{text}");
    }
    let (_, answer) = post(&router, AUDIT_VALIDATE, pod_review("good", json!({}))).await;
    assert_eq!(answer["response"]["allowed"], json!(true));
    assert!(answer["response"]["warnings"][0].as_str().unwrap().starts_with("[WL-901] the webhook has not yet"));
}

#[tokio::test]
async fn a_decision_that_takes_too_long_is_a_denial() {
    let limits = Limits { deadline: Duration::from_millis(50), ..Limits::default() };
    let (router, _) = state_of(World::default(), limits);
    let (_, answer) = post(&router, VALIDATE, pod_review("slow", json!({}))).await;
    assert_eq!(answer["response"]["allowed"], json!(false));
    let text = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(text.contains("[WL-901] the decision took longer than 50 ms"), "{text}");
}

#[tokio::test]
async fn a_defect_is_an_error_and_not_an_allowance() {
    let (status, answer) = post(&usual(), VALIDATE, pod_review("panics", json!({}))).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer["status"], "Failure");
}

#[tokio::test]
async fn too_many_at_once_are_turned_away_and_counted() {
    let (router, metrics) = state_of(World::default(), Limits { concurrency: 1, ..PATIENT });
    let held = tokio::spawn({
        let router = router.clone();
        async move { post(&router, VALIDATE, pod_review("held", json!({}))).await }
    });
    while !ENTERED.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let request = HttpRequest::post(VALIDATE).body(Body::from(pod_review("good", json!({})))).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    RELEASED.store(true, Ordering::SeqCst);
    assert_eq!(held.await.unwrap().1["response"]["allowed"], json!(true));

    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(r#"weightlock_admission_requests_total{webhook="validate",verdict="shed"} 1"#), "{text}");
    assert!(text.contains(r#"weightlock_admission_duration_seconds_count{webhook="validate"} 2"#), "{text}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    assert_eq!(post(&usual(), "/", "x").await.0, StatusCode::NOT_FOUND);
    let get = HttpRequest::get(VALIDATE).body(Body::empty()).unwrap();
    assert_eq!(usual().oneshot(get).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn clients_are_asked_to_leave_once_the_end_has_begun() {
    let draining = tokio_util::sync::CancellationToken::new();
    let router = super::router::leaving(usual(), draining.clone());
    let connection = async |version| {
        let request =
            HttpRequest::post(VALIDATE).version(version).body(Body::from(pod_review("good", json!({})))).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.headers().get("connection").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(connection(Version::HTTP_11).await, None);
    draining.cancel();
    assert_eq!(connection(Version::HTTP_11).await.as_deref(), Some("close"));
    assert_eq!(connection(Version::HTTP_2).await, None);
}
