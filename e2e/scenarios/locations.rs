//! Storage under another name is the same storage.

use serde_json::{Value, json};

use crate::harness::*;

/// An alias that is declared, and an NFS server that a CSI driver names, lead to the weights as their first name does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_known_under_every_declared_name_of_their_storage() {
    scenario("aliases", |s| async move {
        let (inside, outside) = (s.namespace("in", &["vllm"]).await, s.namespace("out", &["vllm"]).await);
        let weights = s.weights(&inside, "w", &[("model.safetensors", b"x")]).await;
        let server = format!("{}.example.com", s.id);
        let mut declared = artifact(&s.id, &weights, &[&s.id]);
        declared["spec"]["locations"][0]["aliases"] = json!([{"nfs": {"server": server, "path": "/models/orion"}}]);
        s.create(environment(&s.id, &inside, &["vllm"])).await.unwrap();
        s.create(declared).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;

        let mut thief = plain_pod(&outside, "thief");
        thief["spec"]["volumes"] =
            json!([{"name": "w", "nfs": {"server": server.to_uppercase(), "path": "/models//orion/"}}]);
        assert_names(&s.refused(thief.clone()).await, "WL-101", &[&s.id, CONTACT]);
        thief["spec"]["volumes"] = json!([{"name": "w", "csi": {"driver": "nfs.csi.k8s.io",
            "volumeAttributes": {"server": server, "share": "/models", "subDir": "orion"}}}]);
        assert_names(&s.refused(thief).await, "WL-101", &[&s.id, CONTACT]);
        // The handle of this driver is free text.
        assert_names(&s.refused(csi(&s.id, &outside, &server, "/models/orion")).await, "WL-112", &[&s.id, CONTACT]);
        s.create(csi(&s.id, &outside, &server, "/other")).await.unwrap();

        s.create(model_server(&inside, "server", "vllm", "w")).await.unwrap();
        s.phase(&inside, "server", "Running").await;
    })
    .await;
}

/// A volume of an NFS server by CSI, under a handle that says nothing.
fn csi(id: &str, namespace: &str, server: &str, share: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{id}-share")}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "", "claimRef": {"namespace": namespace, "name": "share"},
        "csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "anything", "volumeAttributes": {"server": server, "share": share}}}})
}
