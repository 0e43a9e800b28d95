//! What the weights are: their format, the layout of their directory, and weights that arrive by download.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::harness::*;

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const VOLUME: &str = "kserve-provision-location";

/// A file in the format safetensors.
fn safetensors() -> Vec<u8> {
    let header = r#"{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), b"1234"].concat()
}

/// The message of the verifier of a pod that it stopped.
pub async fn stopped(s: &Stage, namespace: &str, pod: &str, exit_code: i64) -> String {
    let pod = s.phase(namespace, pod, "Failed").await;
    let statuses = pod.data["status"]["initContainerStatuses"].as_array().unwrap();
    let verifier = statuses.iter().find(|status| status["name"] == "weightlock-verify").unwrap();
    let ended = &verifier["state"]["terminated"];
    assert_eq!(ended["exitCode"], exit_code, "{ended}");
    text(&ended["message"])
}

/// A pickle under the name of safetensors, pinned by its digest, and the honest twin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pickle_is_stopped_where_safetensors_are_allowed() {
    scenario("formats", |s| async move {
        let ns = s.inference().await;
        let pickle: &[u8] = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
        for (role, content) in [("good", safetensors()), ("bad", pickle.to_vec())] {
            let files = [("config.json", b"{}".as_slice()), ("model.safetensors", content.as_slice())];
            let weights = s.weights(&ns, role, &files).await;
            let mut artifact = artifact(&format!("{}-{role}", s.id), &weights, &[&s.id]);
            artifact["spec"]["formats"] = json!(["Safetensors"]);
            s.create(artifact).await.unwrap();
            s.condition("WeightArtifact", &format!("{}-{role}", s.id), "Ready", "True").await;
            s.create(model_server(&ns, role, "vllm", role)).await.unwrap();
        }
        s.phase(&ns, "good", "Running").await;
        let message = stopped(&s, &ns, "bad", 24).await;
        assert!(message.contains("\"model.safetensors\": it is Pickle; allowed: Safetensors"), "{message}");
    })
    .await;
}

/// One revision of a cache with its links runs; with a link that leads out of the repository it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hugging_face_cache_runs_until_a_link_leads_out() {
    scenario("cache", |s| async move {
        let ns = s.inference().await;
        let model = safetensors();
        let mut weights = s.weights(&ns, "w", &[("model.safetensors", &model)]).await;
        // The files that were listed are those of the snapshot; on disk they are a cache.
        let repository = weights.host_dir.join("hub/models--org--orion");
        let snapshot = repository.join("snapshots").join(REVISION);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repository.join("blobs")).unwrap();
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        std::fs::write(repository.join("refs/main"), REVISION).unwrap();
        std::fs::rename(weights.host_dir.join("model.safetensors"), repository.join("blobs/aa")).unwrap();
        symlink("../../blobs/aa", snapshot.join("model.safetensors")).unwrap();
        weights.claim = "w".into();
        let mut artifact = artifact(&s.id, &weights, &[&s.id]);
        artifact["spec"]["layout"] = json!("HuggingFaceCache");
        artifact["spec"]["revision"] = json!(REVISION);
        artifact["spec"]["locations"][0]["path"] = json!("hub/models--org--orion");
        s.create(artifact).await.unwrap();
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        s.create(model_server(&ns, "good", "vllm", "w")).await.unwrap();
        s.phase(&ns, "good", "Running").await;

        std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
        symlink("/etc/passwd", snapshot.join("model.safetensors")).unwrap();
        s.create(model_server(&ns, "bad", "vllm", "w")).await.unwrap();
        let message = stopped(&s, &ns, "bad", 26).await;
        assert!(message.contains("[LinkOutside]"), "{message}");
    })
    .await;
}

/// A pod in which an init container writes a text into an emptyDir, as KServe's storage-initializer would.
fn predictor(ns: &str, name: &str, artifact: &str, content: &str) -> Value {
    let mut pod = model_server(ns, name, "vllm", "unused");
    pod["metadata"]["annotations"] = json!({format!("weights.weightlock.dev/{VOLUME}"): artifact});
    pod["spec"]["volumes"] = json!([{"name": VOLUME, "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": VOLUME, "mountPath": "/weights", "readOnly": true}]);
    pod["spec"]["initContainers"] = json!([{
        "name": "storage-initializer", "image": AGNHOST,
        "command": ["/bin/sh", "-c", format!("printf %s {content} > /mnt/models/model.safetensors")],
        "securityContext": {"runAsUser": 1000},
        "volumeMounts": [{"name": VOLUME, "mountPath": "/mnt/models"}],
    }]);
    pod
}

