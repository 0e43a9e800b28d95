//! A pod is decided again when it is placed on a node: what happened to its claims while it waited.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::harness::*;

const GATE: &str = "example.com/wait";

/// A pod without weights that mounts a volume and waits for its gate.
fn waiting(namespace: &str, name: &str, source: Value) -> Value {
    let mut pod = plain_pod(namespace, name);
    pod["spec"]["schedulingGates"] = json!([{"name": GATE}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "d", "mountPath": "/data"}]);
    let mut volume = json!({"name": "d"});
    volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    pod["spec"]["volumes"] = json!([volume]);
    pod
}

fn of_claim(name: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": name}})
}

async fn open(s: &Stage, namespace: &str, pod: &str) {
    s.patch("v1", "Pod", Some(namespace), pod, json!({"spec": {"schedulingGates": []}})).await.unwrap();
}

/// Waits until the scheduler says of a pod that a binding was refused, by a rule.
async fn not_placed(s: &Stage, namespace: &str, pod: &str, rule: &str) {
    eventually(&format!("{pod} to be refused its node by {rule}"), SOON, || async {
        let said = |event: &DynamicObject| {
            let about = event.data["involvedObject"]["name"] == pod && event.data["reason"] == "FailedScheduling";
            about.then(|| text(&event.data["message"]))
        };
        let said: Vec<String> = s.list("v1", "Event", Some(namespace)).await.iter().filter_map(said).collect();
        if said.iter().any(|text| text.contains(&format!("[{rule}]"))) { Ok(()) } else { Err(said.join("\n")) }
    })
    .await;
    let pod = s.get("v1", "Pod", Some(namespace), pod).await.unwrap();
    assert!(pod.data["spec"]["nodeName"].is_null(), "{}", pod.data["spec"]);
}

async fn bound(s: &Stage, namespace: &str, claim: &str) {
    eventually("the claim to be bound", SOON, || async {
        let found = s.get("v1", "PersistentVolumeClaim", Some(namespace), claim).await.map_err(|e| e.to_string())?;
        if found.data["status"]["phase"] == "Bound" { Ok(()) } else { Err(found.data["status"].to_string()) }
    })
    .await;
}

/// The claim of a pod that waits is deleted, and made again with a second volume of the weights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_made_again_as_weights_places_no_pod() {
    scenario("swapped", |s| async move {
        let (ns, weights) = s.serving(&["vllm"], |_| {}).await;
        for claim in ["scratch", "other"] {
            s.weights(&ns, claim, &[("notes", b"x")]).await;
        }
        s.create(waiting(&ns, "spy", of_claim("scratch"))).await.unwrap();
        s.create(waiting(&ns, "worker", of_claim("other"))).await.unwrap();
        s.delete("v1", "PersistentVolumeClaim", Some(&ns), "scratch").await;
        eventually("the claim to be gone", SOON, || async {
            let found = s.get("v1", "PersistentVolumeClaim", Some(&ns), "scratch").await;
            if found.is_err() { Ok(()) } else { Err("it is still there".to_string()) }
        })
        .await;
        let spare = format!("{}-spare", s.id);
        s.volume(&spare, &weights.node_path, Some((&ns, "scratch"))).await.unwrap();
        s.claim(&ns, "scratch", &spare).await.unwrap();
        bound(&s, &ns, "scratch").await;
        // Whoever may bind pods himself, in the older way.
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "spy", "namespace": ns},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node1"}});
        assert_names(&s.refused(binding).await, "WL-102", &[&s.id, "default"]);
        for pod in ["spy", "worker"] {
            open(&s, &ns, pod).await;
        }
        not_placed(&s, &ns, "spy", "WL-102").await;
        s.phase(&ns, "worker", "Running").await;
        // From now on the cluster holds the claim, and nobody takes that away.
        let bare = json!({"metadata": {"finalizers": null}});
        let said = s.patch("v1", "PersistentVolumeClaim", Some(&ns), "other", bare).await.unwrap_err().to_string();
        assert_names(&said, "WL-118", &["kubernetes.io/pvc-protection"]);
        s.delete("v1", "PersistentVolumeClaim", Some(&ns), "other").await;
        let held = s.get("v1", "PersistentVolumeClaim", Some(&ns), "other").await.unwrap();
        assert!(held.metadata.deletion_timestamp.is_some());
    })
    .await;
}

/// A volume of the weights is made for a claim that a pod waits for. Beside it what a scheduler binds itself goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_weights_that_is_made_for_a_claim_places_no_pod() {
    scenario("made-for", |s| async move {
        let (ns, weights) = s.serving(&["vllm"], |_| {}).await;
        let class = format!("{}-late", s.id);
        s.create(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}))
            .await
            .unwrap();
        let spec = |class: &str| {
            json!({"accessModes": ["ReadWriteMany"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}})
        };
        for (name, class) in [("hoped-for", "nothing"), ("late", class.as_str())] {
            s.create(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": ns}, "spec": spec(class)}))
                .await
                .unwrap();
        }
        s.create(waiting(&ns, "spy", of_claim("hoped-for"))).await.unwrap();
        s.create(waiting(&ns, "worker", of_claim("late"))).await.unwrap();
        let template = json!({"ephemeral": {"volumeClaimTemplate": {"spec": spec(&class)}}});
        s.create(waiting(&ns, "scratch", template.clone())).await.unwrap();
        // A pod that names its node waits for nothing: its claim has to be bound before.
        for source in [template, of_claim("late")] {
            let mut named = waiting(&ns, "named", source);
            named["spec"].as_object_mut().unwrap().remove("schedulingGates");
            named["spec"]["nodeName"] = json!("node1");
            assert_names(&s.refused(named).await, "WL-117", &["leave out nodeName"]);
        }
        let volume = |name: &str, path: &str, class: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{}-{name}", s.id)},
                "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
                    "persistentVolumeReclaimPolicy": "Retain", "storageClassName": class, "local": {"path": path},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}]}]}}}})
        };
        s.create(volume("wanted", &weights.node_path, "nothing")).await.unwrap();
        bound(&s, &ns, "hoped-for").await;
        for name in ["free-1", "free-2"] {
            let (path, _) = s.directory(name, &[("notes", b"x")]).await;
            s.create(volume(name, &path, &class)).await.unwrap();
        }
        for pod in ["spy", "worker", "scratch"] {
            open(&s, &ns, pod).await;
        }
        not_placed(&s, &ns, "spy", "WL-102").await;
        s.phase(&ns, "worker", "Running").await;
        s.phase(&ns, "scratch", "Running").await;
    })
    .await;
}
