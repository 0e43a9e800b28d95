//! One recipe per kind, and one writer.
//!
//! A recipe is `async fn reconcile(context: &Context, …) -> Result<Next, ReconcileError>`. It compares what the world
//! asks for with what is there and lets the [`apply::Writer`] do the rest; in steady state it writes nothing.

pub mod apply;
pub mod certificate;
mod drift;
pub mod error;
pub mod events;
mod repair;
pub mod webhook_configuration;

use std::{sync::Arc, time::Instant};

use crate::domain::World;

/// What a recipe works with.
#[derive(Clone)]
pub struct Context {
    /// The only writer; its client is for reads.
    pub writer: apply::Writer,
    /// The cluster as the index sees it, with every kind synced.
    pub world: Arc<World>,
}

/// When a recipe wants to run again although nothing changed; `None`: only on a change.
pub type Next = Option<Instant>;
