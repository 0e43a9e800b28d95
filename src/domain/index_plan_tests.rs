use proptest::prelude::*;

use super::*;
use crate::api::{IndexReach, Mode, Modes, Network, VolumeRules};
use crate::domain::world::{
    ArtifactLocation, Claim, Environment, EnvironmentMember, Manifest, SnapshotContent, SnapshotName, Volume,
};

pub fn environment(name: &str, namespace: &str, admission: Mode) -> Environment {
    Environment {
        name: name.into(),
        created: "2026-01-01T00:00:00Z".into(),
        members: vec![EnvironmentMember {
            namespace: namespace.into(),
            uid: Some(format!("uid-{namespace}")),
            service_accounts: ["*".to_string()].into(),
            pod_status_protected_since: None,
        }],
        modes: Modes { admission, network: Mode::Audit, verification: Mode::Audit, egress: Mode::Audit },
        volumes: VolumeRules::default(),
        trusted_init: vec![],
        reverify: None,
        downloaders: vec![],
        network: Network::default(),
        egress_rate: None,
        deleting: false,
    }
}

pub fn artifact(name: &str, permitted: &[&str], keys: Vec<BackendKey>) -> Artifact {
    Artifact {
        name: name.into(),
        digest: None,
        manifest: Manifest::Path("m".into()),
        content: Default::default(),
        signature: None,
        locations: keys
            .into_iter()
            .enumerate()
            .map(|(n, key)| ArtifactLocation {
                name: format!("l{n}"),
                source: LocationSource::Key(key),
                pinned: None,
                aliases: vec![],
                path: None,
            })
            .collect(),
        permitted: permitted.iter().map(|p| (*p).to_string()).collect(),
        producers: vec![],
        frozen: false,
        effort: None,
        contact: format!("{name}@example.com"),
    }
}

pub fn world(environments: Vec<Environment>, artifacts: Vec<Artifact>) -> World {
    let mut world = World::default();
    for environment in environments {
        for member in &environment.members {
            world.namespaces.insert(member.namespace.clone(), format!("uid-{}", member.namespace));
        }
        world.environments.insert(environment.name.clone(), environment);
    }
    world.artifacts = artifacts.into_iter().map(|a| (a.name.clone(), a)).collect();
    world
}

/// The two parts of a plan in one.
fn only(world: &World) -> WeightIndexSpec {
    let mut shards = plan(world, &[]).unwrap();
    assert_eq!(shards.len(), 2);
    let claims = shards.remove(1);
    let storage = shards.remove(0);
    assert_eq!((storage.part, claims.part), (IndexPart::Storage, IndexPart::Claims));
    // Each has its own numbers, so both are asked by what they say.
    WeightIndexSpec { claims: claims.claims, volumes: claims.volumes, ..storage }
}

/// Where what a part lists may be used.
fn places(world: &World, part: IndexPart, entry: &str) -> Vec<String> {
    let shard = plan(world, &[]).unwrap().into_iter().find(|shard| shard.part == part).unwrap();
    let (.., found) = shard.entries().find(|(_, key, _)| *key == entry).unwrap();
    shard.terms_of(found).unwrap().environments.clone()
}

