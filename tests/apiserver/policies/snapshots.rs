//! Copies by snapshot. The snapshot kinds are not part of Kubernetes, so a stand-in for their definitions is made where
//! they are missing.

use serde_json::{Value, json};

use super::fixture::{DRIVER, fixture};
use super::{assert_accepted, assert_refused};
use crate::harness;

const GROUP: &str = "snapshot.storage.k8s.io";

async fn install(client: &kube::Client) {
    for (plural, kind, scope) in [
        ("volumesnapshots", "VolumeSnapshot", "Namespaced"),
        ("volumesnapshotcontents", "VolumeSnapshotContent", "Cluster"),
    ] {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{GROUP}"),
                "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
            },
            "spec": {
                "group": GROUP, "scope": scope,
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
            },
        });
        if let Err(said) = harness::create(client, &definition).await {
            assert!(said.starts_with("409"), "{said}");
        }
    }
}

/// The answer to an attempt, once the kinds are served.
async fn ask(client: &kube::Client, object: &Value) -> Result<Value, String> {
    harness::eventually("the snapshot kinds are served", async || match harness::try_create(client, object).await {
        Err(said) if said.starts_with("404") => Err(said),
        answer => Ok(answer),
    })
    .await
}

#[tokio::test]
async fn no_snapshot_of_registered_storage_where_it_is_not_permitted() {
    let (client, f) = (harness::client().await, fixture().await);
    install(&client).await;
    let snapshot = |namespace: &str, claim: &str| {
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshot",
            "metadata": {"name": harness::unique("snapshot"), "namespace": namespace},
            "spec": {"source": {"persistentVolumeClaimName": claim}},
        })
    };
    assert_refused(
        &ask(&client, &snapshot(&f.outside, "bound-before")).await,
        &[
            &format!(
                "[WL-112] the snapshot is a copy of PersistentVolumeClaim \"{}/bound-before\", which is WeightArtifact \"orion\"",
                f.outside
            ),
            "Remedy: take it in one of: inference; or ask weights-team@example.com.",
        ],
    );
    assert_accepted(&ask(&client, &snapshot(&f.outside, "anything-else")).await);
    assert_accepted(&ask(&client, &snapshot(&f.inside, "orion")).await);
}

#[tokio::test]
async fn registered_storage_is_not_declared_as_a_snapshot_for_elsewhere() {
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
    let said = ask(&client, &content(&f.outside, &f.handle())).await;
    assert_refused(&said, &["[WL-112] the snapshot content is a copy of WeightArtifact \"orion\"", &f.outside]);
    assert_accepted(&ask(&client, &content(&f.outside, "vol-other")).await);
    assert_accepted(&ask(&client, &content(&f.inside, &f.handle())).await);
}
