//! Copies by snapshot. The snapshot kinds are not part of Kubernetes, so a stand-in for their definitions is made where
//! they are missing.

use serde_json::json;

use super::fixture::{DRIVER, fixture};
use super::{assert_accepted, assert_refused};
use crate::harness;

const GROUP: &str = "snapshot.storage.k8s.io";

async fn install(client: &kube::Client) {
    harness::stand_ins(
        client,
        GROUP,
        &[
            ("volumesnapshots", "VolumeSnapshot", "Namespaced"),
            ("volumesnapshotcontents", "VolumeSnapshotContent", "Cluster"),
        ],
    )
    .await;
}

#[tokio::test]
async fn no_snapshot_is_taken_of_registered_storage() {
    let (client, f) = (harness::client().await, fixture().await);
    install(&client).await;
    let snapshot = |namespace: &str, claim: &str| {
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshot",
            "metadata": {"name": harness::unique("snapshot"), "namespace": namespace},
            "spec": {"source": {"persistentVolumeClaimName": claim}},
        })
    };
    for (namespace, claim) in [(&f.outside, "bound-before"), (&f.inside, "orion")] {
        assert_refused(
            &harness::try_create_served(&client, &snapshot(namespace, claim)).await,
            &[
                &format!(
                    "[WL-112] the snapshot is a copy of PersistentVolumeClaim \"{namespace}/{claim}\", which is WeightArtifact \"orion\"; a copy would be storage that nobody registered"
                ),
                "Remedy: mount the registered storage itself, or register the target first and let a pod of an environment write the copy there; or ask weights-team@example.com.",
            ],
        );
    }
    assert_accepted(&harness::try_create_served(&client, &snapshot(&f.outside, "anything-else")).await);
    assert_accepted(&harness::try_create_served(&client, &snapshot(&f.inside, "anything-else")).await);
}

#[tokio::test]
async fn registered_storage_is_not_declared_as_a_snapshot() {
    let (client, f) = (harness::client().await, fixture().await);
    install(&client).await;
    let content = |namespace: &str, handle: &str| {
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotContent",
            "metadata": {"name": harness::unique("content")},
            "spec": {
                "driver": DRIVER, "source": {"volumeHandle": handle},
                "volumeSnapshotRef": {"namespace": namespace, "name": "s"},
            },
        })
    };
    for namespace in [&f.outside, &f.inside] {
        let said = harness::try_create_served(&client, &content(namespace, &f.handle())).await;
        let fact = format!(
            "[WL-112] the snapshot content, for namespace {namespace:?}, is a copy of WeightArtifact \"orion\""
        );
        assert_refused(&said, &[&fact]);
    }
    assert_accepted(&harness::try_create_served(&client, &content(&f.outside, "vol-other")).await);
    assert_accepted(&harness::try_create_served(&client, &content(&f.audit, &f.handle())).await);
}

#[tokio::test]
async fn the_content_of_a_snapshot_is_not_moved_elsewhere() {
    let (client, f) = (harness::client().await, fixture().await);
    install(&client).await;
    let content = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotContent",
        "metadata": {"name": harness::unique("content")},
        "spec": {
            "driver": DRIVER, "source": {"volumeHandle": f.handle()},
            "volumeSnapshotRef": {"namespace": f.audit, "name": "s"},
        },
    });
    assert_accepted(&harness::try_create_served(&client, &content).await);
    assert_accepted(&harness::create(&client, &content).await);
    let to = |namespace: &str| json!({"spec": {"volumeSnapshotRef": {"namespace": namespace}}});
    let moved = harness::merge(&client, &content, &to(&f.outside)).await;
    assert_refused(&moved, &["[WL-112]", &f.outside]);
    assert_accepted(&harness::merge(&client, &content, &json!({"metadata": {"finalizers": ["example.com/x"]}})).await);
    assert_accepted(&harness::merge(&client, &content, &json!({"metadata": {"finalizers": []}})).await);
    harness::delete(&client, &content).await;
}
