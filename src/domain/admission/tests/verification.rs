//! WL-3xx and WL-601.

use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::world::{self, Effort, Manifest, World};

/// The pod as the mutation leaves it, then changed at a pointer.
fn tampered(pointer: &str, value: Value) -> Value {
    set(shaped(&small(), "serving", &server("orion")), pointer, value)
}

const VERIFIER: &str = "/spec/initContainers/0";

#[test]
fn wl_301_missing() {
    let pod = tampered("/spec/initContainers", json!([]));
    refused(&judge(&small(), "serving", &pod), &["WL-301"], "mounts weights (volume \"w\") but has no init container");
    passes(&judge(&with_environment(|e| e.modes.verification = Mode::Audit), "serving", &pod));
    passes(&judge(&small(), "serving", &shaped(&small(), "serving", &server("orion"))));
}

#[test]
fn wl_302_protected_fields() {
    for (field, value) in [
        ("image", json!("evil")),
        ("command", json!(["/bin/true"])),
        ("args", json!([])),
        ("volumeMounts", json!([])),
        ("volumeMounts", json!([{"name": "w", "mountPath": "/weightlock/0", "readOnly": true, "subPath": "good"}])),
        ("volumeMounts", json!([{"name": "w", "mountPath": "/weightlock/0"}])),
        ("securityContext", json!({})),
        ("securityContext", json!({"privileged": true})),
        ("restartPolicy", json!("Always")),
        ("restartPolicyRules", json!([{"action": "Restart"}])),
        ("lifecycle", json!({"preStop": {"exec": {"command": ["x"]}}})),
        ("startupProbe", json!({"exec": {"command": ["x"]}})),
        ("volumeDevices", json!([{"name": "w", "devicePath": "/dev/x"}])),
        ("workingDir", json!("/models")),
        ("envFrom", json!([{"configMapRef": {"name": "x"}}])),
        ("env", json!([{"name": "LD_PRELOAD", "value": "x.so"}])),
        ("terminationMessagePath", json!("/weightlock/0/config.json")),
        ("somethingNew", json!({"skip": true})),
    ] {
        let decision = judge(&small(), "serving", &tampered(&format!("{VERIFIER}/{field}"), value.clone()));
        assert!(ids(&decision).contains(&"WL-302"), "{field} {value}: {:?}", decision.violations);
        let violation = decision.violations.iter().find(|v| v.rule.id() == "WL-302").unwrap();
        assert!(violation.fact.contains(field), "{violation}");
    }
}

