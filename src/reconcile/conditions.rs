//! Conditions whose transition time moves only when their status does.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::events::shorten;

/// The longest message a condition may carry, in bytes.
const LONGEST_MESSAGE: usize = 8192;

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// It is not known.
    Unknown,
}

/// A condition as it should be now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Type.
    pub kind: &'static str,
    /// Status.
    pub status: Truth,
    /// Machine-readable reason, in CamelCase.
    pub reason: &'static str,
    /// The text for people.
    pub message: String,
}

impl Wanted {
    /// A condition that holds.
    pub fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Truth::True, reason, message: message.into() }
    }

    /// A condition that does not hold.
    pub fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Truth::False, reason, message: message.into() }
    }

    /// A condition of which it is not known whether it holds.
    pub fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Truth::Unknown, reason, message: message.into() }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.status == Truth::True
    }
}

/// The conditions to store: in the order wanted, each with the transition time it had if its status is as it was.
pub fn merge(current: &[Condition], wanted: Vec<Wanted>, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    wanted
        .into_iter()
        .map(|wanted| {
            let status = match wanted.status {
                Truth::True => "True",
                Truth::False => "False",
                Truth::Unknown => "Unknown",
            };
            let before = current.iter().find(|condition| condition.type_ == wanted.kind && condition.status == status);
            Condition {
                type_: wanted.kind.into(),
                status: status.into(),
                reason: wanted.reason.into(),
                message: shorten(&wanted.message, LONGEST_MESSAGE).into(),
                observed_generation: generation,
                last_transition_time: before
                    .map_or_else(|| Time(whole_seconds(now)), |condition| condition.last_transition_time.clone()),
            }
        })
        .collect()
}

/// A time as objects have it.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let first = merge(&[], vec![Wanted::no("Ready", "Pending", "a")], Some(1), at(10));
        assert_eq!(first[0].last_transition_time, Time(at(10)));
        let second = merge(&first, vec![Wanted::no("Ready", "Conflict", "b")], Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Conflict", Some(2)));
        let third = merge(&second, vec![Wanted::yes("Ready", "Ready", "c")], Some(2), at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn the_same_conditions_are_stored_the_same() {
        let wanted = || vec![Wanted::yes("Accepted", "Accepted", ""), Wanted::unknown("Verified", "NotYet", "m")];
        let first = merge(&[], wanted(), Some(1), at(10));
        assert_eq!(merge(&first, wanted(), Some(1), at(99)), first);
    }

    #[test]
    fn a_condition_that_is_no_longer_wanted_goes() {
        let first = merge(&[], vec![Wanted::yes("Old", "R", "")], Some(1), at(10));
        assert_eq!(merge(&first, vec![], Some(1), at(11)), []);
    }
}
