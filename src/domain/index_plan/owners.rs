//! To whom an entry of the index belongs.
//!
//! Of an artifact that cannot be read nobody knows what it protects now. The index in force says what it protected when it
//! could be read, and under which terms: that is carried over, until the artifact is corrected or deleted. Carried terms
//! never get wider: an entry that was shared keeps what its other artifacts permitted, too.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{IndexEntry, IndexTerms, WeightIndexSpec};
use crate::domain::world::{Artifact, World};

/// Longest text of an entry.
pub const MAX_TEXT: usize = 512;
/// Terms of an entry that has none, since something else than the controller wrote its shard.
static NOWHERE: IndexTerms = IndexTerms { environments: Vec::new(), contact: String::new() };

/// The artifacts behind one entry.
#[derive(Clone, Debug, Default)]
pub struct Owners<'a> {
    /// Those that can be read, by name.
    artifacts: BTreeMap<&'a str, &'a Artifact>,
    /// Names of those that cannot be read.
    unreadable: BTreeSet<&'a str>,
    /// What the index in force permits them.
    carried: BTreeSet<&'a IndexTerms>,
}

impl<'a> Owners<'a> {
    /// One artifact.
    pub fn of(artifact: &'a Artifact) -> Self {
        Self { artifacts: [(artifact.name.as_str(), artifact)].into(), ..Self::default() }
    }

    /// Those of an entry of the index in force that cannot be read now. Each of them may be among the names that a text is
    /// too short for.
    pub fn carried(world: &'a World, shard: &'a WeightIndexSpec, entry: &'a IndexEntry) -> Self {
        let all = &world.unreadable_artifacts;
        let names = entry.artifacts.split(", ");
        let unreadable: BTreeSet<&str> = if names.clone().any(is_rest) {
            all.keys().map(String::as_str).collect()
        } else {
            names.filter(|name| all.contains_key(*name)).collect()
        };
        if unreadable.is_empty() {
            return Self::default();
        }
        let terms = shard.terms_of(entry).unwrap_or(&NOWHERE);
        Self { unreadable, carried: [terms].into(), ..Self::default() }
    }

    /// Adds those of another entry.
    pub fn extend(&mut self, other: &Self) {
        self.artifacts.extend(&other.artifacts);
        self.unreadable.extend(&other.unreadable);
        self.carried.extend(&other.carried);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.artifacts.is_empty() && self.unreadable.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> BTreeSet<&'a str> {
        self.artifacts.keys().chain(&self.unreadable).copied().collect()
    }

    /// The environments that all of them permit.
    pub fn permitted(&self) -> BTreeSet<&'a str> {
        let declared = self.artifacts.values().map(|artifact| artifact.places());
        let carried = self.carried.iter().map(|terms| terms.environments.iter().map(String::as_str).collect());
        let all = declared.chain(carried);
        all.reduce(|common: BTreeSet<&str>, permitted| common.intersection(&permitted).copied().collect())
            .unwrap_or_default()
    }

    /// Whom to ask. Carried texts were made of several: taken apart, so that they do not grow with each plan.
    pub fn contacts(&self) -> BTreeSet<&'a str> {
        let declared = self.artifacts.values().map(|artifact| artifact.contact.as_str());
        if self.carried.is_empty() {
            return declared.collect();
        }
        let texts = declared.chain(self.carried.iter().map(|terms| terms.contact.as_str()));
        texts.flat_map(|text| text.split(", ")).filter(|text| !text.is_empty() && !is_rest(text)).collect()
    }
}

/// The texts with commas between them, as many as fit. They stand in one line of a message, so there is no line break.
pub fn joined<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    let mut left = texts.len();
    for text in texts {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let more = format!(", and {left} more");
        if joined.len() + text.len() + 2 + more.len() > MAX_TEXT {
            joined.push_str(more.trim_start_matches(if joined.is_empty() { ", and " } else { "" }));
            break;
        }
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&text);
        left -= 1;
    }
    joined
}

/// Whether a text between commas is what [`joined`] says of those that do not fit.
fn is_rest(text: &str) -> bool {
    let number = text.strip_suffix(" more").map(|text| text.strip_prefix("and ").unwrap_or(text));
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}
