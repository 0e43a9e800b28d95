//! How decisions are worded.

use std::fmt::Write;

use crate::domain::decision::Decision;
use crate::domain::rules::Rule;

/// More violations than this are counted, not listed: messages of the API server have their limits.
const LISTED: usize = 40;

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
