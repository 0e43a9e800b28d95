//! What every long-running process of Weightlock has: arguments, telemetry, metrics, health, shutdown and leases.

pub mod metrics;
