//! How decisions are worded.

use std::fmt::Write;

use crate::domain::decision::{Decision, Violation};
use crate::domain::rules::Rule;

/// More violations than this are counted, not listed: messages of the API server have their limits.
const LISTED: usize = 40;

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    decision: Decision,
}

impl Findings {
    /// A rule is broken. What is said twice (a volume that is mounted through two sources) is said once.
    pub fn add(&mut self, rule: Rule, fact: String, remedy: String) {
        let violation = Violation { rule, fact, remedy };
        if !self.decision.violations.contains(&violation) {
            self.decision.violations.push(violation);
        }
    }

    /// Something to know.
    pub fn warn(&mut self, text: String) {
        if !self.decision.warnings.contains(&text) {
            self.decision.warnings.push(text);
        }
    }

    /// Leaves nothing but violations.
    pub fn forget_warnings(&mut self) {
        self.decision.warnings.clear();
    }

    /// Turns violations into warnings of the same text, but for those that `stays` holds on to.
    pub fn audit(&mut self, stays: impl Fn(Rule) -> bool) {
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.decision.violations).into_iter().partition(|v| stays(v.rule));
        self.decision.violations = stay;
        for violation in go {
            self.warn(violation.to_string());
        }
    }

    /// The decision.
    pub fn decision(self) -> Decision {
        self.decision
    }
}

/// A string from an object, quoted, with control characters escaped and cut to a length that can be read.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 160;
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let cut: String = text.chars().take(LONGEST).collect();
    format!("{:?}", format!("{cut}…"))
}

/// What a refusal says to the author of an object: every violation with its id, fact and remedy, and how to check
/// before applying. `name` is empty while it is to be generated, `namespace` for cluster-scoped objects.
pub fn denial_text(kind: &str, namespace: &str, name: &str, decision: &Decision) -> String {
    let count = decision.violations.len();
    let mut text = format!(
        "{count} violation{} of model-weight segmentation in {kind} {}:\n",
        if count == 1 { "" } else { "s" },
        place(namespace, name)
    );
    for violation in decision.violations.iter().take(LISTED) {
        let _ = writeln!(text, "{violation}");
    }
    if count > LISTED {
        let _ = writeln!(text, "… and {} more.", count - LISTED);
    }
    let rules =
        decision.violations.first().map(|v| format!("Rules: docs/rules.md#{}", v.rule.anchor())).unwrap_or_default();
    // A connection has no manifest to check.
    if decision.violations.iter().all(|v| v.rule == Rule::Connection) {
        text.push_str(&rules);
    } else {
        let file = kind.to_ascii_lowercase();
        let _ = write!(text, "Check before you apply: kubectl weightlock check -f {file}.yaml        {rules}");
    }
    text
}

fn place(namespace: &str, name: &str) -> String {
    let name = if name.is_empty() { "(new)" } else { name };
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}
