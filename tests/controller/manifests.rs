//! Manifests in WeightManifest objects: compared with the digest, brought to the namespaces of environments, kept there.

use kube::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cluster::*;
use weightlock::render::{OWNER, manifest::MANIFESTS};

const TEXT: [&str; 2] = [r#"{"files":[{"path":"a","sha256":"#, r#""00","size":7}],"version":1}"#];

fn shard(manifest: &str, number: usize, text: &str) -> Value {
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightManifest",
        "metadata": {"name": format!("{manifest}-{number}")},
        "spec": {"manifest": manifest, "shard": number, "shards": TEXT.len(), "data": text},
    })
}

/// A text that no other test pins, so that the ConfigMaps are this test's own.
fn texts(name: &str) -> [String; 2] {
    [TEXT[0].replace("\"a\"", &format!("\"{name}\"")), TEXT[1].into()]
}

fn hex(texts: &[String]) -> String {
    Sha256::digest(texts.concat()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn map(namespace: &str, hex: &str, number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": format!("weightlock-manifest-{hex}-{number}")}})
}

fn pinned(name: &str, digest: &str) -> Value {
    let location =
        json!({"name": "share", "role": "Primary", "nfs": {"server": "nas.example.com", "path": format!("/m/{name}")}});
    let mut artifact = artifact(name, location, &[name]);
    artifact["spec"]["manifestDigest"] = format!("sha256:{digest}").into();
    artifact["spec"]["manifest"] = json!({"object": {"name": name, "shards": TEXT.len()}});
    artifact
}

async fn holds(client: &Client, map: &Value, text: &str) {
    eventually(&format!("{} holds its shard", map["metadata"]["name"]), async || {
        let live = get(client, map).await;
        let deleting = !live["metadata"]["deletionTimestamp"].is_null();
        match live["data"]["shard"] == text && live["immutable"] == true && !deleting {
            true => Ok(()),
            false => Err(live.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_manifest_is_brought_kept_and_taken_away() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("carry");
    ready_environment(&client, &name).await;
    let texts = texts(&name);
    let hex = hex(&texts);
    let artifact = pinned(&name, &hex);
    apply(&client, &artifact).await;
    let message = wait_for(&client, &artifact, "ManifestBrought", "False", "ManifestMissing").await;
    assert!(message.contains(&format!("{name}-0")) && message.contains(&format!("{name}-1")), "{message}");
    wait_for(&client, &artifact, "Ready", "False", "ManifestMissing").await;

    // Another text under our marks: it cannot be mended in place, as it is immutable.
    let mut forged = map(&name, &hex, 0);
    forged["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "weightlock"});
    forged["metadata"]["annotations"] = json!({OWNER: MANIFESTS});
    forged["immutable"] = true.into();
    forged["data"] = json!({"shard": "forged"});
    create(&client, &forged).await;
    create(&client, &shard(&name, 0, &texts[0])).await;
    create(&client, &shard(&name, 1, &texts[1])).await;
    wait_for(&client, &artifact, "ManifestBrought", "True", "Brought").await;
    wait_for(&client, &artifact, "Ready", "True", "Ready").await;
    assert_eq!(get(&client, &artifact).await["status"]["sizeBytes"], 7);
    let maps = [map(&name, &hex, 0), map(&name, &hex, 1)];
    holds(&client, &maps[0], &texts[0]).await;
    holds(&client, &maps[1], &texts[1]).await;

    delete(&client, &maps[1]).await;
    holds(&client, &maps[1], &texts[1]).await;

    delete(&client, &artifact).await;
    eventually("the ConfigMaps to be taken away", async || {
        let left = [get(&client, &maps[0]).await, get(&client, &maps[1]).await];
        if left.iter().all(Value::is_null) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_manifest_that_the_digest_does_not_pin_is_not_brought() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("other");
    ready_environment(&client, &name).await;
    let texts = texts(&name);
    let wanted = "2".repeat(64);
    create(&client, &shard(&name, 0, &texts[0])).await;
    create(&client, &shard(&name, 1, &texts[1])).await;
    let artifact = pinned(&name, &wanted);
    apply(&client, &artifact).await;
    let message = wait_for(&client, &artifact, "ManifestBrought", "False", "ManifestMismatch").await;
    assert!(message.contains(&format!("is sha256:{}, not manifestDigest", hex(&texts))), "{message}");
    wait_for(&client, &artifact, "Ready", "False", "ManifestMismatch").await;
    assert!(get(&client, &map(&name, &wanted, 0)).await.is_null());

    // Nor is someone else's ConfigMap of that name overwritten; its pods wait, and the status says for what.
    let taken = hex(&texts);
    let mut foreign = map(&name, &taken, 0);
    foreign["data"] = json!({"shard": "a tenant's"});
    create(&client, &foreign).await;
    let mut artifact = pinned(&unique("taken"), &taken);
    artifact["spec"]["manifest"]["object"]["name"] = name.clone().into();
    artifact["spec"]["permittedEnvironments"] = json!([{"name": name}]);
    apply(&client, &artifact).await;
    let message = wait_for(&client, &artifact, "ManifestBrought", "False", "ForeignObject").await;
    assert!(message.contains(&format!("weightlock-manifest-{taken}-0")), "{message}");
    holds(&client, &map(&name, &taken, 1), &texts[1]).await;
    assert_eq!(get(&client, &foreign).await["data"]["shard"], "a tenant's");
    delete(&client, &foreign).await;
    wait_for(&client, &artifact, "ManifestBrought", "True", "Brought").await;

    // A name with a shard number that is another's.
    let unfit = unique("unfit");
    let mut stranger = shard(&name, 0, &texts[0]);
    stranger["metadata"]["name"] = format!("{unfit}-0").into();
    create(&client, &stranger).await;
    create(&client, &shard(&unfit, 1, &texts[1])).await;
    let mut artifact = pinned(&unfit, &hex(&texts));
    artifact["spec"]["permittedEnvironments"] = json!([{"name": name}]);
    apply(&client, &artifact).await;
    let message = wait_for(&client, &artifact, "ManifestBrought", "False", "ManifestUnfit").await;
    assert!(message.contains(&format!("says that it is shard 0 of 2 of {name:?}")), "{message}");
}