#[test]
fn storage_claims_and_volumes_are_listed_with_what_all_owners_permit() {
    let nas = |path: &str| BackendKey::nfs("nas", path);
    let mut w = world(
        vec![environment("a", "ns-a", Mode::Enforce), environment("b", "ns-b", Mode::Enforce)],
        vec![
            artifact("base", &["a", "b"], vec![nas("/models")]),
            artifact("tuned", &["b"], vec![nas("/models/tuned"), BackendKey::csi("d", "h")]),
        ],
    );
    let claim = |name: &str| ClaimName::new("ns-b", name);
    w.volumes.insert("pv-root".into(), Volume { key: Ok(nas("/models")), claim: Some(claim("root")) });
    w.volumes.insert("pv-sub".into(), Volume { key: Ok(nas("/models/other")), claim: None });
    w.volumes.insert("pv-near".into(), Volume { key: Ok(nas("/models-2")), claim: Some(claim("near")) });
    w.volumes.insert("pv-top".into(), Volume { key: Ok(nas("/")), claim: None });
    w.claims.insert(claim("asks"), Claim { volume: Some("pv-sub".into()), ..Claim::default() });
    w.claims.insert(claim("other"), Claim { volume: Some("pv-near".into()), ..Claim::default() });

    let index = only(&w);
    let names = |table: &BTreeMap<String, IndexEntry>| table.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&index.keys), ["v1:csi:d:h"]);
    assert_eq!(names(&index.paths), ["v1:nfs:nas:/models", "v1:nfs:nas:/models/tuned"]);
    assert_eq!(names(&index.parents), ["v1:csi:d:", "v1:nfs:", "v1:nfs:nas:/", "v1:nfs:nas:/models"]);
    assert_eq!(index.parents["v1:nfs:nas:/models"].artifacts, "tuned");
    assert_eq!(places(&w, IndexPart::Storage, "v1:nfs:nas:/"), ["b"]);
    assert_eq!(names(&index.volumes), ["pv-root", "pv-sub", "pv-top"]);
    assert_eq!(names(&index.claims), ["ns-b/asks", "ns-b/root"]);
    assert_eq!(
        plan(&w, &[]).unwrap()[0].terms_of(&index.paths["v1:nfs:nas:/models"]).unwrap().environments,
        ["a", "b"],
        "a neighbour in the directory is no owner of it"
    );
    assert_eq!(index.volumes["pv-root"].artifacts, "base, tuned");
    let terms = IndexTerms { environments: vec!["b".into()], contact: "base@example.com, tuned@example.com".into() };
    assert_eq!(plan(&w, &[]).unwrap()[1].terms_of(&index.volumes["pv-root"]), Some(&terms));
    assert_eq!(index.volumes["pv-sub"].artifacts, "base");
    assert_eq!(index.members["ns-a"].uid, "uid-ns-a");
}

#[test]
fn members_say_who_is_let_in() {
    let reach = |from: Option<serde_json::Value>| {
        let mut environment = environment("a", "ns-a", Mode::Enforce);
        let ports = serde_json::json!([{"protocol": "TCP", "port": 8000}]);
        let rules: Vec<_> =
            from.into_iter().map(|from| serde_json::json!({"name": "r", "from": from, "ports": ports})).collect();
        environment.network = serde_json::from_value(serde_json::json!({"ingress": rules})).unwrap();
        only(&world(vec![environment], vec![])).members["ns-a"].reach
    };
    assert_eq!(reach(None), IndexReach::Nobody);
    assert_eq!(reach(Some(serde_json::json!({"self": {}}))), IndexReach::Nobody);
    assert_eq!(reach(Some(serde_json::json!({"environment": "b"}))), IndexReach::Pods);
    let pods = serde_json::json!({"pods": {"namespace": "gateway", "labels": {"app": "gateway"}}});
    assert_eq!(reach(Some(pods)), IndexReach::Pods);
    assert_eq!(reach(Some(serde_json::json!({"cidr": "192.0.2.0/24"}))), IndexReach::Addresses);
}

#[test]
fn claims_are_misplaced_where_what_they_lead_to_is_not_permitted() {
    let mut w = world(
        vec![
            environment("a", "ns-a", Mode::Enforce),
            environment("b", "ns-b", Mode::Enforce),
            environment("c", "ns-c", Mode::Audit),
        ],
        vec![artifact("x", &["a", "c"], vec![BackendKey::csi("d", "h")])],
    );
    for namespace in ["ns-a", "ns-b", "ns-c", "ns-none"] {
        let claim = ClaimName::new(namespace, "w");
        w.volumes.insert(format!("pv-{namespace}"), Volume { key: Ok(BackendKey::csi("d", "h")), claim: Some(claim) });
    }
    let misplaced = |w: &World| only(w).misplaced.into_keys().collect::<Vec<_>>();
    assert_eq!(misplaced(&w), ["ns-b/w", "ns-none/w"]);
    w.namespaces.insert("ns-a".into(), "another".into());
    assert_eq!(misplaced(&w), ["ns-a/w", "ns-b/w", "ns-none/w"], "it was made again");
}

#[test]
fn ten_thousand_artifacts_fit_into_one_shard_that_pods_are_asked_with() {
    let artifacts = (0..10_000)
        .map(|n| {
            let key = match n % 4 {
                0 => BackendKey::nfs(&format!("nas-{}.example.com", n % 20), &format!("/models/m{n}/v1")),
                _ => BackendKey::csi("ebs.csi.aws.com", &format!("vol-{n:017x}")),
            };
            artifact(&format!("model-{n}"), &[&format!("environment-{}", n % 100)], vec![key])
        })
        .map(|artifact| Artifact { contact: "weights-team@example.com, #model-weights".into(), ..artifact })
        .collect();
    let shards = plan(&world(vec![], artifacts), &[]).unwrap();
    assert_eq!(shards.iter().filter(|shard| shard.part == IndexPart::Storage).count(), 1);
    let bytes = serde_json::to_vec(&shards[0]).unwrap().len();
    assert!((700_000..1_200_000).contains(&bytes), "{bytes}");
}

