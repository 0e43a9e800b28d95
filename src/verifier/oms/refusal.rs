//! Why a signature is not accepted.

use crate::verifier::finding::Reason;

/// The cause, one for each reason that a signature can give.
pub type Cause = Reason;

/// A cause and its particulars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The cause.
    pub cause: Cause,
    /// What was found and what was expected.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}
