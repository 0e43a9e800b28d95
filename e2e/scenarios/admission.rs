//! Where weights may be mounted, and by whom.

use serde_json::{Value, json};

use crate::harness::*;

/// The main job: the pod outside is refused, the one inside is verified, then runs on a GPU.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_run_where_they_are_permitted_and_nowhere_else() {
    scenario("permitted", |s| async move {
        let (inside, outside) = (s.namespace("in", &["vllm"]).await, s.namespace("out", &["vllm"]).await);
        let weights = s.weights(&inside, "w", &[("model.safetensors", b"the weights"), ("config.json", b"{}")]).await;
        s.create(environment(&s.id, &inside, &["vllm"])).await.unwrap();
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;

        // A second volume over the same directory, for a claim of another namespace.
        let copy = format!("{}-copy", s.id);
        let message = s.volume(&copy, &weights.node_path, Some((&outside, "w"))).await.unwrap_err().to_string();
        assert_names(&message, "WL-112", &[&s.id, CONTACT]);
        // The same by its parent directory, and by a hostPath in the pod itself.
        let message = s.volume(&copy, NODE_DIR, Some((&outside, "w"))).await.unwrap_err().to_string();
        assert_names(&message, "WL-112", &[&s.id]);
        let mut thief = model_server(&outside, "thief", "vllm", "w");
        thief["spec"]["volumes"][0] = json!({"name": "weights", "hostPath": {"path": weights.node_path}});
        assert_names(&s.refused(thief).await, "WL-101", &[&s.id]);
        // A claim that names the registered volume.
        let message = s.claim(&outside, "w", &weights.volume).await.unwrap_err().to_string();
        assert_names(&message, "WL-112", &[&s.id]);

        s.create(model_server(&inside, "server", "vllm", "w")).await.unwrap();
        let pod = s.phase(&inside, "server", "Running").await;
        let init = &pod.data["status"]["initContainerStatuses"][0];
        assert_eq!(init["name"], "weightlock-verify");
        assert_eq!(init["state"]["terminated"]["exitCode"], 0, "{init}");
        assert_eq!(pod.data["spec"]["containers"][0]["volumeMounts"][0]["readOnly"], true);
        let (_, message) = s.condition("WeightArtifact", &s.id, "Verified", "True").await;
        assert!(!message.is_empty());

        // Unrelated work outside is not touched.
        s.create(plain_pod(&outside, "plain")).await.unwrap();
        let plain = s.phase(&outside, "plain", "Running").await;
        assert!(plain.data["spec"]["initContainers"].is_null());
    })
    .await;
}

/// The service account is part of who the environment is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_service_account_of_the_namespace_is_refused() {
    scenario("account", |s| async move {
        let (ns, _) = s.serving(&["vllm", "intern"], |_| {}).await;
        let message = s.refused(model_server(&ns, "borrowed", "intern", "w")).await;
        assert_names(&message, "WL-102", &["intern", &s.id, "vllm", CONTACT]);
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        s.phase(&ns, "server", "Running").await;
    })
    .await;
}

/// An environment that the artifact does not list, although the namespace is a member of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_environment_is_refused_through_its_own_claim() {
    scenario("other-env", |s| async move {
        let (serving, research) = (s.namespace("serving", &["vllm"]).await, s.namespace("research", &["vllm"]).await);
        let weights = s.weights(&serving, "w", &[("model.safetensors", b"x")]).await;
        // The claim in research leads to the same bytes and is older than the artifact.
        let volume = format!("{}-old", s.id);
        s.volume(&volume, &weights.node_path, Some((&research, "scratch"))).await.unwrap();
        s.claim(&research, "scratch", &volume).await.unwrap();
        let (env, other) = (format!("{}-serving", s.id), format!("{}-research", s.id));
        s.create(environment(&env, &serving, &["vllm"])).await.unwrap();
        s.create(environment(&other, &research, &["vllm"])).await.unwrap();
        s.create(artifact(&s.id, &weights, &[&env])).await.unwrap();
        s.condition("WeightEnvironment", &env, "Ready", "True").await;
        s.condition("WeightEnvironment", &other, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        let message = s.refused(model_server(&research, "notebook", "vllm", "scratch")).await;
        assert_names(&message, "WL-101", &["scratch", &s.id, &env, CONTACT]);
        s.create(model_server(&serving, "server", "vllm", "w")).await.unwrap();
        s.phase(&serving, "server", "Running").await;
    })
    .await;
}

