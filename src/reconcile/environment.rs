//! The recipe for a WeightEnvironment: pin its namespaces, write its network policies, say how things stand.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{
    Context, Next,
    apply::{Applied, ObjectId},
    audit, conditions,
    environment_status::{self, Findings},
    error::ReconcileError,
    events::{self, Event},
    members::{self, Members},
    network as policies,
    observed::typed,
    reports, scope,
};
use crate::{
    api::{MemberStatus, Mode, WeightEnvironment, WeightEnvironmentStatus},
    domain::{access::Way, network, world::Environment},
    index::convert,
};

/// How often to look whether pods that hold something up are gone, besides on each change.
const WAIT_FOR_PODS: Duration = Duration::from_secs(10);

/// Brings the cluster in line with one environment.
///
/// # Errors
/// The first that occurred, after everything that could be done was done and status says what could not.
pub async fn reconcile(context: &Context, name: &str) -> Result<Next, ReconcileError> {
    let Some(object) = context.observed.environment(name) else {
        context.access.forget(name, Way::ALL.map(Way::name));
        return Ok(None);
    };
    let current: WeightEnvironment = typed(&object)?;
    let environment = convert::environment(&object)
        .map_err(|reason| ReconcileError::Unreadable { object: ObjectId::of(&current), reason })?;
    if context.world.environments.get(name) != Some(&environment) {
        return Ok(Some(Instant::now() + super::CATCH_UP));
    }
    if !environment.deleting && context.writer.finalizer(&current, true).await? != Applied::Unchanged {
        return Ok(None);
    }

    let written = context.observed.namespaces_written(name);
    let members = members::of(&context.world, &environment, &written);
    let left = if environment.deleting { pods_left(context, &environment, &written).await? } else { vec![] };
    if environment.deleting && left.is_empty() {
        policies::remove(context, name).await?;
        context.writer.finalizer(&current, false).await?;
        return Ok(None);
    }

    let mut policies = policies::write(context, &environment, &members).await;
    let refused = audit::refused(&context.world, &environment);
    let status = status(context, &current, &environment, &members, &policies, &left, &refused);
    context.writer.patch_status(&current, &status).await?;
    let no_room = no_room(context, &environment);
    if !no_room.is_empty() {
        context.writer.event(&too_many(&current, &no_room)).await?;
    }
    audit::tell(context, &environment, &refused).await?;
    reports::keep(context, events::reference(&current), &audit::findings(&environment, &refused)).await?;
    let disrupting = audit::remedy(context, &environment, current.spec.remediation, &refused).await?;
    let waits = disrupting
        || !left.is_empty()
        || members.obstacles.iter().any(|(obstacle, _)| *obstacle == members::Obstacle::Held);
    match policies.error() {
        Some(error) => Err(error),
        None => {
            // A contest ends by the clock, so the condition that names it has to be looked at again then.
            let quiet = context
                .writer
                .repairs()
                .contests(&policies.wanted(), Instant::now())
                .first()
                .map(|contest| contest.until);
            Ok([policies.next(), quiet, waits.then(|| Instant::now() + WAIT_FOR_PODS)].into_iter().flatten().min())
        }
    }
}

/// The pods for which the deletion of an environment waits. Where nothing is enforced, none does.
async fn pods_left(
    context: &Context,
    environment: &Environment,
    written: &BTreeSet<String>,
) -> Result<Vec<String>, ReconcileError> {
    if environment.modes.network == Mode::Audit && environment.modes.admission == Mode::Audit {
        return Ok(vec![]);
    }
    let accepted = network::accepted(&context.world, environment).map(String::from);
    let namespaces: BTreeSet<String> = accepted.chain(written.iter().cloned()).collect();
    let known: Vec<String> =
        namespaces.iter().flat_map(|namespace| members::holders(&context.world, namespace)).collect();
    if !known.is_empty() {
        return Ok(known);
    }
    let mut left = Vec::new();
    for namespace in namespaces {
        left.extend(members::holders_now(context, &namespace).await?);
    }
    Ok(left)
}

