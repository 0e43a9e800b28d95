use serde_json::{Value, json};

use super::fixture::{DRIVER, Fixture, fixture, pod};
use super::{assert_accepted, assert_refused};
use crate::harness;

/// Volumes through which a pod reaches registered storage, with what is said of each.
fn reaching(f: &Fixture) -> Vec<(Value, String)> {
    let nfs = |path: &str| json!({"name": "w", "nfs": {"server": f.nas(), "path": path}});
    let nas = format!("is WeightArtifact \"orion-nas\" (v1:nfs:{}:/models/orion)", f.nas());
    vec![
        (nfs("/models/orion"), nas.clone()),
        (nfs("/models//orion/v3/"), nas.clone()),
        (
            json!({"name": "w", "nfs": {"server": format!("alias-{}", f.nas()), "path": "/exports/orion/v3"}}),
            "is WeightArtifact \"orion-nas\"".into(),
        ),
        (nfs("/"), format!("holds WeightArtifact \"orion-nas\" (v1:nfs:{}:/)", f.nas())),
        (nfs("/a/.."), "cannot be told from WeightArtifact".into()),
        (json!({"name": "w", "hostPath": {"path": f.directory()}}), "is WeightArtifact \"orion-node\"".into()),
        (
            json!({"name": "w", "hostPath": {"path": format!("/proc/1/cwd{}", f.directory())}}),
            "cannot be told from WeightArtifact".into(),
        ),
        (json!({"name": "w", "hostPath": {"path": "/srv"}}), "holds WeightArtifact \"orion-node\"".into()),
        (
            json!({"name": "w", "hostPath": {"path": format!("/var/run/{}/x", f.run)}}),
            "is WeightArtifact \"orion-run\"".into(),
        ),
        (
            json!({"name": "w", "awsElasticBlockStore": {"volumeID": format!("vol-aws-{}", f.run)}}),
            "is WeightArtifact \"orion-disk\"".into(),
        ),
        (
            json!({"name": "w", "gcePersistentDisk": {"pdName": format!("orion-{}", f.run), "readOnly": true}}),
            "is WeightArtifact \"orion-google\"".into(),
        ),
        (
            json!({"name": "w", "azureFile": {"secretName": "s", "shareName": "other"}}),
            "cannot be told from WeightArtifact \"orion-share\"".into(),
        ),
        (
            json!({"name": "w", "csi": {"driver": "nfs.csi.k8s.io", "volumeAttributes": {"server": f.nas(), "share": "/models", "subDir": "orion"}}}),
            nas,
        ),
        (json!({"name": "w", "csi": {"driver": DRIVER}}), "cannot be told from WeightArtifact \"orion\"".into()),
    ]
}

#[tokio::test]
async fn registered_storage_is_mounted_only_where_it_is_permitted() {
    let (client, f) = (harness::client().await, fixture().await);
    for (volume, says) in reaching(f) {
        let ask = async |namespace: &str| harness::try_create(&client, &pod(namespace, json!([volume]))).await;
        assert_refused(
            &ask(&f.outside).await,
            &[
                "[WL-101] volume \"w\"",
                &says,
                &format!("not permitted in namespace {:?} (no environment)", f.outside),
                "Remedy: run in one of: inference; or ask weights-team@example.com.",
            ],
        );
        assert_refused(&ask(&f.lab).await, &["[WL-101]", "(environment \"lab\")"]);
        assert_accepted(&ask(&f.inside).await);
        assert_accepted(&ask(&f.audit).await);
        // What keeps the cluster running is never stopped by a lost parameter, so it is not asked at all.
        assert_accepted(&ask("kube-system").await);
        assert_accepted(&ask("weightlock-system").await);
    }
}

#[tokio::test]
async fn a_claim_that_leads_to_registered_storage_is_mounted_only_where_it_is_permitted() {
    let (client, f) = (harness::client().await, fixture().await);
    let ask = async |namespace: &str, name: &str| {
        let volumes = json!([{"name": "w", "persistentVolumeClaim": {"claimName": name}}]);
        harness::try_create(&client, &pod(namespace, volumes)).await
    };
    assert_refused(
        &ask(&f.outside, "bound-before").await,
        &[
            "[WL-101] volume \"w\" is WeightArtifact \"orion\" (PVC \"bound-before\"), not permitted in namespace",
            "(no environment)",
        ],
    );
    assert_refused(
        &ask(&f.outside, "declared").await,
        &["[WL-101]", "WeightArtifact \"orion-declared\" (PVC \"declared\")"],
    );
    assert_refused(&ask(&f.lab, "bound-before").await, &["[WL-101]", "(environment \"lab\")"]);
    assert_accepted(&ask(&f.outside, "anything-else").await);
    assert_accepted(&ask(&f.inside, "orion").await);
}

#[tokio::test]
async fn a_claim_of_the_pod_itself_is_asked_about_when_it_is_made() {
    let (client, f) = (harness::client().await, fixture().await);
    let copy = json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "bound-before"}});
    let is_copy = "is a copy of PersistentVolumeClaim".to_string();
    let asks = format!("asks for PersistentVolume {:?}, which is WeightArtifact \"orion\"", f.volume());
    for (more, says) in [(copy, is_copy), (json!({"volumeName": f.volume()}), asks)] {
        let mut spec = json!({"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}});
        json_patch::merge(&mut spec, &more);
        let volumes = json!([{"name": "w", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}]);
        assert_accepted(&harness::try_create(&client, &pod(&f.outside, volumes)).await);
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec,
            "metadata": {"namespace": f.outside, "name": "p-w"},
        });
        assert_refused(&harness::try_create(&client, &claim).await, &["[WL-112] PersistentVolumeClaim \"p-w\"", &says]);
    }
}

#[tokio::test]
async fn every_violation_is_listed() {
    let (client, f) = (harness::client().await, fixture().await);
    let volumes = json!([
        {"name": "a", "hostPath": {"path": f.directory()}},
        {"name": "b", "nfs": {"server": f.nas(), "path": "/models/orion"}},
        {"name": "c", "emptyDir": {}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "bound-before"}},
    ]);
    let said = harness::try_create(&client, &pod(&f.outside, volumes)).await;
    assert_refused(&said, &["volume \"a\" is", "volume \"b\" is", "volume \"d\" is"]);
    assert_eq!(said.unwrap_err().matches("[WL-101]").count(), 3);
}

#[tokio::test]
async fn other_volumes_are_nobodys_business() {
    let (client, f) = (harness::client().await, fixture().await);
    let volumes = json!([
        {"name": "a", "hostPath": {"path": "/var/log"}},
        {"name": "b", "nfs": {"server": "other.example.com", "path": "/models/orion"}},
        {"name": "c", "emptyDir": {}},
        {"name": "d", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}},
        {"name": "e", "configMap": {"name": "x"}},
        {"name": "f", "persistentVolumeClaim": {"claimName": "mine"}},
        {"name": "g", "hostPath": {"path": "/proc/sys/net"}},
    ]);
    assert_accepted(&harness::try_create(&client, &pod(&f.outside, volumes)).await);
}

#[tokio::test]
async fn a_pod_from_before_can_still_be_written_but_not_entered() {
    let (client, f) = (harness::client().await, fixture().await);
    let before = &f.before.pod;
    assert_accepted(
        &harness::merge(&client, before, &json!({"metadata": {"labels": {"a": "b"}, "finalizers": []}})).await,
    );
    let container = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "registry.invalid/x:1"}]}});
    let said = harness::merge_subresource(&client, before, "ephemeralcontainers", &container).await;
    assert_refused(&said, &["[WL-101]", "WeightArtifact \"orion-node\""]);
}
