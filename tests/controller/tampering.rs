//! Weights that changed under a running pod: what its node says of the sidecar ends the pod, and stays.

use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weightlock::domain::world::Settings;
use weightlock::domain::{Operation, Request, User, admission};
use weightlock::index;

use super::cluster::*;

/// An artifact of this content at a directory of the share.
fn weights(name: &str, content: &str, path: &str, environment: &str) -> Value {
    let location = json!({"name": "share", "role": "Serving", "nfs": {"server": "nas.example.com", "path": path}});
    let mut artifact = artifact(name, location, &[environment]);
    let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    artifact["spec"]["manifestDigest"] = format!("sha256:{hash}").into();
    artifact
}

/// The pod as admission makes it, on a node.
fn admitted(pod: &Value, node: &str, artifact: &Value, environment: &Value) -> Value {
    let mut enforced = environment.clone();
    enforced["spec"]["modes"]["admission"] = "Enforce".into();
    let world = index::from_objects(vec![enforced, artifact.clone()], Settings::default()).unwrap();
    let request = Request {
        operation: Operation::Create,
        group: "",
        resource: "pods",
        subresource: None,
        namespace: pod["metadata"]["namespace"].as_str().unwrap(),
        name: pod["metadata"]["name"].as_str().unwrap(),
        user: User::default(),
        object: Some(pod),
        old_object: None,
    };
    let mut pod = admission::shape(&world, &request).object.expect("a shape");
    pod["spec"]["nodeName"] = node.into();
    pod
}

/// Creates a pod where admission is enforced, although no webhook answers here: while its configurations are gone. The
/// controller puts them back at once, and then after longer and longer pauses.
async fn create_unasked(client: &Client, pod: &Value) {
    let parsed: DynamicObject = serde_json::from_value(pod.clone()).unwrap();
    let pods = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &pods);
    eventually("create a pod without the webhook", async || {
        for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
            let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
            let all: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
            // Gone already is as good.
            let _ = all.delete("weightlock", &DeleteParams::default()).await;
        }
        pods.create(&PostParams::default(), &parsed).await.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
}

