//! The controller against a real API server: what it writes, repairs, refuses to inherit and waits for.
//!
//! The tests start a control plane of their own (`e2e/cluster/cluster --name ctltest up --control-plane-only`), since
//! a running controller would get into the way of others; it is kept for the next run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on fails

mod cluster;
mod doubling;
mod environments;
mod leases;
mod manifests;
mod storage;
mod tampering;
mod tier;
mod unreadable;
