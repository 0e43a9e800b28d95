//! Copies by snapshot. The snapshot kinds are not part of Kubernetes, so a stand-in for their definitions is made where
//! they are missing.

use serde_json::{Value, json};

use super::fixture::{DRIVER, fixture};
use super::{assert_accepted, assert_refused};
use crate::harness;

const GROUP: &str = "snapshot.storage.k8s.io";
const GROUPS: &str = "groupsnapshot.storage.k8s.io";

async fn install(client: &kube::Client) {
    let kinds = [
        ("volumesnapshots", "VolumeSnapshot", "Namespaced"),
        ("volumesnapshotcontents", "VolumeSnapshotContent", "Cluster"),
    ];
    harness::stand_ins(client, GROUP, &kinds).await;
    let kinds = [
        ("volumegroupsnapshots", "VolumeGroupSnapshot", "Namespaced"),
        ("volumegroupsnapshotcontents", "VolumeGroupSnapshotContent", "Cluster"),
    ];
    harness::stand_ins(client, GROUPS, &kinds).await;
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
async fn a_snapshot_from_before_is_not_restored() {
    let (client, f) = (harness::client().await, fixture().await);
    let claim = |field: &str, name: &str| {
        let source = json!({"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": name});
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": harness::unique("restored"), "namespace": f.outside},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, field: source},
        })
    };
    for field in ["dataSource", "dataSourceRef"] {
        let fact = format!(
            "is a copy of VolumeSnapshot \"{}/from-before\", which is WeightArtifact \"orion\"; a copy would be",
            f.outside
        );
        let said = harness::try_create(&client, &claim(field, "from-before")).await;
        assert_refused(&said, &["[WL-112] PersistentVolumeClaim", &fact]);
        assert_accepted(&harness::try_create(&client, &claim(field, "another")).await);
    }
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

#[tokio::test]
async fn a_registered_snapshot_is_not_declared_elsewhere() {
    let (client, f) = (harness::client().await, fixture().await);
    install(&client).await;
    let content = |handle: &str| {
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotContent",
            "metadata": {"name": harness::unique("content")},
            "spec": {
                "driver": DRIVER, "source": {"snapshotHandle": handle},
                "volumeSnapshotRef": {"namespace": f.outside, "name": "s"},
            },
        })
    };
    // Declared as a location, and taken of registered storage before that was registered.
    for handle in [f.handle(), f.snapshot()] {
        assert_refused(
            &harness::try_create_served(&client, &content(&handle)).await,
            &["[WL-112] the snapshot content", "\"orion\""],
        );
    }
    assert_accepted(&harness::try_create_served(&client, &content("snap-other")).await);
}

#[tokio::test]
async fn no_group_snapshot_is_taken_beside_registered_storage() {
    let (client, f) = (harness::client().await, fixture().await);
    install(&client).await;
    let group = |namespace: &str| {
        json!({
            "apiVersion": format!("{GROUPS}/v1"), "kind": "VolumeGroupSnapshot",
            "metadata": {"name": harness::unique("group"), "namespace": namespace},
            "spec": {"source": {"selector": {"matchLabels": {"app": "db"}}}},
        })
    };
    let fact = format!("[WL-112] a group snapshot in namespace {:?} may be a copy of PersistentVolumeClaim", f.inside);
    assert_refused(&harness::try_create_served(&client, &group(&f.inside)).await, &[&fact, "Remedy: "]);
    assert_accepted(&harness::try_create_served(&client, &group("default")).await);
    let mut given = group(&f.inside);
    given["spec"]["source"] = json!({"volumeGroupSnapshotContentName": "content"});
    assert_accepted(&harness::try_create_served(&client, &given).await);

    let content = |source: Value| {
        json!({
            "apiVersion": format!("{GROUPS}/v1"), "kind": "VolumeGroupSnapshotContent",
            "metadata": {"name": harness::unique("content")},
            "spec": {"driver": DRIVER, "source": source, "volumeGroupSnapshotRef": {"namespace": f.outside, "name": "s"}},
        })
    };
    let handles = |list: &[&str]| json!({"groupSnapshotHandles": {"volumeGroupSnapshotHandle": "g", "volumeSnapshotHandles": list}});
    let taken = [handles(&["snap-other", &f.handle()]), handles(&["snap-other", &f.snapshot()])];
    for source in taken.into_iter().chain([json!({"volumeHandles": ["vol-other", f.handle()]})]) {
        assert_refused(
            &harness::try_create_served(&client, &content(source)).await,
            &["[WL-112] the group snapshot content", "\"orion\""],
        );
    }
    assert_accepted(&harness::try_create_served(&client, &content(json!({"volumeHandles": ["vol-other"]}))).await);
    assert_accepted(&harness::try_create_served(&client, &content(handles(&["snap-other"]))).await);
}
