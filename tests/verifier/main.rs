//! The verifier against directories on disk.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contents;
mod cpus;
mod keyless;
mod layouts;
mod memory;
mod moving;
mod mutations;
mod network;
mod program;
mod reasons;
mod signatures;
mod sigstore;
mod volume;
