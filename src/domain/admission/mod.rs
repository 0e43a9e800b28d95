//! Admission: what must be true of a pod that could read weights.
//!
//! [`shape`] is the mutation, [`decide`] the validation of the final object, and [`denial_text`] what its author reads.
//! All are pure and total: objects come as raw JSON, and what cannot be read or told is a violation.

mod text;

use serde_json::Value;

use super::decision::{Decision, Violation};
use super::request::Request;
use super::rules::Rule;
use super::world::World;

pub use text::denial_text;

/// What [`shape`] makes of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shaped {
    /// The object as it should be; `None`: unchanged.
    pub object: Option<Value>,
    /// What the author should know.
    pub warnings: Vec<String>,
}

/// Decides on a request. Never panics; what cannot be decided is not allowed.
pub fn decide(world: &World, request: &Request<'_>) -> Decision {
    let _ = request;
    let why = world.undecidable().unwrap_or_else(|| "no rule has decided".into());
    Decision {
        violations: vec![Violation { rule: Rule::NotSynced, fact: why, remedy: "retry in a few seconds.".into() }],
        warnings: Vec::new(),
    }
}

/// Makes of a new pod what the rules ask for where nothing contradicts them.
pub fn shape(world: &World, request: &Request<'_>) -> Shaped {
    let _ = (world, request);
    Shaped::default()
}
