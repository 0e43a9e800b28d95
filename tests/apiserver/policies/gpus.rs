use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use serde_json::{Value, json};
use weightlock::api::WeightIndexSpec;
use weightlock::domain::world::{GpuPodsOutside, Settings};
use weightlock::render::policies::ring;

use super::fixture::{apply, fixture, pod};
use crate::harness;

fn gpu_pod(namespace: &str, resource: &str) -> Value {
    let mut pod = pod(namespace, json!([]));
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {resource: "1"}});
    pod
}

#[tokio::test]
async fn a_gpu_pod_outside_is_warned_of() {
    let (client, f) = (harness::client().await, fixture().await);
    for resource in [
        "nvidia.com/gpu",
        "nvidia.com/mig-1g.5gb",
        "amd.com/gpu",
        "gpu.intel.com/xe",
        "google.com/tpu",
        "aws.amazon.com/neuroncore",
    ] {
        let warnings = harness::warnings(&client, &gpu_pod(&f.outside, resource)).await;
        let expected =
            format!("[WL-501] container \"main\" asks for a GPU, and namespace {:?} is in no environment.", f.outside);
        assert!(warnings.iter().any(|w| w.replace("\\\"", "\"").contains(&expected)), "{resource}: {warnings:?}");
    }
    for (namespace, resource) in
        [(&f.inside, "nvidia.com/gpu"), (&f.audit, "nvidia.com/gpu"), (&f.outside, "example.com/fpga")]
    {
        let warnings = harness::warnings(&client, &gpu_pod(namespace, resource)).await;
        assert!(!warnings.iter().any(|w| w.contains("WL-501")), "{namespace} {resource}: {warnings:?}");
    }
}

#[tokio::test]
async fn an_init_container_counts() {
    let (client, f) = (harness::client().await, fixture().await);
    let mut pod = pod(&f.outside, json!([]));
    pod["spec"]["initContainers"] =
        json!([{"name": "warm", "image": "registry.invalid/x:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]);
    let warnings = harness::warnings(&client, &pod).await;
    assert!(warnings.iter().any(|w| w.contains("WL-501") && w.contains("warm")), "{warnings:?}");
}

#[tokio::test]
async fn a_gpu_without_a_request_counts() {
    let (client, f) = (harness::client().await, fixture().await);
    let variable = |name: &str, value: &str| {
        let mut pod = pod(&f.outside, json!([]));
        pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}, {"name": name, "value": value}]);
        pod
    };
    let mut from = pod(&f.outside, json!([]));
    from["spec"]["containers"][0]["env"] =
        json!([{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    let mut cdi = pod(&f.outside, json!([]));
    cdi["metadata"]["annotations"] = json!({"cdi.k8s.io/gpus": "nvidia.com/gpu=all"});
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"});
    if let Err(said) = harness::create(&client, &class).await {
        assert!(said.starts_with("409"), "{said}");
    }
    let mut classed = pod(&f.outside, json!([]));
    classed["spec"]["runtimeClassName"] = json!("nvidia");
    for (pod, says) in [
        (variable("NVIDIA_VISIBLE_DEVICES", "all"), "container \"main\" sets NVIDIA_VISIBLE_DEVICES"),
        (variable("HABANA_VISIBLE_DEVICES", "0"), "container \"main\" sets HABANA_VISIBLE_DEVICES"),
        (from, "container \"main\" sets NVIDIA_VISIBLE_DEVICES"),
        (cdi, "the pod has annotation \"cdi.k8s.io/gpus\""),
        (classed, "the pod has runtimeClassName \"nvidia\""),
    ] {
        let said = harness::eventually("the runtime class is known", async || {
            match harness::try_create(&client, &pod).await {
                Err(said) if said.contains("RuntimeClass") => Err(said),
                _ => Ok(harness::warnings(&client, &pod).await),
            }
        })
        .await;
        let expected = format!("[WL-501] {says}, which gives it GPUs without a request");
        assert!(said.iter().any(|w| w.replace("\\\"", "\"").contains(&expected)), "{expected} is not in {said:?}");
    }
    for (name, value) in
        [("NVIDIA_VISIBLE_DEVICES", "void"), ("NVIDIA_VISIBLE_DEVICES", ""), ("CUDA_VISIBLE_DEVICES", "0")]
    {
        let warnings = harness::warnings(&client, &variable(name, value)).await;
        assert!(!warnings.iter().any(|w| w.contains("WL-501")), "{name}={value}: {warnings:?}");
    }
}

#[tokio::test]
async fn a_gpu_pod_outside_is_refused_if_the_installation_says_so() {
    let (client, f) = (harness::client().await, fixture().await);
    let strict = Settings { gpu_pods_outside: GpuPodsOutside::Deny, ..Settings::default() };
    let namespace = harness::unique("wl-strict");
    harness::namespace(&client, &namespace).await;
    // Policy and binding as they are rendered, but for one namespace, so that other tests see the shared setting.
    let rendered = ring(&strict, vec![WeightIndexSpec { shards: 1, ..WeightIndexSpec::default() }], []);
    let named = Some("weightlock-pods".to_string());
    let mut policy: ValidatingAdmissionPolicy =
        rendered.policies.into_iter().find(|p| p.metadata.name == named).expect("the policy");
    let own = Some(harness::unique("weightlock-test-gpu"));
    policy.metadata.name = own.clone();
    let mut binding: ValidatingAdmissionPolicyBinding = rendered
        .bindings
        .into_iter()
        .find(|b| b.metadata.name.as_deref() == Some("weightlock-pods-0"))
        .expect("the binding");
    binding.metadata.name = own.clone();
    let spec = binding.spec.as_mut().unwrap();
    spec.policy_name = own;
    assert_eq!(spec.validation_actions.as_deref(), Some(&["Deny".to_string()][..]));
    spec.match_resources = serde_json::from_value(
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}),
    )
    .unwrap();
    apply(&client, &policy).await;
    apply(&client, &binding).await;
    harness::eventually("the strict binding is in force", async || {
        match harness::try_create(&client, &gpu_pod(&namespace, "nvidia.com/gpu")).await {
            Err(said) if said.contains("[WL-501] container \"main\" asks for a GPU") && said.starts_with("403") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    super::assert_accepted(&harness::try_create(&client, &pod(&namespace, json!([]))).await);
    super::assert_accepted(&harness::try_create(&client, &gpu_pod(&f.outside, "nvidia.com/gpu")).await);
}
