use serde_json::{Value, json};

use super::*;
use crate::{domain::world::Settings, index};

const DIGEST: &str = "sha256:5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e";

fn world(admission: &str) -> World {
    let objects = vec![
        json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": "serving"}, "spec": {
            "purpose": "Inference", "members": [{"namespace": "llm", "serviceAccounts": ["vllm"]}],
            "modes": {"admission": admission, "network": "Audit", "verification": "Enforce", "egress": "Audit"},
            "verification": {"reverifyInterval": "1h"}}, "status": {"members": [
                {"namespace": "llm", "uid": "n1", "podStatusProtectedSince": "2026-01-01T00:00:00Z"}]}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm", "uid": "n1"}}),
        json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": "orion"}, "spec": {
            "type": "Base", "model": {"name": "orion"}, "manifestDigest": DIGEST, "manifest": {"path": "m.json"},
            "locations": [{"name": "share", "role": "Serving", "nfs": {"server": "nas", "path": "/orion"}}],
            "permittedEnvironments": [{"name": "serving"}], "contact": "c"}}),
    ];
    index::from_objects(objects, Settings::default()).unwrap()
}

/// A pod as admission made it, the sidecar of which found drift.
fn pod(world: &World) -> Value {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "llm", "name": "vllm-0", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:10Z"}, "spec": {
        "serviceAccountName": "vllm", "nodeName": "node1",
        "containers": [{"name": "vllm", "image": "i", "volumeMounts": [{"name": "w", "mountPath": "/w"}]}],
        "volumes": [{"name": "w", "nfs": {"server": "nas", "path": "/orion"}}]}});
    let request = crate::domain::Request {
        operation: crate::domain::Operation::Create,
        group: "",
        resource: "pods",
        subresource: None,
        namespace: "llm",
        name: "vllm-0",
        user: crate::domain::User::default(),
        object: Some(&pod),
        old_object: None,
    };
    let mut pod = admission::shape(world, &request).object.unwrap();
    let ended = json!({"terminated": {"exitCode": 25, "finishedAt": "2026-01-01T00:00:00Z",
        "message": "Drifted (exit code 25): 1 finding in WeightArtifact \"orion\"\n[HashMismatch] \"w.bin\": changed\n"}});
    pod["status"] = json!({"initContainerStatuses": [{"name": "weightlock-reverify", "lastState": ended}]});
    pod
}

fn found(world: &World, pod: &Value) -> Option<Verdict> {
    crate::domain::verdict::drift(pod, "orion", &world.artifacts["orion"].digest.clone().unwrap())
}

#[test]
fn an_incident_is_known_by_content_and_storage() {
    let world = world("Enforce");
    let pod = pod(&world);
    let drift = &found(&world, &pod).expect("drift");
    assert!(is_proof(&world, &pod));
    let artifact = &world.artifacts["orion"];
    let made = incident(&world, artifact, DIGEST, &pod, drift);
    assert_eq!(made.spec.backend_keys, ["v1:nfs:nas:/orion"]);
    assert_eq!((made.spec.manifest_digest.as_str(), made.spec.pod.node.as_str()), (DIGEST, "node1"));
    // The same finding in another pod is the same incident; other content is another.
    let again = incident(&world, artifact, DIGEST, &pod, drift);
    assert_eq!(made.metadata.name, again.metadata.name);
    assert_ne!(made.metadata.name, incident(&world, artifact, "sha256:0", &pod, drift).metadata.name);
}

#[test]
fn where_nothing_is_enforced_a_finding_is_no_proof() {
    let world = world("Audit");
    let pod = pod(&world);
    assert!(!is_proof(&world, &pod));
}

#[test]
fn a_pod_from_before_its_status_was_protected_proves_nothing() {
    let mut world = world("Enforce");
    let mut pod = pod(&world);
    let at = |pod: &mut Value, time: &str| pod["metadata"]["creationTimestamp"] = time.into();
    for (made, proof) in
        [("2026-01-01T00:00:09Z", false), ("2025-12-31T00:00:00Z", false), ("2026-01-02T00:00:00Z", true)]
    {
        at(&mut pod, made);
        assert_eq!(is_proof(&world, &pod), proof, "{made}");
    }
    pod["metadata"].as_object_mut().unwrap().remove("creationTimestamp");
    assert!(!is_proof(&world, &pod));
    at(&mut pod, "2026-01-02T00:00:00Z");
    // It is protected no more, or in a namespace of this name that was made since.
    let member = &mut world.environments.get_mut("serving").unwrap().members[0];
    let since = member.pod_status_protected_since.take();
    assert!(!is_proof(&world, &pod));
    world.environments.get_mut("serving").unwrap().members[0].pod_status_protected_since = since;
    assert!(is_proof(&world, &pod));
    world.namespaces.insert("llm".into(), "n2".into());
    assert!(!is_proof(&world, &pod));
}

#[test]
fn an_incident_makes_every_artifact_of_its_storage_tampered() {
    let mut world = world("Enforce");
    assert!(!condition(&world, &world.artifacts["orion"]).holds());
    let subject = crate::domain::world::IncidentSubject {
        artifact: "orion".into(),
        digest: "sha256:0".into(),
        keys: vec![BackendKey::nfs("nas", "/orion/v3")],
        found: "w.bin changed".into(),
    };
    let incident = crate::domain::world::Incident { name: "tampered-1".into(), subject: Some(subject) };
    world.incidents.insert("tampered-1".into(), incident);
    let found = condition(&world, &world.artifacts["orion"]);
    assert!(found.holds() && found.message.contains("kubectl weightlock clear tampered-1"), "{}", found.message);
    assert!(found.message.contains("(w.bin changed)"), "{}", found.message);
}
