//! Folding of watch events, and worlds from manifests.

use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::fold::{
    ArtifactObject, ClaimObject, EnvironmentObject, Fold, Folded, NamespaceObject, NodeObject, PodObject,
    SnapshotObject, converted,
};
use super::{Index, IndexError, Kind, Scope, from_objects};
use crate::api::Mode;
use crate::domain::world::{ClaimName, DataSource, LocationSource, Settings};
use crate::domain::{BackendKey, World};

/// Of the type that people try most often besides ECDSA.
const ED25519: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn artifact(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": name},
        "spec": {
            "type": kind, "model": {"name": "m"}, "manifestDigest": format!("sha256:{}", "0".repeat(64)),
            "manifest": {"path": "manifest.json"},
            "locations": [
                {"name": "a", "role": "Serving", "persistentVolumeClaim": {"namespace": "llm", "name": "w"}},
                {"name": "b", "role": "Backup", "nfs": {"server": "nas", "path": "/x"}, "path": "v1"},
            ],
            "permittedEnvironments": [{"name": "prod"}], "contact": "team@example.com",
        },
        "status": {"locations": [{"name": "a", "backendKey": "v1:csi:d:h"}]},
    })
}

fn environment(name: &str, mode: &str, namespaces: &[&str]) -> Value {
    let members: Vec<Value> = namespaces.iter().map(|n| json!({"namespace": n, "serviceAccounts": ["vllm"]})).collect();
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment",
        "metadata": {"name": name, "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {
            "purpose": "Inference", "members": members,
            "modes": {"admission": mode, "network": "Audit", "verification": "Enforce", "egress": "Audit"},
            "egressLimits": {"initiated": {"rate": "10M"}, "replies": {"rate": "1.5G"}},
        },
        "status": {"members": [{"namespace": "llm", "uid": "pinned"}]},
    })
}

fn namespace(name: &str, uid: &str) -> DynamicObject {
    object(json!({"metadata": {"name": name, "uid": uid}}))
}

/// A fold and the world it folds into, as the index starts with.
struct Pair<T: Folded>(Fold<T>, World);

impl<T: Folded> Pair<T> {
    fn new() -> Self {
        let world = World { unsynced: Kind::decisive().map(Kind::name).collect(), ..World::default() };
        Self(Fold::new(), world)
    }
    fn apply(&mut self, event: Event<DynamicObject>) -> super::fold::Folding {
        self.0.apply(&mut self.1, converted(event))
    }
}

#[test]
fn a_first_listing_counts_when_it_is_complete() {
    let mut it = Pair::<NamespaceObject>::new();
    assert!(!it.apply(Event::Init).changed);
    assert!(!it.apply(Event::InitApply(namespace("a", "1"))).changed);
    assert!(it.1.unsynced.contains("Namespace"), "nothing is decided on a part of them");
    // The listing breaks off and begins anew.
    it.apply(Event::Init);
    assert!(!it.apply(Event::InitApply(namespace("b", "2"))).changed);
    assert!(it.apply(Event::InitDone).changed);
    assert_eq!(it.1.namespaces, [("b".to_owned(), "2".to_owned())].into_iter().collect());
    assert!(!it.1.unsynced.contains("Namespace"));
    assert!(it.1.unsynced.contains("WeightArtifact"), "the other kinds are not listed yet");
}

#[test]
fn what_nodes_can_do_is_known_and_decides_nothing() {
    let mut it = Pair::<NodeObject>::new();
    assert!(!it.1.unsynced.contains("Node"), "no refusal rests on nodes");
    assert!(!it.1.restarts_all_containers());
    let node = |name: &str, features: Value| {
        object(json!({"metadata": {"name": name}, "status": {"declaredFeatures": features}}))
    };
    it.apply(Event::Apply(node("a", json!(["ExtendWebSocketsToKubelet", "RestartAllContainersOnContainerExits"]))));
    assert!(it.1.restarts_all_containers());
    it.apply(Event::Apply(node("b", Value::Null)));
    assert!(!it.1.restarts_all_containers(), "one node of an older release is enough");
    it.apply(Event::Delete(node("b", Value::Null)));
    assert!(it.1.restarts_all_containers());
}

