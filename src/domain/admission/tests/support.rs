//! A small cluster, and pods in it.

use serde_json::{Value, json};

use crate::api::{Mode, Modes, Network, PersistentWrites, UnregisteredReads, VolumeRules};
use crate::domain::admission::{decide, shape};
use crate::domain::backend::BackendKey;
use crate::domain::decision::Decision;
use crate::domain::request::{Operation, Request, User};
use crate::domain::world::*;

pub const DIGEST: &str = "sha256:5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e";

/// Image of the downloader of environments.
pub const DOWNLOADER: &str =
    "docker.io/kserve/storage-initializer@sha256:5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e";

pub fn claim(namespace: &str, name: &str) -> ClaimName {
    ClaimName::new(namespace, name)
}

pub fn environment(name: &str, namespace: &str, account: &str) -> Environment {
    Environment {
        name: name.into(),
        created: "2026-01-01T00:00:00Z".into(),
        members: vec![EnvironmentMember {
            namespace: namespace.into(),
            uid: Some(format!("uid-{namespace}")),
            service_accounts: [account.to_owned()].into(),
            pod_status_protected_since: None,
        }],
        modes: Modes {
            admission: Mode::Enforce,
            network: Mode::Enforce,
            verification: Mode::Enforce,
            egress: Mode::Audit,
        },
        volumes: VolumeRules {
            unregistered_reads: UnregisteredReads::Deny,
            persistent_writes: PersistentWrites::ProducedOnly,
        },
        trusted_init: vec!["registry.example.com/mesh/".into()],
        reverify: None,
        downloaders: vec![DOWNLOADER.into()],
        network: Network::default(),
        egress_rate: Some(10_000_000),
        deleting: false,
    }
}

/// - environment `inference`: namespace `serving`, account `vllm`; environment `training`: namespace `lab`, account `trainer`;
///   namespace `research` is in none.
/// - artifact `orion`, sealed, permitted in `inference`: claim `serving/orion` (vol-1) with path `v3`, nfs `nas:/models/orion`.
/// - claims `serving/scratch` (vol-2, unregistered), `serving/fresh` (unbound), `research/stolen` (bound to a second volume of vol-1).
pub fn small() -> World {
    let mut world = World::default();
    world.settings.verifier_image = "registry.example.com/weightlock-verify@sha256:1".into();
    for namespace in ["serving", "lab", "research"] {
        world.namespaces.insert(namespace.into(), format!("uid-{namespace}"));
    }
    world.environments.insert("inference".into(), environment("inference", "serving", "vllm"));
    world.environments.insert("training".into(), environment("training", "lab", "trainer"));
    bind(&mut world, "serving", "orion", "pv-orion", "vol-1");
    bind(&mut world, "serving", "scratch", "pv-scratch", "vol-2");
    bind(&mut world, "lab", "data", "pv-data", "vol-3");
    bind(&mut world, "research", "stolen", "pv-stolen", "vol-1");
    bind(&mut world, "lab", "stolen", "pv-stolen-2", "vol-1");
    world.claims.insert(claim("serving", "fresh"), Claim::default());
    world.artifacts.insert(
        "orion".into(),
        Artifact {
            name: "orion".into(),
            digest: Some(DIGEST.into()),
            manifest: Manifest::Path(".weightlock/manifest.json".into()),
            content: Default::default(),
            signature: None,
            locations: vec![
                ArtifactLocation {
                    name: "serving".into(),
                    source: LocationSource::Claim(claim("serving", "orion")),
                    pinned: None,
                    aliases: vec![],
                    path: Some("v3".into()),
                },
                ArtifactLocation {
                    name: "share".into(),
                    source: LocationSource::Key(BackendKey::nfs("nas", "/models/orion")),
                    pinned: None,
                    aliases: vec![],
                    path: None,
                },
            ],
            permitted: ["inference".to_owned()].into(),
            producers: vec![],
            frozen: false,
            effort: None,
            contact: "weights-team@example.com".into(),
        },
    );
    world
}

/// `small`, with the artifact `run` of `training`: open, produced by account `trainer`, in claim `lab/data` (vol-3).
pub fn making() -> World {
    let mut world = small();
    let mut run = world.artifacts["orion"].clone();
    run.name = "run".into();
    run.digest = None;
    run.locations = vec![ArtifactLocation {
        name: "primary".into(),
        source: LocationSource::Claim(claim("lab", "data")),
        pinned: None,
        aliases: vec![],
        path: None,
    }];
    run.producers = vec![Producer { environment: "training".into(), service_accounts: ["trainer".to_owned()].into() }];
    world.artifacts.insert("run".into(), run);
    world
}

