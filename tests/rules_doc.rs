//! `docs/rules.md` is what the table of rules says.

use std::path::Path;

#[test]
fn rules_md_is_generated_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md");
    let rendered = weightlock::domain::rules::markdown();
    if std::env::var_os("WEIGHTLOCK_BLESS").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == rendered,
        "docs/rules.md is not what the table says: run WEIGHTLOCK_BLESS=1 cargo test --test rules_doc"
    );
}

#[test]
fn every_rule_has_an_anchor_and_a_line() {
    let page = weightlock::domain::rules::markdown();
    for rule in weightlock::domain::rules::all() {
        assert!(page.contains(&format!("<a id=\"{}\"></a>", rule.anchor())), "{}", rule.id());
        assert!(page.contains(&format!("| [{}](#{}) |", rule.id(), rule.anchor())), "{}", rule.id());
    }
}
