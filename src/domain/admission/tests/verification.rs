//! WL-3xx and WL-601.

use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::world::{Effort, Incident, IncidentSubject, Reverify, World};

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
fn wl_306_sealed_weights_have_no_writer() {
    const READ_ONLY: &str = "/spec/containers/0/volumeMounts/0/readOnly";
    let sealed = with_run(|a| {
        a.digest = Some(DIGEST.into());
        a.permitted.insert("training".into());
    });
    // What it wrote yesterday is not made read-only behind its back.
    let decision = admit(&sealed, "lab", &trainer());
    refused(&decision, &["WL-306"], "WeightArtifact \"run\" is in it and is sealed");
    passes(&admit(&sealed, "lab", &set(trainer(), READ_ONLY, json!(true))));
    // Who is no producer reads, as ever.
    let mut readers = sealed.clone();
    readers.environments.get_mut("training").unwrap().members[0].service_accounts.insert("viewer".into());
    passes(&admit(&readers, "lab", &set(trainer(), "/spec/serviceAccountName", json!("viewer"))));
    // Where it is not permitted, its producers have lost it.
    let lost = with_run(|a| a.digest = Some(DIGEST.into()));
    assert_eq!(ids(&admit(&lost, "lab", &trainer())), ["WL-101", "WL-306"]);
}

#[test]
fn wl_306_open_weights_are_written_by_their_producers_only() {
    let mut world = making();
    world.environments.get_mut("training").unwrap().members[0].service_accounts.insert("viewer".into());
    let decision = admit(&world, "lab", &set(trainer(), "/spec/serviceAccountName", json!("viewer")));
    assert_eq!(ids(&decision), ["WL-104", "WL-306"]);
    assert!(decision.violations[1].fact.contains("is open, and this pod is none of its producers"));
    // One volume with sealed and open weights has no writer.
    let mut shared = making();
    let mut base = shared.artifacts["run"].clone();
    base.name = "base".into();
    base.digest = Some(DIGEST.into());
    base.permitted.insert("training".into());
    shared.artifacts.insert("base".into(), base);
    refused(&admit(&shared, "lab", &trainer()), &["WL-306"], "WeightArtifact \"base\" is in it and is sealed");
}

#[test]
fn wl_306_nobody_writes_while_it_is_sealed_but_the_job_that_seals() {
    let world = with_run(|a| a.frozen = true);
    refused(&admit(&world, "lab", &trainer()), &["WL-306"], "is being sealed (spec.writes: Frozen)");
    passes(&admit(&world, "lab", &set(trainer(), "/spec/containers/0/volumeMounts/0/readOnly", json!(true))));
    let image = json!(&world.settings.verifier_image);
    let job = set(trainer(), "/spec/containers/0/image", image.clone());
    let job = set(job, "/spec/containers/0/args", json!(["digest", "--root", "/models", "--write-manifest"]));
    passes(&admit(&world, "lab", &job));
    for (pointer, value) in [
        ("/spec/containers/0/command", json!(["/bin/sh"])),
        ("/spec/containers/0/args", json!(["verify"])),
        ("/spec/containers/0/image", json!("x")),
        ("/spec/containers/0/env", json!([{"name": "LD_PRELOAD", "value": "x"}])),
    ] {
        let other = admit(&world, "lab", &set(job.clone(), pointer, value));
        refused(&other, &["WL-306"], "is being sealed");
    }
    let second = json!({"name": "second", "image": image, "args": ["digest"]});
    assert_eq!(ids(&admit(&world, "lab", &set(job, "/spec/containers/-", second))), ["WL-306"]);
}

#[test]
fn a_job_reads_sealed_weights_and_writes_open_ones() {
    let mut world = making();
    let mut base = world.artifacts["orion"].clone();
    base.permitted.insert("training".into());
    world.artifacts.insert("orion".into(), base);
    bind(&mut world, "lab", "base", "pv-base", "vol-1");
    let mount = json!({"name": "base", "mountPath": "/base"});
    let volume = json!({"name": "base", "persistentVolumeClaim": {"claimName": "base"}});
    let tune = set(set(trainer(), "/spec/containers/0/volumeMounts/-", mount), "/spec/volumes/-", volume);
    passes(&admit(&world, "lab", &tune));
    let made = shaped(&world, "lab", &tune);
    // The base is verified and read-only, the product is neither.
    assert_eq!(
        made["spec"]["initContainers"][0]["volumeMounts"],
        json!([{"name": "base", "mountPath": "/weightlock/0", "readOnly": true}])
    );
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"][0].get("readOnly"), None);
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"][1]["readOnly"], json!(true));
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

#[test]
fn wl_601_the_bandwidth_annotation() {
    let world = with_environment(|e| e.modes.egress = Mode::Enforce);
    let pod = set(ordinary("scratch"), "/metadata/annotations", json!({"kubernetes.io/egress-bandwidth": "100G"}));
    refused(&judge(&world, "serving", &pod), &["WL-601"], "is \"100G\"; the environment sets \"10M\"");
    refused(&judge(&world, "serving", &ordinary("scratch")), &["WL-601"], "is missing");
    passes(&admit(&world, "serving", &pod));
    passes(&judge(&small(), "serving", &pod));
}
