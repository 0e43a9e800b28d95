//! What a decision says.

use super::rules::Rule;

/// The outcome of `super::admission::decide`: allowed if there is no violation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Every rule that is broken, in the order of the object.
    pub violations: Vec<Violation>,
    /// What the author should know although it is allowed. In Audit mode the violations are here, as text.
    pub warnings: Vec<String>,
}

impl Decision {
    /// Whether nothing forbids the request.
    pub fn allowed(&self) -> bool {
        self.violations.is_empty()
    }
}

/// One rule broken by one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What was found: which container or volume, which artifact, which environment.
    pub fact: String,
    /// What to do about it, the contact included where there is one.
    pub remedy: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}\n         Remedy: {}", self.rule.id(), self.fact, self.remedy)
    }
}
