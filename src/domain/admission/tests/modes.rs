//! WL-5xx, WL-9xx, Audit, and the text of a refusal.

use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::admission::{decide, denial_text, shape};
use crate::domain::request::Operation;
use crate::domain::world::{GpuPodsOutside, World};

#[test]
fn wl_501_gpu_pods_outside_environments() {
    let with = |setting| {
        let mut world = small();
        world.settings.gpu_pods_outside = setting;
        world
    };
    let pod = set(server("x"), "/spec/volumes/0", json!({"name": "w", "emptyDir": {}}));
    passes(&admit(&with(GpuPodsOutside::Allow), "research", &pod));
    let warned = admit(&with(GpuPodsOutside::Warn), "research", &pod);
    assert!(warned.allowed());
    assert!(
        warned.warnings[0]
            .starts_with("[WL-501] container \"vllm\" asks for \"nvidia.com/gpu\" in namespace \"research\"")
    );
    refused(&admit(&with(GpuPodsOutside::Deny), "research", &pod), &["WL-501"], "belongs to no environment");
    passes(&admit(&with(GpuPodsOutside::Deny), "serving", &pod));
    let mut none = pod;
    none["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    passes(&admit(&with(GpuPodsOutside::Deny), "research", &none));
}

#[test]
fn wl_501_a_gpu_without_a_request_counts() {
    let mut world = small();
    world.settings.gpu_pods_outside = GpuPodsOutside::Deny;
    let variable = |name: &str, value: Value| {
        set(ordinary("scratch"), "/spec/containers/0/env", json!([{"name": name, "value": value}]))
    };
    let from = json!([{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    let cdi = json!({"cdi.k8s.io/gpus": "nvidia.com/gpu=all"});
    for (pod, fact) in [
        (
            variable("NVIDIA_VISIBLE_DEVICES", json!("all")),
            "container \"vllm\" sets NVIDIA_VISIBLE_DEVICES, which gives it GPUs",
        ),
        (variable("AMD_VISIBLE_DEVICES", json!("0")), "sets AMD_VISIBLE_DEVICES"),
        (set(ordinary("scratch"), "/spec/containers/0/env", from), "sets NVIDIA_VISIBLE_DEVICES"),
        (
            set(ordinary("scratch"), "/spec/runtimeClassName", json!("nvidia")),
            "the pod has runtimeClassName \"nvidia\"",
        ),
        (set(ordinary("scratch"), "/metadata/annotations", cdi), "the pod has annotation \"cdi.k8s.io/gpus\""),
    ] {
        refused(&admit(&world, "research", &pod), &["WL-501"], fact);
    }
    let pod = variable("NVIDIA_VISIBLE_DEVICES", json!("all"));
    world.settings.node_agents.insert("research/default".parse().unwrap());
    let as_agent = set(pod, "/spec/serviceAccountName", json!("default"));
    passes(&admit(&world, "research", &as_agent));
    world.settings.node_agents.clear();
    for pod in [
        variable("NVIDIA_VISIBLE_DEVICES", json!("void")),
        variable("NVIDIA_VISIBLE_DEVICES", json!("")),
        variable("VISIBLE_DEVICES", json!("all")),
        set(ordinary("scratch"), "/spec/runtimeClassName", json!("runc")),
    ] {
        passes(&admit(&world, "research", &pod));
    }
    world.settings.gpu_runtime_classes.insert("runc".into());
    let classed = set(ordinary("scratch"), "/spec/runtimeClassName", json!("runc"));
    refused(&admit(&world, "research", &classed), &["WL-501"], "runtimeClassName \"runc\"");
    world.settings.gpu_runtime_classes.clear();
    // In an environment such a pod reads registered artifacts only, like any other with a GPU.
    refused(
        &admit(&small(), "serving", &variable("NVIDIA_VISIBLE_DEVICES", json!("all"))),
        &["WL-120", "WL-121"],
        "a pod that asks for a GPU",
    );
}

#[test]
fn what_counts_as_a_gpu() {
    let mut world = small();
    world.settings.gpu_pods_outside = GpuPodsOutside::Deny;
    world.settings.gpu_resources.insert("example.com/npu".into());
    let asks = |list: &str, resource: &str, amount: Value| {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {list: {resource: amount}}}]}});
        !judge(&world, "research", &pod).allowed()
    };
    for resource in [
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/mig-1g.5gb",
        "amd.com/gpu",
        "gpu.intel.com/i915",
        "google.com/tpu",
        "aws.amazon.com/neuroncore",
        "habana.ai/gaudi",
        "example.com/npu",
    ] {
        assert!(asks("limits", resource, json!("1")) && asks("requests", resource, json!(1)), "{resource}");
        assert!(!asks("limits", resource, json!("0")) && !asks("limits", resource, json!(0)), "{resource}");
    }
    for resource in ["cpu", "example.com/fpga", "nvidia.com/nic"] {
        assert!(!asks("limits", resource, json!("1")), "{resource}");
    }
    // Of a ResourceClaim it cannot be told: in an environment it counts, outside the setting is for what is known.
    let claims = set(ordinary("scratch"), "/spec/resourceClaims", json!([{"name": "gpu"}]));
    passes(&judge(&world, "research", &set(claims.clone(), "/spec/volumes", json!([]))));
    assert_eq!(ids(&judge(&world, "serving", &claims)), ["WL-120", "WL-121"]);
}

