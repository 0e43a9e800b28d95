//! A verifier that gets too little memory or time, or has no image: it starts nothing.

use serde_json::{Value, json};
use weightlock::verifier::finding::exit;

use crate::harness::*;

/// A model server of which the verifier has limits of its own.
fn limited(ns: &str, name: &str, cpu: &str, memory: &str) -> Value {
    let mut pod = model_server(ns, name, "vllm", "w");
    let limits = json!({"cpu": cpu, "memory": memory});
    let ours = json!({"name": "weightlock-verify", "image": verifier_image(), "resources": {"limits": limits}});
    pod["spec"]["initContainers"] = json!([ours]);
    pod
}

/// So many files with names so long, just within what a manifest may have, that the names alone, which the verifier holds
/// until the end, are 13 MB. No reclaim gets that below the limit, and runc starts within it.
const FILES: usize = 60_000;
const NAME: usize = 217;
const TOO_LITTLE: &str = "10Mi";

/// Killed for its memory, the verifier has verified nothing: the server does not start. The twin has the memory, and takes
/// longer for want of time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_that_is_killed_or_throttled_passes_nothing() {
    scenario("starved", |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        let long = "n".repeat(NAME - 7);
        let names: Vec<String> = (0..FILES).map(|number| format!("{number:06}-{long}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
        let weights = s.weights(&ns, "w", &files).await;
        // More than an artifact holds: beside the files, as `digest --write-manifest` leaves it.
        let manifest = json!({"files": weights.files, "version": 1}).to_string();
        std::fs::create_dir(weights.host_dir.join(".weightlock")).unwrap();
        std::fs::write(weights.host_dir.join(".weightlock/manifest.json"), manifest).unwrap();
        let mut declared = artifact(&s.id, &weights, &[&s.id]);
        declared["spec"]["manifest"] = json!({"path": ".weightlock/manifest.json"});
        s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
        s.create(declared).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        s.create(limited(&ns, "throttled", "200m", "64Mi")).await.unwrap();
        s.create(limited(&ns, "killed", "500m", TOO_LITTLE)).await.unwrap();

        let pod = s.phase(&ns, "killed", "Failed").await;
        let ended = &pod.data["status"]["initContainerStatuses"][0]["state"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{ended}");
        // What it wrote before it began is what remains.
        let message = text(&ended["message"]);
        assert!(message.starts_with("Undecided: the verification was ended before it was done"), "{message}");
        let server = &pod.data["status"]["containerStatuses"][0]["state"];
        assert!(server["running"].is_null() && server["terminated"]["startedAt"].is_null(), "{server}");

        let pod = s.phase(&ns, "throttled", "Running").await;
        let ended = &pod.data["status"]["initContainerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], exit::VERIFIED, "{ended}");
    })
    .await;
}

/// The image of the verifier cannot be pulled: the pod waits, and nothing else of it runs. On the other node, since a
/// kubelet pulls images one after another and an image that it failed to pull is one that it has to look for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_without_its_image_starts_nothing() {
    scenario("noimage", |s| async move {
        let (ns, weights) = s.serving(&["vllm"], |_| {}).await;
        let path = format!("{NODE_DIR}/{}-elsewhere", s.id);
        let name = format!("{}-host", s.id);
        let mut on_node = artifact(&name, &weights, &[&s.id]);
        on_node["spec"]["locations"] = json!([{"name": "node", "role": "Cache", "hostPath": {"path": path}}]);
        s.create(on_node).await.unwrap();
        s.condition("WeightArtifact", &name, "Ready", "True").await;
        let mut missing = model_server(&ns, "missing", "vllm", "w");
        let spec = &mut missing["spec"];
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": "node2"});
        spec["volumes"] = json!([{"name": "weights", "hostPath": {"path": path}}]);
        spec["containers"][0].as_object_mut().unwrap().remove("resources");
        spec["initContainers"] =
            json!([{"name": "weightlock-verify", "image": verifier_image(), "imagePullPolicy": "Always"}]);
        s.create(missing).await.unwrap();
        eventually("the image to be missed", SOON, || async {
            let pod = s.get("v1", "Pod", Some(&ns), "missing").await.map_err(|e| e.to_string())?;
            let status = &pod.data["status"];
            let waits = text(&status["initContainerStatuses"][0]["state"]["waiting"]["reason"]);
            let server = &status["containerStatuses"][0]["state"];
            assert!(server["running"].is_null() && server["terminated"].is_null(), "the server started: {server}");
            if ["ErrImagePull", "ImagePullBackOff"].contains(&waits.as_str()) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
    })
    .await;
}

/// Image of the verifier, as the installation injects it.
fn verifier_image() -> String {
    std::env::var("WEIGHTLOCK_TEST_VERIFIER_IMAGE")
        .unwrap_or_else(|_| "registry.invalid/weightlock/weightlock-verify:dev".into())
}
