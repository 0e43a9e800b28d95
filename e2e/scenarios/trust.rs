//! Weights that are made, sealed, changed while they are used, and cleared.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

/// An open artifact at the claim of `weights`, made in `environment` by service account `trainer`.
fn open(name: &str, weights: &Weights, environment: &str) -> Value {
    let mut artifact = artifact(name, weights, &[environment]);
    let spec = artifact["spec"].as_object_mut().unwrap();
    spec.remove("manifestDigest");
    spec.remove("manifest");
    spec.insert("producers".into(), json!([{"environment": environment, "serviceAccounts": ["trainer"]}]));
    artifact
}

/// A job's pod that runs a shell line, with claims mounted under their names.
fn job(namespace: &str, name: &str, account: &str, line: &str, claims: &[(&str, bool)]) -> Value {
    let mounts: Vec<Value> = claims
        .iter()
        .map(|(claim, read_only)| json!({"name": claim, "mountPath": format!("/{claim}"), "readOnly": read_only}))
        .collect();
    let volumes: Vec<Value> =
        claims.iter().map(|(claim, _)| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "serviceAccountName": account, "terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
            "containers": [{"name": "job", "image": AGNHOST, "command": ["/bin/sh", "-c", line],
                "securityContext": {"runAsUser": 0}, "volumeMounts": mounts}],
            "volumes": volumes,
        },
    })
}

/// A training environment with an open artifact at claim `out`, and everything in force.
async fn training(s: &Stage) -> (String, Weights) {
    let ns = s.namespace("in", &["trainer", "viewer"]).await;
    let out = s.weights(&ns, "out", &[]).await;
    s.create(environment(&s.id, &ns, &["trainer", "viewer"])).await.unwrap();
    s.create(open(&s.id, &out, &s.id)).await.unwrap();
    s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
    s.condition("WeightArtifact", &s.id, "Ready", "True").await;
    (ns, out)
}

/// A training job writes checkpoints; nobody else reads or writes them before they are sealed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_training_job_writes_checkpoints() {
    scenario("train", |s| async move {
        let (ns, out) = training(&s).await;
        let (reason, _) = s.condition("WeightArtifact", &s.id, "Sealed", "False").await;
        assert_eq!(reason, "Open");
        let line = "echo step-1 > /out/checkpoint-1 && echo step-2 > /out/checkpoint-2";
        s.create(job(&ns, "train", "trainer", line, &[("out", false)])).await.unwrap();
        s.phase(&ns, "train", "Succeeded").await;
        assert_eq!(std::fs::read_to_string(out.host_dir.join("checkpoint-2")).unwrap(), "step-2\n");

        let message = s.refused(job(&ns, "read", "viewer", "cat /out/*", &[("out", true)])).await;
        assert_names(&message, "WL-104", &["only its producers may mount it", "trainer", "kubectl weightlock seal"]);
        let message = s.refused(job(&ns, "write", "viewer", "rm /out/*", &[("out", false)])).await;
        assert_names(&message, "WL-306", &["this pod is none of its producers"]);
        // Outside of the environment the API server itself refuses the storage.
        let outside = s.namespace("out", &[]).await;
        let copy = format!("{}-copy", s.id);
        let refused = s.volume(&copy, &out.node_path, Some((&outside, "w"))).await.unwrap_err().to_string();
        assert!(refused.contains("[WL-112]"), "{refused}");
    })
    .await;
}

