//! What is asked, as the API server puts it to admission.

use serde_json::Value;

/// The operation on the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// Removal.
    Delete,
    /// A connection to a subresource such as exec.
    Connect,
}

/// An admission request. Objects are raw JSON, so that a field of a future API version is seen.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The operation.
    pub operation: Operation,
    /// API group of the resource; empty for the core group.
    pub group: &'a str,
    /// Plural name of the resource, such as `pods`.
    pub resource: &'a str,
    /// Subresource, such as `exec` or `ephemeralcontainers`.
    pub subresource: Option<&'a str>,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name; empty while it is to be generated.
    pub name: &'a str,
    /// Who asks.
    pub user: User<'a>,
    /// The object as it is to be; absent for deletions.
    pub object: Option<&'a Value>,
    /// The object as it is; absent for creations.
    pub old_object: Option<&'a Value>,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct User<'a> {
    /// User name.
    pub name: &'a str,
    /// Groups.
    pub groups: Vec<&'a str>,
}