#[test]
fn an_empty_listing_is_a_listing() {
    let mut it = Pair::<NamespaceObject>::new();
    it.apply(Event::Init);
    assert!(it.apply(Event::InitDone).changed);
    assert!(!it.1.unsynced.contains("Namespace"));
}

#[test]
fn a_listing_that_is_repeated_replaces_what_is_held_in_one_step() {
    let mut it = Pair::<NamespaceObject>::new();
    for event in
        [Event::Init, Event::InitApply(namespace("a", "1")), Event::InitApply(namespace("b", "2")), Event::InitDone]
    {
        it.apply(event);
    }
    it.apply(Event::Init);
    it.apply(Event::InitApply(namespace("b", "3")));
    assert_eq!(it.1.namespaces.len(), 2, "what was known stays while the listing is under way");
    let before = it.1.clone();
    // The listing breaks off and begins anew.
    it.apply(Event::Init);
    it.apply(Event::InitApply(namespace("c", "4")));
    assert!(it.apply(Event::InitDone).changed);
    assert_eq!(it.1.namespaces, [("c".to_owned(), "4".to_owned())].into_iter().collect());
    assert_eq!(before.namespaces.len(), 2, "a reader keeps the world it took");
}

#[test]
fn what_changes_nothing_is_no_change() {
    let mut it = Pair::<NamespaceObject>::new();
    assert!(it.apply(Event::Apply(namespace("a", "1"))).changed);
    assert!(!it.apply(Event::Apply(namespace("a", "1"))).changed);
    assert!(it.apply(Event::Delete(namespace("a", "1"))).changed);
    assert!(!it.apply(Event::Delete(namespace("a", "1"))).changed);
}

#[test]
fn an_artifact_is_read_with_its_pins() {
    let mut it = Pair::<ArtifactObject>::new();
    it.apply(Event::Apply(object(artifact("x", "FineTune"))));
    let read = &it.1.artifacts["x"];
    assert_eq!(read.locations[0].pinned.as_ref().map(|k| k.0.as_str()), Some("v1:csi:d:h"));
    let claim = ClaimName::new("llm", "w");
    assert_eq!(read.locations[0].source, LocationSource::Claim(claim));
    assert_eq!((read.locations[1].path.as_deref(), &read.locations[1].pinned), (Some("v1"), &None));
    assert!(read.permitted.contains("prod"));
}

#[test]
fn an_artifact_that_cannot_be_read_keeps_its_last_good_form_and_is_named() {
    let mut it = Pair::<ArtifactObject>::new();
    it.apply(Event::Apply(object(artifact("x", "FineTune"))));
    let folding = it.apply(Event::Apply(object(artifact("x", "KindOfTomorrow"))));
    assert!(folding.changed);
    assert_eq!(folding.unreadable[0].0, "x");
    assert!(it.1.unreadable_artifacts["x"].contains("KindOfTomorrow"), "{:?}", it.1.unreadable_artifacts);
    assert!(it.1.artifacts.contains_key("x"));
    it.apply(Event::Apply(object(artifact("x", "Base"))));
    assert!(it.1.unreadable_artifacts.is_empty());
}

#[test]
fn an_authority_that_the_verifier_cannot_use_is_named_with_its_field() {
    let mut it = Pair::<ArtifactObject>::new();
    let mut problems = |authority: Value| {
        let mut signed = artifact("x", "Base");
        signed["spec"]["signature"] = json!({"bundlePath": "model.sig", "authorities": [authority]});
        it.apply(Event::Apply(object(signed)));
        it.1.artifacts["x"].signature.clone().unwrap().problems
    };
    let key = include_str!("../../tests/golden/oms/reference/p256.pub");
    assert_eq!(problems(json!({"name": "release", "publicKey": {"pem": key}})), Vec::<String>::new());
    for (authority, expected) in [
        (
            json!({"name": "old", "publicKey": {"pem": ED25519}}),
            "spec.signature.authorities[old] has a publicKey.pem that cannot be used: it is an Ed25519 key: OMS v1.0 signs with ECDSA on P-256, P-384 or P-521",
        ),
        (
            json!({"name": "ca", "certificate": {"rootsPem": "-----BEGIN CERTIFICATE-----", "identity": "a@b"}}),
            "spec.signature.authorities[ca] has a certificate.rootsPem that cannot be used: ",
        ),
        (
            json!({"name": "ci", "sigstore": {"identity": "a@b", "issuer": "https://c", "trustedRoot": "{}"}}),
            "spec.signature.authorities[ci] has a sigstore.trustedRoot that cannot be used: ",
        ),
    ] {
        let found = problems(authority);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }
}

