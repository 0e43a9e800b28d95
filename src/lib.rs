//! Weightlock enforces model-weight segmentation in Kubernetes: weights are mounted only in the environments they are
//! permitted in, and only after their bytes were verified.
//!
//! The crate is one library with thin binaries. Its layers, and what each may not use, are guarded by `tests/layering.rs`:
//!
//! | module | holds | may not use |
//! |---|---|---|
//! | [`api`] | the custom resource types | the client, decisions, I/O |
//! | [`domain`] | pure rules over an immutable world | the client, the runtime, the clock, the environment, files |
//! | [`render`] | domain plans as Kubernetes objects | API calls, decisions |
//! | [`index`] | watches, folded into a world | policy |
//! | [`reconcile`] | one recipe per kind, one writer | — |
//! | [`webhook`] | the admission router, reviews, TLS | writes to the API |
//! | [`verifier`] | walk, hash, manifest, report | the client, the runtime, sockets |
//! | [`cli`] | arguments and output of `kubectl weightlock` | rules of its own |
//! | [`runtime`] | process arguments, telemetry, health, shutdown, leases | policy |

#[cfg(feature = "operator")]
pub mod api;
#[cfg(feature = "operator")]
pub mod cli;
#[cfg(feature = "operator")]
pub mod domain;
#[cfg(feature = "operator")]
pub mod index;
#[cfg(feature = "operator")]
pub mod reconcile;
#[cfg(feature = "operator")]
pub mod render;
#[cfg(feature = "operator")]
pub mod runtime;
pub mod verifier;
#[cfg(feature = "operator")]
pub mod webhook;
