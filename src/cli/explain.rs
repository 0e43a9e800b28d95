//! `explain`: what a rule says.

use std::fmt::Write as _;

use super::error::CliError;
use crate::domain::rules;

/// The text of a rule, or of all of them in short if none is named.
///
/// # Errors
/// Where there is no such rule.
pub fn explain(id: Option<&str>) -> Result<String, CliError> {
    let mut text = String::new();
    let Some(id) = id else {
        for rule in rules::all() {
            let _ = writeln!(text, "{}  {}", rule.id(), rule.title());
        }
        return Ok(text);
    };
    let rule = rules::by_id(id).ok_or_else(|| CliError::Value {
        option: "rule",
        value: id.into(),
        problem: "does not exist: `kubectl weightlock explain` lists the rules".into(),
    })?;
    let described = rule.describe();
    let rings: Vec<_> = described.rings.iter().map(|ring| ring.title()).collect();
    let _ = writeln!(text, "{} {}\n\n{}\n", described.id, described.title, described.summary);
    let _ = writeln!(text, "Remedy:     {}", described.remedy);
    let _ = writeln!(text, "Example:    {}", described.example);
    let _ = writeln!(text, "Decided by: {}", rings.join(", "));
    let _ = writeln!(text, "Reference:  docs/rules.md#{}", rule.anchor());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_explained_whatever_the_case_of_its_id() {
        let text = explain(Some("wl-101")).unwrap();
        assert!(text.starts_with("WL-101 Weights are not permitted here\n"), "{text}");
        assert!(text.ends_with("Reference:  docs/rules.md#wl-101\n"), "{text}");
    }

    #[test]
    fn without_an_id_all_are_listed_and_an_unknown_one_is_an_error() {
        assert_eq!(explain(None).unwrap().lines().count(), rules::all().len());
        assert_eq!(
            explain(Some("WL-000")).unwrap_err().to_string(),
            "rule \"WL-000\" does not exist: `kubectl weightlock explain` lists the rules"
        );
    }
}