#[test]
fn a_bad_artifact_in_a_listing_does_not_keep_the_good_ones_out() {
    let mut it = Pair::<ArtifactObject>::new();
    it.apply(Event::Init);
    it.apply(Event::InitApply(object(json!({"metadata": {"name": "bad"}, "spec": {"locations": 5}}))));
    it.apply(Event::InitApply(object(artifact("good", "Base"))));
    it.apply(Event::InitDone);
    assert!(!it.1.unsynced.contains("WeightArtifact"));
    assert!(it.1.artifacts.contains_key("good"));
    assert!(it.1.unreadable_artifacts.contains_key("bad"));
    it.apply(Event::Delete(object(json!({"metadata": {"name": "bad"}}))));
    assert!(it.1.unreadable_artifacts.is_empty());
}

#[test]
fn an_environment_has_its_pins_and_the_sum_of_its_rates() {
    let mut it = Pair::<EnvironmentObject>::new();
    it.apply(Event::Apply(object(environment("prod", "Audit", &["llm", "new"]))));
    let read = &it.1.environments["prod"];
    assert_eq!(read.egress_rate, Some(1_510_000_000));
    assert_eq!(read.created, "2026-01-02T03:04:05Z");
    assert_eq!(read.members[0].uid.as_deref(), Some("pinned"));
    assert_eq!(read.members[1].uid, None);
    assert!(!read.enforces_admission());
}

#[test]
fn a_declared_uid_goes_before_the_pinned_one() {
    let mut it = Pair::<EnvironmentObject>::new();
    let mut declared = environment("prod", "Enforce", &["llm"]);
    declared["spec"]["members"][0]["uid"] = "confirmed".into();
    it.apply(Event::Apply(object(declared)));
    assert_eq!(it.1.environments["prod"].members[0].uid.as_deref(), Some("confirmed"));
}

#[test]
fn an_environment_never_read_is_held_at_its_strictest() {
    let mut it = Pair::<EnvironmentObject>::new();
    let folding = it.apply(Event::Apply(object(environment("prod", "ModeOfTomorrow", &["llm"]))));
    assert!(folding.unreadable[0].1.contains("ModeOfTomorrow"), "{:?}", folding.unreadable);
    let read = &it.1.environments["prod"];
    assert_eq!(read.modes.admission, Mode::Enforce);
    assert_eq!((read.members[0].namespace.as_str(), read.members[0].uid.as_deref()), ("llm", Some("pinned")));
    assert!(read.members[0].service_accounts.is_empty());
}

#[test]
fn an_environment_read_before_stays_as_it_was_and_gains_members() {
    let mut it = Pair::<EnvironmentObject>::new();
    it.apply(Event::Apply(object(environment("prod", "Audit", &["llm", "gone"]))));
    it.apply(Event::Apply(object(environment("prod", "ModeOfTomorrow", &["llm", "new"]))));
    let read = &it.1.environments["prod"];
    assert_eq!(read.modes.admission, Mode::Audit);
    let names: Vec<_> = read.members.iter().map(|m| m.namespace.as_str()).collect();
    assert_eq!(names, ["llm", "gone", "new"]);
    assert!(!it.apply(Event::Apply(object(environment("prod", "ModeOfTomorrow", &["new"])))).changed);
}

