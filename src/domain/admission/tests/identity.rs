//! WL-1xx.

use serde_json::json;

use super::support::*;
use crate::api::{Mode, PersistentWrites, UnregisteredReads};
use crate::domain::backend::BackendKey;
use crate::domain::world::*;

#[test]
fn weights_pass_where_they_are_permitted() {
    passes(&admit(&small(), "serving", &server("orion")));
}

#[test]
fn wl_101_outside_every_environment() {
    let decision = admit(&small(), "research", &ordinary("stolen"));
    refused(&decision, &["WL-101"], "");
    assert_eq!(
        decision.violations[0].to_string(),
        "[WL-101] volume \"w\" is WeightArtifact \"orion\" (PVC \"stolen\" -> v1:csi:ebs.csi.aws.com:vol-1), not permitted in namespace \"research\" (no environment).\n         \
         Remedy: run in one of: inference (namespace serving); or ask weights-team@example.com."
    );
    let mut world = small();
    bind(&mut world, "research", "own", "pv-own", "vol-9");
    passes(&admit(&world, "research", &ordinary("own")));
}

#[test]
fn wl_101_in_an_environment_that_is_not_permitted() {
    let pod = set(ordinary("stolen"), "/spec/serviceAccountName", json!("trainer"));
    refused(
        &admit(&small(), "lab", &pod),
        &["WL-101"],
        "not permitted in namespace \"lab\" (environment \"training\")",
    );
    let world = with_artifact(|a| {
        a.permitted.insert("training".into());
    });
    passes(&admit(&world, "lab", &pod));
}

#[test]
fn wl_101_by_overlap_of_inline_storage() {
    let mount = |source| set(ordinary("x"), "/spec/volumes/0", json!({"name": "w", "nfs": source}));
    let world = small();
    let whole = mount(json!({"server": "NAS.", "path": "/models/./orion/"}));
    refused(&admit(&world, "research", &whole), &["WL-101"], "nfs -> v1:nfs:nas:/models/orion");
    refused(
        &admit(&world, "research", &mount(json!({"server": "nas", "path": "/models/orion/v3"}))),
        &["WL-101"],
        "orion/v3",
    );
    refused(&admit(&world, "research", &mount(json!({"server": "nas", "path": "/"}))), &["WL-101"], "v1:nfs:nas:/)");
    passes(&admit(&world, "research", &mount(json!({"server": "nas", "path": "/models/orion-2"}))));
    passes(&admit(&world, "serving", &whole));
}

#[test]
fn wl_101_under_another_name_of_the_storage() {
    let named = |server: &str, path: &str| {
        set(ordinary("x"), "/spec/volumes/0", json!({"name": "w", "nfs": {"server": server, "path": path}}))
    };
    let world = with_artifact(|a| a.locations[1].aliases = vec![BackendKey::nfs("10.0.0.7", "/orion")]);
    refused(&admit(&world, "research", &named("10.0.0.7", "/orion/v3")), &["WL-101"], "v1:nfs:10.0.0.7:/orion/v3");
    refused(&admit(&world, "research", &named("nas", "/models/orion")), &["WL-101"], "v1:nfs:nas:/models/orion");
    passes(&admit(&world, "research", &named("10.0.0.7", "/models")));
    // Where it is permitted, it is weights under either name: the verifier reads them there.
    let pod = shaped(
        &world,
        "serving",
        &set(server("orion"), "/spec/volumes/0", named("10.0.0.7", "/orion")["spec"]["volumes"][0].clone()),
    );
    passes(&judge(&world, "serving", &pod));
    assert_eq!(pod.pointer("/spec/initContainers/0/name"), Some(&json!("weightlock-verify")));
    // By CSI it is the same server.
    let csi = |share: &str| {
        let attributes = json!({"server": "nas", "share": share});
        set(
            ordinary("x"),
            "/spec/volumes/0",
            json!({"name": "w", "csi": {"driver": "nfs.csi.k8s.io", "volumeAttributes": attributes}}),
        )
    };
    refused(&admit(&small(), "research", &csi("/models/orion")), &["WL-101"], "csi -> v1:nfs:nas:/models/orion");
    passes(&admit(&small(), "research", &csi("/other")));
}

#[test]
fn wl_101_by_the_pinned_key_after_the_claim_is_gone() {
    let mut world = with_artifact(|a| a.locations[0].pinned = Some(BackendKey::csi("ebs.csi.aws.com", "vol-1")));
    world.claims.remove(&claim("serving", "orion"));
    refused(&admit(&world, "research", &ordinary("stolen")), &["WL-101"], "orion");
}

