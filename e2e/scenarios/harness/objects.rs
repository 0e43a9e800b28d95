//! Objects that scenarios declare, in the shape that a user would write them.

use serde_json::{Value, json};

use super::Weights;

/// Image of the tiny model server that maps a file of the weights directory and serves it.
pub const MODEL_SERVER: &str = "registry.invalid/e2e/model-server:1";
/// Image of the upstream test program, with a shell.
pub const AGNHOST: &str = "registry.invalid/e2e/agnhost:2.63.0";
/// Whom the artifacts of scenarios name as their contact.
pub const CONTACT: &str = "weights-team@example.com";

/// An environment that enforces everything, with one namespace and its service accounts.
pub fn environment(name: &str, namespace: &str, service_accounts: &[&str]) -> Value {
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": name},
        "spec": {
            "purpose": "Inference",
            "members": [{"namespace": namespace, "serviceAccounts": service_accounts}],
            "modes": {"admission": "Enforce", "network": "Enforce", "verification": "Enforce", "egress": "Enforce"},
        },
    })
}

/// An artifact at the claim of `weights`, permitted in `environments`.
pub fn artifact(name: &str, weights: &Weights, environments: &[&str]) -> Value {
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": name},
        "spec": {
            "type": "FineTune", "model": {"name": name, "version": "v1"},
            "manifestDigest": weights.digest, "manifest": {"inline": weights.files},
            "locations": [{"name": "serving", "role": "Serving",
                           "persistentVolumeClaim": {"namespace": weights.namespace, "name": weights.claim}}],
            "permittedEnvironments": environments.iter().map(|e| json!({"name": e})).collect::<Vec<_>>(),
            "contact": CONTACT,
        },
    })
}

/// A model server on one GPU that reads the weights behind a claim.
pub fn model_server(namespace: &str, name: &str, service_account: &str, claim: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "serviceAccountName": service_account,
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "Never",
            "containers": [{
                "name": "server", "image": MODEL_SERVER, "args": ["--dir", "/weights"],
                "resources": {"limits": {"nvidia.com/gpu": "1"}},
                "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
            }],
            "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

/// A pod that has nothing to do with weights.
pub fn plain_pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": AGNHOST, "args": ["netexec", "--http-port=8080"]}],
        },
    })
}

/// A Deployment of a pod, under its name.
pub fn deployment(pod: &Value, replicas: u32) -> Value {
    let name = &pod["metadata"]["name"];
    let labels = json!({"app": name});
    let mut spec = pod["spec"].clone();
    spec["restartPolicy"] = json!("Always");
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": pod["metadata"]["namespace"]},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}}})
}

/// Asserts that a refusal names the rule, and all the facts.
#[track_caller]
pub fn assert_names(message: &str, rule: &str, facts: &[&str]) {
    assert!(message.contains(&format!("[{rule}]")), "the rule {rule} is not named in:\n{message}");
    for fact in facts {
        assert!(message.contains(fact), "{fact:?} is not said in:\n{message}");
    }
}
