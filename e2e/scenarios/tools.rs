//! The plugin `kubectl weightlock`, against a cluster.

use serde_json::json;

use crate::harness::*;

/// `check` gives the verdict of the webhook before anything is applied, and an exit code for CI.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_admission_will_say() {
    scenario("check", |s| async move {
        let (ns, _) = s.serving(&["vllm", "intern"], |_| {}).await;
        let bad = model_server(&ns, "bad", "intern", "w");
        let checked = weightlock(&["check", "-f", "-"], &bad.to_string()).await;
        assert!(!checked.ok);
        let refused = s.refused(bad).await;
        for line in checked.stdout.lines().filter(|l| l.trim_start().starts_with("[WL-")) {
            assert!(refused.contains(line.trim()), "check says {line:?}, admission says:\n{refused}");
        }
        assert_names(&checked.stdout, "WL-102", &["intern"]);
        let good = weightlock(&["check", "-f", "-"], &model_server(&ns, "good", "vllm", "w").to_string()).await;
        assert!(good.ok, "{good:?}");
    })
    .await;
}

/// `register` hashes a claim in the cluster and declares it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_declares_a_claim_from_within_the_cluster() {
    scenario("register", |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        let weights = s.weights(&ns, "w", &[("model.safetensors", b"x"), ("config.json", b"{}")]).await;
        s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        let ran = weightlock(
            &["register", "pvc/w", "-n", &ns, "--environment", &s.id, "--name", &s.id, "--contact", CONTACT],
            "",
        )
        .await;
        ran.success();
        let artifact = s.get("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await.unwrap();
        assert_eq!(artifact.data["spec"]["manifestDigest"], json!(weights.digest));
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        s.phase(&ns, "server", "Running").await;
        s.delete("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await;
    })
    .await;
}