/// A job reads one artifact, verified and read-only, and makes another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fine_tuning_job_reads_one_artifact_and_makes_another() {
    scenario("tune", |s| async move {
        let (ns, out) = training(&s).await;
        let base = s.weights(&ns, "base", &[("model.safetensors", b"the base")]).await;
        let name = format!("{}-base", s.id);
        s.create(artifact(&name, &base, &[&s.id])).await.unwrap();
        s.condition("WeightArtifact", &name, "Ready", "True").await;
        let line = "cp /base/model.safetensors /out/tuned && ! echo x > /base/model.safetensors";
        s.create(job(&ns, "tune", "trainer", line, &[("base", false), ("out", false)])).await.unwrap();
        let pod = s.phase(&ns, "tune", "Succeeded").await;
        assert_eq!(pod.data["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
        assert_eq!(std::fs::read(out.host_dir.join("tuned")).unwrap(), b"the base");
        assert_eq!(std::fs::read(base.host_dir.join("model.safetensors")).unwrap(), b"the base");
        // Other bytes as the base: the job does not begin.
        std::fs::write(base.host_dir.join("model.safetensors"), b"the Base").unwrap();
        s.create(job(&ns, "again", "trainer", line, &[("base", false), ("out", false)])).await.unwrap();
        let pod = s.phase(&ns, "again", "Failed").await;
        assert_eq!(pod.data["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 20);
    })
    .await;
}

/// `seal` waits for nobody: it names the writer. Once there is none it seals, and then there is none any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_ends_all_writing() {
    scenario("seal", |s| async move {
        let (ns, out) = training(&s).await;
        let line = "echo weights > /out/model.safetensors && sleep 600";
        s.create(job(&ns, "train", "trainer", line, &[("out", false)])).await.unwrap();
        s.phase(&ns, "train", "Running").await;
        let said = weightlock(&["seal", &s.id, "--run-as-user", "0"], "").await.failure();
        assert!(said.contains(&format!("pod {ns}/train: container \"job\" (volume \"out\")")), "{said}");
        assert!(said.contains("Wait until they have ended, or delete them"), "{said}");

        s.delete("v1", "Pod", Some(&ns), "train").await;
        let sealed = async || weightlock(&["seal", &s.id, "--run-as-user", "0"], "").await;
        eventually("the artifact to be sealed", SOON, || async {
            let ran = sealed().await;
            if ran.ok { Ok(()) } else { Err(ran.stderr) }
        })
        .await;
        let artifact = s.get("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await.unwrap();
        let spec = &artifact.data["spec"];
        assert!(spec["manifestDigest"].is_string() && spec["writes"].is_null(), "{spec}");
        assert_eq!(spec["manifest"]["inline"][0]["path"], "model.safetensors");
        s.condition("WeightArtifact", &s.id, "Sealed", "True").await;

        // The same job again: its producers write no more than others.
        let message = s.refused(job(&ns, "more", "trainer", line, &[("out", false)])).await;
        assert_names(&message, "WL-306", &["is sealed: nobody writes it any more"]);
        let message = s.refused(job(&ns, "late", "trainer", "true", &[("out", false)])).await;
        assert_names(&message, "WL-306", &["write to another volume"]);
        // To read it is what it was made for.
        s.create(job(&ns, "read", "trainer", "cat /out/model.safetensors", &[("out", true)])).await.unwrap();
        s.phase(&ns, "read", "Succeeded").await;
        assert_eq!(std::fs::read(out.host_dir.join("model.safetensors")).unwrap(), b"weights\n");
        let said = weightlock(&["seal", &s.id], "").await.failure();
        assert!(said.contains("is sealed already"), "{said}");
    })
    .await;
}

/// While it is sealed, no new writer comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_artifact_has_no_new_writer() {
    scenario("frozen", |s| async move {
        let (ns, _) = training(&s).await;
        let freeze = |writes: Value| json!({"spec": {"writes": writes}});
        s.patch("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id, freeze(json!("Frozen"))).await.unwrap();
        let (reason, _) = s.condition("WeightArtifact", &s.id, "Sealed", "False").await;
        assert_eq!(reason, "Frozen");
        let message = s.refused(job(&ns, "train", "trainer", "true", &[("out", false)])).await;
        assert_names(&message, "WL-306", &["is being sealed (spec.writes: Frozen)"]);
        s.patch("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id, freeze(Value::Null)).await.unwrap();
        eventually("the producers to write again", SOON, || async {
            s.create(job(&ns, "train", "trainer", "true", &[("out", false)])).await.map_err(|e| e.to_string())
        })
        .await;
        s.phase(&ns, "train", "Succeeded").await;
    })
    .await;
}

/// Bytes that change under a running server end it, and block the weights under every name until a person clears them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tampering_after_the_start_is_found_and_stays() {
    scenario("drift", |s| async move {
        // Content of its own: an incident blocks the digest in the whole cluster, other scenarios included.
        let content = s.id.clone().into_bytes();
        let ns = s.namespace("in", &["vllm"]).await;
        let weights = s.weights(&ns, "w", &[("model.safetensors", &content)]).await;
        let mut often = environment(&s.id, &ns, &["vllm"]);
        often["spec"]["verification"] = json!({"reverifyInterval": "2s", "maxBytesPerSecond": "100M"});
        s.create(often).await.unwrap();
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        s.protected(&s.id).await;
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        s.phase(&ns, "server", "Running").await;
        // Nothing happens to untouched weights.
        always("the server runs", Duration::from_secs(8), || async {
            let pod = s.get("v1", "Pod", Some(&ns), "server").await.map_err(|e| e.to_string())?;
            match (pod.data["status"]["phase"].as_str(), pod.metadata.deletion_timestamp) {
                (Some("Running"), None) => Ok(()),
                (phase, _) => Err(format!("{phase:?}")),
            }
        })
        .await;

        std::fs::write(weights.host_dir.join("model.safetensors"), b"y").unwrap();
        eventually("the pod to be deleted", SOON, || async {
            match s.get("v1", "Pod", Some(&ns), "server").await {
                Err(_) => Ok(()),
                Ok(pod) => Err(pod.data["status"]["initContainerStatuses"].to_string()),
            }
        })
        .await;
        let (reason, message) = s.condition("WeightArtifact", &s.id, "Tampered", "True").await;
        assert_eq!(reason, "IncidentOpen");
        let (reason, _) = s.condition("WeightArtifact", &s.id, "Ready", "False").await;
        assert_eq!(reason, "Tampered");
        let incidents = s.list("weightlock.dev/v1alpha1", "WeightIncident", None).await;
        let incident = incidents.iter().find(|i| i.data["spec"]["artifact"] == s.id.as_str()).expect("an incident");
        let name = incident.metadata.name.clone().unwrap();
        assert!(message.contains(&name), "{message}");
        assert_eq!(incident.data["spec"]["pod"]["name"], "server");

        // Restored bytes change nothing before a person says so, and neither does another name.
        std::fs::write(weights.host_dir.join("model.safetensors"), &content).unwrap();
        let refused = |name: &'static str| {
            let (s, pod) = (&s, model_server(&ns, name, "vllm", "w"));
            async move { s.refused(pod).await }
        };
        assert_names(&refused("next").await, "WL-308", &[&name, "kubectl weightlock clear"]);
        let other = format!("{}-again", s.id);
        s.create(artifact(&other, &weights, &[&s.id])).await.unwrap();
        s.delete("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await;
        s.condition("WeightArtifact", &other, "Tampered", "True").await;
        assert_names(&refused("renamed").await, "WL-308", &[&name]);

        weightlock(&["clear", &name], "").await.success();
        s.condition("WeightArtifact", &other, "Ready", "True").await;
        eventually("a server to be made", SOON, || async {
            s.create(model_server(&ns, "cleared", "vllm", "w")).await.map_err(|e| e.to_string())
        })
        .await;
        s.phase(&ns, "cleared", "Running").await;
    })
    .await;
}

/// Who may write the status of pods gains nothing by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_status_is_refused() {
    scenario("status", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        // Written by its node, the status arrives.
        s.phase(&ns, "server", "Running").await;
        let state = json!({"terminated": {"exitCode": 25, "reason": "Error", "message": "Drift"}});
        let forged =
            json!({"status": {"initContainerStatuses": [{"name": "weightlock-verify", "image": "i", "imageID": "i",
            "ready": false, "restartCount": 0, "state": state}]}})
            .to_string();
        let (status, phase) = (forged, json!({"status": {"phase": "Succeeded"}}).to_string());
        for (body, field) in [(&status, "status.initContainerStatuses"), (&phase, "status.phase")] {
            let ran =
                kubectl(&["patch", "pod", "server", "-n", &ns, "--subresource=status", "--type=merge", "-p", body])
                    .await;
            assert_names(&ran.failure(), "WL-404", &[field, "which is not its node"]);
        }
        let condition = json!({"status": {"conditions": [{"type": "example.com/warm", "status": "True"}]}}).to_string();
        kubectl(&["patch", "pod", "server", "-n", &ns, "--subresource=status", "-p", &condition]).await.success();
    })
    .await;
}

/// Two servers share a volume; a third that would write it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_share_a_volume_that_nobody_writes() {
    scenario("share", |s| async move {
        let (ns, weights) = s
            .serving(&["vllm", "writer"], |environment| {
                environment["spec"]["members"][0]["serviceAccounts"] = json!(["vllm", "writer"]);
            })
            .await;
        for name in ["one", "two"] {
            s.create(model_server(&ns, name, "vllm", "w")).await.unwrap();
            s.phase(&ns, name, "Running").await;
        }
        // Its mount is made read-only, so that what it tries fails.
        let line = "! echo x > /w/model.safetensors && ! rm /w/model.safetensors";
        s.create(job(&ns, "three", "writer", line, &[("w", false)])).await.unwrap();
        s.phase(&ns, "three", "Succeeded").await;
        assert_eq!(std::fs::read(weights.host_dir.join("model.safetensors")).unwrap(), b"x");
        // As a block device there is no read-only mount.
        let mut raw = job(&ns, "raw", "writer", "true", &[("w", false)]);
        raw["spec"]["containers"][0]["volumeDevices"] = json!([{"name": "w", "devicePath": "/dev/xvda"}]);
        raw["spec"]["containers"][0]["volumeMounts"] = json!([]);
        assert_names(&s.refused(raw).await, "WL-305", &["raw block device"]);
    })
    .await;
}