#[test]
fn the_size_of_a_shard_is_not_underrated() {
    let keys = |n: usize| {
        let (digest, name) = (format!("sha256:{n:064x}"), format!("registry.example.com/models/m{n}"));
        vec![
            BackendKey::image(&digest),
            BackendKey::repository(&name),
            BackendKey::nfs("nas", &format!("/models/m{n}/v1")),
        ]
    };
    let artifacts = (0..2_000).map(|n| artifact(&format!("model-{n}"), &["e"], keys(n))).collect();
    let shard = &plan(&world(vec![environment("e", "ns", Mode::Enforce)], artifacts), &[]).unwrap()[0];
    let bytes = serde_json::to_vec(&shard).unwrap().len();
    assert!(size(shard) >= bytes && size(shard) < bytes + bytes / 20, "{} {bytes}", size(shard));
}

#[test]
fn repositories_are_known_by_their_last_step() {
    let keys = ["registry.example.com:5000/models/orion", "busybox", "hub/nova"].map(BackendKey::repository);
    let shard = only(&world(vec![], vec![artifact("a", &[], keys.to_vec())]));
    assert_eq!(shard.images.keys().collect::<Vec<_>>(), ["busybox", "nova", "orion"]);
}

#[test]
fn snapshots_from_before_are_listed_by_the_volume_and_by_their_own_handle() {
    let csi = |handle: &str| BackendKey::csi("d", handle);
    let mut w = world(
        vec![environment("a", "ns-a", Mode::Enforce)],
        vec![artifact("x", &["a"], vec![csi("volume"), csi("snap-2")])],
    );
    for (name, volume, handle) in [
        ("again", None, "snap-1"),
        ("of-volume", Some("volume"), "snap-1"),
        ("declared", Some("other"), "snap-2"),
        ("other", Some("other"), "snap-3"),
    ] {
        let snapshot = SnapshotName { namespace: "ns-b".into(), name: name.into() };
        let content = SnapshotContent { snapshot, volume: volume.map(csi), handles: vec![csi(handle)] };
        w.snapshots.insert(format!("content-{name}"), content);
    }
    let planned = plan(&w, &[]).unwrap();
    assert_eq!(planned[1].snapshots.keys().collect::<Vec<_>>(), ["ns-b/again", "ns-b/declared", "ns-b/of-volume"]);
    assert_eq!(planned[1].snapshots["ns-b/declared"].artifacts, "x");
    // The handle of a snapshot of registered storage is registered; the volume that a registered snapshot was taken of is not.
    assert_eq!(planned[0].keys.keys().collect::<Vec<_>>(), ["v1:csi:d:snap-1", "v1:csi:d:snap-2", "v1:csi:d:volume"]);
}

#[test]
fn a_declared_claim_is_listed_before_it_exists() {
    let mut a = artifact("x", &["a"], vec![]);
    let source = LocationSource::Claim(ClaimName::new("n", "c"));
    a.locations.push(ArtifactLocation { name: "l".into(), source, pinned: None, aliases: vec![], path: None });
    let index = only(&world(vec![environment("a", "ns-a", Mode::Enforce)], vec![a]));
    assert_eq!(index.claims["n/c"].artifacts, "x");
}

#[test]
fn disks_of_in_tree_types_have_the_key_of_their_driver() {
    let key = BackendKey("v1:awsElasticBlockStore:vol-1".into());
    let index = only(&world(vec![], vec![artifact("x", &["a"], vec![key])]));
    assert!(index.keys.contains_key("v1:csi:ebs.csi.aws.com:vol-1"), "{:?}", index.keys);
}

#[test]
fn audit_is_not_enforced_and_missing_environments_are() {
    let key = |h: &str| vec![BackendKey::csi("d", h)];
    let w = world(
        vec![environment("audit", "ns-1", Mode::Audit), environment("enforce", "ns-2", Mode::Enforce)],
        vec![
            artifact("only-audit", &["audit", "missing"], key("1")),
            artifact("both", &["audit", "enforce"], key("2")),
            artifact("nowhere", &["missing"], key("3")),
        ],
    );
    let index = only(&w);
    assert_eq!(index.keys.keys().collect::<Vec<_>>(), ["v1:csi:d:2", "v1:csi:d:3"]);
    assert_eq!(index.members["ns-1"].admission, Mode::Audit);
    assert_eq!(index.members["ns-2"].admission, Mode::Enforce);
}

