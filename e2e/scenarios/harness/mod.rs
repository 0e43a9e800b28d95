//! What every scenario needs: a client of the real cluster, namespaces of its own, weights on a node's disk, and waits
//! that end. A scenario cleans up after itself, also when it fails.

mod cluster;
mod objects;
mod stage;

pub use cluster::*;
pub use objects::*;
pub use stage::*;

use std::future::Future;
use std::time::{Duration, Instant};

/// Polls `probe` until it yields a value; after `limit`, panics with what was waited for and what `probe` last saw.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        let seen = match probe().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(start.elapsed() < limit, "waited {limit:?} for: {what}\nlast seen: {seen}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Checks for `span` that `probe` keeps saying yes; panics with what it saw otherwise.
pub async fn always<F, Fut>(what: &str, span: Duration, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), String>>,
{
    let start = Instant::now();
    while start.elapsed() < span {
        if let Err(seen) = probe().await {
            panic!("did not stay so: {what}\nseen after {:?}: {seen}", start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// The limit of most waits: a busy machine with two cores starts a pod in a few seconds.
pub const SOON: Duration = Duration::from_secs(90);
