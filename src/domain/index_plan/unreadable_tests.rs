//! Artifacts that cannot be read, with nothing known of them but the index in force: as after a restart.

use proptest::prelude::*;

use super::tests::{artifact, environment, keys, world};
use super::*;
use crate::domain::world::{Claim, SnapshotContent, SnapshotName, Volume};

fn csi(handle: &str) -> BackendKey {
    BackendKey::csi("d", handle)
}

/// The same world, after artifacts became unreadable and the controller was started again.
fn without(world: &World, unreadable: &[&str]) -> World {
    let mut world = world.clone();
    for name in unreadable {
        world.artifacts.remove(*name);
        world.unreadable_artifacts.insert((*name).into(), "spec.type: unknown variant".into());
    }
    world
}

/// What a plan has under a key: of which artifacts it is, where they may be, and whom to ask.
fn found<'a>(plan: &'a [WeightIndexSpec], table: &str, key: &str) -> Option<(&'a str, Vec<&'a str>, &'a str)> {
    plan.iter().find_map(|shard| {
        let (.., entry) = shard.entries().find(|(of, found, _)| (*of, *found) == (table, key))?;
        let terms = shard.terms_of(entry).unwrap();
        let environments = terms.environments.iter().map(String::as_str).collect();
        Some((entry.artifacts.as_str(), environments, terms.contact.as_str()))
    })
}

/// Environments `a` and `b`, and artifacts: `lost` has a path, a disk with claim and snapshot, and one that it shares with `kept`.
fn before() -> World {
    let environments = vec![environment("a", "ns-a", Mode::Enforce), environment("b", "ns-b", Mode::Enforce)];
    let lost = artifact("lost", &["a"], vec![csi("own"), csi("shared"), BackendKey::nfs("nas", "/models/lost")]);
    let kept = artifact("kept", &["a", "b"], vec![csi("shared"), csi("kept")]);
    let mut w = world(environments, vec![lost, kept]);
    let claim = ClaimName { namespace: "ns-b".into(), name: "w".into() };
    w.volumes.insert("pv".into(), Volume { key: Ok(csi("own")), claim: Some(claim.clone()) });
    w.claims.insert(claim, Claim { volume: Some("pv".into()), ..Claim::default() });
    let snapshot = SnapshotName { namespace: "ns-b".into(), name: "s".into() };
    w.snapshots.insert("content".into(), SnapshotContent { snapshot, volume: Some(csi("own")), handles: vec![] });
    w
}

#[test]
fn one_that_cannot_be_read_stays_protected_and_holds_up_no_other() {
    let w = before();
    let in_force = plan(&w, &[]).unwrap();
    let mut broken = without(&w, &["lost"]);
    broken.artifacts.insert("new".into(), artifact("new", &["b"], vec![csi("new")]));
    broken.artifacts.remove("kept");
    let planned = plan(&broken, &in_force).unwrap();
    assert_eq!(found(&planned, "keys", "v1:csi:d:new"), Some(("new", vec!["b"], "new@example.com")));
    assert_eq!(found(&planned, "keys", "v1:csi:d:kept"), None, "of one that can be read it is known");
    let lost = Some(("lost", vec!["a"], "lost@example.com"));
    for (table, key) in [
        ("keys", "v1:csi:d:own"),
        ("paths", "v1:nfs:nas:/models/lost"),
        ("parents", "v1:nfs:nas:/models"),
        ("volumes", "pv"),
        ("claims", "ns-b/w"),
        ("misplaced", "ns-b/w"),
        ("snapshots", "ns-b/s"),
    ] {
        assert_eq!(found(&planned, table, key), lost, "{table} {key}");
    }
    assert_eq!(plan(&broken, &planned).unwrap(), planned, "the next plan is the same");
    assert_eq!(plan(&w, &planned).unwrap(), in_force, "once it can be read it is as if nothing had been");
    broken.unreadable_artifacts.clear();
    assert_eq!(found(&plan(&broken, &planned).unwrap(), "keys", "v1:csi:d:own"), None, "it was deleted");
}

