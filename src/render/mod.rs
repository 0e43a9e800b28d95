//! Plans of the domain as Kubernetes objects.

pub mod cluster_network_policy;
pub mod manifest;
pub mod network;
pub mod policies;
pub mod report;
pub mod webhook_configuration;

use std::collections::BTreeMap;

/// The label that every object of ours carries.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "weightlock");
/// The label that names the environment an object was written for.
pub const ENVIRONMENT_LABEL: &str = "weightlock.dev/environment";
/// The annotation that says for what an object was written: [`INSTALLATION`] or `weightenvironment/NAME`.
pub const OWNER: &str = "weightlock.dev/owner";
/// Value of [`OWNER`] for what belongs to the installation as a whole.
pub const INSTALLATION: &str = "installation";

/// The labels of an object written for an environment, or (`None`) for the installation.
pub fn labels(environment: Option<&str>) -> BTreeMap<String, String> {
    let environment = environment.map(|name| (ENVIRONMENT_LABEL.to_string(), name.to_string()));
    [(MANAGED_BY.0.to_string(), MANAGED_BY.1.to_string())].into_iter().chain(environment).collect()
}

/// The annotation that says for what an object was written: an environment, or (`None`) the installation.
pub fn owner(environment: Option<&str>) -> BTreeMap<String, String> {
    let owner = environment.map_or_else(|| INSTALLATION.to_string(), |name| format!("weightenvironment/{name}"));
    BTreeMap::from([(OWNER.to_string(), owner)])
}
