//! The table of rules: one id, one text, one test and one line in the documentation each.

/// A rule. Its id is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A registered artifact is mounted where it is not permitted.
    NotPermittedHere,
}

impl Rule {
    /// The id that is printed, `WL-nnn`.
    pub fn id(self) -> &'static str {
        match self {
            Rule::NotPermittedHere => "WL-101",
        }
    }
}
