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