#[test]
fn what_is_shared_is_carried_under_the_terms_of_all() {
    let w = before();
    let in_force = plan(&w, &[]).unwrap();
    let shared = |w: &World| {
        let planned = plan(w, &in_force).unwrap();
        let (of, environments, contact) = found(&planned, "keys", "v1:csi:d:shared").unwrap();
        (of.to_string(), environments.join(" "), contact.to_string())
    };
    let both = "kept@example.com, lost@example.com";
    assert_eq!(shared(&without(&w, &["lost"])), ("kept, lost".into(), "a".into(), both.into()));
    // The readable one widens, narrows and leaves.
    let mut broken = without(&w, &["lost"]);
    broken.artifacts.insert("kept".into(), artifact("kept", &["a", "b", "c"], vec![csi("shared")]));
    assert_eq!(shared(&broken).1, "a");
    broken.artifacts.insert("kept".into(), artifact("kept", &["b"], vec![csi("shared")]));
    assert_eq!(shared(&broken).1, "");
    broken.artifacts.remove("kept");
    assert_eq!(shared(&broken), ("lost".into(), "a".into(), both.into()));
    // The other way round, and both.
    assert_eq!(shared(&without(&w, &["kept"])), ("kept, lost".into(), "a".into(), both.into()));
    assert_eq!(shared(&without(&w, &["kept", "lost"])), ("kept, lost".into(), "a".into(), both.into()));
}

#[test]
fn what_comes_later_to_carried_storage_is_found() {
    let w = before();
    let in_force = plan(&w, &[]).unwrap();
    let mut broken = without(&w, &["lost"]);
    let claim = ClaimName { namespace: "ns-a".into(), name: "late".into() };
    let below = BackendKey::nfs("nas", "/models/lost/v2");
    broken.volumes.insert("late".into(), Volume { key: Ok(below), claim: Some(claim) });
    let planned = plan(&broken, &in_force).unwrap();
    for (table, key) in [("volumes", "late"), ("claims", "ns-a/late")] {
        assert_eq!(found(&planned, table, key).unwrap().0, "lost");
    }
    assert_eq!(found(&planned, "misplaced", "ns-a/late"), None, "it is permitted there");
    // The environment goes: its name stays in the terms, and nobody is in it.
    broken.environments.remove("a");
    let planned = plan(&broken, &planned).unwrap();
    assert_eq!(found(&planned, "misplaced", "ns-a/late").unwrap(), ("lost", vec!["a"], "lost@example.com"));
}

#[test]
fn of_one_that_was_never_read_nothing_is_known() {
    let w = before();
    let in_force = plan(&w, &[]).unwrap();
    assert_eq!(plan(&without(&w, &["new"]), &in_force).unwrap(), in_force);
    assert!(found(&plan(&without(&w, &["lost"]), &[]).unwrap(), "keys", "v1:csi:d:own").is_none());
}

#[test]
fn the_last_form_that_was_read_counts_besides() {
    let w = before();
    let in_force = plan(&w, &[]).unwrap();
    let mut broken = w.clone();
    broken.unreadable_artifacts.insert("lost".into(), "unknown".into());
    broken.artifacts.insert("lost".into(), artifact("lost", &["b"], vec![csi("own"), csi("last")]));
    let planned = plan(&broken, &in_force).unwrap();
    assert_eq!(found(&planned, "keys", "v1:csi:d:last"), Some(("lost", vec!["b"], "lost@example.com")));
    assert_eq!(found(&planned, "keys", "v1:csi:d:own").unwrap().1, Vec::<&str>::new());
    assert!(found(&planned, "paths", "v1:nfs:nas:/models/lost").is_some(), "it was protected until now");
}

