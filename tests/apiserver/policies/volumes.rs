use serde_json::json;

use super::fixture::{csi, fixture, persistent_volume};
use super::{assert_accepted, assert_refused};
use crate::harness;

#[tokio::test]
async fn registered_storage_is_reserved_only_for_permitted_namespaces() {
    let (client, f) = (harness::client().await, fixture().await);
    let ask = async |namespace: &str| harness::try_create(&client, &persistent_volume(f, csi(f), namespace)).await;

    let said = ask(&f.outside).await;
    assert_refused(
        &said,
        &[
            "[WL-112] PersistentVolume \"pv-",
            &format!("is WeightArtifact \"orion\" (v1:csi:csi.example.com:{})", f.handle()),
            &format!("reserved for claim \"c\", not permitted in namespace {:?} (no environment)", f.outside),
            "Remedy: bind it in one of: inference; or ask weights-team@example.com.",
        ],
    );
    assert_refused(
        &ask(&f.lab).await,
        &["[WL-112]", &format!("not permitted in namespace {:?} (environment \"lab\")", f.lab)],
    );
    assert_refused(&ask("no-such-namespace").await, &["[WL-112]", "(no environment)"]);
    assert_refused(&ask(&f.again).await, &["[WL-112]", "(no environment)"]);
    assert_accepted(&ask(&f.inside).await);
    assert_accepted(&ask("").await);
    assert_accepted(&ask(&f.audit).await);
}

#[tokio::test]
async fn an_artifact_whose_environments_are_all_in_audit_is_not_enforced() {
    let (client, f) = (harness::client().await, fixture().await);
    let source = json!({"csi": {"driver": "csi.example.com", "volumeHandle": format!("audited-{}", f.run)}});
    assert_accepted(&harness::try_create(&client, &persistent_volume(f, source, &f.outside)).await);
}

#[tokio::test]
async fn a_volume_is_not_moved_to_a_claim_elsewhere() {
    let (client, f) = (harness::client().await, fixture().await);
    let volume = persistent_volume(f, csi(f), "");
    assert_accepted(&harness::create(&client, &volume).await);
    let reserve = |namespace: &str| json!({"spec": {"claimRef": {"namespace": namespace, "name": "c"}}});

    let said = harness::merge(&client, &volume, &reserve(&f.outside)).await;
    assert_refused(&said, &["[WL-112]", "WeightArtifact \"orion\"", volume["metadata"]["name"].as_str().unwrap()]);
    assert_accepted(&harness::merge(&client, &volume, &reserve(&f.inside)).await);
    assert_refused(&harness::merge(&client, &volume, &reserve(&f.lab)).await, &["[WL-112]", "(environment \"lab\")"]);
    assert_accepted(&harness::merge(&client, &volume, &json!({"spec": {"claimRef": null}})).await);
    harness::delete(&client, &volume).await;
}

/// The kubelet compares UIDs: a volume that names a permitted claim, but the UID of another, would be mounted by that one.
#[tokio::test]
async fn which_claim_registered_storage_is_bound_to_is_said_by_the_cluster() {
    let (client, f) = (harness::client().await, fixture().await);
    let binder = harness::somebody("system:serviceaccount:kube-system:persistent-volume-binder", &[]).await;
    let uid = "5c1e0b7d-0000-4000-8000-000000000000";
    let directory = json!({"hostPath": {"path": format!("{}/sub", f.directory())}});
    for source in [csi(f), directory] {
        let plain = persistent_volume(f, source.clone(), &f.inside);
        assert_accepted(&harness::try_create(&client, &plain).await);
        let mut pointed = plain.clone();
        pointed["spec"]["claimRef"]["uid"] = json!(uid);
        let said = harness::try_create(&client, &pointed).await;
        assert_refused(&said, &["[WL-112]", "is registered storage (v1:", "says by spec.claimRef.uid which claim"]);
        assert_accepted(&harness::try_create(&binder, &pointed).await);
    }
    let volume = persistent_volume(f, csi(f), &f.inside);
    assert_accepted(&harness::create(&client, &volume).await);
    let bound = json!({"spec": {"claimRef": {"uid": uid}}});
    assert_refused(&harness::merge(&client, &volume, &bound).await, &["[WL-112]", "says by spec.claimRef.uid"]);
    assert_accepted(&harness::merge(&binder, &volume, &bound).await);
    assert_accepted(&harness::merge(&client, &volume, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    harness::delete(&client, &volume).await;

    let mut other =
        persistent_volume(f, json!({"csi": {"driver": "csi.example.com", "volumeHandle": "other"}}), &f.outside);
    other["spec"]["claimRef"]["uid"] = json!(uid);
    assert_accepted(&harness::try_create(&client, &other).await);
}

#[tokio::test]
async fn what_was_there_before_can_still_be_written_and_deleted() {
    let (client, f) = (harness::client().await, fixture().await);
    let before = &f.before.volume;
    assert_accepted(&harness::merge(&client, before, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    assert_accepted(&harness::merge(&client, before, &json!({"metadata": {"finalizers": []}})).await);
    assert_accepted(&harness::merge(&client, before, &json!({"spec": {"mountOptions": ["ro"]}})).await);
    let other = json!({"spec": {"claimRef": {"namespace": f.outside, "name": "another", "uid": null}}});
    assert_refused(&harness::merge(&client, before, &other).await, &["[WL-112]", "claim \"another\""]);
}