#[test]
fn a_claim_registers_no_storage_before_it_is_bound() {
    let mut world = small();
    // Someone lets the claim of the artifact point at the storage of another.
    world.claims.get_mut(&claim("serving", "orion")).unwrap().bound = false;
    world.claims.get_mut(&claim("serving", "orion")).unwrap().volume = Some("pv-scratch".into());
    assert!(world.artifacts_at(&BackendKey::csi("ebs.csi.aws.com", "vol-2")).is_empty());
}

#[test]
fn wl_102_needs_a_listed_service_account() {
    let pod = set(server("orion"), "/spec/serviceAccountName", json!("builder"));
    refused(&admit(&small(), "serving", &pod), &["WL-102"], "not permitted for service account \"builder\"");
    let mut unset = server("orion");
    unset["spec"].as_object_mut().unwrap().remove("serviceAccountName");
    refused(&admit(&small(), "serving", &unset), &["WL-102"], "service account \"default\"");
    let everyone = with_environment(|e| e.members[0].service_accounts = ["*".to_owned()].into());
    passes(&admit(&everyone, "serving", &pod));
}

#[test]
fn wl_103_a_recreated_namespace_does_not_inherit() {
    let mut world = small();
    world.namespaces.insert("serving".into(), "uid-2".into());
    let decision = admit(&world, "serving", &server("orion"));
    assert_eq!(ids(&decision), ["WL-103"]);
    assert!(decision.violations[0].fact.contains("made again (UID uid-2)"), "{}", decision.violations[0]);
    assert!(decision.violations[0].remedy.contains("spec.members[].uid: uid-2"));
    // Not even Audit is lenient with it.
    world.environments.get_mut("inference").unwrap().modes.admission = Mode::Audit;
    assert_eq!(ids(&judge(&world, "serving", &server("orion"))), ["WL-103"]);
    // Confirmed, it is the environment's again.
    let environment = world.environments.get_mut("inference").unwrap();
    environment.modes.admission = Mode::Enforce;
    environment.members[0].uid = Some("uid-2".into());
    passes(&admit(&world, "serving", &server("orion")));
}

#[test]
fn wl_103_nothing_is_permitted_before_the_namespace_is_pinned() {
    let world = with_environment(|e| e.members[0].uid = None);
    refused(&admit(&world, "serving", &server("orion")), &["WL-103"], "has not pinned its UID");
    let limited = with_environment(|e| {
        e.members[0].uid = None;
        e.modes.egress = Mode::Enforce;
    });
    passes(&admit(&limited, "serving", &ordinary("scratch")));
}

#[test]
fn a_namespace_stays_with_its_first_claimant() {
    let mut world = small();
    let mut rival = environment("rival", "serving", "*");
    rival.created = "2026-01-02T00:00:00Z".into();
    world.environments.insert("a-rival".into(), Environment { name: "a-rival".into(), ..rival });
    assert_eq!(world.membership("serving").environment().unwrap().name, "inference");
    let names: Vec<_> = world.claimants("serving").iter().map(|(e, _)| e.name.as_str()).collect();
    assert_eq!(names, ["inference", "a-rival"]);
    // One that is pinned outranks an older one that is not.
    world.environments.get_mut("inference").unwrap().members[0].uid = None;
    assert_eq!(world.membership("serving").environment().unwrap().name, "a-rival");
}

#[test]
fn wl_104_open_artifacts_are_mounted_by_their_producers_only() {
    let decision = admit(&with_artifact(|a| a.digest = None), "serving", &set(server("orion"), READ_ONLY, json!(true)));
    refused(&decision, &["WL-104"], "which is open: without a digest");
    assert!(decision.violations[0].fact.contains("(it has none)"), "{}", decision.violations[0]);
    // Its producers, to write and to read.
    let world = making();
    passes(&admit(&world, "lab", &trainer()));
    passes(&admit(&world, "lab", &set(trainer(), READ_ONLY, json!(true))));
    // A member of the same environment that is no producer.
    let mut world = making();
    world.environments.get_mut("training").unwrap().members[0].service_accounts.insert("viewer".into());
    let reads = set(set(trainer(), "/spec/serviceAccountName", json!("viewer")), READ_ONLY, json!(true));
    let decision = admit(&world, "lab", &reads);
    refused(
        &decision,
        &["WL-104"],
        "only its producers may mount it (environment \"training\", service account trainer)",
    );
    assert!(decision.violations[0].remedy.starts_with("seal it (kubectl weightlock seal run)"));
    // A producer that is no member of its environment, and a namespace that was made again.
    let mut world = with_run(|a| {
        a.producers[0].service_accounts.insert("guest".into());
    });
    let guest = set(trainer(), "/spec/serviceAccountName", json!("guest"));
    assert!(ids(&admit(&world, "lab", &guest)).contains(&"WL-102"));
    world.namespaces.insert("lab".into(), "uid-2".into());
    assert!(ids(&admit(&world, "lab", &trainer())).contains(&"WL-103"));
}

