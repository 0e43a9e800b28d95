//! What the authors of workloads are told, whose pods are made by controllers.

use serde_json::{Value, json};

use crate::harness::*;

async fn apply(object: &Value) -> Ran {
    let ran = kubectl_with(&["apply", "-f", "-"], &object.to_string()).await;
    assert!(ran.ok, "{}", ran.stderr);
    ran
}

/// Waits until the ReplicaSet of a Deployment was refused its pods by a rule.
async fn refused_by(s: &Stage, namespace: &str, app: &str, rule: &str) {
    eventually("the ReplicaSet to have been refused", SOON, || async {
        let sets = s.list("apps/v1", "ReplicaSet", Some(namespace)).await;
        let set = sets.iter().find(|set| set.data.pointer("/spec/template/metadata/labels/app") == Some(&json!(app)));
        let conditions = set.map(|set| set.data["status"]["conditions"].to_string()).unwrap_or_default();
        if conditions.contains(rule) { Ok(()) } else { Err(conditions) }
    })
    .await;
}

/// Who applies a Deployment that mounts weights under the wrong account reads why at once; the right one reads nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_warned_of_what_its_pods_will_be_refused_for() {
    scenario("foretold", |s| async move {
        let (ns, _) = s.serving(&["vllm", "thief"], |_| {}).await;
        let wrong = deployment(&model_server(&ns, "wrong", "thief", "w"), 1);
        let told = apply(&wrong).await.stderr;
        assert_names(&told, "WL-102", &["Warning: ", "its pods will be refused", "Remedy"]);
        // Nothing but the status changes: nothing is said.
        kubectl(&["scale", "deployment", "wrong", "-n", &ns, "--replicas=2"]).await.success();
        let right = deployment(&model_server(&ns, "right", "vllm", "w"), 1);
        assert_eq!(apply(&right).await.stderr, "");
        kubectl(&["rollout", "status", "deployment/right", "-n", &ns, "--timeout=55s"]).await.success();
        // The warning was true.
        refused_by(&s, &ns, "wrong", "WL-102").await;
    })
    .await;
}

/// Outside every environment it is the API server that says it, with no webhook asked; and its pods are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_outside_is_warned_of_the_weights_that_it_mounts() {
    scenario("outside", |s| async move {
        let (_, weights) = s.serving(&["vllm"], |_| {}).await;
        s.protected(&s.id).await;
        let outside = s.namespace("out", &[]).await;
        let mut thief = plain_pod(&outside, "thief");
        thief["spec"]["volumes"] = json!([{"name": "w", "hostPath": {"path": weights.node_path}}]);
        let told = apply(&deployment(&thief, 1)).await.stderr;
        assert_names(&told, "WL-101", &["Warning: ", "volume \"w\"", &s.id, "Remedy"]);
        assert_eq!(apply(&deployment(&plain_pod(&outside, "plain"), 1)).await.stderr, "");
        kubectl(&["rollout", "status", "deployment/plain", "-n", &outside, "--timeout=55s"]).await.success();
        refused_by(&s, &outside, "thief", "WL-101").await;
    })
    .await;
}

/// A kind of its own that has pod templates somewhere in it: JobSet, served by a stand-in for its CRD.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_set_is_warned_like_a_deployment() {
    scenario("jobset", |s| async move {
        let (ns, _) = s.serving(&["vllm", "thief"], |_| {}).await;
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        s.create(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "jobsets.jobset.x-k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in"}},
            "spec": {"group": "jobset.x-k8s.io", "scope": "Namespaced",
                "names": {"kind": "JobSet", "plural": "jobsets", "singular": "jobset", "listKind": "JobSetList"},
                "versions": [{"name": "v1alpha2", "served": true, "storage": true, "schema": schema}]}}))
            .await
            .unwrap();
        let set = |name: &str, account: &str| {
            let pod = model_server(&ns, name, account, "w");
            json!({"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": name, "namespace": ns},
                "spec": {"replicatedJobs": [{"name": "workers", "template": {"spec": {"template": {"spec": pod["spec"]}}}}]}})
        };
        let told = eventually("the kind to be served", SOON, || async {
            let ran = kubectl_with(&["create", "-f", "-"], &set("wrong", "thief").to_string()).await;
            if ran.ok { Ok(ran.stderr) } else { Err(ran.stderr) }
        })
        .await;
        let right = apply(&set("right", "vllm")).await.stderr;
        s.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "jobsets.jobset.x-k8s.io").await;
        assert_names(&told, "WL-102", &["its pods will be refused"]);
        assert_eq!(right, "");
    })
    .await;
}
