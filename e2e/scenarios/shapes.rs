//! What in-tree plugins, meshes and policies do to pods passes.

use serde_json::{Value, json};

use crate::harness::*;

/// A namespace with everything that shapes pods: the restricted level, a LimitRange, an automounted token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restricted_level_limit_range_and_token_pass() {
    scenario("restricted", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        s.patch("v1", "Namespace", None, &ns, json!({"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}}}))
            .await
            .unwrap();
        s.create(json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "defaults", "namespace": ns},
            "spec": {"limits": [{"type": "Container", "default": {"cpu": "500m", "memory": "128Mi"}, "defaultRequest": {"cpu": "50m", "memory": "32Mi"}}]}}))
            .await
            .unwrap();
        // The level itself still bites.
        let refused = s.refused(model_server(&ns, "lax", "vllm", "w")).await;
        assert!(refused.contains("PodSecurity"), "{refused}");
        let mut pod = model_server(&ns, "strict", "vllm", "w");
        pod["spec"]["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
        pod["spec"]["containers"][0]["securityContext"] = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        s.create(pod).await.unwrap();
        let pod = s.phase(&ns, "strict", "Running").await;
        let mounts = pod.data["spec"]["containers"][0]["volumeMounts"].to_string();
        assert!(mounts.contains("serviceaccount"), "the token was not mounted, so this shows nothing: {mounts}");
    })
    .await;
}

/// A Guaranteed pod stays Guaranteed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guaranteed_gpu_pod_stays_guaranteed() {
    scenario("guaranteed", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        let mut pod = model_server(&ns, "guaranteed", "vllm", "w");
        let amount = json!({"cpu": "100m", "memory": "96Mi", "nvidia.com/gpu": "1"});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
        s.create(pod).await.unwrap();
        let pod = s.phase(&ns, "guaranteed", "Running").await;
        assert_eq!(pod.data["status"]["qosClass"], "Guaranteed");
    })
    .await;
}

/// A trusted init container runs ahead of the verifier, as long as it mounts no weights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_init_container_runs_first_without_weights() {
    scenario("trusted", |s| async move {
        let trusting = |env: &mut Value| env["spec"]["workloads"] = json!({"trustedInit": ["registry.invalid/e2e/"]});
        let (ns, _) = s.serving(&["vllm"], trusting).await;
        let mut pod = model_server(&ns, "mesh", "vllm", "w");
        pod["spec"]["initContainers"] =
            json!([{"name": "mesh-init", "image": AGNHOST, "command": ["/bin/sh", "-c", "true"]}]);
        s.create(pod.clone()).await.unwrap();
        let made = s.phase(&ns, "mesh", "Running").await;
        let names: Vec<_> =
            made.data["spec"]["initContainers"].as_array().unwrap().iter().map(|c| text(&c["name"])).collect();
        assert_eq!(names, ["mesh-init", "weightlock-verify"]);
        // With the weights mounted it is put behind the verifier.
        pod["metadata"]["name"] = json!("greedy");
        pod["spec"]["initContainers"][0]["volumeMounts"] = json!([{"name": "weights", "mountPath": "/w"}]);
        s.create(pod).await.unwrap();
        let made = s.get("v1", "Pod", Some(&ns), "greedy").await.unwrap();
        assert_eq!(made.data["spec"]["initContainers"][0]["name"], "weightlock-verify");
    })
    .await;
}

/// A Deployment's pods are decided as pods, and its update goes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_of_model_servers_rolls() {
    scenario("deployment", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        let mut template = model_server(&ns, "x", "vllm", "w");
        template["spec"]["restartPolicy"] = json!("Always");
        s.create(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "server", "namespace": ns},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}},
                     "template": {"metadata": {"labels": {"app": "x"}}, "spec": template["spec"]}}}),
        )
        .await
        .unwrap();
        kubectl(&["rollout", "status", "-n", &ns, "deployment/server", "--timeout=50s"]).await.success();
        kubectl(&["rollout", "restart", "-n", &ns, "deployment/server"]).await.success();
        kubectl(&["rollout", "status", "-n", &ns, "deployment/server", "--timeout=50s"]).await.success();
        // The same with a forbidden field never gets a pod, and the ReplicaSet says why.
        s.patch(
            "apps/v1",
            "Deployment",
            Some(&ns),
            "server",
            json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}),
        )
        .await
        .unwrap();
        eventually("the refusal in the ReplicaSet's events", SOON, || async {
            let events = kubectl(&["get", "events", "-n", &ns, "-o", "json"]).await.success();
            if events.contains("WL-201") { Ok(()) } else { Err("no event names WL-201".to_string()) }
        })
        .await;
    })
    .await;
}
