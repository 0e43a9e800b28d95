//! What Weightlock promises, seen on a real cluster: each scenario has the attack, refused with its rule, and beside it
//! the legitimate twin that works. `e2e/test` starts the cluster, installs the chart and runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod content;
mod controller;
mod delegation;
mod disruption;
mod exposure;
mod harness;
mod locations;
mod network;
mod placement;
mod reach;
mod reasons;
mod running;
mod shapes;
mod signature;
mod starved;
mod tools;
mod trust;
mod verification;
mod workloads;
