//! One test per rule, each with the neighbour that is allowed, and properties of all of them.
//!
//! The small cluster they play in is made by `support::small`.

mod support;

mod again;
mod claims;
mod devices;
mod download;
mod foresight;
mod hardening;
mod identity;
mod images;
mod modes;
mod node_access;
mod opening;
mod placement;
mod properties;
mod running;
mod sealing;
mod shape;
mod verification;

use crate::domain::rules::Ring;

#[test]
fn every_rule_has_its_test() {
    let tests = [
        include_str!("again.rs"),
        include_str!("claims.rs"),
        include_str!("devices.rs"),
        include_str!("download.rs"),
        include_str!("hardening.rs"),
        include_str!("identity.rs"),
        include_str!("images.rs"),
        include_str!("modes.rs"),
        include_str!("opening.rs"),
        include_str!("placement.rs"),
        include_str!("running.rs"),
        include_str!("sealing.rs"),
        include_str!("verification.rs"),
    ];
    // Rules of ring 1 alone are tested against an API server.
    for rule in crate::domain::rules::all().iter().filter(|rule| rule.describe().rings.contains(&Ring::Webhook)) {
        let name = format!("fn wl_{}", &rule.id()[3..]);
        assert!(tests.iter().any(|text| text.contains(&name)), "{} has no test {name}…", rule.id());
    }
}

pub(crate) use support::{environment, small};
