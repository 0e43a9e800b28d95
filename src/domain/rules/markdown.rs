//! The table of rules as a page of the documentation.

use std::fmt::Write;

use super::{Aspect, Rule, all};

const HEAD: &str = "# Rules

Every refusal names one of these. Ids are never reused. This page is generated from the table in `src/domain/rules/`;
`WEIGHTLOCK_BLESS=1 cargo test --test rules_doc` writes it anew.

*Decided by*: **API server** rules are policies inside it and hold with every pod of Weightlock dead; **webhook** rules
are decided by the webhook of environment namespaces, which fails closed; **watch** rules are also looked for in what
already runs. *Follows*: the mode of the environment that turns the refusal into a warning (`modes.admission: Audit`) or
switches the rule off (`modes.verification: Audit`).

";

/// `docs/rules.md`: an overview, then each rule under an anchor of its id (`#wl-101`).
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    page.push_str("| rule | what is refused |\n|---|---|\n");
    for rule in all() {
        let _ = writeln!(page, "| [{}](#{}) | {} |", rule.id(), rule.anchor(), rule.title());
    }
    for rule in all() {
        section(&mut page, *rule);
    }
    page
}

fn section(page: &mut String, rule: Rule) {
    let text = rule.describe();
    let rings: Vec<&str> = text.rings.iter().map(|ring| ring.title()).collect();
    let aspect = match text.aspect {
        Aspect::Admission => "`modes.admission`",
        Aspect::Verification => "`modes.admission`, `modes.verification`",
        Aspect::Always => "no mode",
    };
    // The anchor is written out, because renderers differ in how they make one of a heading.
    let _ = write!(
        page,
        "\n<a id=\"{}\"></a>\n## {} {}\n\n{}\n\n- Remedy: {}\n- Example: {}\n- Decided by: {}. Follows: {aspect}.\n",
        rule.anchor(),
        text.id,
        text.title,
        text.summary,
        // Angle brackets would be taken for HTML.
        text.remedy.replace(['<', '>'], "*"),
        text.example,
        rings.join(", "),
    );
}