#[test]
fn a_namespace_is_a_member_by_its_uid_and_of_its_first_claimant() {
    let mut second = environment("second", "ns-1", Mode::Audit);
    second.created = "2026-02-01T00:00:00Z".into();
    let mut w = world(vec![environment("first", "ns-1", Mode::Enforce), second], vec![]);
    assert_eq!(only(&w).members["ns-1"].environment, "first");
    w.namespaces.insert("ns-1".into(), "another".into());
    assert!(only(&w).members.is_empty(), "it was made again");
}

#[test]
fn what_is_not_known_gives_no_plan() {
    let mut w = world(vec![], vec![]);
    w.unsynced.insert("PersistentVolume");
    assert!(matches!(plan(&w, &[]), Err(IndexPlanError::Unsynced(reason)) if reason.contains("PersistentVolume")));
}

#[test]
fn texts_are_bounded_and_one_line() {
    let names: Vec<String> = (0..100).map(|n| format!("artifact-{n:03}")).collect();
    let text = joined(names.iter().map(String::as_str));
    assert!(text.len() <= owners::MAX_TEXT && text.ends_with(" more"), "{text}");
    assert_eq!(joined(["a\nb", "c"].into_iter()), "a b, c");
    assert_eq!(joined(["x".repeat(600).as_str()].into_iter()), "1 more");
}

pub fn keys() -> impl Strategy<Value = Vec<BackendKey>> {
    let key = prop_oneof![
        "[a-c]{1,4}".prop_map(|h| BackendKey::csi("d", &h)),
        "(/[ab]){1,4}".prop_map(|p| BackendKey::nfs("nas", &p)),
        "(/[ab]){0,4}".prop_map(|p| BackendKey::host(&format!("/{p}"))),
        "[a-c]{1,4}".prop_map(|h| BackendKey(format!("v1:awsElasticBlockStore:{h}"))),
    ];
    prop::collection::vec(key, 0..6)
}

proptest! {
    #[test]
    fn every_key_is_in_exactly_one_shard(all in prop::collection::vec(keys(), 0..8), max in 1_usize..12) {
        let artifacts: Vec<Artifact> =
            all.iter().enumerate().map(|(n, keys)| artifact(&format!("a{n}"), &["e"], keys.clone())).collect();
        let w = world(vec![environment("e", "ns", Mode::Enforce)], artifacts);
        let members = members(&w, &[]);
        let tables = collect(&w, &[], &members);
        let cut = shards(IndexPart::Storage, &tables, &members, max);
        prop_assert!(cut.len().is_power_of_two());
        for (n, shard) in cut.iter().enumerate() {
            prop_assert_eq!((shard.shard as usize, shard.shards as usize), (n, cut.len()));
            prop_assert_eq!(shard.members.len(), 1);
            prop_assert!(fits(shard, max) || cut.len() == MAX_SHARDS);
        }
        for (n, keys) in all.iter().enumerate() {
            for key in keys {
                let text = key.comparable().0;
                let found: Vec<&IndexEntry> = cut
                    .iter()
                    .filter_map(|s| if key.has_path() { s.paths.get(&text) } else { s.keys.get(&text) })
                    .collect();
                prop_assert_eq!(found.len(), 1, "{}", text);
                let name = format!("a{n}");
                prop_assert!(found[0].artifacts.split(", ").any(|a| a == name));
            }
        }
    }

    #[test]
    fn owners_are_those_that_overlap(all in prop::collection::vec(keys(), 0..6), asked in keys()) {
        let artifacts: Vec<Artifact> =
            all.iter().enumerate().map(|(n, keys)| artifact(&format!("a{n}"), &["e"], keys.clone())).collect();
        let w = world(vec![environment("e", "ns", Mode::Enforce)], artifacts);
        let tables = collect(&w, &[], &members(&w, &[]));
        for key in asked {
            let expected: Vec<&str> = w.artifacts_at(&key).iter().map(|a| a.name.as_str()).collect();
            prop_assert_eq!(tables.owners(&key).names().into_iter().collect::<Vec<_>>(), expected, "{}", key);
        }
    }
}