#[test]
fn wl_901_nothing_is_decided_before_everything_was_listed() {
    let mut world = small();
    world.unsynced.insert("persistentvolumes");
    let pod = server("orion");
    refused(&judge(&world, "serving", &pod), &["WL-901"], "the first listing of persistentvolumes has not arrived");
    for (operation, subresource) in [(Operation::Update, None), (Operation::Connect, Some("exec"))] {
        let decision = decide(&world, &request(operation, "pods", subresource, "serving", Some(&pod), Some(&pod)));
        refused(&decision, &["WL-901"], "has not arrived");
    }
    assert_eq!(shape(&world, &creation("serving", &pod)).object, None);
    passes(&decide(&world, &request(Operation::Delete, "pods", None, "serving", None, Some(&pod))));
}

#[test]
fn wl_902_objects_that_cannot_be_read() {
    let malformed = |pod: Value, fact: &str| refused(&judge(&small(), "serving", &pod), &["WL-902"], fact);
    malformed(json!(7), "the pod is not an object");
    malformed(json!({"spec": {}}), "spec.containers has no container");
    malformed(json!({"spec": {"containers": {}}}), "spec.containers is not a list");
    malformed(set(server("orion"), "/spec/containers/0/name", json!(1)), "spec.containers[0].name is not a string");
    malformed(
        set(server("orion"), "/spec/containers/0/securityContext/privileged", json!("yes")),
        "privileged is not a boolean",
    );
    malformed(
        set(server("orion"), "/spec/containers/0/volumeMounts/0/readOnly", json!("true")),
        "readOnly is not a boolean",
    );
    malformed(set(server("orion"), "/spec/hostNetwork", json!(1)), "spec.hostNetwork is not a boolean");
    malformed(set(server("orion"), "/spec/volumes", json!(vec![json!({"name": "v"}); 600])), "has more than 512 items");
    let missing = decide(&small(), &request(Operation::Create, "pods", None, "serving", None, None));
    refused(&missing, &["WL-902"], "lacks the object");
    let half = decide(&small(), &request(Operation::Update, "pods", None, "serving", Some(&server("orion")), None));
    refused(&half, &["WL-902"], "lacks the object or the old object");
    passes(&admit(&small(), "serving", &set(server("orion"), "/spec/hostNetwork", Value::Null)));
}

#[test]
fn audit_says_what_enforce_would_refuse() {
    let audit = |verification| {
        with_environment(|e| {
            e.modes.admission = Mode::Audit;
            e.modes.verification = verification;
        })
    };
    for mode in [Mode::Audit, Mode::Enforce] {
        // What the mutation would have put right is no finding.
        passes(&admit(&audit(mode), "serving", &server("orion")));
        let decision = admit(&audit(mode), "serving", &set(server("orion"), "/spec/hostNetwork", json!(true)));
        assert!(decision.allowed());
        assert_eq!(decision.warnings.len(), 1, "{:?}", decision.warnings);
        assert!(decision.warnings[0].starts_with("[WL-201] the pod uses the network namespace of its node"));
        assert!(decision.warnings[0].contains("Remedy: remove spec.hostNetwork."));
        refused(&judge(&audit(mode), "serving", &json!({"spec": 1})), &["WL-902"], "");
    }
    let world: World = audit(Mode::Enforce);
    let exec = decide(&world, &request(Operation::Connect, "pods", Some("exec"), "serving", None, None));
    assert!(exec.allowed() && exec.warnings[0].starts_with("[WL-403]"), "{exec:?}");
}

#[test]
fn a_refusal_says_everything_at_once() {
    let pod = set(ordinary("stolen"), "/spec/containers/0/securityContext/privileged", json!(true));
    let decision = admit(&small(), "research", &pod);
    assert_eq!(
        denial_text("Pod", "research", "notebook-1", &decision),
        "2 violations of model-weight segmentation in Pod research/notebook-1:\n\
         [WL-101] volume \"w\" is WeightArtifact \"orion\" (PVC \"stolen\" -> v1:csi:ebs.csi.aws.com:vol-1), not permitted in namespace \"research\" (no environment).\n         \
         Remedy: run in one of: inference (namespace serving); or ask weights-team@example.com.\n\
         [WL-204] container \"vllm\" is privileged; a pod that holds weights may not be.\n         \
         Remedy: remove securityContext.privileged.\n\
         Check before you apply: kubectl weightlock check -f pod.yaml        Rules: docs/rules.md#wl-101"
    );
    let exec = decide(&small(), &request(Operation::Connect, "pods", Some("exec"), "serving", None, None));
    let text = denial_text("Pod", "serving", "", &exec);
    assert!(text.starts_with("1 violation of model-weight segmentation in Pod serving/(new):\n[WL-403]"), "{text}");
    assert!(text.ends_with("Rules: docs/rules.md#wl-403") && !text.contains("check -f"), "{text}");
}

#[test]
fn hostile_names_do_not_break_the_text() {
    let name = format!("x\n[WL-000] forged \u{1b}[31m{}", "a".repeat(100_000));
    let pod = set(
        set(server("orion"), "/spec/containers/0/name", json!(name)),
        "/spec/containers/0/securityContext/privileged",
        json!(true),
    );
    let text = denial_text("Pod", "serving", "p", &admit(&small(), "serving", &pod));
    assert!(text.len() < 4_000, "{}", text.len());
    assert!(!text.contains("\n[WL-000]") && !text.contains('\u{1b}'), "{text}");
}