#[test]
fn open_artifacts_are_protected_from_everyone_else() {
    let mut world = making();
    bind(&mut world, "research", "copy", "pv-copy", "vol-3");
    refused(&admit(&world, "research", &ordinary("copy")), &["WL-101"], "is WeightArtifact \"run\"");
    // A permitted environment has to wait for the seal.
    bind(&mut world, "serving", "run", "pv-run", "vol-3");
    let decision = admit(&world, "serving", &set(server("run"), READ_ONLY, json!(true)));
    refused(&decision, &["WL-104"], "only its producers");
}

const READ_ONLY: &str = "/spec/containers/0/volumeMounts/0/readOnly";

#[test]
fn wl_105_a_part_cannot_be_verified() {
    let part = set(
        ordinary("x"),
        "/spec/volumes/0",
        json!({"name": "w", "nfs": {"server": "nas", "path": "/models/orion/tok"}}),
    );
    refused(&admit(&small(), "serving", &part), &["WL-105"], "only a part of WeightArtifact \"orion\"");
    passes(&admit(&with_environment(|e| e.modes.verification = Mode::Audit), "serving", &part));
    let whole = set(part, "/spec/volumes/0/nfs/path", json!("/models/orion"));
    passes(&admit(&small(), "serving", &whole));
}

#[test]
fn wl_110_unknown_types_are_refused_in_environments() {
    let pod = set(ordinary("x"), "/spec/volumes/0", json!({"name": "w", "quantumDisk": {"id": 1}}));
    refused(&admit(&small(), "serving", &pod), &["WL-110"], "\"quantumDisk\"");
    passes(&admit(&small(), "research", &pod));
    for known in ["configMap", "secret", "projected", "downwardAPI", "emptyDir"] {
        let pod = set(server("x"), "/spec/volumes/0", json!({"name": "w", known: {}}));
        passes(&admit(&small(), "serving", &pod));
    }
    let both = set(ordinary("x"), "/spec/volumes/0", json!({"name": "w", "emptyDir": {}, "quantumDisk": {}}));
    refused(&admit(&small(), "serving", &both), &["WL-110"], "\"quantumDisk\"");
}

#[test]
fn wl_111_inline_csi_does_not_tell() {
    let inline = |driver: &str| set(server("x"), "/spec/volumes/0", json!({"name": "w", "csi": {"driver": driver}}));
    refused(&admit(&small(), "serving", &inline("files.example.com")), &["WL-111"], "driver \"files.example.com\"");
    passes(&admit(&small(), "serving", &inline("secrets-store.csi.k8s.io")));
}

#[test]
fn generic_ephemeral_volumes_are_decided_by_their_template() {
    let template = |spec| {
        set(
            ordinary("x"),
            "/spec/volumes/0",
            json!({"name": "w", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}),
        )
    };
    let world = small();
    passes(&admit(&world, "serving", &template(json!({"storageClassName": "fast"}))));
    let clone = template(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "orion"}}));
    refused(&admit(&world, "serving", &clone), &["WL-112"], "claim template clones");
    let stolen = template(json!({"volumeName": "pv-stolen"}));
    refused(&admit(&world, "research", &stolen), &["WL-101"], "claim template -> PersistentVolume \"pv-stolen\"");
}

#[test]
fn wl_113_the_nodes_own_directories() {
    let host = |path: &str| set(ordinary("x"), "/spec/volumes/0", json!({"name": "w", "hostPath": {"path": path}}));
    for path in [
        "/",
        "/var/lib/kubelet",
        "/var/lib",
        "/dev/sda",
        "/var/run/docker.sock",
        "/etc/kubernetes/manifests",
        "/proc/1/root/var/lib/kubelet/pods",
        "/proc/4711/root/models",
        "/var/run/containerd",
        "/var/run/nri/nri.sock",
        "/etc/systemd/system",
        "/etc",
        "/opt/cni/bin",
    ] {
        assert_eq!(ids(&admit(&small(), "serving", &host(path))), ["WL-113"], "{path}");
    }
    for path in ["/srv/cache", "/etc/localtime", "/opt/models", "/run/cache"] {
        passes(&admit(&small(), "serving", &host(path)));
    }
    let storage = "/var/lib/rancher/k3s/storage/pvc-1";
    passes(&admit(&small(), "serving", &host(storage)));
    // Elsewhere WL-114 says so.
    assert!(admit(&small(), "research", &host("/var/lib/kubelet")).allowed());
}

