//! The shards of the WeightIndex that should be there.

use super::{
    Context,
    apply::ObjectId,
    error::ReconcileError,
    observed::{Observed, typed},
};
use crate::{
    api::{WeightIndex, WeightIndexSpec},
    domain::{World, index_plan, world::Environment},
};

/// The shards that should be there, and what keeps them from being up to date: then those that are there stay as they
/// are. Protecting what was known is better than protecting nothing.
///
/// # Errors
/// If what is there is needed and cannot be read.
pub fn wanted(context: &Context) -> Result<(Vec<WeightIndexSpec>, Option<ReconcileError>), ReconcileError> {
    let in_force = match &context.shards {
        Some(shards) => shards.as_slice(),
        // Shards that somebody spoiled are replaced, unless something is known from them alone.
        None if context.world.unreadable().is_none() => &[],
        None => return live(&context.observed).map(|shards| (shards, None)),
    };
    match index_plan::plan(&context.world, in_force) {
        Ok(shards) => Ok((shards, None)),
        Err(error) => {
            let object = ObjectId::new("WeightIndex", None, "*");
            Ok((live(&context.observed)?, Some(ReconcileError::Plan { object, reason: error.to_string() })))
        }
    }
}

/// The namespaces whose admission is enforced, and that the shards have no room for.
pub fn left_out(world: &World, shards: &[WeightIndexSpec]) -> Vec<String> {
    let enforces =
        |namespace: &String| world.membership(namespace).environment().is_some_and(Environment::enforces_admission);
    index_plan::left_out(world, shards).into_iter().filter(enforces).collect()
}

/// The shards that are there.
///
/// # Errors
/// If one does not have the shape of a shard.
pub fn live(observed: &Observed) -> Result<Vec<WeightIndexSpec>, ReconcileError> {
    let mut shards = Vec::new();
    for object in observed.ring.shards.state() {
        shards.push(typed::<WeightIndex>(&object)?.spec);
    }
    shards.sort_by_key(|shard| (shard.part, shard.shard));
    Ok(shards)
}
