//! The member namespaces of an environment: which are accepted, which are not and why, which cannot be left yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
};

use super::{Context, apply::ObjectId, error::ReconcileError};
use crate::{
    api::MemberStatus,
    domain::{
        World, consumers,
        world::{Environment, EnvironmentMember},
    },
};

/// How many pods a message names.
const NAMED_PODS: usize = 3;

/// Why a declared namespace is not a member now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// Another environment claimed it first.
    Conflict,
    /// It was deleted and made again.
    Recreated,
    /// It does not exist.
    Missing,
    /// It is no longer declared, but pods that hold weights are left in it.
    Held,
}

/// The members of an environment as they should be in its status, and the world with them pinned.
#[derive(Debug)]
pub struct Members {
    /// For status, in the order of the declaration.
    pub status: Vec<MemberStatus>,
    /// Why namespaces are not members, with the text that is in status.
    pub obstacles: Vec<(Obstacle, String)>,
    /// The world to plan in: with the pins that are about to be stored, so that policies are in place before a pod may
    /// hold weights, and with the namespaces that cannot be left yet.
    pub world: Arc<World>,
}

/// Decides on each namespace of an environment. `written` are the namespaces in which policies were written for it.
pub fn of(world: &Arc<World>, environment: &Environment, written: &BTreeSet<String>) -> Members {
    let mut members = Members { status: vec![], obstacles: vec![], world: world.clone() };
    let mut added = BTreeMap::new();
    for member in &environment.members {
        let (status, obstacle) = judge(world, environment, member);
        if let (None, None, Some(uid)) = (&obstacle, &member.uid, &status.uid) {
            added.insert(member.namespace.clone(), uid.clone());
        }
        members.obstacles.extend(obstacle.zip(status.problem.clone()));
        members.status.push(status);
    }
    let accepted: BTreeSet<&str> = members
        .status
        .iter()
        .filter(|status| status.problem.is_none())
        .map(|status| status.namespace.as_str())
        .collect();
    let left: Vec<(String, String)> = written
        .iter()
        .filter(|namespace| !accepted.contains(namespace.as_str()))
        .filter(|namespace| keeper(world, namespace).is_none_or(|keeper| keeper == environment.name))
        .filter_map(|namespace| Some((namespace.clone(), world.namespaces.get(namespace)?.clone())))
        .collect();
    for (namespace, uid) in left {
        let pods = holders(world, &namespace);
        if pods.is_empty() {
            continue;
        }
        let problem = format!(
            "namespace {namespace:?} is no longer a member, but pods that hold weights are left in it, so its network policies stay: {}. \
             Remedy: delete these pods",
            name_some(&pods)
        );
        added.insert(namespace.clone(), uid);
        members.obstacles.push((Obstacle::Held, problem.clone()));
        match members.status.iter_mut().find(|status| status.namespace == namespace) {
            Some(status) => status.problem = Some(problem),
            None => members.status.push(MemberStatus { namespace, problem: Some(problem), ..MemberStatus::default() }),
        }
    }
    if !added.is_empty() {
        pin(Arc::make_mut(&mut members.world), &environment.name, &added);
    }
    members
}

fn judge(world: &World, environment: &Environment, member: &EnvironmentMember) -> (MemberStatus, Option<Obstacle>) {
    let namespace = &member.namespace;
    let status = |uid: Option<&str>, problem: Option<String>| MemberStatus {
        namespace: namespace.clone(),
        uid: uid.map(Into::into),
        problem,
        pod_status_protected_since: None,
    };
    let found = world.namespaces.get(namespace).map(String::as_str);
    if let Some(keeper) = keeper(world, namespace)
        && keeper != environment.name
    {
        let problem = format!(
            "namespace {namespace:?} belongs to WeightEnvironment {keeper:?}, which claimed it first; a namespace belongs to at most one. \
             Remedy: remove it from spec.members of one of the two"
        );
        return (status(None, Some(problem)), Some(Obstacle::Conflict));
    }
    match (member.uid.as_deref(), found) {
        (pinned, None) => {
            let problem =
                format!("namespace {namespace:?} does not exist. Remedy: create it, or remove it from spec.members");
            (status(pinned, Some(problem)), Some(Obstacle::Missing))
        }
        (Some(expected), Some(found)) if expected != found => {
            let problem = format!(
                "namespace {namespace:?} was made again: expected UID {expected}, found {found}. It does not inherit the membership. \
                 Remedy: if it is meant to be a member, write uid: {found} into its entry in spec.members"
            );
            (status(Some(expected), Some(problem)), Some(Obstacle::Recreated))
        }
        (_, Some(found)) => (status(Some(found), None), None),
    }
}