/// A denial says everything at once, with 403, and the command that checks it before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_lists_every_violation_at_once() {
    scenario("all-at-once", |s| async move {
        let (ns, _) = s.serving(&["vllm", "intern"], |_| {}).await;
        let mut pod = model_server(&ns, "bad", "intern", "w");
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["containers"][0]["securityContext"] =
            json!({"privileged": true, "capabilities": {"add": ["NET_ADMIN"]}, "seccompProfile": {"type": "Unconfined"}});
        let message = s.refused(pod).await;
        for rule in ["WL-102", "WL-201", "WL-204", "WL-205", "WL-206"] {
            assert_names(&message, rule, &[]);
        }
        assert!(message.contains("Remedy:") && message.contains("kubectl weightlock check"), "{message}");
        s.create(model_server(&ns, "good", "vllm", "w")).await.unwrap();
        s.phase(&ns, "good", "Running").await;
    })
    .await;
}

/// A GPU pod may mount registered weights; what nobody registered is refused inside, and warned of outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gpu_pods_mount_only_registered_artifacts() {
    scenario("gpu", |s| async move {
        let (inside, outside) = (s.namespace("in", &["vllm"]).await, s.namespace("out", &[]).await);
        let unknown = s.weights(&inside, "unknown", &[("model.safetensors", b"?")]).await;
        s.create(environment(&s.id, &inside, &["vllm"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        for resource in ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb"] {
            let mut pod = model_server(&inside, "gpu", "vllm", &unknown.claim);
            pod["spec"]["containers"][0]["resources"] = json!({"limits": {resource: "1"}});
            assert_names(&s.refused(pod).await, "WL-120", &["unknown"]);
        }
        // Without a GPU the same claim is ordinary storage.
        let mut pod = model_server(&inside, "plain", "vllm", &unknown.claim);
        pod["spec"]["containers"][0].as_object_mut().unwrap().remove("resources");
        s.create(pod).await.unwrap();
        s.phase(&inside, "plain", "Running").await;
        // Outside: a warning, and the GPU reaches the container.
        let mut pod = plain_pod(&outside, "gpu");
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
        let ran = kubectl_with(&["create", "-f", "-"], &pod.to_string()).await;
        assert!(ran.stderr.contains("WL-501"), "no warning: {ran:?}");
        ran.success();
        s.phase(&outside, "gpu", "Running").await;
        let env = kubectl(&["exec", "-n", &outside, "gpu", "--", "/bin/sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"])
            .await
            .success();
        assert!(env.contains("GPU-"), "no device in the container's environment: {env}");
    })
    .await;
}

/// A GPU that no scheduler gave counts like one that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gpu_without_a_request_counts() {
    scenario("gpu-unasked", |s| async move {
        let (inside, outside) = (s.inference().await, s.namespace("out", &[]).await);
        let unknown = s.weights(&inside, "unknown", &[("model.safetensors", b"?")]).await;
        let with = |namespace: &str, name: &str, devices: &str| {
            let mut pod = plain_pod(namespace, name);
            pod["spec"]["containers"][0]["env"] = json!([{"name": "NVIDIA_VISIBLE_DEVICES", "value": devices}]);
            pod
        };
        let reading = |name: &str, devices: &str| {
            let mut pod = with(&inside, name, devices);
            pod["spec"]["serviceAccountName"] = json!("vllm");
            pod["spec"]["volumes"] =
                json!([{"name": "w", "persistentVolumeClaim": {"claimName": unknown.claim, "readOnly": true}}]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "w", "mountPath": "/w", "readOnly": true}]);
            pod
        };
        assert_names(&s.refused(reading("gpu", "all")).await, "WL-120", &["unknown", "asks for a GPU"]);
        s.create(reading("plain", "void")).await.unwrap();
        s.phase(&inside, "plain", "Running").await;
        for (devices, warned) in [("all", true), ("void", false)] {
            let pod = with(&outside, &format!("gpu-{devices}"), devices).to_string();
            let ran = kubectl_with(&["create", "--dry-run=server", "-f", "-"], &pod).await;
            assert_eq!(ran.stderr.contains("WL-501"), warned, "{devices}: {ran:?}");
            ran.success();
        }
    })
    .await;
}