/// Changes the artifact `run` of [`making`].
pub fn with_run(change: impl FnOnce(&mut Artifact)) -> World {
    let mut world = making();
    change(world.artifacts.get_mut("run").unwrap());
    world
}

/// A training job that writes checkpoints to claim `lab/data`.
pub fn trainer() -> Value {
    set(ordinary("data"), "/spec/serviceAccountName", json!("trainer"))
}

/// A claim bound to a volume of the EBS driver.
pub fn bind(world: &mut World, namespace: &str, name: &str, volume: &str, handle: &str) {
    world.claims.insert(claim(namespace, name), Claim { volume: Some(volume.into()), bound: true, ..Claim::default() });
    world.volumes.insert(
        volume.into(),
        Volume { key: Ok(BackendKey::csi("ebs.csi.aws.com", handle)), claim: Some(claim(namespace, name)) },
    );
}

/// Changes the environment `inference`.
pub fn with_environment(change: impl FnOnce(&mut Environment)) -> World {
    let mut world = small();
    change(world.environments.get_mut("inference").unwrap());
    world
}

/// Changes the artifact `orion`.
pub fn with_artifact(change: impl FnOnce(&mut Artifact)) -> World {
    let mut world = small();
    change(world.artifacts.get_mut("orion").unwrap());
    world
}

/// A model server that mounts a claim at /models.
pub fn server(claim: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "vllm-0", "labels": {"app": "vllm"}},
        "spec": {
            "serviceAccountName": "vllm",
            "containers": [{
                "name": "vllm",
                "image": "registry.example.com/serving/vllm@sha256:2",
                "securityContext": {"runAsUser": 1000, "runAsGroup": 2000},
                "resources": {
                    "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
                    "limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
                },
                "volumeMounts": [{"name": "w", "mountPath": "/models"}]
            }],
            "volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": claim}}]
        }
    })
}

/// A pod without weights and GPU that mounts a claim.
pub fn ordinary(claim: &str) -> Value {
    let mut pod = server(claim);
    pod["spec"]["containers"][0].as_object_mut().unwrap().remove("resources");
    pod
}

/// Sets a value by JSON pointer, the last step of which may be new; `-` appends.
pub fn set(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is not there")) {
        Value::Object(fields) => {
            fields.insert(last.replace("~1", "/"), value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        other => panic!("{parent} is {other}"),
    }
    object
}

/// A request to create a pod.
pub fn creation<'a>(namespace: &'a str, pod: &'a Value) -> Request<'a> {
    request(Operation::Create, "pods", None, namespace, Some(pod), None)
}

pub fn request<'a>(
    operation: Operation,
    resource: &'a str,
    subresource: Option<&'a str>,
    namespace: &'a str,
    object: Option<&'a Value>,
    old_object: Option<&'a Value>,
) -> Request<'a> {
    let user = User { name: "alice", groups: vec!["devs"] };
    Request { operation, group: "", resource, subresource, namespace, name: "vllm-0", user, object, old_object }
}

/// The pod as the mutation leaves it.
pub fn shaped(world: &World, namespace: &str, pod: &Value) -> Value {
    shape(world, &creation(namespace, pod)).object.unwrap_or_else(|| pod.clone())
}

/// The decision on a pod as the mutation leaves it.
pub fn admit(world: &World, namespace: &str, pod: &Value) -> Decision {
    judge(world, namespace, &shaped(world, namespace, pod))
}

/// The decision on a pod as it stands.
pub fn judge(world: &World, namespace: &str, pod: &Value) -> Decision {
    decide(world, &creation(namespace, pod))
}

/// The ids of the rules that are broken.
pub fn ids(decision: &Decision) -> Vec<&'static str> {
    decision.violations.iter().map(|v| v.rule.id()).collect()
}

/// The pod is refused by exactly these rules, and the first says this.
#[track_caller]
pub fn refused(decision: &Decision, expected: &[&str], fact: &str) {
    assert_eq!(ids(decision), expected, "{:#?}", decision.violations);
    assert!(decision.violations[0].fact.contains(fact), "{:?} does not say {fact:?}", decision.violations[0].fact);
    for violation in &decision.violations {
        assert!(!violation.remedy.is_empty(), "{violation}");
    }
}

/// The pod passes, without warnings.
#[track_caller]
pub fn passes(decision: &Decision) {
    assert_eq!(*decision, Decision::default());
}
