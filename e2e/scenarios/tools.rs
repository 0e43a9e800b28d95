//! The plugin `kubectl weightlock`, against a cluster.

use serde_json::json;

use crate::content::stopped;
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

/// What `register --manifest-object` hashes is brought to the verifier, and weights that differ are stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_keeps_a_manifest_in_objects() {
    scenario("register-object", |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        let weights = s.weights(&ns, "w", &[("model.safetensors", b"x"), ("config.json", b"{}")]).await;
        s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        let claim = ["register", "pvc/w", "-n", &ns, "--environment", &s.id, "--name", &s.id, "--contact", CONTACT];
        weightlock(&[&claim[..], &["--manifest-object", "--hash", "blake3"]].concat(), "").await.success();
        let artifact = s.get("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await.unwrap();
        assert_eq!(artifact.data["spec"]["manifest"], json!({"object": {"name": s.id, "shards": 1}}));
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        s.phase(&ns, "server", "Running").await;

        std::fs::write(weights.host_dir.join("config.json"), b"[]").unwrap();
        s.create(model_server(&ns, "late", "vllm", "w")).await.unwrap();
        let message = stopped(&s, &ns, "late", 20).await;
        assert!(message.contains("[HashMismatch] \"config.json\": blake3 is "), "{message}");
        s.delete("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await;
        s.delete("weightlock.dev/v1alpha1", "WeightManifest", None, &format!("{}-0", s.id)).await;
    })
    .await;
}

/// Who may read what pods print is asked of nobody. It is found and named, and so is the binding that lets them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_past_admission_are_named() {
    scenario("access", |s| async move {
        let (ns, elsewhere) = (s.namespace("in", &[]).await, s.namespace("out", &[]).await);
        s.create(environment(&s.id, &ns, &["*"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        for namespace in [&ns, &elsewhere] {
            s.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "readers", "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": format!("{}-devs", s.id)}]}))
                .await
                .unwrap();
        }
        let line = format!("Group {}-devs (RoleBinding {ns}/readers)", s.id);
        eventually("the readers to be named in status", SOON, || async {
            let env =
                s.get("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id).await.map_err(|e| e.to_string())?;
            let status = env.data["status"].to_string();
            if status.contains("(pods/log)") && status.contains(&line) { Ok(()) } else { Err(status) }
        })
        .await;
        let printed = weightlock(&["access", &s.id, "-o", "json"], "").await;
        let found: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
        let readers = found[&s.id]["logs"].as_array().unwrap();
        assert!(readers.contains(&json!(line)), "{readers:?}");
        assert!(!printed.stdout.contains(&elsewhere), "{}", printed.stdout);
        let unknown = weightlock(&["access", "no-such-environment"], "").await;
        assert!(!unknown.ok && unknown.stderr.contains("is no WeightEnvironment of this cluster"), "{unknown:?}");
    })
    .await;
}
