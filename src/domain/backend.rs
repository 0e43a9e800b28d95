//! Canonical keys of storage. Two spellings of the same storage have one key; keys overlap where one holds the other.

use serde::{Deserialize, Serialize};

/// Canonical, versioned key of storage: `v1:csi:DRIVER:HANDLE`, `v1:nfs:SERVER:/PATH`, `v1:host:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackendKey(pub String);

impl std::fmt::Display for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
