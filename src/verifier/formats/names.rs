//! Names that were seen.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

/// A set of names that costs little for millions of them: kept are hashes under a random key. Two names that collide are
/// taken for the same, and so refused; that happens once in 2^24 files of a million names.
#[derive(Default)]
pub struct Names {
    key: RandomState,
    seen: HashSet<u64>,
}

impl Names {
    /// Adds a name; `false` if it is there already.
    pub fn add(&mut self, name: &str) -> bool {
        self.seen.insert(self.key.hash_one(name))
    }
}
