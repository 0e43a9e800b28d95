use serde_json::{Value, json};

use super::fixture::{fixture, pod};
use super::{assert_accepted, assert_refused};
use crate::harness;

/// A verifier that succeeded.
fn verdict(field: &str) -> Value {
    let state = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let status = json!({"name": "main", "image": "registry.invalid/x:1", "imageID": "i", "ready": false, "restartCount": 0, "state": state});
    json!({"status": {field: [status]}})
}

/// A pod that is on node `n1`.
async fn placed(client: &kube::Client, namespace: &str) -> Value {
    let mut made = pod(namespace, json!([]));
    made["spec"]["nodeName"] = json!("n1");
    harness::create(client, &made).await.expect("a pod")
}

#[tokio::test]
async fn only_its_node_says_what_the_containers_of_a_pod_did() {
    let (client, f) = (harness::client().await, fixture().await);
    let node = harness::somebody("system:node:n1", &["system:nodes"]).await;
    let other_node = harness::somebody("system:node:n2", &["system:nodes"]).await;
    // The name alone makes no node of anybody.
    let impostor = harness::somebody("system:node:n1", &[]).await;
    let controller = harness::somebody("system:serviceaccount:kube-system:job-controller", &[]).await;
    let pod = placed(&client, &f.inside).await;
    for field in ["initContainerStatuses", "containerStatuses"] {
        for somebody in [&client, &impostor, &controller] {
            let said = harness::merge_subresource(somebody, &pod, "status", &verdict(field)).await;
            assert_refused(&said, &[&format!("[WL-404] status.{field} of Pod"), "which is not its node", "Remedy: "]);
        }
        // Another node is refused by the API server's own NodeRestriction, too.
        assert_refused(&harness::merge_subresource(&other_node, &pod, "status", &verdict(field)).await, &["n2"]);
        assert_accepted(&harness::merge_subresource(&node, &pod, "status", &verdict(field)).await);
        // What was said cannot be taken back by others, either.
        let said = harness::merge_subresource(&client, &pod, "status", &json!({"status": {field: null}})).await;
        assert_refused(&said, &["[WL-404]"]);
    }
    harness::delete(&client, &pod).await;
}

#[tokio::test]
async fn that_a_pod_ended_is_said_by_its_node_and_the_cluster() {
    let (client, f) = (harness::client().await, fixture().await);
    let ended = json!({"status": {"phase": "Succeeded"}});
    let pod = placed(&client, &f.inside).await;
    let said = harness::merge_subresource(&client, &pod, "status", &ended).await;
    assert_refused(&said, &["[WL-404] status.phase of Pod"]);
    let collector = harness::somebody("system:serviceaccount:kube-system:pod-garbage-collector", &[]).await;
    assert_accepted(&harness::merge_subresource(&collector, &pod, "status", &ended).await);
    harness::delete(&client, &pod).await;
}

#[tokio::test]
async fn the_rest_of_a_status_is_free_and_so_are_other_namespaces() {
    let (client, f) = (harness::client().await, fixture().await);
    let gate = json!({"status": {"conditions": [{"type": "example.com/ready", "status": "True"}]}});
    let pod = placed(&client, &f.inside).await;
    assert_accepted(&harness::merge_subresource(&client, &pod, "status", &gate).await);
    harness::delete(&client, &pod).await;
    for namespace in [&f.outside, &f.audit] {
        let pod = placed(&client, namespace).await;
        let said = harness::merge_subresource(&client, &pod, "status", &verdict("containerStatuses")).await;
        assert_accepted(&said);
        harness::delete(&client, &pod).await;
    }
}

#[tokio::test]
async fn reserved_annotations_are_not_written_by_way_of_a_status() {
    let (client, f) = (harness::client().await, fixture().await);
    let node = harness::somebody("system:node:n1", &["system:nodes"]).await;
    let annotated = |annotations: Value| json!({"metadata": {"annotations": annotations}});
    let mut pod = pod(&f.inside, json!([]));
    pod["spec"]["nodeName"] = json!("n1");
    pod["metadata"]["annotations"] =
        json!({"kubernetes.io/egress-bandwidth": "10M", "weights.weightlock.dev/models": "orion"});
    let pod = harness::create(&client, &pod).await.expect("a pod");
    // Changed, taken away and added; the node has no use for them, either.
    for (key, value) in [
        ("kubernetes.io/egress-bandwidth", json!("100G")),
        ("kubernetes.io/egress-bandwidth", Value::Null),
        ("weights.weightlock.dev/models", json!("other")),
        ("weights.weightlock.dev/models", Value::Null),
        ("weights.weightlock.dev/more", json!("orion")),
    ] {
        for somebody in [&client, &node] {
            let said = harness::merge_subresource(somebody, &pod, "status", &annotated(json!({key: value}))).await;
            let said_of = format!("[WL-601] annotation {key} of Pod \"{}/", f.inside);
            assert_refused(&said, &[&said_of, "by way of its status. Remedy: "]);
        }
    }
    // Network plugins write annotations of their own with the status, and the node writes the status of such a pod.
    let network = annotated(json!({"cni.projectcalico.org/podIP": "192.0.2.1/32"}));
    assert_accepted(&harness::merge_subresource(&client, &pod, "status", &network).await);
    assert_accepted(&harness::merge_subresource(&node, &pod, "status", &verdict("containerStatuses")).await);
    harness::delete(&client, &pod).await;
}