#[test]
fn wl_302_what_others_add_passes() {
    let token = json!({"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true});
    for (pointer, value) in [
        ("/spec/initContainers/0/volumeMounts/-", token),
        ("/spec/initContainers/0/resources", json!({"limits": {"cpu": "100m"}})),
        ("/spec/initContainers/0/imagePullPolicy", json!("IfNotPresent")),
        ("/spec/initContainers/0/terminationMessagePolicy", json!("FallbackToLogsOnError")),
        ("/spec/initContainers/0/env", json!([{"name": "AWS_REGION", "value": "eu"}])),
        ("/spec/initContainers/0/securityContext/privileged", json!(false)),
        ("/spec/initContainers/0/stdin", json!(false)),
        ("/spec/tolerations", json!([{"operator": "Exists"}])),
    ] {
        passes(&judge(&small(), "serving", &tampered(pointer, value)));
    }
}

#[test]
fn wl_302_an_added_mount_covers_nothing() {
    for (volume, path) in [
        ("kube-api-access-x", "/weightlock/0"),
        ("kube-api-access-x", "/var/run/secrets/../../../weightlock/0"),
        ("w", "/var/run/secrets/w"),
    ] {
        let mount = json!({"name": volume, "mountPath": path, "readOnly": true});
        let pod = tampered("/spec/initContainers/0/volumeMounts/-", mount);
        refused(&judge(&small(), "serving", &pod), &["WL-302"], "volumeMounts");
    }
}

fn with_init(container: Value, first: bool) -> Value {
    let mut pod = shaped(&small(), "serving", &server("orion"));
    let inits = pod["spec"]["initContainers"].as_array_mut().unwrap();
    inits.insert(if first { 0 } else { 1 }, container);
    pod
}

#[test]
fn wl_303_only_trusted_containers_precede() {
    let hardened =
        json!({"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}, "runAsUser": 1000});
    let init = |image: &str, mounts: Value| json!({"name": "i", "image": image, "securityContext": hardened, "volumeMounts": mounts});
    let trusted = "registry.example.com/mesh/init:1";
    passes(&judge(&small(), "serving", &with_init(init(trusted, json!([])), true)));
    passes(&judge(&small(), "serving", &with_init(init("tools", json!([])), false)));
    let decision = judge(&small(), "serving", &with_init(init("tools", json!([])), true));
    refused(&decision, &["WL-303"], "its image \"tools\" is not trusted");
    let almost = judge(&small(), "serving", &with_init(init("registry.example.com/mesh-evil/init", json!([])), true));
    refused(&almost, &["WL-303"], "mesh-evil");
    let weights = json!([{"name": "w", "mountPath": "/m", "readOnly": true}]);
    // With its mount it is the consumer, whose user the verifier has: the same here.
    let mut reads = with_init(init(trusted, weights), true);
    reads["spec"]["initContainers"][0]["securityContext"]["runAsGroup"] = json!(2000);
    refused(&judge(&small(), "serving", &reads), &["WL-303"], "mounts weights and runs ahead");
}

#[test]
fn wl_304_writable_mounts() {
    let pod = tampered("/spec/containers/0/volumeMounts/0/readOnly", json!(false));
    refused(
        &judge(&small(), "serving", &pod),
        &["WL-304"],
        "container \"vllm\" mounts weights writable (volume \"w\" at \"/models\")",
    );
    // The claim itself may be what is read-only.
    passes(&judge(&small(), "serving", &set(pod, "/spec/volumes/0/persistentVolumeClaim/readOnly", json!(true))));
    let sidecar = json!({"name": "s", "image": "x", "restartPolicy": "Always", "volumeMounts": [{"name": "w", "mountPath": "/m"}],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}, "runAsUser": 1000, "runAsGroup": 2000}});
    refused(&judge(&small(), "serving", &with_init(sidecar, false)), &["WL-304"], "sidecar container \"s\"");
}

#[test]
fn wl_305_raw_block_devices() {
    let pod =
        set(server("orion"), "/spec/containers/0/volumeDevices", json!([{"name": "w", "devicePath": "/dev/xvda"}]));
    refused(&admit(&small(), "serving", &pod), &["WL-305"], "raw block device (volume \"w\")");
    let other =
        set(ordinary("scratch"), "/spec/containers/0/volumeDevices", json!([{"name": "w", "devicePath": "/dev/xvda"}]));
    passes(&admit(&small(), "serving", &other));
}

#[test]
fn wl_307_mount_propagation() {
    for (mode, refuses) in [("HostToContainer", true), ("Bidirectional", true), ("None", false)] {
        let pod = set(server("orion"), "/spec/containers/0/volumeMounts/0/mountPropagation", json!(mode));
        let decision = admit(&small(), "serving", &pod);
        if refuses {
            refused(&decision, &["WL-307"], "with propagation");
        } else {
            passes(&decision);
        }
    }
}

#[test]
fn a_long_verification_is_told_before() {
    let of = |bytes, seconds| with_artifact(|a| a.effort = Some(Effort { bytes, seconds }));
    let decision = admit(&of(141_000_000_000, 470), "serving", &server("orion"));
    assert!(decision.allowed());
    assert_eq!(
        decision.warnings,
        ["verifying 141 GB (WeightArtifact \"orion\") takes about 8 minutes before the containers of this pod start."]
    );
    passes(&admit(&of(3_000_000_000, 10), "serving", &server("orion")));
    let audit = |world: World| {
        let mut world = world;
        world.environments.get_mut("inference").unwrap().modes.verification = Mode::Audit;
        world
    };
    passes(&admit(&audit(of(141_000_000_000, 470)), "serving", &server("orion")));
}

#[test]
fn wl_601_the_name_of_the_verifier() {
    let main = set(server("orion"), "/spec/containers/-", json!({"name": "weightlock-verify", "image": "x"}));
    refused(&admit(&small(), "serving", &main), &["WL-601"], "container \"weightlock-verify\" takes the name");
    let without_weights =
        set(ordinary("scratch"), "/spec/initContainers", json!([{"name": "weightlock-verify", "image": "x"}]));
    refused(&admit(&small(), "serving", &without_weights), &["WL-601"], "init container \"weightlock-verify\"");
    // With weights it is no verifier, and is not replaced behind its author's back.
    let init = |image: &str| json!([{"name": "weightlock-verify", "image": image, "command": ["y"]}]);
    let foreign = set(server("orion"), "/spec/initContainers", init("x"));
    let decision = admit(&small(), "serving", &foreign);
    assert!(ids(&decision).contains(&"WL-302"), "{:?}", decision.violations);
    // A manifest that was read back from the cluster has the verifier in it, of another time or another pod.
    let image = &small().settings.verifier_image;
    passes(&admit(&small(), "serving", &set(server("orion"), "/spec/initContainers", init(image))));
    passes(&admit(
        &small(),
        "serving",
        &set(ordinary("scratch"), "/spec/initContainers", json!([{"name": "verify", "image": "x"}])),
    ));
}

/// The manifest is brought by a volume that only Weightlock renders.
#[test]
fn a_manifest_in_objects_is_mounted_into_the_verifier() {
    let world = with_artifact(|a| a.manifest = Manifest::Object { name: "orion".into(), shards: 2 });
    let pod = shaped(&world, "serving", &server("orion"));
    passes(&judge(&world, "serving", &pod));
    assert_eq!(shaped(&world, "serving", &pod), pod, "shaping again changes something");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let position = volumes.iter().position(|volume| volume["name"] == "weightlock-manifest").unwrap();
    let sources = &volumes[position]["projected"]["sources"];
    let hex = DIGEST.trim_start_matches("sha256:");
    assert_eq!(sources[1]["configMap"]["name"], json!(format!("weightlock-manifest-{hex}-1")));
    assert_eq!(sources[1]["configMap"]["items"], json!([{"key": "shard", "path": "orion/1"}]));
    let verifier = &pod["spec"]["initContainers"][0];
    let args = verifier["args"].as_array().unwrap();
    assert!(
        args.windows(2).any(|pair| pair == [json!("--manifest-dir"), json!("/weightlock/manifest/orion")]),
        "{args:?}"
    );
    let mount = json!({"name": "weightlock-manifest", "mountPath": "/weightlock/manifest", "readOnly": true});
    assert!(verifier["volumeMounts"].as_array().unwrap().contains(&mount), "{verifier}");
    assert!(!pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap().contains(&mount));

    let at = format!("/spec/volumes/{position}");
    for (place, value) in [
        ("/projected/sources/1/configMap/name", json!(format!("weightlock-manifest-{hex}-0"))),
        ("/projected/sources/1/configMap/items/0/path", json!("orion/2")),
        ("/projected/sources/1/configMap/optional", json!(true)),
    ] {
        let altered = set(pod.clone(), &format!("{at}{place}"), value);
        refused(&judge(&world, "serving", &altered), &["WL-302"], "volume \"weightlock-manifest\"");
    }
    let own = set(pod.clone(), &at, json!({"name": "weightlock-manifest", "configMap": {"name": "mine"}}));
    let refusal = "takes the name of the volume that brings manifests";
    refused(&judge(&world, "serving", &own), &["WL-601"], refusal);
    // Another pod's volume is replaced where weights are mounted; elsewhere the name is nobody's.
    let brought = set(server("orion"), "/spec/volumes/-", volumes[position].clone());
    passes(&admit(&small(), "serving", &brought));
    passes(&admit(&world, "serving", &brought));
    let without = set(ordinary("scratch"), "/spec/volumes/-", json!({"name": "weightlock-manifest", "emptyDir": {}}));
    refused(&admit(&world, "serving", &without), &["WL-601"], refusal);
}

#[test]
fn wl_601_the_bandwidth_annotation() {
    let world = with_environment(|e| e.modes.egress = Mode::Enforce);
    let pod = set(ordinary("scratch"), "/metadata/annotations", json!({"kubernetes.io/egress-bandwidth": "100G"}));
    refused(&judge(&world, "serving", &pod), &["WL-601"], "is \"100G\"; the environment sets \"10M\"");
    refused(&judge(&world, "serving", &ordinary("scratch")), &["WL-601"], "is missing");
    passes(&admit(&world, "serving", &pod));
    passes(&judge(&small(), "serving", &pod));
}

#[test]
fn wl_302_the_signature_is_asked_for_as_the_artifact_says() {
    use crate::api::{Authority, PublicKeyAuthority, Signature, SignatureAllowance};
    let pem = "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n";
    let authority = Authority {
        name: "release".into(),
        public_key: Some(PublicKeyAuthority { pem: pem.into() }),
        certificate: None,
        sigstore: None,
    };
    let declared = Signature {
        bundle_path: "model.sig".into(),
        authorities: vec![authority],
        allow: vec![SignatureAllowance::Symlinks, SignatureAllowance::IgnorePaths],
    };
    let mut world = small();
    world.artifacts.get_mut("orion").unwrap().signature =
        Some(world::Signature { declared: declared.clone(), problems: Vec::new() });
    let pod = shaped(&world, "serving", &server("orion"));
    let args = pod.pointer(&format!("{VERIFIER}/args")).unwrap().as_array().unwrap();
    let from = args.iter().position(|arg| arg == "--signature").unwrap();
    let json =
        r#"{"name":"release","publicKey":{"pem":"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"}}"#;
    let expected = json!(["--signature", "model.sig", "--authority", json, "--allow-signed", "IgnorePaths,Symlinks"]);
    assert_eq!(Value::from(&args[from..from + 6]), expected);
    passes(&judge(&world, "serving", &pod));
    // A pod that was shaped for an artifact without a signature, or that asks for less, is refused.
    refused(&judge(&world, "serving", &shaped(&small(), "serving", &server("orion"))), &["WL-302"], "args");
    let mut less = args.clone();
    less.truncate(from);
    refused(
        &judge(&world, "serving", &set(pod.clone(), &format!("{VERIFIER}/args"), less.into())),
        &["WL-302"],
        "args",
    );
    // Whoever makes a pod hears it if an authority cannot be used.
    world.artifacts.get_mut("orion").unwrap().signature =
        Some(world::Signature { declared, problems: vec!["spec.signature.authorities[release] is no key".into()] });
    assert_eq!(
        judge(&world, "serving", &pod).warnings,
        [
            "weightlock-verify will end with exit code 10: WeightArtifact \"orion\": spec.signature.authorities[release] is no key. Ask weights-team@example.com."
        ]
    );
}
