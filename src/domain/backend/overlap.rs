//! Where a table that is ordered by keys has those that overlap a key.

use super::BackendKey;

/// The keys that overlap one, in the form in which they are compared: some by name, and all that begin with a prefix.
pub(in crate::domain) struct Overlap {
    /// The key itself and the directories above it.
    pub named: Vec<String>,
    /// How the keys below it begin; `None` where there can be none.
    pub below: Option<String>,
}

impl BackendKey {
    /// Where to look for keys that overlap this one.
    pub(in crate::domain) fn overlap(&self) -> Overlap {
        let (text, has_path) = self.compared();
        if !has_path {
            return Overlap { named: vec![text], below: None };
        }
        let directory = format!("{}/", text.trim_end_matches('/'));
        let mut named = Vec::new();
        for (at, _) in directory.match_indices('/') {
            named.push(directory[..at].to_owned());
            // Of the root the slash belongs to the key. A step may end in a colon too.
            if directory[..at].ends_with(':') {
                named.push(directory[..=at].to_owned());
            }
        }
        Overlap { named, below: Some(directory) }
    }
}
