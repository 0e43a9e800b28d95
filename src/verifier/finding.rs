//! What can be wrong with an artifact, and the exit code of each.

pub mod exit;
mod reason;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use reason::Reason;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Why the artifact is refused.
    pub reason: Reason,
    /// Name of the artifact.
    pub artifact: String,
    /// Path relative to the directory of the artifact; what is not UTF-8 is shown as U+FFFD.
    pub path: String,
    /// What was found and what was expected.
    pub detail: String,
}

impl Finding {
    /// A finding at a path of an artifact.
    pub fn new(reason: Reason, artifact: &str, path: &str, detail: impl Into<String>) -> Self {
        Self { reason, artifact: artifact.into(), path: path.into(), detail: detail.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // {:?} escapes control characters: a file name must not be able to forge a line of the log.
        write!(f, "[{:?}] {:?}: {}", self.reason, self.path, self.detail)
    }
}

/// How many findings are kept of those that are counted.
pub const KEPT: usize = 10;
/// How many findings end a search: what is so wrong is not enumerated to its end.
pub const ENOUGH: u64 = 10_000;

/// Counts findings and keeps the first ten in the order of weight, then of path, whatever order they come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    kept: BTreeSet<Finding>,
    counts: BTreeMap<Reason, u64>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        *self.counts.entry(finding.reason).or_default() += 1;
        self.kept.insert(finding);
        if self.kept.len() > KEPT {
            self.kept.pop_last();
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many there are of each reason.
    pub fn counts(&self) -> &BTreeMap<Reason, u64> {
        &self.counts
    }

    /// The first ten.
    pub fn kept(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter()
    }

    /// Whether so much is wrong that there is no use in looking on.
    pub fn are_enough(&self) -> bool {
        self.total() >= ENOUGH
    }

    /// The reason that weighs most.
    pub fn reason(&self) -> Option<Reason> {
        self.counts.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_ten_in_order_and_counts_all() {
        let mut findings = Findings::default();
        for number in (0..50).rev() {
            findings.add(Finding {
                reason: if number == 49 { Reason::HashMismatch } else { Reason::ExtraFile },
                artifact: "a".into(),
                path: format!("{number:02}"),
                detail: String::new(),
            });
        }
        assert_eq!(findings.total(), 50);
        assert_eq!(findings.reason(), Some(Reason::HashMismatch));
        let paths: Vec<_> = findings.kept().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["49", "00", "01", "02", "03", "04", "05", "06", "07", "08"]);
    }

    #[test]
    fn a_path_cannot_forge_a_line() {
        let finding = Finding {
            reason: Reason::ExtraFile,
            artifact: "a".into(),
            path: "x\n\u{1b}[2KVerified".into(),
            detail: "d".into(),
        };
        assert_eq!(finding.to_string(), r#"[ExtraFile] "x\n\u{1b}[2KVerified": d"#);
    }
}