/// Says as the kubelet of the node that the sidecar ended with 25.
async fn report_drift(node: &str, pod: &Value, artifact: &str) {
    let message =
        format!("Drifted (exit code 25): 1 finding in WeightArtifact {artifact:?}\n[HashMismatch] \"w.bin\": x");
    let ended = json!({"exitCode": 25, "reason": "Error", "message": message, "containerID": "containerd://0",
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z"});
    let status = json!({"status": {"phase": "Running", "initContainerStatuses": [{"name": "weightlock-reverify",
        "ready": false, "restartCount": 1, "image": "", "imageID": "", "lastState": {"terminated": ended},
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods: Api<DynamicObject> = Api::namespaced_with(as_node(node).await, namespace, &resource);
    let name = pod["metadata"]["name"].as_str().unwrap();
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// The incidents of a content.
async fn incidents(client: &Client, digest: &Value) -> Vec<Value> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("weightlock.dev", "v1alpha1", "WeightIncident"));
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let all = all.list(&ListParams::default()).await.unwrap().items;
    let all = all.into_iter().map(|incident| serde_json::to_value(incident).unwrap());
    all.filter(|incident| incident["spec"]["manifestDigest"] == *digest).collect()
}

#[tokio::test]
async fn drift_deletes_the_pod_and_blocks_the_weights_under_every_name() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("drift25");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    create(&client, &node).await;
    namespace(&client, &name).await;
    let mut environment = environment(&name, &name);
    environment["spec"]["verification"] = json!({"reverifyInterval": "1h"});
    apply(&client, &environment).await;
    wait_for(&client, &environment, "Ready", "True", "Ready").await;
    let path = format!("/models/{name}");
    let artifact = weights(&name, &name, &path, &name);
    apply(&client, &artifact).await;
    wait_for(&client, &artifact, "Tampered", "False", "NoIncident").await;
    let pod = admitted(&pod(&name, "llm-0", &path), &name, &artifact, &environment);
    create(&client, &pod).await;

    // Where nothing is enforced anybody may have written it: it is told, and nothing else happens.
    report_drift(&name, &pod, &name).await;
    let told = format!("WeightArtifact {name:?} changed while pod {name}/llm-0 used it; ");
    noted(&client, "DriftReported", &format!("{told}nothing is done, since the environment does not enforce")).await;
    assert!(get(&client, &pod).await["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(incidents(&client, &artifact["spec"]["manifestDigest"]).await, [Value::Null; 0]);

    patch(&client, &environment, "weightlock-test", &json!({"spec": {"modes": {"admission": "Enforce"}}})).await;
    eventually("the statuses of pods to be protected", async || {
        let found = get(&client, &environment).await["status"]["members"][0].clone();
        if found["podStatusProtectedSince"].is_string() { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    // What was written before is as doubtful as it was; a pod that is made later is believed, once clocks that differ do
    // not matter any more.
    let older = pod;
    let pod = admitted(&super::cluster::pod(&name, "llm-1", &path), &name, &artifact, &environment);
    tokio::time::sleep(Duration::from_secs(11)).await;
    create_unasked(&client, &pod).await;
    report_drift(&name, &pod, &name).await;
    let message = wait_for(&client, &artifact, "Tampered", "True", "IncidentOpen").await;
    eventually("the pod is deleted", async || {
        match get(&client, &pod).await["metadata"]["deletionTimestamp"].is_null() {
            true => Err("it is not".into()),
            false => Ok(()),
        }
    })
    .await;
    let told = told.replace("llm-0", "llm-1");
    noted(&client, "Tampered", &format!("{told}the pod is deleted, and WeightIncident")).await;
    let found = incidents(&client, &artifact["spec"]["manifestDigest"]).await;
    let [incident] = found.as_slice() else { panic!("{found:?}") };
    let incident_name = incident["metadata"]["name"].as_str().unwrap();
    assert!(message.contains(&format!("kubectl weightlock clear {incident_name}")), "{message}");
    let spec = &incident["spec"];
    assert_eq!((&spec["reason"], &spec["artifact"]), (&json!("Tampered"), &json!(name)));
    assert_eq!((&spec["pod"]["name"], &spec["pod"]["node"]), (&json!("llm-1"), &json!(name)));
    assert!(get(&client, &older).await["metadata"]["deletionTimestamp"].is_null(), "the older pod was deleted");
    assert_eq!(spec["backendKeys"], json!([format!("v1:nfs:nas.example.com:{path}")]));
    wait_for(&client, &artifact, "Ready", "False", "Tampered").await;

    // The content elsewhere, and other content in the same place, are as tampered; the honest twin is not.
    for object in [&older, &pod, &artifact] {
        delete(&client, object).await;
    }
    eventually("the artifact is gone", async || match get(&client, &artifact).await.is_null() {
        true => Ok(()),
        false => Err("still there".into()),
    })
    .await;
    let elsewhere = weights(&format!("{name}-content"), &name, &format!("/other/{name}"), &name);
    let same_place = weights(&format!("{name}-place"), "another content", &path, &name);
    let twin = weights(&format!("{name}-twin"), &format!("{name} twin"), &format!("/twins/{name}"), &name);
    for artifact in [&elsewhere, &same_place, &twin] {
        apply(&client, artifact).await;
    }
    wait_for(&client, &elsewhere, "Tampered", "True", "IncidentOpen").await;
    wait_for(&client, &same_place, "Tampered", "True", "IncidentOpen").await;
    wait_for(&client, &twin, "Tampered", "False", "NoIncident").await;

    // A person clears it.
    delete(&client, incident).await;
    wait_for(&client, &elsewhere, "Tampered", "False", "NoIncident").await;
    wait_for(&client, &same_place, "Tampered", "False", "NoIncident").await;
    for object in [&elsewhere, &same_place, &twin, &node, &environment] {
        delete(&client, object).await;
    }
}
