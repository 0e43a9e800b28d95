//! The mutation.

use serde_json::{Value, json};

use super::support::*;
use crate::api::{ManifestFile, Mode};
use crate::domain::world::*;

fn verifier(pod: &Value) -> &Value {
    pod["spec"]["initContainers"].as_array().unwrap().iter().find(|c| c["name"] == "weightlock-verify").unwrap()
}

#[test]
fn the_verifier_is_rendered_for_the_consumer() {
    let pod = shaped(&small(), "serving", &server("orion"));
    assert_eq!(
        *verifier(&pod),
        json!({
            "name": "weightlock-verify",
            "image": "registry.example.com/weightlock-verify@sha256:1",
            "args": ["--artifact", "orion", "--digest", DIGEST, "--root", "/weightlock/0", "--path", "v3", "--manifest", ".weightlock/manifest.json"],
            "volumeMounts": [{"name": "w", "mountPath": "/weightlock/0", "readOnly": true}],
            "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"cpu": "4", "memory": "16Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "runAsUser": 1000,
                "runAsGroup": 2000,
                "seccompProfile": {"type": "RuntimeDefault"}
            },
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File"
        })
    );
    let main = &pod["spec"]["containers"][0];
    assert_eq!(main["volumeMounts"][0]["readOnly"], true);
    assert_eq!(main["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(main["securityContext"]["capabilities"]["drop"], json!(["NET_RAW"]));
    assert_eq!(pod["metadata"], server("orion")["metadata"]);
}

#[test]
fn pods_without_weights_stay_as_they_are() {
    for (namespace, pod) in
        [("serving", ordinary("scratch")), ("research", server("stolen")), ("serving", json!({"spec": []}))]
    {
        assert_eq!(shaped(&small(), namespace, &pod), pod);
    }
}

#[test]
fn audit_changes_nothing() {
    let world = with_environment(|e| {
        e.modes.admission = Mode::Audit;
        e.modes.verification = Mode::Audit;
    });
    assert_eq!(shaped(&world, "serving", &server("orion")), server("orion"));
    let verifies = with_environment(|e| e.modes.admission = Mode::Audit);
    let pod = shaped(&verifies, "serving", &server("orion"));
    assert_eq!(verifier(&pod)["image"], "registry.example.com/weightlock-verify@sha256:1");
    assert_eq!(pod["spec"]["containers"], server("orion")["spec"]["containers"]);
}

#[test]
fn users_that_the_verifier_takes_over() {
    let with = |pointer: &str, value: Value| {
        let mut pod = server("orion");
        pod["spec"]["containers"][0].as_object_mut().unwrap().remove("securityContext");
        let pod = shaped(&small(), "serving", &set(pod, pointer, value));
        passes(&judge(&small(), "serving", &pod));
        verifier(&pod)["securityContext"].clone()
    };
    let pod_level = with("/spec/securityContext", json!({"runAsUser": 7, "runAsGroup": 8}));
    assert_eq!((&pod_level["runAsUser"], &pod_level["runAsGroup"]), (&json!(7), &json!(8)));
    let unknown = with("/spec/securityContext", json!({}));
    assert_eq!((&unknown["runAsUser"], &unknown["runAsNonRoot"]), (&json!(65532), &json!(true)));
    let root = with("/spec/containers/0/securityContext", json!({"runAsUser": 0}));
    assert_eq!(root["runAsNonRoot"], false);
    assert_eq!(root["capabilities"], json!({"drop": ["ALL"], "add": ["DAC_OVERRIDE"]}));
    let bounded =
        with("/spec/containers/0/securityContext", json!({"runAsUser": 0, "capabilities": {"drop": ["ALL"]}}));
    assert_eq!(bounded["capabilities"], json!({"drop": ["ALL"]}));
}

#[test]
fn it_comes_first_but_behind_trusted_containers() {
    let names = |inits: Value| {
        let pod = shaped(&small(), "serving", &set(server("orion"), "/spec/initContainers", inits));
        let names: Vec<String> = pod["spec"]["initContainers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect();
        names.join(" ")
    };
    let mesh = json!({"name": "mesh", "image": "registry.example.com/mesh/init"});
    let own = json!({"name": "own", "image": "tools"});
    assert_eq!(names(json!([own, mesh])), "weightlock-verify own mesh");
    assert_eq!(names(json!([mesh, own])), "mesh weightlock-verify own");
    let reads = set(mesh.clone(), "/volumeMounts", json!([{"name": "w", "mountPath": "/m"}]));
    assert_eq!(names(json!([reads])), "weightlock-verify mesh");
    // A reinvocation after a mesh came in at the front.
    assert_eq!(
        names(
            json!([own, mesh, {"name": "weightlock-verify", "image": "registry.example.com/weightlock-verify@sha256:1"}])
        ),
        "weightlock-verify own mesh"
    );
}

#[test]
fn what_others_added_survives_a_reinvocation() {
    let token =
        json!({"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true});
    let once = shaped(&small(), "serving", &server("orion"));
    let later = set(once, "/spec/initContainers/0/volumeMounts/-", token.clone());
    let later = set(later, "/spec/initContainers/0/resources", json!({"limits": {"cpu": "1"}}));
    let later = set(
        later,
        "/spec/initContainers/0/env",
        json!([{"name": "A", "value": "1"}, {"name": "LD_PRELOAD", "value": "x"}]),
    );
    let again = shaped(&small(), "serving", &later);
    assert_eq!(verifier(&again)["volumeMounts"][1], token);
    assert_eq!(verifier(&again)["resources"], json!({"limits": {"cpu": "1"}}));
    assert_eq!(verifier(&again)["env"], json!([{"name": "A", "value": "1"}]));
    passes(&judge(&small(), "serving", &again));
}

#[test]
fn every_artifact_in_a_volume_is_verified() {
    let mut world = small();
    let mut second = world.artifacts["orion"].clone();
    second.name = "vega".into();
    second.locations[0].path = None;
    second.manifest = Manifest::Inline(vec![
        ManifestFile { path: "b".into(), size: 2, sha256: "bb".into() },
        ManifestFile { path: "a\"".into(), size: 1, sha256: "aa".into() },
    ]);
    world.artifacts.insert("vega".into(), second);
    let pod = set(
        server("orion"),
        "/spec/volumes/-",
        json!({"name": "n", "nfs": {"server": "nas", "path": "/models", "readOnly": true}}),
    );
    let pod = shaped(&world, "serving", &pod);
    let inline = r#"{"files":[{"path":"a\"","sha256":"aa","size":1},{"path":"b","sha256":"bb","size":2}],"version":1}"#;
    let manifest = ".weightlock/manifest.json";
    #[rustfmt::skip]
    let expected = json!([
        "--artifact", "orion", "--digest", DIGEST, "--root", "/weightlock/0", "--path", "v3", "--manifest", manifest,
        "--artifact", "vega", "--digest", DIGEST, "--root", "/weightlock/0", "--manifest-inline", inline,
        "--artifact", "orion", "--digest", DIGEST, "--root", "/weightlock/1", "--path", "orion", "--manifest", manifest,
        "--artifact", "vega", "--digest", DIGEST, "--root", "/weightlock/1", "--path", "orion", "--manifest-inline", inline,
    ]);
    assert_eq!(verifier(&pod)["args"], expected);
}

#[test]
fn egress_is_limited_for_every_pod_of_the_environment() {
    let world = with_environment(|e| e.modes.egress = Mode::Enforce);
    for pod in [server("orion"), ordinary("scratch")] {
        assert_eq!(shaped(&world, "serving", &pod)["metadata"]["annotations"]["kubernetes.io/egress-bandwidth"], "10M");
    }
    for (rate, shown) in [(2_000_000_000, "2G"), (1_500_000, "1500k"), (1_234, "1234")] {
        let world = with_environment(|e| {
            e.modes.egress = Mode::Enforce;
            e.egress_rate = Some(rate);
        });
        assert_eq!(
            shaped(&world, "serving", &ordinary("scratch"))["metadata"]["annotations"]["kubernetes.io/egress-bandwidth"],
            shown
        );
    }
}
