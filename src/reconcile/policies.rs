//! The policies inside the API server, their parameters and their bindings.
//!
//! The API server watches policies, parameters and bindings apart. A binding that it sees before its parameter refuses
//! all that the policy matches, so bindings are made after, and parameters are taken away before, a pause. And what moves from one
//! shard to another is taken from the one only a pause after the other is bound: a shard without a binding protects nothing.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Resource, api::DynamicObject, runtime::reflector::Store};
use serde::Serialize;

use super::{
    Context, Next,
    apply::Applied,
    error::ReconcileError,
    index,
    observed::{by_name, names},
};
use crate::{
    api::WeightIndex,
    render::policies::{Ring, ring},
};

/// How long the API server is given to see an object before another relies on it.
const SEEN: Duration = Duration::from_secs(2);

/// Brings the policies, the index and the bindings in line.
///
/// # Errors
/// If an object cannot be written, or the index cannot be computed; then the index in force stays, and policies and
/// bindings are kept up all the same.
pub async fn reconcile(context: &Context) -> Result<Next, ReconcileError> {
    let (shards, problem) = index::wanted(context)?;
    let left_out = index::left_out(&context.world, &shards);
    let next = bring_in_line(context, &ring(&context.world.settings, shards, left_out)).await?;
    match problem {
        Some(problem) => Err(problem),
        None => Ok(next),
    }
}

async fn bring_in_line(context: &Context, ring: &Ring) -> Result<Next, ReconcileError> {
    let observed = &context.observed.ring;
    let mut outcome = Outcome::default();
    for policy in &ring.policies {
        outcome.add(write(context, &observed.policies, policy).await?);
    }
    for shard in ring.shards.iter().filter(|shard| is_missing(&observed.shards, *shard)) {
        outcome.add(write(context, &observed.shards, shard).await?);
    }
    if outcome.created {
        return Ok(Some(Instant::now() + SEEN));
    }
    for binding in &ring.bindings {
        outcome.add(write(context, &observed.bindings, binding).await?);
    }
    if outcome.created {
        return Ok(Some(Instant::now() + SEEN));
    }
    for shard in &ring.shards {
        outcome.add(write(context, &observed.shards, shard).await?);
    }
    let bound = names_of(&ring.bindings);
    if outcome.updated && names(&observed.bindings).iter().any(|name| !bound.contains(name.as_str())) {
        return Ok(Some(Instant::now() + SEEN));
    }
    if remove::<ValidatingAdmissionPolicyBinding>(context, &observed.bindings, bound).await? {
        return Ok(Some(Instant::now() + SEEN));
    }
    remove::<WeightIndex>(context, &observed.shards, names_of(&ring.shards)).await?;
    remove::<ValidatingAdmissionPolicy>(context, &observed.policies, names_of(&ring.policies)).await?;
    Ok(outcome.deferred)
}

/// What writing several objects came to.
#[derive(Default)]
struct Outcome {
    created: bool,
    updated: bool,
    deferred: Next,
}

impl Outcome {
    fn add(&mut self, applied: Applied) {
        match applied {
            Applied::Created => self.created = true,
            Applied::Deferred(at) => self.deferred = Some(self.deferred.map_or(at, |other| other.min(at))),
            Applied::Updated | Applied::Repaired => self.updated = true,
            Applied::Unchanged => {}
        }
    }
}

/// Applies an object unless the one in the store is what was applied before.
pub(super) async fn write<K>(
    context: &Context,
    store: &Store<DynamicObject>,
    desired: &K,
) -> Result<Applied, ReconcileError>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let live = by_name(store, desired.meta().name.as_deref().unwrap_or_default());
    match live {
        Some(live) if context.writer.is_settled(desired, &live) => Ok(Applied::Unchanged),
        _ => context.writer.apply(desired).await,
    }
}

/// Deletes what is ours and not wanted; whether there was any.
async fn remove<K>(
    context: &Context,
    store: &Store<DynamicObject>,
    wanted: BTreeSet<&str>,
) -> Result<bool, ReconcileError>
where
    K: Resource<DynamicType = ()>,
{
    let mut any = false;
    for name in names(store).iter().filter(|name| !wanted.contains(name.as_str())) {
        any |= context.writer.delete::<K>(None, name).await?;
    }
    Ok(any)
}

fn is_missing<K: Resource>(store: &Store<DynamicObject>, object: &K) -> bool {
    by_name(store, object.meta().name.as_deref().unwrap_or_default()).is_none()
}

fn names_of<K: Resource>(objects: &[K]) -> BTreeSet<&str> {
    objects.iter().filter_map(|object| object.meta().name.as_deref()).collect()
}
