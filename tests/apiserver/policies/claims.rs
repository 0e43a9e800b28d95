use serde_json::{Value, json};

use super::fixture::{claim, fixture};
use super::{assert_accepted, assert_refused};
use crate::harness;

#[tokio::test]
async fn a_claim_that_leads_to_weights_is_given_to_no_pod() {
    let (client, f) = (harness::client().await, fixture().await);
    let owner = |pod: &str, controller: bool| json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": "00000000-0000-4000-8000-000000000000", "controller": controller}]}});
    let made = |namespace: &str, fields: Value, pod: &str| {
        let mut claim = claim(namespace, fields);
        json_patch::merge(&mut claim, &owner(pod, true));
        claim["metadata"]["name"] = "model-weights".into();
        claim
    };
    // Where it is permitted, too: the pod would mount it as nobody in particular, and unverified.
    let named = json!({"volumeName": f.volume()});
    assert_refused(
        &harness::try_create(&client, &made(&f.inside, named.clone(), "model")).await,
        &["[WL-112]", "given to Pod \"model\" as a volume that it made for itself. Remedy: leave out the owner"],
    );
    assert_accepted(&harness::try_create(&client, &made(&f.inside, named, "other")).await);
    assert_accepted(&harness::try_create(&client, &made(&f.inside, json!({}), "model")).await);
    // Afterwards.
    let before = &f.before.claim;
    let pod = before["metadata"]["name"].as_str().unwrap().split_once('-').unwrap().0.to_string();
    let adopted = harness::merge(&client, before, &owner(&pod, true)).await;
    assert_refused(&adopted, &["[WL-112]", "leads to WeightArtifact \"orion\" and is given to Pod"]);
    // Not stored: the cluster deletes what belongs to a pod that does not exist.
    assert_accepted(&harness::try_merge(&client, before, &owner(&pod, false)).await);
}

#[tokio::test]
async fn a_claim_asks_for_registered_storage_only_where_it_is_permitted() {
    let (client, f) = (harness::client().await, fixture().await);
    let ask = async |namespace: &str| {
        harness::try_create(&client, &claim(namespace, json!({"volumeName": f.volume()}))).await
    };
    assert_refused(
        &ask(&f.outside).await,
        &[
            "[WL-112] PersistentVolumeClaim \"claim-",
            &format!("asks for PersistentVolume {:?}, which is WeightArtifact \"orion\"", f.volume()),
            &format!("not permitted in namespace {:?} (no environment)", f.outside),
            "Remedy: bind it in one of: inference; or ask weights-team@example.com.",
        ],
    );
    assert_refused(&ask(&f.lab).await, &["[WL-112]", "(environment \"lab\")"]);
    assert_refused(&ask(&f.again).await, &["[WL-112]", "(no environment)"]);
    assert_accepted(&ask(&f.inside).await);
    assert_accepted(&ask(&f.audit).await);
    let other = claim(&f.outside, json!({"volumeName": "some-other-volume"}));
    assert_accepted(&harness::try_create(&client, &other).await);
}

#[tokio::test]
async fn an_exposed_claim_is_copied_nowhere() {
    let (client, f) = (harness::client().await, fixture().await);
    for field in ["dataSource", "dataSourceRef"] {
        let copy =
            |namespace: &str, of: &str| claim(namespace, json!({field: {"kind": "PersistentVolumeClaim", "name": of}}));
        // Not where the artifact is permitted, either: nothing would cover the copy.
        for (namespace, of) in [(&f.outside, "bound-before"), (&f.inside, "orion")] {
            assert_refused(
                &harness::try_create(&client, &copy(namespace, of)).await,
                &[
                    "[WL-112]",
                    &format!(
                        "is a copy of PersistentVolumeClaim \"{namespace}/{of}\", which is WeightArtifact \"orion\"; a copy would be storage that nobody registered"
                    ),
                    "Remedy: mount the registered storage itself, or register the target first and let a pod of an environment write the copy there; or ask weights-team@example.com.",
                ],
            );
        }
        assert_accepted(&harness::try_create(&client, &copy(&f.outside, "not-exposed")).await);
        assert_accepted(&harness::try_create(&client, &copy(&f.inside, "not-exposed")).await);
    }
}

#[tokio::test]
async fn a_claim_from_before_can_still_be_written() {
    let (client, f) = (harness::client().await, fixture().await);
    let before = &f.before.claim;
    assert_accepted(&harness::merge(&client, before, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    // The binder writes the name of the volume into a claim that asked for none.
    let open = claim(&f.outside, json!({}));
    assert_accepted(&harness::create(&client, &open).await);
    let bind = |volume: &str| json!({"spec": {"volumeName": volume}});
    assert_refused(
        &harness::merge(&client, &open, &bind(&f.volume())).await,
        &["[WL-112]", "asks for PersistentVolume"],
    );
    assert_accepted(&harness::merge(&client, &open, &bind("some-other-volume")).await);
    harness::delete(&client, &open).await;
}

/// By its finalizer the cluster keeps a claim that a placed pod uses, and by its controller it knows the pod of a claim that
/// was made for one.
#[tokio::test]
async fn only_the_cluster_takes_the_protection_of_a_claim_away() {
    let (client, f) = (harness::client().await, fixture().await);
    let protection = harness::somebody("system:serviceaccount:kube-system:pvc-protection-controller", &[]).await;
    // Of a kind that is not served, so that nobody looks whether it is there.
    let owner = |uid: &str| json!({"apiVersion": "example.com/v1", "kind": "Maker", "name": "p", "uid": uid, "controller": true});
    let make = async |namespace: &str| {
        let mut made = claim(namespace, json!({}));
        made["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection", "example.com/mine"]);
        made["metadata"]["ownerReferences"] = json!([owner("u-1")]);
        harness::create(&client, &made).await.expect("a claim")
    };
    let inside = make(&f.inside).await;
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let owners = |list: Value| json!({"metadata": {"ownerReferences": list}});
    for list in [json!(null), json!([]), json!(["example.com/mine"])] {
        assert_refused(
            &harness::merge(&client, &inside, &finalizers(list)).await,
            &["[WL-118]", "loses the finalizer kubernetes.io/pvc-protection", "Remedy: Delete the pods"],
        );
    }
    let said = harness::merge_subresource(&client, &inside, "status", &finalizers(json!(null))).await;
    assert_refused(&said, &["[WL-118]", "loses the finalizer"]);
    for list in [json!(null), json!([owner("u-2")])] {
        assert_refused(
            &harness::merge(&client, &inside, &owners(list)).await,
            &["[WL-118]", "loses its controller", "Remedy: "],
        );
    }
    // All else is free, and so is the cluster itself.
    assert_accepted(&harness::merge(&client, &inside, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    let protected = finalizers(json!(["kubernetes.io/pvc-protection"]));
    assert_accepted(&harness::merge(&client, &inside, &protected).await);
    assert_accepted(&harness::merge(&protection, &inside, &finalizers(json!(null))).await);
    assert_accepted(&harness::merge(&protection, &inside, &owners(json!(null))).await);
    harness::delete(&client, &inside).await;
    for namespace in [&f.outside, &f.audit] {
        let elsewhere = make(namespace).await;
        assert_accepted(&harness::merge(&client, &elsewhere, &finalizers(json!(null))).await);
        assert_accepted(&harness::merge(&client, &elsewhere, &owners(json!(null))).await);
        harness::delete(&client, &elsewhere).await;
    }
}
