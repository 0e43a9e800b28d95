//! Tests against a real API server, with no Weightlock process running: what the schemas and the policies inside the
//! API server accept and refuse by themselves.
//!
//! `WEIGHTLOCK_TEST_KUBECONFIG` names the API server to use; without it a control plane is started with
//! `e2e/cluster/cluster --name apitest up --control-plane-only` and kept for the next run. Never skipped: without an
//! API server every test fails and says why.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crds;
mod harness;
mod policies;
