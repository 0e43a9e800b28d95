//! Who writes a template is warned of what will become of its pods.

use serde_json::{Value, json};

use super::assert_refused;
use super::fixture::{Fixture, fixture, pod};
use crate::harness;

/// Objects that make pods of this spec.
fn templates(namespace: &str, spec: &Value) -> Vec<Value> {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": spec});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let metadata = || json!({"name": harness::unique("workload"), "namespace": namespace});
    let selector = json!({"matchLabels": {"app": "x"}});
    vec![
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(), "spec": {"selector": selector, "template": template}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata(), "spec": {"selector": selector, "template": template, "serviceName": "x"}}),
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata(), "spec": {"selector": selector, "template": template}}),
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(), "spec": {"template": once}}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata(), "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": once}}}}),
    ]
}

/// What pods outside every environment are refused or warned for, and what is said of it.
fn offences(f: &Fixture) -> Vec<(Value, String)> {
    let main = |more: Value| {
        let mut container = json!({"name": "main", "image": "registry.invalid/x:1"});
        json_patch::merge(&mut container, &more);
        json!({"containers": [container]})
    };
    let weights = json!([{"name": "w", "nfs": {"server": f.nas(), "path": "/models/orion"}}]);
    vec![
        (
            json!({"containers": [{"name": "main", "image": "registry.invalid/x:1"}], "volumes": weights}),
            "[WL-101] volume \"w\" is WeightArtifact \"orion-nas\"".into(),
        ),
        (main(json!({"image": f.repository()})), "[WL-101] container \"main\" has image".into()),
        (main(json!({"securityContext": {"privileged": true}})), "[WL-114] container \"main\" is privileged".into()),
        (
            main(json!({"resources": {"limits": {"nvidia.com/gpu": "1"}}})),
            "[WL-501] container \"main\" asks for a GPU".into(),
        ),
    ]
}

fn rules(warnings: &[String]) -> Vec<String> {
    warnings.iter().map(|warning| warning.replace("\\\"", "\"")).filter(|warning| warning.contains("[WL-")).collect()
}

#[tokio::test]
async fn authors_of_templates_outside_environments_are_warned() {
    let (client, f) = (harness::client().await, fixture().await);
    let harmless = json!({"containers": [{"name": "main", "image": "registry.invalid/x:1"}], "volumes": [{"name": "c", "configMap": {"name": "c"}}]});
    for template in templates(&f.outside, &harmless) {
        assert_eq!(rules(&harness::warnings(&client, &template).await), [""; 0], "{template}");
    }
    for (spec, says) in offences(f) {
        for template in templates(&f.outside, &spec) {
            let said = rules(&harness::warnings(&client, &template).await);
            assert_eq!(said.len(), 1, "{template}: {said:?}");
            assert!(said[0].contains(&says) && said[0].contains("Remedy: "), "{says:?} is not in: {said:?}");
        }
        // There the webhook says it.
        for template in templates(&f.inside, &spec) {
            assert_eq!(rules(&harness::warnings(&client, &template).await), [""; 0], "{template}");
        }
    }
}

#[tokio::test]
async fn a_template_is_warned_of_when_its_pods_change() {
    let (client, f) = (harness::client().await, fixture().await);
    let (spec, says) = offences(f).swap_remove(0);
    let deployment = templates(&f.outside, &spec).swap_remove(0);
    harness::create(&client, &deployment).await.unwrap();
    let label = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"replicas": 3}});
    assert_eq!(rules(&harness::warnings_of_change(&client, &deployment, &label).await), [""; 0]);
    let pods = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}});
    let said = rules(&harness::warnings_of_change(&client, &deployment, &pods).await);
    assert!(said.len() == 1 && said[0].contains(&says), "{said:?}");
}

#[tokio::test]
async fn pods_of_templates_are_not_warned_of_again_and_refused_as_all_others() {
    let (client, f) = (harness::client().await, fixture().await);
    for label in ["pod-template-hash", "controller-revision-hash", "batch.kubernetes.io/controller-uid"] {
        let mut gpu = pod(&f.outside, json!([]));
        gpu["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
        assert_eq!(rules(&harness::warnings(&client, &gpu).await).len(), 1);
        gpu["metadata"]["labels"] = json!({label: "x"});
        assert_eq!(rules(&harness::warnings(&client, &gpu).await), [""; 0], "{label}");
        let mut weights = pod(&f.outside, json!([{"name": "w", "nfs": {"server": f.nas(), "path": "/models/orion"}}]));
        weights["metadata"]["labels"] = json!({label: "x"});
        assert_refused(&harness::try_create(&client, &weights).await, &["[WL-101] volume \"w\""]);
    }
}
