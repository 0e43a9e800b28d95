//! Artifacts: locations that are resolved and pinned, pods that hold weights.

use serde_json::json;

use super::cluster::*;

#[tokio::test]
async fn a_claim_is_pending_then_pinned_and_stays_pinned_without_the_claim() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("pin");
    ready_environment(&client, &name).await;
    let location =
        json!({"name": "serving", "role": "Serving", "persistentVolumeClaim": {"namespace": name, "name": "w"}});
    let artifact = artifact(&name, location, &[&name, "not-there"]);
    apply(&client, &artifact).await;
    let message = wait_for(&client, &artifact, "LocationsResolved", "False", "Pending").await;
    assert!(message.contains(&format!("claim {name}/w does not exist yet")), "{message}");

    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": name, "name": "w"},
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": name}},
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": name, "name": "w"},
        "spec": {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    create(&client, &volume).await;
    create(&client, &claim).await;
    wait_for(&client, &artifact, "LocationsResolved", "True", "Resolved").await;
    let key = format!("v1:csi:ebs.csi.aws.com:{name}");
    assert_eq!(get(&client, &artifact).await["status"]["locations"][0]["backendKey"], key.as_str());
    let message = wait_for(&client, &artifact, "Ready", "False", "EnvironmentMissing").await;
    assert!(message.contains("do not exist: not-there."), "{message}");

    delete(&client, &claim).await;
    eventually("the claim is missed and the key stays", async || {
        let location = get(&client, &artifact).await["status"]["locations"][0].clone();
        let problem = location["problem"].as_str().unwrap_or_default();
        match location["backendKey"] == key.as_str()
            && problem.ends_with("the storage it was pinned to stays protected")
        {
            true => Ok(()),
            false => Err(location.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn pods_that_hold_weights_are_counted_and_keep_the_artifact() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("hold");
    ready_environment(&client, &name).await;
    let location = json!({"name": "share", "role": "Primary", "nfs": {"server": "NAS.example.com", "path": format!("/models/{name}/")}});
    let artifact = artifact(&name, location, &[&name]);
    apply(&client, &artifact).await;
    // A mount of a directory within the location is a mount of the artifact.
    let pod = pod(&name, "reader", &format!("/models/{name}/v3"));
    create(&client, &pod).await;
    eventually("the pod is counted", async || {
        let consumers = get(&client, &artifact).await["status"]["consumers"].clone();
        if consumers == json!({"pods": 1, "verified": 0}) { Ok(()) } else { Err(consumers.to_string()) }
    })
    .await;
    let message = condition(&client, &artifact, "Verified").await;
    assert_eq!((message["status"].as_str(), message["reason"].as_str()), (Some("Unknown"), Some("NotVerifiedYet")));

    delete(&client, &artifact).await;
    let message = wait_for(&client, &artifact, "Ready", "False", "WaitingForPods").await;
    assert!(message.contains(&format!("is left: {name}/reader.")), "{message}");
    delete(&client, &pod).await;
    eventually("the artifact is gone", async || match get(&client, &artifact).await.is_null() {
        true => Ok(()),
        false => Err("still there".into()),
    })
    .await;
}

#[tokio::test]
async fn a_verifier_that_failed_is_told_in_events_and_in_status() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("verify");
    ready_environment(&client, &name).await;
    let path = format!("/models/{name}");
    let location = json!({"name": "share", "role": "Primary", "nfs": {"server": "nas.example.com", "path": path}});
    let artifact = artifact(&name, location, &[&name]);
    apply(&client, &artifact).await;
    let mut pod = pod(&name, "llm-0", &path);
    pod["spec"]["initContainers"] = json!([{
        "name": "weightlock-verify", "image": weightlock::domain::world::Settings::default().verifier_image,
        "args": ["--artifact", name, "--digest", format!("sha256:{}", "1".repeat(64)), "--root", "/weightlock/0", "--manifest", "m.json"],
    }]);
    create(&client, &pod).await;
    report(
        &client,
        &name,
        20,
        &format!("Refused (exit code 20): 1 finding in WeightArtifact {name:?}\nw.bin: content differs"),
    )
    .await;
    let message = wait_for(&client, &artifact, "Verified", "False", "VerificationFailed").await;
    assert!(message.contains("w.bin: content differs"), "{message}");
    for namespace in [name.as_str(), "default"] {
        eventually("an event tells it", async || told(&client, namespace, &name, "VerificationFailed").await).await;
    }
    report(&client, &name, 0, "").await;
    let message = wait_for(&client, &artifact, "Verified", "True", "ReportedByKubelet").await;
    assert!(message.contains("as kubelets reported it"), "{message}");
    eventually("an event tells it", async || told(&client, &name, &name, "VerificationSucceeded").await).await;
}

/// Says what a kubelet would say when the verifier of pod `llm-0` ended.
async fn report(client: &kube::Client, namespace: &str, exit_code: i32, message: &str) {
    use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
    let pods: kube::Api<Pod> = kube::Api::namespaced(client.clone(), namespace);
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap().to_string();
    let ended = json!({"exitCode": exit_code, "reason": "Error", "message": message, "finishedAt": now, "startedAt": now,
        "containerID": "containerd://0"});
    let status = json!({"status": {"phase": "Pending", "initContainerStatuses": [{"name": "weightlock-verify", "ready": false,
        "restartCount": 0, "image": "", "imageID": "", "state": {"terminated": ended}}]}});
    let params = kube::api::PatchParams::default();
    pods.patch_status("llm-0", &params, &kube::api::Patch::Merge(status)).await.unwrap();
}

async fn told(client: &kube::Client, namespace: &str, artifact: &str, reason: &str) -> Result<(), String> {
    use k8s_openapi::api::events::v1::Event;
    let events: kube::Api<Event> = kube::Api::namespaced(client.clone(), namespace);
    let events = events.list(&Default::default()).await.map_err(|error| error.to_string())?.items;
    let matching = events.iter().filter(|event| {
        event.reason.as_deref() == Some(reason)
            && event
                .note
                .as_deref()
                .is_some_and(|note| note.starts_with(&format!("WeightArtifact {artifact:?} in pod")))
    });
    match matching.count() {
        1 => Ok(()),
        n => Err(format!("{n} events {reason} in {namespace}")),
    }
}
