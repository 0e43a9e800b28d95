//! What the verifier stops before the model server starts.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::harness::*;

/// Plays one change to a copy of the weights: the pod must end in its verifier with the finding named.
async fn tampered(name: &'static str, change: fn(&std::path::Path), finding: &'static str) {
    scenario(name, |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        let weights =
            s.weights(&ns, "w", &[("model.safetensors", b"the weights"), ("shards/1.safetensors", b"more")]).await;
        s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        // The honest twin first, on the same bytes.
        s.create(model_server(&ns, "before", "vllm", "w")).await.unwrap();
        s.phase(&ns, "before", "Running").await;

        change(&weights.host_dir);
        s.create(model_server(&ns, "after", "vllm", "w")).await.unwrap();
        let pod = s.phase(&ns, "after", "Failed").await;
        let ended = &pod.data["status"]["initContainerStatuses"][0]["state"]["terminated"];
        assert_ne!(ended["exitCode"], 0);
        let message = text(&ended["message"]);
        assert!(message.contains(finding), "{finding:?} is not said in:\n{message}");
        let server = &pod.data["status"]["containerStatuses"][0]["state"];
        assert!(
            server["waiting"].is_object() || server["terminated"]["startedAt"].is_null(),
            "the server started: {server}"
        );
        // kubectl describe shows it, and the artifact adds it up.
        let described = kubectl(&["describe", "pod", "-n", &ns, "after"]).await.success();
        assert!(described.contains(finding), "{described}");
        eventually("an event of the refusal, and the artifact's status", SOON, || async {
            let artifact =
                s.get("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await.map_err(|e| e.to_string())?;
            let failure = text(&artifact.data["status"]["verifications"]["failure"]);
            let events = kubectl(&["get", "events", "-n", &ns, "-o", "json"]).await.success();
            if failure.contains(finding) && events.contains("VerificationFailed") {
                Ok(())
            } else {
                Err(format!("{}", artifact.data["status"]))
            }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_is_stopped() {
    tampered(
        "changed",
        |dir| std::fs::write(dir.join("model.safetensors"), b"the Weights").unwrap(),
        "model.safetensors",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extra_file_is_stopped() {
    tampered(
        "extra",
        |dir| std::fs::write(dir.join("shards/2.safetensors"), b"poison").unwrap(),
        "shards/2.safetensors",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_stopped() {
    tampered("missing", |dir| std::fs::remove_file(dir.join("shards/1.safetensors")).unwrap(), "shards/1.safetensors")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_place_of_a_file_is_stopped() {
    tampered(
        "link",
        |dir| {
            std::fs::rename(dir.join("model.safetensors"), dir.join("../elsewhere")).unwrap();
            symlink("../elsewhere", dir.join("model.safetensors")).unwrap();
        },
        "model.safetensors",
    )
    .await;
}

/// What a user writes in the verifier's place is not the verifier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_of_ones_own_is_refused() {
    scenario("forged", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        let mut pod = model_server(&ns, "forged", "vllm", "w");
        pod["spec"]["initContainers"] = json!([{"name": "weightlock-verify", "image": AGNHOST, "args": ["pause"]}]);
        let message = s.refused(pod).await;
        assert!(message.contains("[WL-302]") || message.contains("[WL-601]"), "{message}");
        // An init container that reads the weights before they were verified.
        let mut pod = model_server(&ns, "early", "vllm", "w");
        pod["spec"]["initContainers"] = json!([{"name": "early", "image": AGNHOST, "args": ["pause"],
            "volumeMounts": [{"name": "weights", "mountPath": "/w"}]}]);
        s.create(pod).await.unwrap();
        let pod = s.get("v1", "Pod", Some(&ns), "early").await.unwrap();
        assert_eq!(pod.data["spec"]["initContainers"][0]["name"], "weightlock-verify");
    })
    .await;
}
