//! WL-308 and WL-309: weights that are verified while pods run, and what becomes of those that changed.

use serde_json::{Value, json};

use super::support::*;
use crate::domain::world::{Incident, IncidentSubject, Reverify, World};

/// `small`, where environment `inference` verifies weights again every hour.
fn again() -> World {
    with_environment(|e| {
        e.reverify = Some(Reverify {
            every_seconds: 3600,
            max_bytes_per_second: 200_000_000,
            cpu: "100m".into(),
            memory: "128Mi".into(),
        });
    })
}

#[test]
fn the_sidecar_is_the_verifier_with_an_interval() {
    let pod = shaped(&again(), "serving", &server("orion"));
    let [verifier, sidecar] = &pod["spec"]["initContainers"].as_array().unwrap()[..] else { panic!("{pod}") };
    assert_eq!((&verifier["name"], &sidecar["name"]), (&json!("weightlock-verify"), &json!("weightlock-reverify")));
    let args = sidecar["args"].as_array().unwrap();
    assert_eq!(args[..4], [json!("--every"), json!("3600"), json!("--max-bytes-per-second"), json!("200000000")]);
    assert_eq!(args[4..], *verifier["args"].as_array().unwrap());
    for field in ["image", "volumeMounts", "securityContext"] {
        assert_eq!(sidecar[field], verifier[field], "{field}");
    }
    assert_eq!(sidecar["restartPolicy"], "Always");
    // Requests are limits: a Guaranteed pod stays Guaranteed.
    let amounts = json!({"cpu": "100m", "memory": "128Mi"});
    assert_eq!(sidecar["resources"], json!({"requests": amounts, "limits": amounts}));
    passes(&judge(&again(), "serving", &pod));
    // Shaping it once more changes nothing.
    assert_eq!(shaped(&again(), "serving", &pod), pod);
    // A pod without weights has none.
    assert_eq!(shaped(&again(), "serving", &ordinary("scratch")), ordinary("scratch"));
}

#[test]
fn wl_309_the_sidecar_is_there_as_rendered() {
    const SIDECAR: &str = "/spec/initContainers/1";
    let good = shaped(&again(), "serving", &server("orion"));
    for (field, value) in [
        ("image", json!("evil")),
        ("command", json!(["/bin/sleep"])),
        ("args", json!([])),
        ("args/1", json!("86400")),
        ("volumeMounts", json!([])),
        ("volumeMounts/0/subPath", json!("good")),
        ("securityContext/privileged", json!(true)),
        ("restartPolicyRules", json!([{"action": "Restart"}])),
        ("livenessProbe", json!({"exec": {"command": ["x"]}})),
    ] {
        let decision = judge(&again(), "serving", &set(good.clone(), &format!("{SIDECAR}/{field}"), value.clone()));
        assert!(ids(&decision).contains(&"WL-309"), "{field} {value}: {:?}", decision.violations);
        let violation = decision.violations.iter().find(|v| v.rule.id() == "WL-309").unwrap();
        assert!(violation.fact.contains(field.split('/').next().unwrap()), "{violation}");
    }
    passes(&judge(
        &again(),
        "serving",
        &set(good.clone(), &format!("{SIDECAR}/resources"), json!({"limits": {"cpu": "1"}})),
    ));
    let mut without = good.clone();
    without["spec"]["initContainers"].as_array_mut().unwrap().pop();
    refused(&judge(&again(), "serving", &without), &["WL-309"], "is missing");
    let mut ahead = good.clone();
    ahead["spec"]["initContainers"].as_array_mut().unwrap().swap(0, 1);
    let decision = judge(&again(), "serving", &ahead);
    assert!(ids(&decision).contains(&"WL-309"), "{:?}", decision.violations);
    // One that does not keep running would look once.
    let mut once = good;
    once["spec"]["initContainers"][1].as_object_mut().unwrap().remove("restartPolicy");
    refused(&judge(&again(), "serving", &once), &["WL-309"], "restartPolicy");
}

#[test]
fn where_every_node_can_restart_all_containers_the_sidecar_asks_for_it() {
    const RULES: &str = "/spec/initContainers/1/restartPolicyRules";
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [25]}}]);
    let nodes = |declared: &[bool]| {
        let mut world = again();
        world.nodes = declared.iter().enumerate().map(|(number, can)| (format!("node{number}"), *can)).collect();
        world
    };
    let able = nodes(&[true, true]);
    let pod = shaped(&able, "serving", &server("orion"));
    assert_eq!(pod.pointer(RULES), Some(&rules));
    // The verifier has no rule: it ends the pod's start anyway.
    assert_eq!(pod.pointer("/spec/initContainers/0/restartPolicyRules"), None);
    passes(&judge(&able, "serving", &pod));
    let mut never = nodes(&[true, true]);
    never.settings.restart_all_containers = crate::domain::world::RestartAllContainers::Never;
    for (world, why) in [(nodes(&[true, false]), "one cannot"), (nodes(&[]), "none is known"), (never, "not wanted")] {
        let without = shaped(&world, "serving", &server("orion"));
        assert_eq!(without.pointer(RULES), None, "{why}");
        // What another replica injected, that knew other nodes, is as good; so is a pod from before.
        passes(&judge(&world, "serving", &pod));
        passes(&judge(&able, "serving", &without));
    }
    let other = set(pod, &format!("{RULES}/0/exitCodes/values"), json!([0, 25]));
    refused(&judge(&able, "serving", &other), &["WL-309"], "restartPolicyRules");
}