/// A volume type that Weightlock does not know is refused inside an environment and ignored outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_out_through_a_writable_volume_is_closed() {
    scenario("way-out", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        let dump = s.weights(&ns, "dump", &[]).await;
        let mut pod = model_server(&ns, "copier", "vllm", "w");
        pod["spec"]["volumes"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "dump", "persistentVolumeClaim": {"claimName": dump.claim}}));
        pod["spec"]["containers"][0]["volumeMounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "dump", "mountPath": "/dump"}));
        assert_names(&s.refused(pod.clone()).await, "WL-121", &["dump"]);
        // The same pod with scratch space of its own instead runs.
        pod["spec"]["volumes"][1] = json!({"name": "dump", "emptyDir": {"sizeLimit": "16Mi"}});
        s.create(pod).await.unwrap();
        s.phase(&ns, "copier", "Running").await;
    })
    .await;
}

/// Audit changes nothing and says what Enforce would have said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_warns_with_the_same_text_and_changes_nothing() {
    scenario("audit", |s| async move {
        let ns = s.namespace("in", &["vllm", "intern"]).await;
        let weights = s.weights(&ns, "w", &[("model.safetensors", b"x")]).await;
        let mut env = environment(&s.id, &ns, &["vllm"]);
        env["spec"]["modes"] = json!({"admission": "Audit", "network": "Audit", "verification": "Audit", "egress": "Audit"});
        s.create(env).await.unwrap();
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Accepted", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        assert!(s.list("networking.k8s.io/v1", "NetworkPolicy", Some(&ns)).await.is_empty());
        let mut pod = model_server(&ns, "audited", "intern", "w");
        pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        let ran = kubectl_with(&["create", "-f", "-"], &pod.to_string()).await;
        assert!(ran.stderr.contains("WL-102") && ran.stderr.contains("WL-204"), "not said: {ran:?}");
        ran.success();
        let pod = s.phase(&ns, "audited", "Running").await;
        assert!(pod.data["spec"]["initContainers"].is_null());
        assert!(pod.data["spec"]["containers"][0]["volumeMounts"][0]["readOnly"].is_null());
        eventually("an event on the pod with the text of the refusal", SOON, || async {
            let events = kubectl(&["get", "events", "-n", &ns, "-o", "json"]).await.success();
            if events.contains("WouldBeRefused") && events.contains("WL-102") { Ok(()) } else { Err("no such event".to_string()) }
        })
        .await;
        // Before the first Enforce, impact says which running pods it would refuse, and why.
        let impact = weightlock(&["impact", "--environment", &s.id], "").await;
        assert!(!impact.ok, "{impact:?}");
        assert_names(&impact.stdout, "WL-102", &["audited", "intern"]);
        assert!(impact.stdout.contains("1 of 1 running pods"), "{}", impact.stdout);
        // Enforce, with nothing else changed, refuses the next one.
        s.patch("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id,
            json!({"spec": {"modes": {"admission": "Enforce", "network": "Enforce", "verification": "Enforce", "egress": "Enforce"}}}))
            .await
            .unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        assert_names(&s.refused(model_server(&ns, "refused", "intern", "w")).await, "WL-102", &["intern"]);
    })
    .await;
}

