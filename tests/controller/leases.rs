//! Leader election.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use weightlock::runtime::lease::Elector;

use super::cluster::*;

async fn candidates(client: &kube::Client) -> (Elector, Elector, serde_json::Value) {
    let name = unique("lease");
    let elector = |identity| Elector::new(client.clone(), "default", &name, identity);
    let lease = serde_json::json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "default", "name": name}});
    (elector("one"), elector("two"), lease)
}

#[tokio::test]
async fn a_follower_leads_soon_after_a_release_and_only_after_the_lease_ran_out_else() {
    let client = client().await;
    let never = CancellationToken::new();
    let (one, two, _) = candidates(&client).await;
    let leader = one.acquire(&never).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(5), two.acquire(&never)).await;
    assert!(waited.is_err(), "two leaders");
    leader.release().await;
    let started = Instant::now();
    let leader = two.acquire(&never).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?} after a release", started.elapsed());

    drop(leader);
    let started = Instant::now();
    one.acquire(&never).await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(29) && took < Duration::from_secs(60), "{took:?} after a crash");
}

#[tokio::test]
async fn a_leader_whose_lease_another_took_stops_and_says_who() {
    let client = client().await;
    let (one, _, lease) = candidates(&client).await;
    let mut leader = one.acquire(&CancellationToken::new()).await.unwrap();
    patch(&client, &lease, "thief", &serde_json::json!({"spec": {"holderIdentity": "thief"}})).await;
    let lost = tokio::time::timeout(Duration::from_secs(15), leader.keep()).await.unwrap().to_string();
    assert!(lost.contains("was lost: thief holds it; this process ends"), "{lost}");
}

#[tokio::test]
async fn a_candidate_that_is_told_to_end_stops_waiting() {
    let client = client().await;
    let (one, two, _) = candidates(&client).await;
    let shutdown = CancellationToken::new();
    let _leader = one.acquire(&shutdown).await.unwrap();
    shutdown.cancel();
    let waited = tokio::time::timeout(Duration::from_secs(5), two.acquire(&shutdown)).await.unwrap();
    assert!(waited.is_none());
}
