//! While the number of shards doubles and is halved, what is registered stays refused at every moment: keys move between
//! shards that the API server sees one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use super::cluster::*;

/// A volume with the storage of a [`registered`] artifact.
fn volume(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "storageClassName": "none",
            "claimRef": {"namespace": "default", "name": "c"},
            "nfs": {"server": "nas.example.com", "path": format!("/models/{name}")}},
    })
}

/// An artifact that takes more than one shard: of each of its paths every directory above it is an entry.
fn large(name: &str) -> Value {
    let server = "n".repeat(200);
    let location = |n: usize| {
        let path = format!("/{name}-{n}{}", "/x".repeat(225));
        json!({"name": format!("l{n}"), "role": "Cache", "nfs": {"server": server, "path": path}})
    };
    let mut artifact = artifact(name, location(0), &["not-there"]);
    artifact["spec"]["locations"] = (0..14).map(location).collect();
    artifact
}

/// What came of asking again and again.
#[derive(Default)]
struct Asked {
    refused: usize,
    taken: Vec<String>,
    /// Refused without the rule, as by a policy whose parameter is not seen yet.
    otherwise: Vec<String>,
}

async fn ask(client: Client, names: Vec<String>, stop: Arc<AtomicBool>) -> Asked {
    let mut asked = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        for name in &names {
            match would_take(&client, &volume(name)).await {
                Ok(()) => asked.taken.push(name.clone()),
                Err(said) if said.contains("[WL-112]") => asked.refused += 1,
                Err(said) => asked.otherwise.push(said),
            }
        }
    }
    asked
}

/// Waits until every shard says that there are so many.
async fn are(client: &Client, count: usize) {
    eventually(&format!("{count} shards"), async || {
        let mut says = Vec::new();
        for number in 0..=count {
            says.push(shard(client, number).await["spec"]["shards"].clone());
        }
        let expected: Vec<Value> = (0..=count).map(|n| if n < count { json!(count) } else { Value::Null }).collect();
        if says == expected { Ok(()) } else { Err(format!("{says:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_is_registered_stays_refused_while_shards_are_doubled_and_halved() {
    let _alone = ALONE.write().await;
    let (client, _) = controller().await;
    let names: Vec<String> = (0..8).map(|_| unique("held")).collect();
    for name in &names {
        apply(&client, &registered(name)).await;
    }
    for name in &names {
        wait_for(&client, &registered(name), "Enforced", "True", "Enforced").await;
        eventually("the policies know it", async || match would_take(&client, &volume(name)).await {
            Err(said) if said.contains("[WL-112]") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    are(&client, 1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(ask(client.clone(), names.clone(), stop.clone()));

    let large = large(&unique("large"));
    apply(&client, &large).await;
    wait_for(&client, &large, "Enforced", "True", "Enforced").await;
    are(&client, 2).await;
    let later = shard(&client, 1).await;
    let moves = |name: &&String| later["spec"]["paths"].get(format!("v1:nfs:nas.example.com:/models/{name}")).is_some();
    let moved = names.iter().filter(moves).count();
    // The API server sees what was written last a moment later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    delete(&client, &large).await;
    are(&client, 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);

    let asked = asking.await.unwrap();
    println!("asked {} times, {} of 8 keys moved", asked.refused, moved);
    assert!(moved > 0 && asked.refused > 200, "{moved} keys moved, asked {} times", asked.refused);
    assert_eq!(asked.taken, Vec::<String>::new(), "{} were refused", asked.refused);
    assert_eq!(asked.otherwise, Vec::<String>::new());
    for name in &names {
        delete(&client, &registered(name)).await;
    }
}