/// Between admission and start the claim is swapped for one of other bytes: the pod does not get past its verifier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_swapped_before_the_start_is_stopped() {
    scenario("swap", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        // It is admitted, and waits for a node.
        let mut pod = model_server(&ns, "server", "vllm", "w");
        pod["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
        s.create(pod).await.unwrap();
        s.delete("v1", "PersistentVolumeClaim", Some(&ns), "w").await;
        eventually("the claim to be gone", SOON, || async {
            match s.get("v1", "PersistentVolumeClaim", Some(&ns), "w").await {
                Err(_) => Ok(()),
                Ok(claim) => Err(claim.data["status"].to_string()),
            }
        })
        .await;
        let (dir, _) = s.directory("poison", &[("model.safetensors", b"poison")]).await;
        let volume = format!("{}-poison", s.id);
        s.volume(&volume, &dir, Some((&ns, "w"))).await.unwrap();
        s.claim(&ns, "w", &volume).await.unwrap();
        s.patch("v1", "Pod", Some(&ns), "server", json!({"spec": {"schedulingGates": null}})).await.unwrap();
        let pod = s.phase(&ns, "server", "Failed").await;
        let ended = &pod.data["status"]["initContainerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], 20, "{ended}");
        let server = &pod.data["status"]["containerStatuses"][0]["state"];
        assert!(server["waiting"].is_object() || server["terminated"]["startedAt"].is_null(), "{server}");
    })
    .await;
}