/// The environment that keeps a namespace; `None` if none claims it.
fn keeper<'a>(world: &'a World, namespace: &str) -> Option<&'a str> {
    world.claimants(namespace).first().map(|(environment, _)| environment.name.as_str())
}

fn pin(world: &mut World, environment: &str, added: &BTreeMap<String, String>) {
    let Some(environment) = world.environments.get_mut(environment) else { return };
    for (namespace, uid) in added {
        match environment.members.iter_mut().find(|member| member.namespace == *namespace) {
            Some(member) => member.uid = Some(uid.clone()),
            None => environment.members.push(EnvironmentMember {
                namespace: namespace.clone(),
                uid: Some(uid.clone()),
                service_accounts: BTreeSet::new(),
                pod_status_protected_since: None,
            }),
        }
    }
}

/// The pods of a namespace that hold weights, or of which it cannot be told, as `namespace/name`.
pub fn holders(world: &World, namespace: &str) -> Vec<String> {
    world
        .pods_in(namespace)
        .filter(|(_, pod)| !pod.ended() && !consumers::holdings(world, namespace, pod).none())
        .map(|(name, _)| format!("{namespace}/{name}"))
        .collect()
}

/// The same, asked of the API server: what is about to be removed for good must not rest on a watch that lags.
///
/// # Errors
/// If the API server refuses.
pub async fn holders_now(context: &Context, namespace: &str) -> Result<Vec<String>, ReconcileError> {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.writer.client().clone(), namespace, &resource);
    let pods = api
        .list(&ListParams::default())
        .await
        .map_err(|error| ReconcileError::api("list pods of", ObjectId::new("Namespace", None, namespace), error))?;
    let mut world = World::clone(&context.world);
    world.pods = pods.items.into_iter().map(crate::index::convert::pod).collect();
    Ok(holders(&world, namespace))
}

