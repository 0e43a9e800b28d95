//! Asks the domain, as admission would: mutation, then validation of what came of it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::World;
use crate::domain::admission::{denial_text, foresee};
use crate::domain::workload::Subject;

/// What is said of one object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Kind of the object that was given.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it came from; empty for what runs in a cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rules that are broken.
    pub violations: Vec<BrokenRule>,
    /// What the author should know.
    pub warnings: Vec<String>,
    /// The text of the refusal.
    #[serde(skip)]
    pub denial: String,
}

/// One rule that is broken.
#[derive(Clone, Debug, Serialize)]
pub struct BrokenRule {
    /// The id of the rule.
    pub rule: &'static str,
    /// What was found.
    pub fact: String,
    /// What to do.
    pub remedy: String,
}

/// Decides on the creation of an object. `origin` is where it came from.
pub fn judge(world: &World, subject: &Subject, origin: &str) -> Verdict {
    let decision = foresee(world, subject);
    let denial = match decision.allowed() {
        true => String::new(),
        false => denial_text(&subject.kind, &subject.namespace, &subject.name, &decision),
    };
    let allowed = decision.allowed();
    Verdict {
        kind: subject.kind.clone(),
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        origin: origin.into(),
        allowed,
        violations: decision
            .violations
            .into_iter()
            .map(|violation| BrokenRule { rule: violation.rule.id(), fact: violation.fact, remedy: violation.remedy })
            .collect(),
        warnings: decision.warnings,
        denial,
    }
}

impl Verdict {
    fn place(&self) -> String {
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", name) => name.into(),
            (namespace, "") => format!("{namespace}/(new)"),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }

    /// The verdict for people.
    pub fn text(&self) -> String {
        let mut text = match self.allowed {
            true => format!("{} {}: allowed\n", self.kind, self.place()),
            false => format!("{}\n", self.denial.trim_end()),
        };
        for warning in &self.warnings {
            text += &format!("Warning: {}\n", warning.trim_end());
        }
        text
    }
}

/// How often each rule is broken, by pods.
pub fn count_by_rule(verdicts: &[Verdict]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for verdict in verdicts {
        let mut rules: Vec<_> = verdict.violations.iter().map(|violation| violation.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        for rule in rules {
            *counts.entry(rule).or_default() += 1;
        }
    }
    counts
}
