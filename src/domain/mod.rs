//! The rules: pure functions over an immutable [`World`]. Webhook, controller, audit and CLI all call the same ones.
//!
//! Nothing here reads a clock, a file, the environment or the network, and nothing panics on any input. What cannot be
//! decided is a violation, never an allowance.

pub mod access;
pub mod admission;
pub mod backend;
pub mod carrier;
pub mod consumers;
pub mod decision;
pub mod index_plan;
pub mod lookup;
pub mod network;
pub mod node;
pub mod packed;
pub mod registered;
pub mod request;
pub mod rules;
pub mod settings;
pub mod verdict;
pub mod webhook_scope;
pub mod workload;
pub mod world;

pub use backend::BackendKey;
pub use decision::{Decision, Violation};
pub use lookup::Membership;
pub use packed::PackedPod;
pub use request::{Operation, Request, User};
pub use rules::Rule;
pub use world::World;
