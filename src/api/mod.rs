//! The custom resources of the group `weightlock.dev`, version `v1alpha1`. All are cluster-scoped, so that tenants can
//! neither declare, widen nor point at another team's weights.
//!
//! Conventions: a union is a struct of optional members of which exactly one is set (a CEL rule says so); every list
//! has a list type and a bound, every string a bound (so that CEL stays within its cost); lists that people edit are
//! maps keyed by name; enums stand where a boolean might be.

mod artifact;
mod environment;
mod index;

pub use artifact::*;
pub use environment::*;
pub use index::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every custom resource of Weightlock.
pub const GROUP: &str = "weightlock.dev";
/// The version served and stored.
pub const VERSION: &str = "v1alpha1";

/// The definitions of all custom resources, as they stand in `crds/` and in the chart.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![WeightArtifact::crd(), WeightEnvironment::crd(), WeightIndex::crd()]
}