/// The first few of a list of pods.
pub fn name_some(pods: &[String]) -> String {
    let named = pods.iter().take(NAMED_PODS).cloned().collect::<Vec<_>>().join(", ");
    match pods.len().saturating_sub(NAMED_PODS) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{Mode, Modes},
        domain::world::{Claim, ClaimName, Volume},
    };

    fn environment(name: &str, created: &str, members: &[(&str, Option<&str>)]) -> Environment {
        Environment {
            name: name.into(),
            created: created.into(),
            members: members
                .iter()
                .map(|(namespace, uid)| EnvironmentMember {
                    namespace: (*namespace).into(),
                    uid: uid.map(Into::into),
                    service_accounts: BTreeSet::from(["*".to_string()]),
                    pod_status_protected_since: None,
                })
                .collect(),
            modes: Modes {
                admission: Mode::Enforce,
                network: Mode::Enforce,
                verification: Mode::Enforce,
                egress: Mode::Audit,
            },
            volumes: Default::default(),
            trusted_init: vec![],
            reverify: None,
            downloaders: vec![],
            network: Default::default(),
            egress_rate: None,
            deleting: false,
        }
    }

    fn world(environments: &[&Environment], namespaces: &[(&str, &str)]) -> Arc<World> {
        Arc::new(World {
            environments: environments.iter().map(|e| (e.name.clone(), (*e).clone())).collect(),
            namespaces: namespaces.iter().map(|(name, uid)| (String::from(*name), String::from(*uid))).collect(),
            ..World::default()
        })
    }

    #[test]
    fn a_namespace_is_pinned_when_it_is_first_seen_and_planned_for_at_once() {
        let serving = environment("serving", "2026-01-01T00:00:00Z", &[("a", None)]);
        let members = of(&world(&[&serving], &[("a", "u1")]), &serving, &BTreeSet::new());
        assert_eq!(
            members.status,
            [MemberStatus { namespace: "a".into(), uid: Some("u1".into()), ..MemberStatus::default() }]
        );
        assert_eq!(members.obstacles, []);
        let plan = crate::domain::network::plan(&members.world, "serving").unwrap();
        assert_eq!(plan.namespaces.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_namespace_that_was_made_again_keeps_its_old_pin_and_says_both() {
        let serving = environment("serving", "2026-01-01T00:00:00Z", &[("a", Some("old"))]);
        let members = of(&world(&[&serving], &[("a", "new")]), &serving, &BTreeSet::new());
        let problem = "namespace \"a\" was made again: expected UID old, found new. It does not inherit the membership. \
             Remedy: if it is meant to be a member, write uid: new into its entry in spec.members";
        assert_eq!(members.status[0].uid.as_deref(), Some("old"));
        assert_eq!(members.obstacles, [(Obstacle::Recreated, problem.to_string())]);
        assert!(crate::domain::network::plan(&members.world, "serving").unwrap().namespaces.is_empty());
    }

    #[test]
    fn the_second_claimant_is_told_who_was_first_and_pins_nothing() {
        let first = environment("zeta", "2026-01-01T00:00:00Z", &[("a", None)]);
        let second = environment("alpha", "2026-01-02T00:00:00Z", &[("a", None)]);
        let world = world(&[&first, &second], &[("a", "u1")]);
        assert_eq!(of(&world, &first, &BTreeSet::new()).obstacles, []);
        let members = of(&world, &second, &BTreeSet::new());
        assert_eq!(members.status[0].uid, None);
        assert_eq!(members.obstacles[0].0, Obstacle::Conflict);
        assert!(members.obstacles[0].1.contains("belongs to WeightEnvironment \"zeta\""), "{:?}", members.obstacles);
    }

    #[test]
    fn a_namespace_that_is_gone_keeps_its_pin() {
        let serving = environment("serving", "", &[("a", Some("u1"))]);
        let members = of(&world(&[&serving], &[]), &serving, &BTreeSet::new());
        assert_eq!(members.status[0].uid.as_deref(), Some("u1"));
        assert_eq!(members.obstacles[0].0, Obstacle::Missing);
    }

    /// A world in which pod `llm-0` of namespace `b` has a volume that cannot be told from weights.
    fn with_pod(world: Arc<World>, phase: &str) -> Arc<World> {
        let mut world = World::clone(&world);
        let claim = ClaimName::new("b", "w");
        world.claims.insert(claim.clone(), Claim { volume: Some("pv".into()), bound: true, ..Claim::default() });
        world.volumes.insert("pv".into(), Volume { key: Err("unknown".into()), claim: Some(claim) });
        let pod = json!({"metadata": {"namespace": "b", "name": "llm-0"}, "status": {"phase": phase},
            "spec": {"volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "w"}}]}});
        world.pods.insert(("b".into(), "llm-0".into()), Arc::new(pod.into()));
        Arc::new(world)
    }

    #[test]
    fn a_namespace_with_weights_is_not_left_until_its_pods_are_gone() {
        let serving = environment("serving", "", &[("a", Some("u1"))]);
        let world = world(&[&serving], &[("a", "u1"), ("b", "u2")]);
        let written = BTreeSet::from(["a".to_string(), "b".to_string()]);
        let members = of(&with_pod(world.clone(), "Running"), &serving, &written);
        assert_eq!(members.obstacles[0].0, Obstacle::Held);
        assert!(
            members.obstacles[0].1.contains("so its network policies stay: b/llm-0. Remedy"),
            "{:?}",
            members.obstacles
        );
        let planned = crate::domain::network::plan(&members.world, "serving").unwrap().namespaces;
        assert_eq!(planned.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(of(&with_pod(world, "Succeeded"), &serving, &written).obstacles, []);
    }

    #[test]
    fn a_namespace_that_another_environment_keeps_is_left() {
        let serving = environment("serving", "", &[("a", Some("u1"))]);
        let other = environment("other", "", &[("b", Some("u2"))]);
        let world = world(&[&serving, &other], &[("a", "u1"), ("b", "u2")]);
        let members = of(&with_pod(world, "Running"), &serving, &BTreeSet::from(["b".to_string()]));
        assert_eq!(members.obstacles, []);
    }

    #[test]
    fn a_long_list_of_pods_is_cut() {
        let pods: Vec<String> = (0..5).map(|n| format!("a/p{n}")).collect();
        assert_eq!(name_some(&pods), "a/p0, a/p1, a/p2 and 2 more");
    }
}
