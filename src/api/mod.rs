//! The custom resources of the group `weightlock.dev`, version `v1alpha1`. All are cluster-scoped, so that tenants can
//! neither declare, widen nor point at another team's weights.
//!
//! Conventions: a union is a struct of optional members of which exactly one is set (a CEL rule says so); every list
//! has a list type and a bound, every string a bound (so that CEL stays within its cost); lists that people edit are
//! maps keyed by name; enums stand where a boolean might be.

mod artifact;
mod definition;
mod environment;
mod incident;
mod index;
mod location;
mod manifest;
mod reverification;
mod signature;

pub use artifact::*;
pub use definition::{definitions, to_yaml};
pub use environment::*;
pub use incident::*;
pub use index::*;
pub use location::*;
pub use manifest::*;
pub use reverification::*;
pub use signature::*;

/// The API group of every custom resource of Weightlock.
pub const GROUP: &str = "weightlock.dev";
/// The version served and stored.
pub const VERSION: &str = "v1alpha1";
