//! The member namespaces, which every shard has.
//!
//! There is room for so many. What has none is left out, rather than that a shard grows until the API server refuses it: then
//! nobody's changes would arrive. A namespace that is left out is no member inside the API server, so weights are refused in it; the
//! webhook decides there as before. Which ones are in does not change by what comes later.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{IndexMember, IndexReach, Network, WeightIndexSpec};
use crate::domain::lookup::Membership;
use crate::domain::world::World;

/// Most members of a shard, as its definition has it.
pub const MAX_MEMBERS: usize = 5000;
/// Most bytes of them: the rest of a shard is for its entries.
const MAX_BYTES: usize = 800_000;

/// The members that there is room for: those that the index in force has, then the others, by the age of their environment.
pub fn members(world: &World, in_force: &[WeightIndexSpec]) -> BTreeMap<String, IndexMember> {
    let all: BTreeMap<&str, IndexMember> =
        claimed(world).into_iter().filter_map(|namespace| Some((namespace, member(world, namespace)?))).collect();
    let is_in = |namespace: &str, member: &IndexMember| {
        let known = in_force.iter().filter_map(|shard| shard.members.get(namespace));
        known.into_iter().any(|known| (&known.uid, &known.environment) == (&member.uid, &member.environment))
    };
    let created = |member: &IndexMember| world.environments.get(&member.environment).map(|e| e.created.as_str());
    let mut by_turn: Vec<_> = all
        .iter()
        .map(|(namespace, member)| (!is_in(namespace, member), created(member), *namespace, member))
        .collect();
    if all.len() > MAX_MEMBERS || size(all.iter().map(|(name, member)| (*name, member))) > MAX_BYTES {
        by_turn.sort_by_key(|(comes, created, namespace, _)| (*comes, *created, *namespace));
    }
    let mut bytes = 0;
    let fits = by_turn.into_iter().take(MAX_MEMBERS).take_while(|(.., namespace, member)| {
        bytes += size([(*namespace, *member)]);
        bytes <= MAX_BYTES
    });
    fits.map(|(.., namespace, member)| (namespace.to_string(), member.clone())).collect()
}

/// The namespaces that are members, and of which a plan says nothing since there was no room.
pub fn left_out(world: &World, planned: &[WeightIndexSpec]) -> BTreeSet<String> {
    let has_room = |namespace: &str| planned.iter().all(|shard| shard.members.contains_key(namespace));
    let without = claimed(world).into_iter().filter(|namespace| !has_room(namespace));
    without.filter(|namespace| member(world, namespace).is_some()).map(String::from).collect()
}

/// About how many bytes members take in a shard.
pub fn bytes(members: &BTreeMap<String, IndexMember>) -> usize {
    size(members.iter().map(|(namespace, member)| (namespace.as_str(), member)))
}

fn size<'a>(members: impl IntoIterator<Item = (&'a str, &'a IndexMember)>) -> usize {
    members.into_iter().map(|(name, member)| 80 + name.len() + member.uid.len() + member.environment.len()).sum()
}

fn claimed(world: &World) -> BTreeSet<&str> {
    world.environments.values().flat_map(|e| e.members.iter().map(|m| m.namespace.as_str())).collect()
}

fn member(world: &World, namespace: &str) -> Option<IndexMember> {
    let Membership::Member { environment, member } = world.membership(namespace) else { return None };
    Some(IndexMember {
        uid: member.uid.clone()?,
        environment: environment.name.clone(),
        admission: environment.modes.admission,
        reach: reach(&environment.network),
    })
}

/// Who outside an environment may reach its pods.
fn reach(network: &Network) -> IndexReach {
    if network.ingress.iter().any(|rule| rule.from.cidr.is_some()) {
        IndexReach::Addresses
    } else if network.ingress.iter().any(|rule| rule.from.pods.is_some() || rule.from.environment.is_some()) {
        IndexReach::Pods
    } else {
        IndexReach::Nobody
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::super::tests::{artifact, environment, world};
    use super::*;
    use crate::api::{IndexPart, Mode};
    use crate::domain::BackendKey;
    use crate::domain::world::EnvironmentMember;

    /// A world with environments of 100 namespaces each.
    fn many(environments: usize, name: impl Fn(usize) -> String) -> World {
        let environments = (0..environments).map(|n| {
            let mut made = environment(&format!("env-{n:03}"), "none", Mode::Enforce);
            let member = |m: usize| EnvironmentMember {
                namespace: name(n * 100 + m),
                uid: Some(format!("uid-{}", name(n * 100 + m))),
                ..made.members[0].clone()
            };
            made.members = (0..100).map(member).collect();
            made.created = format!("2026-01-01T00:{n:02}:00Z");
            made
        });
        world(environments.collect(), vec![artifact("x", &["env-000"], vec![BackendKey::csi("d", "h")])])
    }

    #[test]
    fn what_has_no_room_is_left_out_and_what_is_in_stays() {
        let name = |n: usize| format!("ns-{n:04}");
        let before = plan(&many(50, name), &[]).unwrap();
        assert_eq!(before[0].members.len(), MAX_MEMBERS);
        assert_eq!(left_out(&many(50, name), &before), BTreeSet::new());
        // One more namespace, in the oldest environment.
        let mut w = many(50, name);
        let mut oldest = w.environments["env-000"].clone();
        let late = EnvironmentMember {
            namespace: "a-late".into(),
            uid: Some("uid-a-late".into()),
            ..oldest.members[0].clone()
        };
        oldest.members.push(late);
        w.environments.insert("env-000".into(), oldest);
        w.namespaces.insert("a-late".into(), "uid-a-late".into());
        let planned = plan(&w, &before).unwrap();
        assert_eq!(planned, before);
        assert_eq!(left_out(&w, &planned), ["a-late".to_string()].into());
        // With no index in force the youngest environment gives way.
        let planned = plan(&w, &[]).unwrap();
        assert_eq!(left_out(&w, &planned), ["ns-4999".to_string()].into());
        // Room that is given back is taken.
        w.environments.remove("env-049");
        let planned = plan(&w, &before).unwrap();
        assert_eq!((planned[0].members.len(), left_out(&w, &planned)), (4901, BTreeSet::new()));
        // One that was made again has no place of old.
        let mut w = many(50, name);
        w.namespaces.insert(name(7), "another".into());
        assert!(!plan(&w, &before).unwrap()[0].members.contains_key(&name(7)));
    }

    #[test]
    fn members_with_long_names_leave_room_for_entries() {
        let name = |n: usize| format!("{n:060}");
        let w = many(50, name);
        let planned = plan(&w, &[]).unwrap();
        assert_eq!(planned.iter().filter(|shard| shard.part == IndexPart::Storage).count(), 1, "no shard more");
        assert!(planned[0].keys.contains_key("v1:csi:d:h"));
        let (inside, outside) = (planned[0].members.len(), left_out(&w, &planned).len());
        assert_eq!(inside + outside, 5000);
        assert!((3000..5000).contains(&inside), "{inside}");
        let bytes = serde_json::to_vec(&planned[0]).unwrap().len();
        assert!((700_000..900_000).contains(&bytes), "{bytes}");
        assert_eq!(plan(&w, &planned).unwrap(), planned);
    }

    #[test]
    fn the_definition_has_the_same_limit() {
        let definitions = crate::api::definitions();
        let index = definitions.iter().find(|definition| definition.spec.names.kind == "WeightIndex").unwrap();
        let schema = serde_json::to_value(&index.spec.versions[0].schema).unwrap();
        let members = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["members"];
        assert_eq!(members["maxProperties"], MAX_MEMBERS);
    }
}
