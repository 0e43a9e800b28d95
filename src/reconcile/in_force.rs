//! What the policies inside the API server have been given to decide with, compared with what they should have.
//!
//! Conditions say that something is enforced only once it is seen in the index, not once it was decided: a pod that is
//! made the moment an object is Ready must meet the rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{IndexMember, WeightIndexSpec},
    domain::{World, index_plan},
};

/// What of the index is in force.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Artifacts of which an entry is missing or out of date.
    behind: BTreeSet<String>,
    /// Members that every shard has.
    members: BTreeMap<String, IndexMember>,
    /// Members that no shard has room for.
    left_out: BTreeSet<String>,
    /// There is nothing to compare: no plan, no shard or no binding.
    nothing: bool,
}

impl InForce {
    /// Compares the plan for `world` with the shards that are there. `bound`: whether the policies have bindings.
    pub fn of(world: &World, shards: &[WeightIndexSpec], bound: bool) -> Self {
        let Ok(planned) = index_plan::plan(world, shards) else { return Self { nothing: true, ..Self::default() } };
        let Some((first, others)) = shards.split_first().filter(|_| bound) else {
            return Self { nothing: true, ..Self::default() };
        };
        let mut behind = BTreeSet::new();
        for plan in &planned {
            let same = |shard: &&WeightIndexSpec| {
                (shard.part, shard.shard, shard.shards) == (plan.part, plan.shard, plan.shards)
            };
            let live = shards.iter().find(same);
            let seen: BTreeMap<_, _> = live
                .into_iter()
                .flat_map(|live| live.entries().map(move |(table, key, entry)| ((table, key), (live, entry))))
                .collect();
            for (table, key, entry) in plan.entries() {
                // The number of its terms may be another one.
                let same = seen.get(&(table, key)).is_some_and(|(live, seen)| {
                    seen.artifacts == entry.artifacts && live.terms_of(seen) == plan.terms_of(entry)
                });
                if !same {
                    behind.extend(entry.artifacts.split(", ").map(String::from));
                }
            }
        }
        let mut members = first.members.clone();
        members.retain(|namespace, member| others.iter().all(|shard| shard.members.get(namespace) == Some(member)));
        Self { behind, members, left_out: index_plan::left_out(world, &planned), nothing: false }
    }

    /// Whether every entry of an artifact is there.
    pub fn artifact(&self, name: &str) -> bool {
        !self.nothing && !self.behind.contains(name)
    }

    /// Whether a namespace is not to be known as a member, since there are too many.
    pub fn has_no_room(&self, namespace: &str) -> bool {
        self.left_out.contains(namespace)
    }

    /// Whether a namespace is known as a member of an environment.
    pub fn member(&self, namespace: &str, environment: &str) -> bool {
        !self.nothing && self.members.get(namespace).is_some_and(|member| member.environment == environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        BackendKey,
        world::{Artifact, ArtifactLocation, LocationSource, Manifest},
    };

    fn world() -> World {
        let artifact = Artifact {
            name: "orion".into(),
            digest: None,
            manifest: Manifest::Path("m".into()),
            content: Default::default(),
            signature: None,
            locations: vec![ArtifactLocation {
                name: "a".into(),
                source: LocationSource::Key(BackendKey::csi("driver", "1")),
                pinned: None,
                aliases: vec![],
                path: None,
            }],
            permitted: ["serving".to_string()].into(),
            producers: vec![],
            frozen: false,
            effort: None,
            contact: "us".into(),
        };
        World { artifacts: [("orion", artifact)].into_iter().collect(), ..World::default() }
    }

    #[test]
    fn an_artifact_is_in_force_once_its_entries_are_seen() {
        let world = world();
        let planned = index_plan::plan(&world, &[]).unwrap();
        assert!(InForce::of(&world, &planned, true).artifact("orion"));
        let mut stale = planned.clone();
        for shard in &mut stale {
            shard.keys.clear();
        }
        assert!(!InForce::of(&world, &stale, true).artifact("orion"));
        assert!(!InForce::of(&world, &[], true).artifact("orion"));
        assert!(!InForce::of(&world, &planned, false).artifact("orion"), "without bindings nothing is in force");
    }

    #[test]
    fn a_member_is_in_force_once_every_shard_has_it() {
        let world = world();
        let member = IndexMember {
            uid: "u".into(),
            environment: "serving".into(),
            admission: crate::api::Mode::Enforce,
            reach: crate::api::IndexReach::Nobody,
        };
        let with =
            WeightIndexSpec { shards: 2, members: BTreeMap::from([("ns".into(), member)]), ..Default::default() };
        let without = WeightIndexSpec { shards: 2, shard: 1, ..Default::default() };
        assert!(InForce::of(&world, std::slice::from_ref(&with), true).member("ns", "serving"));
        assert!(!InForce::of(&world, std::slice::from_ref(&with), true).member("ns", "other"));
        assert!(!InForce::of(&world, &[with, without], true).member("ns", "serving"));
    }
}