/// GitOps applies in any order: what is missing is a condition, and heals when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_may_come_later() {
    scenario("order", |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        let files: &[(&str, &[u8])] = &[("model.safetensors", b"x")];
        let weights = Weights {
            namespace: ns.clone(),
            claim: "w".into(),
            volume: String::new(),
            node_path: String::new(),
            host_dir: Default::default(),
            digest: format!("sha256:{}", "0".repeat(64)),
            files: vec![json!({"path": "model.safetensors", "size": 1, "sha256": "0".repeat(64)})],
        };
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        let (_, message) = s.condition("WeightArtifact", &s.id, "LocationsResolved", "False").await;
        assert!(message.contains(&format!("{ns}/w")), "the missing claim is not named: {message}");
        s.weights(&ns, "w", files).await;
        s.condition("WeightArtifact", &s.id, "LocationsResolved", "True").await;
        let (reason, message) = s.condition("WeightArtifact", &s.id, "Ready", "False").await;
        assert_eq!(reason, "EnvironmentMissing", "{message}");
        assert!(message.contains(&s.id), "the missing environment is not named: {message}");
        s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
    })
    .await;
}

/// A device in use is reached by a claim with adminAccess: whoever makes one is warned (refused with `nodeAccess: Enforce`). Other claims
/// are nobody's business.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_devices_in_use_are_warned_of() {
    scenario("devices", |s| async move {
        let outside = s.namespace("out", &[]).await;
        // Kubernetes lets only namespaces with this label ask for it at all.
        kubectl(&["label", "namespace", &outside, "resource.kubernetes.io/admin-access=true"]).await.success();
        let claim = |name: &str, access: bool| {
            let exactly = json!({"deviceClassName": "nic.example.com", "adminAccess": access});
            json!({
                "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"namespace": outside, "name": name},
                "spec": {"devices": {"requests": [{"name": "spy", "exactly": exactly}]}},
            })
        };
        let make = async |claim: Value| kubectl_with(&["create", "-f", "-"], &claim.to_string()).await;
        let spied = make(claim("spy", true)).await;
        assert!(spied.ok && spied.stderr.contains("[WL-502] device request \"spy\""), "{spied:?}");
        let plain = make(claim("plain", false)).await;
        assert!(plain.ok && !plain.stderr.contains("WL-"), "{plain:?}");
    })
    .await;
}

/// Kubernetes takes a claim for the volume that a pod made for itself by its name and its owner, which whoever may edit claims can
/// write afterwards. A claim of weights is given to no pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_weights_is_given_to_no_pod() {
    scenario("given", |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        let weights = s.weights(&ns, "model-weights", &[("model.safetensors", b"x")]).await;
        s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
        s.create(artifact(&s.id, &weights, &[&s.id])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.condition("WeightArtifact", &s.id, "Ready", "True").await;
        let mut thief = plain_pod(&ns, "model");
        let template = json!({"accessModes": ["ReadWriteMany"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}});
        thief["spec"]["volumes"] = json!([{"name": "weights", "ephemeral": {"volumeClaimTemplate": {"spec": template}}}]);
        // Now that there is such a claim, the webhook sees what the pod would get.
        assert_names(&s.refused(thief).await, "WL-102", &["model-weights"]);
        let owner = |controller: bool| {
            let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "model", "controller": controller,
                "uid": "00000000-0000-4000-8000-000000000000"});
            json!({"metadata": {"ownerReferences": [owner]}}).to_string()
        };
        let give = async |controller: bool| {
            let patch = owner(controller);
            kubectl(&["patch", "pvc", "-n", &ns, "model-weights", "--type=merge", "--dry-run=server", "-p", &patch]).await
        };
        assert_names(&give(true).await.failure(), "WL-112", &["model-weights", "given to Pod"]);
        give(false).await.success();
        s.create(model_server(&ns, "server", "vllm", "model-weights")).await.unwrap();
        s.phase(&ns, "server", "Running").await;
    })
    .await;
}
