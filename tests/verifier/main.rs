//! The verifier against directories on disk.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bundles;
#[cfg(feature = "operator")]
mod cached;
mod contents;
mod cpus;
mod golden;
mod keyless;
mod layouts;
mod memory;
mod moving;
mod mutations;
mod network;
mod program;
mod reasons;
mod signatures;
#[cfg(feature = "operator")]
mod signing;
mod sigstore;
mod table;
mod volume;
