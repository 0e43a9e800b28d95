use serde_json::json;

use super::fixture::fixture;
use super::{assert_accepted, assert_refused};
use crate::harness;

#[tokio::test]
async fn our_definitions_are_not_deleted_while_the_policies_are_bound() {
    let client = harness::client().await;
    fixture().await;
    for definition in weightlock::api::definitions() {
        let name = definition.metadata.name.clone().unwrap();
        let target = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        });
        let said = harness::try_delete(&client, &target).await;
        assert_refused(
            &said,
            &[
                &format!("[WL-602] CustomResourceDefinition {name:?}"),
                "Remedy: to uninstall, delete the ValidatingAdmissionPolicyBindings of Weightlock first (docs/recovery.md).",
            ],
        );
    }
}

#[tokio::test]
async fn other_definitions_are_deleted_as_ever() {
    let client = harness::client().await;
    fixture().await;
    let group = format!("{}.example.com", harness::unique("g"));
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{group}")},
        "spec": {
            "group": group, "scope": "Cluster", "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    assert_accepted(&harness::create(&client, &definition).await);
    harness::delete(&client, &definition).await;
}

#[tokio::test]
async fn only_the_controller_writes_the_index() {
    let (client, controller) = (harness::client().await, harness::controller().await);
    fixture().await;
    let index = json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightIndex", "metadata": {"name": harness::unique("index")},
        "spec": {"shard": 0, "shards": 1},
    });
    let says = ["[WL-602] WeightIndex", "is written by the controller only", "Remedy: change WeightArtifacts"];
    assert_refused(&harness::try_create(&client, &index).await, &says);
    assert_accepted(&harness::create(&controller, &index).await);
    let empty = json!({"spec": {"shards": 2}});
    assert_refused(&harness::merge(&client, &index, &empty).await, &says);
    assert_accepted(&harness::merge(&controller, &index, &empty).await);
    assert_refused(&harness::try_delete(&client, &index).await, &says);
    harness::delete(&controller, &index).await;
}

#[tokio::test]
async fn only_the_controller_writes_incidents_and_a_person_clears_them() {
    let (client, controller) = (harness::client().await, harness::controller().await);
    fixture().await;
    let incident = json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightIncident",
        "metadata": {"name": harness::unique("tampered")},
        "spec": {
            "reason": "Tampered", "artifact": "orion", "manifestDigest": format!("sha256:{}", "0".repeat(64)),
            "pod": {"namespace": "n", "name": "p", "uid": "u", "node": "n"}, "message": "m",
        },
    });
    let says = ["[WL-602] WeightIncident", "is written by the controller only", "kubectl weightlock clear"];
    assert_refused(&harness::try_create(&client, &incident).await, &says);
    assert_accepted(&harness::create(&controller, &incident).await);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_refused(&harness::merge(&client, &incident, &label).await, &says);
    harness::delete(&client, &incident).await;
}

/// In namespaces where admission is enforced: put back they would be anyway, but after a while.
#[tokio::test]
async fn our_network_policies_are_changed_by_the_controller_alone() {
    let (client, controller, f) = (harness::client().await, harness::controller().await, fixture().await);
    let made = |namespace: &str, name: &str, owner: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": harness::unique(name), "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "weightlock", "weightlock.dev/environment": "e"},
                "annotations": {owner: "weightenvironment/e"}},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        })
    };
    let ours = made(&f.inside, "ours", "weightlock.dev/owner");
    assert_accepted(&harness::create(&controller, &ours).await);
    let says = [
        "[WL-602] NetworkPolicy",
        "is changed by the controller only",
        "Remedy: change spec.network of the WeightEnvironment",
    ];
    for change in [
        json!({"spec": {"policyTypes": ["Egress"]}}),
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"weightlock.dev/owner": "another"}}}),
    ] {
        assert_refused(&harness::merge(&client, &ours, &change).await, &says);
    }
    assert_refused(&harness::try_delete(&client, &ours).await, &says);
    let note = json!({"metadata": {"annotations": {"note": "seen"}, "labels": {"seen": "yes"}}});
    assert_accepted(&harness::merge(&client, &ours, &note).await);
    assert_accepted(&harness::merge(&controller, &ours, &json!({"spec": {"policyTypes": ["Egress"]}})).await);
    let namespaces =
        harness::somebody("system:serviceaccount:kube-system:namespace-controller", &["system:masters"]).await;
    harness::delete(&namespaces, &ours).await;
    // Those of others, and where nothing is enforced.
    for policy in [made(&f.inside, "theirs", "example.com/owner"), made(&f.outside, "outside", "weightlock.dev/owner")]
    {
        assert_accepted(&harness::create(&client, &policy).await);
        assert_accepted(&harness::merge(&client, &policy, &json!({"spec": {"policyTypes": ["Egress"]}})).await);
        harness::delete(&client, &policy).await;
    }
}
