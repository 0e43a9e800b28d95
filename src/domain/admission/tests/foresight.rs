//! Workloads: what their authors are told before there is a pod.

use serde_json::{Value, json};

use super::support::*;
use crate::domain::admission::foretell;

fn deployment(pod: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"metadata": {}, "spec": pod["spec"]}}})
}

#[test]
fn a_workload_that_will_not_do_is_told_the_rule_and_the_remedy() {
    let told =
        foretell(&small(), &deployment(&set(server("orion"), "/spec/serviceAccountName", json!("default"))), "serving");
    let [text] = &told[..] else { panic!("{told:?}") };
    assert!(text.starts_with("[WL-102] its pods will be refused: "), "{text}");
    assert!(text.contains("Remedy: "), "{text}");
}

#[test]
fn a_workload_that_will_do_is_told_nothing() {
    for pod in [server("orion"), ordinary("scratch")] {
        assert_eq!(foretell(&small(), &deployment(&pod), "serving"), Vec::<String>::new());
    }
    // Nor one outside every environment, nor what makes no pods, nor what has no template.
    assert_eq!(foretell(&small(), &deployment(&ordinary("scratch")), "elsewhere"), Vec::<String>::new());
    for object in
        [json!({"apiVersion": "v1", "kind": "ConfigMap"}), json!({"apiVersion": "batch/v1", "kind": "Job"}), json!(7)]
    {
        assert_eq!(foretell(&small(), &object, "serving"), Vec::<String>::new());
    }
}

#[test]
fn kinds_that_no_one_told_us_of_are_searched_for_templates() {
    let thief = set(server("orion"), "/spec/serviceAccountName", json!("default"));
    let cluster = json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "ray"},
        "spec": {"headGroupSpec": {"template": {"spec": ordinary("scratch")["spec"]}},
            "workerGroupSpecs": [{"template": {"spec": thief["spec"]}}, {"template": {"spec": thief["spec"]}}]}});
    let told = foretell(&small(), &cluster, "serving");
    assert_eq!(told.len(), 1, "one text once: {told:?}");
    assert!(told[0].starts_with("[WL-102] "), "{told:?}");
}

#[test]
fn nothing_is_told_before_the_world_is_known() {
    let mut world = small();
    world.unsynced.insert("Namespace");
    let thief = set(server("orion"), "/spec/serviceAccountName", json!("default"));
    assert_eq!(foretell(&world, &deployment(&thief), "serving"), Vec::<String>::new());
}

#[test]
fn an_inference_service_is_told_of_the_claim_it_names() {
    let service = |account: &str| {
        json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "llm", "namespace": "serving"}, "spec": {"predictor": {"serviceAccountName": account,
            "model": {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://orion/v3"}}}})
    };
    let told = foretell(&small(), &service("default"), "serving");
    assert!(told.iter().any(|text| text.starts_with("[WL-102] ")), "{told:?}");
    assert_eq!(foretell(&small(), &service("vllm"), "serving"), Vec::<String>::new());
}

#[test]
fn claims_that_a_stateful_set_makes_are_not_missing() {
    let set_of = |claim: Value| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
            "template": {"spec": ordinary("scratch")["spec"]},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}})
    };
    assert_eq!(foretell(&small(), &set_of(json!({})), "serving"), Vec::<String>::new());
    // One that would bind weights is.
    let told = foretell(&small(), &set_of(json!({"volumeName": "pv-orion"})), "lab");
    assert!(told.iter().any(|text| text.starts_with("[WL-101] ")), "{told:?}");
}
