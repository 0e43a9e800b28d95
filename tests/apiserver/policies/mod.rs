//! Ring 1 against a real API server: each rule with its attack and its legitimate twin.

mod agreement;
mod claims;
mod connections;
mod delegation;
mod devices;
mod differential;
mod facts;
mod fixture;
mod gpus;
mod images;
mod installation;
mod nodes;
mod pods;
mod protection;
mod publication;
mod snapshots;
mod statuses;
mod templates;
mod volumes;

use serde_json::Value;

/// Asserts that the answer is a refusal (403) that says all of these.
#[track_caller]
fn assert_refused(answer: &Result<Value, String>, says: &[&str]) {
    match answer {
        Ok(object) => panic!("accepted, expected a refusal with {says:?}: {object}"),
        Err(said) => {
            assert!(said.starts_with("403 "), "{said}");
            for part in says {
                assert!(said.contains(part), "{part:?} is not in: {said}");
            }
        }
    }
}

/// Asserts that the answer is no refusal.
#[track_caller]
fn assert_accepted(answer: &Result<Value, String>) {
    if let Err(said) = answer {
        panic!("refused: {said}");
    }
}