/// A subPath changes what the server sees, not what is verified: the whole artifact is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_path_is_a_part_of_what_was_verified() {
    scenario("subpath", |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        let weights = s.weights(&ns, "w", &[("a/model.safetensors", b"a"), ("b/model.safetensors", b"b")]).await;
        s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        let part = |name: &str, path: &str| {
            let mut pod = model_server(&ns, name, "vllm", "w");
            pod["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!(path);
            pod
        };
        s.create(part("good", "a")).await.unwrap();
        s.phase(&ns, "good", "Running").await;
        // What lies beside the artifact's files is no way in: it makes the verification fail.
        std::fs::create_dir(weights.host_dir.join("c")).unwrap();
        std::fs::write(weights.host_dir.join("c/model.safetensors"), b"poison").unwrap();
        s.create(part("bad", "c")).await.unwrap();
        let pod = s.phase(&ns, "bad", "Failed").await;
        assert_eq!(pod.data["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 21);
        // And the verifier itself takes none.
        let mut altered = part("altered", "a");
        altered["spec"]["initContainers"] = json!([{"name": "weightlock-verify", "image": AGNHOST,
            "volumeMounts": [{"name": "weights", "mountPath": "/weightlock/0", "subPath": "a", "readOnly": true}]}]);
        assert_names(&s.refused(altered).await, "WL-302", &["image"]);
    })
    .await;
}