#[test]
fn claims_are_read_with_volume_binding_and_source() {
    let mut it = Pair::<ClaimObject>::new();
    it.apply(Event::Apply(object(json!({
        "metadata": {"namespace": "llm", "name": "w", "uid": "u"},
        "spec": {"volumeName": "pv", "dataSource": {"kind": "PersistentVolumeClaim", "name": "src"}},
        "status": {"phase": "Bound"},
    }))));
    let claim = &it.1.claims[&ClaimName::new("llm", "w")];
    assert_eq!((claim.volume.as_deref(), claim.bound), (Some("pv"), true));
    let source = DataSource { kind: "PersistentVolumeClaim".into(), namespace: "llm".into(), name: "src".into() };
    assert_eq!(claim.data_source, Some(Box::new(source)));
}

#[test]
fn snapshots_are_read_with_every_handle() {
    let mut it = Pair::<SnapshotObject>::new();
    // A member of a group snapshot, as the snapshot controller writes it (external-snapshotter 8.2 and later), is one like others.
    it.apply(Event::Apply(object(json!({
        "metadata": {"name": "content"},
        "spec": {"driver": "D.example.com", "source": {"volumeHandle": "v"}, "volumeSnapshotRef": {"namespace": "llm", "name": "s"}},
        "status": {"snapshotHandle": "snap", "volumeGroupSnapshotHandle": "group"},
    }))));
    let read = &it.1.snapshots["content"];
    assert_eq!((read.snapshot.namespace.as_str(), read.snapshot.name.as_str()), ("llm", "s"));
    assert_eq!(read.volume, Some(BackendKey::csi("d.example.com", "v")));
    assert_eq!(read.handles, [BackendKey::csi("d.example.com", "snap")]);
}

#[test]
fn pods_are_held_without_what_changes_often() {
    let mut it = Pair::<PodObject>::new();
    let pod = |version: &str, ready: &str| {
        object(json!({
            "metadata": {"namespace": "llm", "name": "p", "resourceVersion": version, "labels": {"a": "b"},
                "managedFields": [{"manager": "x"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "keep": "me"}},
            "spec": {"containers": [{"name": "c", "fieldOfTomorrow": true}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }))
    };
    assert!(it.apply(Event::Apply(pod("1", "False"))).changed);
    assert!(!it.apply(Event::Apply(pod("2", "True"))).changed);
    let held = it.1.pods[&("llm".to_owned(), "p".to_owned())].unpack();
    assert_eq!(held["spec"]["containers"][0]["fieldOfTomorrow"], true);
    assert_eq!(held["metadata"]["annotations"], json!({"keep": "me"}));
    assert_eq!(held["metadata"]["labels"]["a"], "b");
    assert_eq!((&held["kind"], &held["status"]["phase"]), (&json!("Pod"), &json!("Running")));
    assert!(held["metadata"].get("managedFields").is_none());
}

#[test]
fn a_change_is_announced_once_per_step() {
    let index = Index::fixed(World::default());
    let mut changed = index.changed();
    let mut fold = Fold::<NamespaceObject>::new();
    let seen = |name: &str| converted(Event::Apply(namespace(name, "1")));
    index.fold(&mut fold, vec![seen("a"), seen("b")]);
    assert!(changed.has_changed().unwrap());
    assert_eq!(*changed.borrow_and_update(), 1);
    index.fold(&mut fold, vec![seen("a")]);
    assert!(!changed.has_changed().unwrap());
}

#[test]
fn the_webhook_does_not_watch_pods() {
    assert!(!Scope::Webhook.kinds().contains(&Kind::Pod));
    assert!(Scope::Controller.kinds().contains(&Kind::Pod));
}

#[test]
fn manifests_become_a_world_with_what_a_cluster_adds() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        artifact("x", "Base"), environment("prod", "Enforce", &["llm", "fresh"]),
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"}},
    ]});
    let typed = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaimList", "items": [
        {"metadata": {"namespace": "fresh", "name": "w"}, "spec": {}},
    ]});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
        "spec": {"csi": {"driver": "d", "volumeHandle": "h"}, "claimRef": {"namespace": "fresh", "name": "w"}}});
    let world = from_objects(vec![list, Value::Null, typed, volume], Settings::default()).unwrap();
    assert!(world.unsynced.is_empty());
    let claim = &world.claims[&ClaimName::new("fresh", "w")];
    assert_eq!((claim.volume.as_deref(), claim.bound), (Some("pv"), true));
    let members = &world.environments["prod"].members;
    assert_eq!(members[0].uid.as_deref(), Some("pinned"), "a status is taken as it is");
    assert_eq!(members[1].uid.as_ref(), world.namespaces.get("fresh"));
    assert!(world.namespaces.contains_key("fresh"));
    assert_eq!(world.volumes["pv"].key.as_ref().map(|k| k.0.as_str()), Ok("v1:csi:d:h"));
}