#[test]
fn what_the_sidecar_finds_is_proof_only_where_it_is_ours() {
    let world = again();
    let pod = shaped(&world, "serving", &server("orion"));
    let proof = |pod: &Value| crate::domain::admission::reverifies(&world, "serving", pod);
    assert!(proof(&pod));
    // Of another day: another interval, another version of the image.
    let mut older = set(pod.clone(), "/spec/initContainers/1/args/1", json!("60"));
    older["spec"]["initContainers"][1]["image"] = json!("registry.example.com/weightlock-verify:0.0.1");
    assert!(proof(&older));
    for (pointer, value) in [
        ("/spec/initContainers/1/image", json!("registry.example.com/weightlock-verify-2@sha256:1")),
        ("/spec/initContainers/1/command", json!(["/bin/false"])),
        ("/spec/initContainers/1/args/0", json!("--once")),
        ("/spec/initContainers/1/args/7", json!("sha256:00")),
        ("/spec/initContainers/1/volumeMounts/0/subPath", json!("other")),
        ("/spec/initContainers/1/volumeMounts/0/name", json!("other")),
        ("/spec/initContainers/1/restartPolicy", Value::Null),
        ("/spec/initContainers/0/command", json!(["/bin/false"])),
        ("/spec/initContainers/0/args/3", json!("sha256:00")),
        ("/spec/initContainers", json!([])),
    ] {
        assert!(!proof(&set(pod.clone(), pointer, value.clone())), "{pointer} {value}");
    }
}

fn incident(digest: &str, key: &str) -> Incident {
    let subject = IncidentSubject {
        artifact: "old-name".into(),
        digest: digest.into(),
        keys: vec![crate::domain::BackendKey(key.into())],
        found: "w.bin differs".into(),
    };
    Incident { name: "tampered-1".into(), subject: Some(subject) }
}

fn with_incident(incident: Incident) -> World {
    let mut world = small();
    world.incidents.insert(incident.name.clone(), incident);
    world
}

#[test]
fn wl_308_tampered_weights_are_mounted_by_nobody() {
    let elsewhere = "v1:csi:ebs.csi.aws.com:vol-77";
    // By content, wherever it is, and whatever it is called.
    let decision = admit(&with_incident(incident(DIGEST, elsewhere)), "serving", &server("orion"));
    refused(
        &decision,
        &["WL-308"],
        "is blocked by WeightIncident \"tampered-1\": found tampered with as WeightArtifact \"old-name\": w.bin differs",
    );
    assert!(
        decision.violations[0].remedy.contains("kubectl weightlock clear tampered-1"),
        "{}",
        decision.violations[0]
    );
    // By storage, with another content, or with no declaration at all.
    let storage = with_incident(incident("sha256:00", "v1:csi:ebs.csi.aws.com:vol-1"));
    refused(&admit(&storage, "serving", &server("orion")), &["WL-308"], "vol-1");
    let mut undeclared = storage;
    undeclared.artifacts.clear();
    let decision = judge(&undeclared, "serving", &ordinary("orion"));
    refused(&decision, &["WL-308"], "vol-1");
    // By overlap.
    let share = with_incident(incident("sha256:00", "v1:nfs:nas:/models/orion/v3"));
    let mount = json!({"name": "w", "nfs": {"server": "nas", "path": "/models/orion"}});
    refused(&admit(&share, "serving", &set(server("orion"), "/spec/volumes/0", mount)), &["WL-308"], "nas");
    // Other weights are free.
    passes(&admit(&with_incident(incident("sha256:00", elsewhere)), "serving", &server("orion")));
}

#[test]
fn wl_308_an_incident_that_cannot_be_read_concerns_all_weights() {
    let world = with_incident(Incident { name: "tampered-2".into(), subject: None });
    refused(&admit(&world, "serving", &server("orion")), &["WL-308"], "which cannot be read");
    passes(&admit(&world, "serving", &ordinary("scratch")));
}

#[test]
fn wl_601_the_name_of_the_sidecar() {
    let sidecar = json!({"name": "weightlock-reverify", "image": "x", "restartPolicy": "Always"});
    let taken = |pod: Value| set(pod, "/spec/initContainers", json!([sidecar]));
    refused(
        &admit(&small(), "serving", &taken(ordinary("scratch"))),
        &["WL-601"],
        "\"weightlock-reverify\" takes the name",
    );
    assert!(ids(&admit(&small(), "serving", &taken(server("orion")))).contains(&"WL-601"));
    let main = set(server("orion"), "/spec/containers/-", json!({"name": "weightlock-reverify", "image": "x"}));
    refused(&admit(&small(), "serving", &main), &["WL-601"], "container \"weightlock-reverify\"");
}
