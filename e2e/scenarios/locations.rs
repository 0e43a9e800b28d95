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

/// A pod that is older than the declaration, in a namespace where the weights are not permitted, is named until it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_weights_elsewhere_is_named() {
    scenario("contained", |s| async move {
        let (inside, outside) = (s.namespace("in", &["vllm"]).await, s.namespace("out", &[]).await);
        let weights = s.weights(&inside, "w", &[("model.safetensors", b"x")]).await;
        let volume = format!("{}-old", s.id);
        s.volume(&volume, &weights.node_path, Some((&outside, "old"))).await.unwrap();
        s.claim(&outside, "old", &volume).await.unwrap();
        let mut old = plain_pod(&outside, "old");
        old["spec"]["volumes"] = json!([{"name": "w", "persistentVolumeClaim": {"claimName": "old"}}]);
        s.create(old).await.unwrap();
        s.phase(&outside, "old", "Running").await;
        s.create(environment(&s.id, &inside, &["vllm"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        s.create(model_server(&inside, "server", "vllm", "w")).await.unwrap();
        s.phase(&inside, "server", "Running").await;

        let (reason, message) = s.condition("WeightArtifact", &s.id, "Contained", "False").await;
        assert_eq!(reason, "HeldElsewhere");
        assert!(message.contains(&format!("pod {outside}/old")), "{message}");
        assert!(!message.contains(&format!("pod {inside}/server")), "{message}");
        s.delete("v1", "Pod", Some(&outside), "old").await;
        s.condition("WeightArtifact", &s.id, "Contained", "True").await;
    })
    .await;
}

/// An image that is registered weights is known by its repository and its digest, and none may be named by its ID then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_are_weights_run_only_where_they_are_permitted() {
    scenario("images", |s| async move {
        let (inside, outside) = (s.namespace("in", &["vllm"]).await, s.namespace("out", &[]).await);
        let weights = s.weights(&inside, "w", &[("model.safetensors", b"x")]).await;
        let (repository, digest) = (format!("registry.invalid/{}/orion", s.id), weights.digest.clone());
        let mut declared = artifact(&s.id, &weights, &[&s.id]);
        declared["spec"]["locations"][0]["aliases"] =
            json!([{"image": {"digest": digest, "repositories": [repository]}}]);
        s.create(environment(&s.id, &inside, &["vllm"])).await.unwrap();
        s.create(declared).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;

        let of = |namespace: &str, image: &str| {
            let mut pod = plain_pod(namespace, "thief");
            pod["spec"]["containers"][0]["image"] = json!(image);
            pod
        };
        let message = eventually("the policy on images to be in force", SOON, || async {
            match s.create(of(&outside, &format!("{repository}:v3"))).await {
                Err(refused) => Ok(refused.to_string()),
                Ok(_) => {
                    s.delete("v1", "Pod", Some(&outside), "thief").await;
                    Err("accepted".to_string())
                }
            }
        })
        .await;
        assert_names(&message, "WL-101", &[&s.id, CONTACT, &repository]);
        let mirrored = s.refused(of(&outside, &format!("mirror.example.com/x@{digest}"))).await;
        assert_names(&mirrored, "WL-101", &[&s.id, CONTACT]);
        assert_names(&s.refused(of(&outside, &digest)).await, "WL-115", &["an ID", "Remedy:"]);
        let mut by_tag = of(&inside, &format!("{repository}:v3"));
        by_tag["spec"]["serviceAccountName"] = json!("vllm");
        assert_names(&s.refused(by_tag).await, "WL-116", &[&s.id, "by its repository alone"]);

        s.create(plain_pod(&outside, "plain")).await.unwrap();
        s.phase(&outside, "plain", "Running").await;
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