#[test]
fn a_claim_does_not_take_a_volume_that_is_another_s() {
    let pv = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
        "spec": {"csi": {"driver": "d", "volumeHandle": "h"}, "claimRef": {"namespace": "a", "name": "w"}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "b", "name": "w"},
        "spec": {"volumeName": "pv"}});
    let world = from_objects(vec![pv, claim], Settings::default()).unwrap();
    let claim = &world.claims[&ClaimName::new("b", "w")];
    assert!(!claim.bound);
}

#[test]
fn bad_manifests_are_refused_with_what_is_wrong() {
    let error = |objects: Vec<Value>| from_objects(objects, Settings::default()).unwrap_err().to_string();
    assert_eq!(error(vec![json!({"apiVersion": "v1"})]), "manifest 1: kind is missing");
    assert_eq!(error(vec![Value::Null, json!("text")]), "manifest 2: kind is missing");
    assert_eq!(error(vec![json!({"kind": "Pod"})]), "manifest 1: apiVersion is missing");
    assert_eq!(error(vec![json!({"apiVersion": "v1", "kind": "List"})]), "manifest 1: items of a list is missing");
    assert_eq!(
        error(vec![json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}})]),
        "manifest 1: metadata.name of a Pod is missing"
    );
    let unreadable = from_objects(vec![artifact("x", "Odd")], Settings::default()).unwrap_err();
    assert!(matches!(&unreadable, IndexError::Unreadable { kind: "WeightArtifact", name, .. } if name == "x"));
    assert!(unreadable.to_string().contains("unknown variant `Odd`"), "{unreadable}");
    // A handle that says nothing registers nothing.
    let mut free_text = artifact("x", "Base");
    free_text["spec"]["locations"] =
        json!([{"name": "a", "role": "Serving", "csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "h"}}]);
    assert!(error(vec![free_text]).contains("csi.volumeAttributes.server is missing"));
}

#[test]
fn aliases_are_keys_of_their_location() {
    let mut declared = artifact("x", "Base");
    declared["spec"]["locations"][1]["aliases"] =
        json!([{"nfs": {"server": "10.0.0.7", "path": "/"}}, {"hostPath": {"path": "/mnt/nas"}}]);
    let world = from_objects(vec![declared.clone()], Settings::default()).unwrap();
    let artifact = &world.artifacts["x"];
    let keys: Vec<String> =
        world.keys_of(artifact).into_iter().filter_map(|(_, key)| key.ok()).map(|key| key.0).collect();
    assert_eq!(keys[1..], ["v1:nfs:nas:/x", "v1:nfs:10.0.0.7:/", "v1:host:/mnt/nas"]);
    let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
    declared["spec"]["locations"][1] = json!({"name": "b", "role": "Serving",
        "image": {"digest": digest("a"), "repositories": ["models/orion"]}, "aliases": [{"image": {"digest": digest("b")}}]});
    let world = from_objects(vec![declared.clone()], Settings::default()).unwrap();
    let keys = world.keys_of(&world.artifacts["x"]).into_iter().filter_map(|(_, key)| key.ok());
    let keys: Vec<String> = keys.skip(1).map(|key| key.0).collect();
    let expected = [
        format!("v1:image:{}", digest("a")),
        "v1:repository:docker.io/models/orion".into(),
        format!("v1:image:{}", digest("b")),
    ];
    assert_eq!(keys, expected);
    declared["spec"]["locations"][1]["aliases"] = json!([{}]);
    let said = from_objects(vec![declared], Settings::default()).unwrap_err().to_string();
    assert!(said.contains("an alias of spec.locations[b] takes exactly one of: csi, nfs, hostPath, image"), "{said}");
}