/// A download runs if it is what the digest says; anything else is stopped, or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_is_verified_before_it_is_read() {
    scenario("download", |s| async move {
        let downloads = |env: &mut Value| env["spec"]["delivery"] = json!({"download": {"images": [AGNHOST]}});
        // The artifact that `serving` declares is one file, model.safetensors, with the content "x".
        let (ns, _) = s.serving(&["vllm"], downloads).await;
        s.create(predictor(&ns, "good", &s.id, "x")).await.unwrap();
        let made = s.phase(&ns, "good", "Running").await;
        let inits = made.data["spec"]["initContainers"].as_array().unwrap();
        let names: Vec<_> = inits.iter().map(|c| text(&c["name"])).collect();
        assert_eq!(names, ["storage-initializer", "weightlock-verify"]);

        s.create(predictor(&ns, "bad", &s.id, "y")).await.unwrap();
        let message = stopped(&s, &ns, "bad", 20).await;
        assert!(message.contains("[HashMismatch] \"model.safetensors\""), "{message}");

        let message = s.refused(predictor(&ns, "unknown", "no-such-artifact", "x")).await;
        assert_names(&message, "WL-311", &["no-such-artifact", "is no WeightArtifact"]);
        let mut undeclared = predictor(&ns, "undeclared", &s.id, "x");
        undeclared["metadata"]["annotations"] = json!({});
        let message = s.refused(undeclared).await;
        assert_names(&message, "WL-312", &["storage-initializer", "of which is declared what it receives"]);
    })
    .await;
}

/// Declares the manifest of weights in two WeightManifest objects.
async fn declare_manifest(s: &Stage, name: &str, weights: &Weights) {
    let canonical = json!({"files": weights.files, "version": 1}).to_string();
    let (first, second) = canonical.split_at(canonical.len() / 2);
    for (number, slice) in [first, second].into_iter().enumerate() {
        s.create(json!({
            "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightManifest",
            "metadata": {"name": format!("{name}-{number}")},
            "spec": {"manifest": name, "shard": number, "shards": 2, "data": slice},
        }))
        .await
        .unwrap();
    }
}

/// Weights whose volume is mounted read-only and holds no manifest run if they are what WeightManifests list, and not if a
/// byte differs; while the WeightManifests are not what the digest pins, nothing starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_in_objects_is_brought_to_the_verifier() {
    scenario("manifest", |s| async move {
        let ns = s.inference().await;
        let model = safetensors();
        let declared = |role: &str, weights: &Weights| {
            let name = format!("{}-{role}", s.id);
            let mut artifact = artifact(&name, weights, &[&s.id]);
            artifact["spec"]["manifest"] = json!({"object": {"name": name, "shards": 2}});
            artifact
        };
        let server = |role: &str| {
            let mut pod = model_server(&ns, role, "vllm", role);
            pod["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = json!(true);
            pod
        };
        // Of another content each: the digests must differ, or one brings what the other waits for.
        let good = s.weights(&ns, "good", &[("config.json", b"{}"), ("model.safetensors", &model)]).await;
        let bad = s.weights(&ns, "bad", &[("config.json", b"[]"), ("model.safetensors", &model)]).await;
        let other = s.weights(&ns, "other", &[("config.json", b"[1]"), ("model.safetensors", &model)]).await;
        std::fs::write(bad.host_dir.join("config.json"), b"[ ").unwrap();
        declare_manifest(&s, &format!("{}-good", s.id), &good).await;
        declare_manifest(&s, &format!("{}-bad", s.id), &bad).await;
        let wrong = format!("{}-other", s.id);
        declare_manifest(&s, &wrong, &bad).await;
        for (role, weights) in [("good", &good), ("bad", &bad), ("other", &other)] {
            s.create(declared(role, weights)).await.unwrap();
        }
        s.condition("WeightArtifact", &format!("{}-good", s.id), "Ready", "True").await;
        s.condition("WeightArtifact", &format!("{}-bad", s.id), "Ready", "True").await;
        let (reason, message) = s.condition("WeightArtifact", &wrong, "ManifestBrought", "False").await;
        assert_eq!(reason, "ManifestMismatch", "{message}");
        assert!(message.contains(&format!("is {}, not manifestDigest", bad.digest)), "{message}");
        s.create(server("other")).await.unwrap();
        s.create(server("good")).await.unwrap();
        s.create(server("bad")).await.unwrap();
        s.phase(&ns, "good", "Running").await;
        let message = stopped(&s, &ns, "bad", 20).await;
        assert!(message.contains("[HashMismatch] \"config.json\""), "{message}");
        let waiting = s.get("v1", "Pod", Some(&ns), "other").await.unwrap();
        assert_eq!(waiting.data["status"]["phase"], "Pending", "{}", waiting.data["status"]);
        assert!(waiting.data["status"]["initContainerStatuses"][0]["state"]["waiting"].is_object());

        for number in 0..2 {
            s.delete("weightlock.dev/v1alpha1", "WeightManifest", None, &format!("{wrong}-{number}")).await;
        }
        declare_manifest(&s, &wrong, &other).await;
        s.condition("WeightArtifact", &wrong, "ManifestBrought", "True").await;
        s.phase(&ns, "other", "Running").await;
    })
    .await;
}