fn with_second(claim: &str, read_only: bool) -> serde_json::Value {
    let pod =
        set(server("orion"), "/spec/volumes/-", json!({"name": "s", "persistentVolumeClaim": {"claimName": claim}}));
    set(pod, "/spec/containers/0/volumeMounts/-", json!({"name": "s", "mountPath": "/s", "readOnly": read_only}))
}

#[test]
fn wl_120_unregistered_volumes_beside_weights() {
    let pod = with_second("scratch", true);
    refused(
        &admit(&small(), "serving", &pod),
        &["WL-120"],
        "volume \"s\" (PVC \"scratch\" -> v1:csi:ebs.csi.aws.com:vol-2)",
    );
    let warned = admit(&with_environment(|e| e.volumes.unregistered_reads = UnregisteredReads::Warn), "serving", &pod);
    assert!(warned.allowed());
    assert!(warned.warnings[0].starts_with("[WL-120] volume \"s\""), "{:?}", warned.warnings);
    passes(&admit(&with_environment(|e| e.volumes.unregistered_reads = UnregisteredReads::Allow), "serving", &pod));
    passes(&admit(&small(), "serving", &ordinary("scratch")));
}

#[test]
fn wl_120_gpu_pods_and_what_lies_beside_an_artifact() {
    let mut gpu = server("scratch");
    gpu["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true);
    refused(&admit(&small(), "serving", &gpu), &["WL-120"], "a pod that asks for a GPU");
    let image = set(server("x"), "/spec/volumes/0", json!({"name": "w", "image": {"reference": "models:1"}}));
    refused(&admit(&small(), "serving", &image), &["WL-120"], "image \"models:1\"");
    // An ancestor of the artifact holds more than the artifact.
    let above = set(
        ordinary("x"),
        "/spec/volumes/0",
        json!({"name": "w", "nfs": {"server": "nas", "path": "/models", "readOnly": true}}),
    );
    refused(&admit(&small(), "serving", &above), &["WL-120"], "nfs -> v1:nfs:nas:/models)");
    let mut beside = set(server("orion"), "/spec/volumes/-", json!({"name": "i", "image": {"reference": "models:1"}}));
    refused(&admit(&small(), "serving", &beside), &["WL-120"], "a pod that holds weights");
    beside["spec"]["volumes"][1] = json!({"name": "i", "emptyDir": {}});
    passes(&admit(&small(), "serving", &beside));
}

#[test]
fn wl_121_writes_to_persistent_storage() {
    let reads = |e: &mut Environment| e.volumes.unregistered_reads = UnregisteredReads::Allow;
    let world = with_environment(reads);
    refused(
        &admit(&world, "serving", &with_second("scratch", false)),
        &["WL-121"],
        "container \"vllm\" can write to volume \"s\"",
    );
    refused(&admit(&world, "serving", &with_second("fresh", false)), &["WL-121"], "not bound yet");
    passes(&admit(&world, "serving", &with_second("scratch", true)));
    let block = set(
        with_second("scratch", true),
        "/spec/containers/0/volumeDevices",
        json!([{"name": "s", "devicePath": "/dev/x"}]),
    );
    refused(&admit(&world, "serving", &block), &["WL-121"], "can write");
    let writes = with_environment(|e| {
        reads(e);
        e.volumes.persistent_writes = PersistentWrites::Allow;
    });
    passes(&admit(&writes, "serving", &with_second("scratch", false)));
}

#[test]
fn wl_901_unreadable_artifacts_make_unregistered_storage_undecidable() {
    let mut world = small();
    world.unreadable_artifacts.insert("broken".into(), "spec.locations is missing".into());
    refused(&admit(&world, "serving", &ordinary("scratch")), &["WL-901"], "WeightArtifact \"broken\" cannot be read");
    passes(&admit(&world, "serving", &server("orion")));
    passes(&admit(&world, "serving", &set(server("x"), "/spec/volumes/0", json!({"name": "w", "emptyDir": {}}))));
}