/// The member namespaces that the policies inside the API server cannot be told of, since there are too many.
fn no_room(context: &Context, environment: &Environment) -> Vec<String> {
    let namespaces = environment.members.iter().map(|member| member.namespace.clone());
    let mine = |namespace: &String| {
        context.world.membership(namespace).environment().is_some_and(|keeper| keeper.name == environment.name)
    };
    namespaces.filter(|namespace| context.in_force.has_no_room(namespace) && mine(namespace)).collect()
}

fn too_many(current: &WeightEnvironment, no_room: &[String]) -> Event {
    let note = environment_status::too_many(no_room);
    Event {
        regarding: events::reference(current),
        related: None,
        warning: true,
        reason: environment_status::TOO_MANY,
        action: "Watch",
        occurrence: note.clone(),
        note,
    }
}

fn status(
    context: &Context,
    current: &WeightEnvironment,
    environment: &Environment,
    members: &Members,
    policies: &policies::Policies,
    left: &[String],
    refused: &[audit::Refused],
) -> WeightEnvironmentStatus {
    let accepted: Vec<&str> = members
        .status
        .iter()
        .filter(|member| member.problem.is_none())
        .map(|member| member.namespace.as_str())
        .collect();
    let webhooks = context.observed.validating_webhooks("weightlock");
    let enforced = webhooks.map(|webhooks| {
        scope::enforced(&webhooks.data, accepted.iter().copied()).into_iter().map(String::from).collect()
    });
    let could = context.observed.who_could(&context.world.settings, &accepted);
    let counts = Way::ALL.map(|way| (way.name(), could.get(&way).map_or(0, BTreeSet::len)));
    context.access.set(&environment.name, counts);
    let wanted = environment_status::conditions(&Findings {
        environment,
        could,
        obstacles: &members.obstacles,
        accepted: &accepted,
        enforced: enforced.as_ref(),
        indexed: accepted.iter().all(|namespace| context.in_force.member(namespace, &environment.name)),
        no_room: &no_room(context, environment),
        policies,
        refused,
        contests: context.writer.repairs().contests(&policies.wanted(), Instant::now()),
        left,
    });
    let before = current.status.clone().unwrap_or_default();
    let now = Timestamp::now();
    let mut members = members.status.clone();
    for member in members.iter_mut().filter(|member| member.problem.is_none() && environment.enforces_admission()) {
        let possible = scope::protected(&context.observed.ring, &member.namespace);
        member.pod_status_protected_since = possible.map(|possible| since(&before.members, member, possible, now));
    }
    let generation = current.metadata.generation;
    WeightEnvironmentStatus {
        observed_generation: generation,
        members,
        conditions: conditions::merge(&before.conditions, wanted, generation, now),
    }
}

/// Since when the statuses of the pods of a member are protected, if they are now: it was said before, and nothing that
/// protects them was made later, or it begins now.
fn since(before: &[MemberStatus], member: &MemberStatus, possible: Time, now: Timestamp) -> Time {
    let earlier = before.iter().find(|e| e.namespace == member.namespace && e.uid == member.uid);
    let earlier = earlier.and_then(|earlier| earlier.pod_status_protected_since.clone());
    earlier.filter(|earlier| *earlier >= possible).unwrap_or_else(|| Time(conditions::whole_seconds(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_protected_since_it_was_first_seen_and_not_since_before_what_protects_them() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let member = |uid: &str, since: Option<i64>| MemberStatus {
            namespace: "a".into(),
            uid: Some(uid.into()),
            problem: None,
            pod_status_protected_since: since.map(|second| Time(at(second))),
        };
        let found = |before: MemberStatus| since(&[before], &member("u1", None), Time(at(50)), at(100)).0;
        assert_eq!(found(member("u1", Some(60))), at(60));
        assert_eq!(found(member("u1", None)), at(100));
        // The policy or its binding was deleted and made again; the namespace was.
        assert_eq!(found(member("u1", Some(40))), at(100));
        assert_eq!(found(member("u0", Some(60))), at(100));
    }
}