#[test]
fn a_text_that_was_cut_may_name_any_that_cannot_be_read() {
    let name = |n: usize| format!("artifact-with-a-long-name-{n:02}");
    let all = || (0..40).map(|n| artifact(&name(n), &["a"], vec![csi("common")]));
    let w = world(vec![environment("a", "ns-a", Mode::Enforce)], all().collect());
    let in_force = plan(&w, &[]).unwrap();
    let text = found(&in_force, "keys", "v1:csi:d:common").unwrap().0;
    assert!(text.ends_with(" more") && !text.contains(&name(39)), "{text}");
    let mut broken = without(&w, &[&name(39)]);
    broken.artifacts.clear();
    let planned = plan(&broken, &in_force).unwrap();
    let (of, environments, _) = found(&planned, "keys", "v1:csi:d:common").unwrap();
    assert_eq!((of, environments), (name(39).as_str(), vec!["a"]));
    assert_eq!(plan(&broken, &planned).unwrap(), planned);
}

#[test]
fn an_entry_without_terms_is_permitted_nowhere() {
    let w = before();
    let mut in_force = plan(&w, &[]).unwrap();
    for shard in &mut in_force {
        shard.terms.clear();
    }
    let planned = plan(&without(&w, &["lost"]), &in_force).unwrap();
    assert_eq!(found(&planned, "keys", "v1:csi:d:own"), Some(("lost", vec![], "")));
}

#[test]
fn while_shards_are_doubled_both_are_carried() {
    let w = before();
    let cut_into = |world: &World, in_force: &[WeightIndexSpec], count: usize| {
        let members = members(world, in_force);
        let tables = collect(world, in_force, &members);
        let parts = [IndexPart::Storage, IndexPart::Claims];
        parts.into_iter().flat_map(|part| cut(part, &tables, &members, count)).collect::<Vec<_>>()
    };
    let (one, two) = (cut_into(&w, &[], 1), cut_into(&w, &[], 2));
    let broken = without(&w, &["lost"]);
    let wanted = plan(&broken, &one).unwrap();
    // The later shard is written, the one that was there is not yet; then both; then back.
    let half: Vec<WeightIndexSpec> = one.iter().chain(two.iter().filter(|shard| shard.shard == 1)).cloned().collect();
    for in_force in [&half, &two] {
        assert_eq!(plan(&broken, in_force).unwrap(), wanted);
        assert_eq!(cut_into(&broken, in_force, 2), cut_into(&broken, &one, 2));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_widened(
        all in prop::collection::vec((keys(), prop::collection::vec("[ab]", 0..3)), 1..6),
        changed in prop::collection::vec((keys(), prop::collection::vec("[ab]", 0..3)), 1..6),
        broken in prop::collection::vec(any::<bool>(), 6),
    ) {
        let environments =
            || vec![environment("a", "ns-a", Mode::Enforce), environment("b", "ns-b", Mode::Enforce)];
        let artifacts = |of: &[(Vec<BackendKey>, Vec<String>)]| -> Vec<Artifact> {
            let one = |(n, (keys, permitted)): (usize, &(Vec<BackendKey>, Vec<String>))| {
                let permitted: Vec<&str> = permitted.iter().map(String::as_str).collect();
                artifact(&format!("x{n}"), &permitted, keys.clone())
            };
            of.iter().enumerate().map(one).collect()
        };
        let before = plan(&world(environments(), artifacts(&all)), &[]).unwrap();
        let unreadable: Vec<String> =
            (0..all.len()).filter(|n| broken[*n]).map(|n| format!("x{n}")).collect();
        let unreadable: Vec<&str> = unreadable.iter().map(String::as_str).collect();
        let now = without(&world(environments(), artifacts(&changed)), &unreadable);
        let planned = plan(&now, &before).unwrap();
        for shard in &before {
            for (table, key, entry) in shard.entries() {
                let theirs: Vec<&str> = entry.artifacts.split(", ").filter(|of| unreadable.contains(of)).collect();
                if theirs.is_empty() {
                    continue;
                }
                let (of, environments, _) = found(&planned, table, key).expect("carried");
                let of: Vec<&str> = of.split(", ").collect();
                prop_assert!(theirs.iter().all(|name| of.contains(name)));
                let were = &shard.terms_of(entry).unwrap().environments;
                prop_assert!(environments.iter().all(|name| were.iter().any(|were| were == name)), "{} {}", table, key);
            }
        }
        prop_assert_eq!(&plan(&now, &planned).unwrap(), &planned);
    }
}
