//! WL-603: who may only write declarations opens nothing by them.

use kube::Client;
use serde_json::{Value, json};

use super::fixture::fixture;
use super::{assert_accepted, assert_refused};
use crate::harness;

/// A user who may write declarations, with further rules.
async fn writer(further: &[Value]) -> Client {
    let write = json!({"apiGroups": ["weightlock.dev"], "resources": ["weightartifacts", "weightenvironments"],
        "verbs": ["get", "create", "update", "patch", "delete"]});
    let rules: Vec<&Value> = std::iter::once(&write).chain(further).collect();
    let user = harness::unique("writer");
    let client = harness::limited(&user, json!(rules)).await;
    harness::eventually("the rights are known", async || {
        match harness::try_create(&client, &environment("research", json!({}))).await {
            Err(said) if said.contains("cannot create resource") => Err(said),
            _ => Ok(()),
        }
    })
    .await;
    client
}

fn may(verb: &str, resource: &str, names: &[&str]) -> Value {
    json!({"apiGroups": ["weightlock.dev"], "resources": [resource], "verbs": [verb], "resourceNames": names})
}

fn named(environments: &[&str]) -> Value {
    environments.iter().map(|name| json!({"name": name})).collect()
}

fn artifact(name: &str, environments: &[&str]) -> Value {
    json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": name}, "spec": {
        "type": "Base", "model": {"name": "m"}, "manifestDigest": format!("sha256:{}", "0".repeat(64)),
        "manifest": {"path": "manifest.json"}, "contact": "c", "permittedEnvironments": named(environments),
        "locations": [{"name": "a", "role": "Serving", "nfs": {"server": "nas", "path": "/x"},
            "aliases": [{"nfs": {"server": "10.0.0.7", "path": "/x"}}]},
            {"name": "b", "role": "Backup", "nfs": {"server": "nas", "path": "/y"}}]}})
}

fn environment(name: &str, spec: Value) -> Value {
    let mut full = json!({"purpose": "Inference", "members": [{"namespace": "n", "serviceAccounts": ["a"]}],
        "modes": {"admission": "Enforce", "network": "Enforce", "verification": "Enforce", "egress": "Audit"}});
    json_patch::merge(&mut full, &spec);
    json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": harness::unique(name)}, "spec": full})
}

#[tokio::test]
async fn weights_are_let_into_an_environment_by_who_may_permit_it() {
    let everything = harness::client().await;
    fixture().await;
    let (none, some) = (writer(&[]).await, writer(&[may("permit", "weightenvironments", &["lab", "inference"])]).await);
    let name = harness::unique("artifact");
    let said = harness::try_create(&none, &artifact(&name, &["lab"])).await;
    assert_refused(
        &said,
        &[
            &format!(
                "[WL-603] WeightArtifact {name:?} is let into environment \"lab\", which takes the verb permit on it, and \"writer-"
            ),
            "has it not on every environment that this opens. Remedy: leave it to the owner of the environment, or have a ClusterRole grant the verb permit on weightenvironments.weightlock.dev of that name",
        ],
    );
    let mixed = harness::try_create(&some, &artifact(&name, &["lab", "inference", "research"])).await;
    assert_refused(&mixed, &["[WL-603]", "environment \"lab\"", "environment \"research\""]);
    let made = artifact(&name, &["lab", "inference"]);
    assert_accepted(&harness::create(&some, &made).await);
    // What is open already stays so: others may change what opens nothing.
    assert_accepted(&harness::merge(&none, &made, &json!({"spec": {"contact": "d"}})).await);
    let permit = |names: &[&str]| json!({"spec": {"permittedEnvironments": named(names)}});
    let wider = permit(&["lab", "inference", "research"]);
    assert_refused(&harness::merge(&none, &made, &wider).await, &["[WL-603]", "environment \"research\""]);
    assert_refused(&harness::merge(&some, &made, &wider).await, &["[WL-603]", "environment \"research\""]);
    assert_accepted(&harness::merge(&none, &made, &permit(&["lab"])).await);
    let produced = json!({"spec": {"producers": [{"environment": "research", "serviceAccounts": ["a"]}]}});
    assert_refused(&harness::merge(&some, &made, &produced).await, &["[WL-603]", "environment \"research\""]);
    harness::delete(&everything, &made).await;
}

#[tokio::test]
async fn many_environments_are_opened_at_once_by_who_may_open_all() {
    fixture().await;
    let many: Vec<String> = (0..32).map(|n| format!("e{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let name = harness::unique("artifact");
    let all = json!({"apiGroups": ["weightlock.dev"], "resources": ["weightenvironments"], "verbs": ["permit"]});
    assert_accepted(&harness::try_create(&writer(&[all]).await, &artifact(&name, &many)).await);
    let some = writer(&[may("permit", "weightenvironments", &many[1..])]).await;
    let said = harness::try_create(&some, &artifact(&name, &many)).await;
    assert_refused(&said, &["[WL-603]", "is let into more than 20 environments at once"]);
    let twenty = harness::try_create(&some, &artifact(&name, &many[..20])).await;
    assert_refused(&twenty, &["[WL-603]", "is let into environment \"e0\""]);
    assert_accepted(&harness::try_create(&some, &artifact(&name, &many[1..21])).await);
}

#[tokio::test]
async fn storage_stays_protected_unless_somebody_may_lower_it() {
    fixture().await;
    let everything = harness::client().await;
    let name = harness::unique("artifact");
    let made = artifact(&name, &["inference"]);
    harness::create(&everything, &made).await.expect("an artifact");
    let (none, some) = (writer(&[]).await, writer(&[may("lower", "weightartifacts", &[&name])]).await);
    let locations = made["spec"]["locations"].as_array().unwrap().clone();
    let mut moved = locations.clone();
    moved[1]["nfs"]["path"] = json!("/z");
    let mut unnamed = locations.clone();
    unnamed[0].as_object_mut().unwrap().remove("aliases");
    let mut more = locations.clone();
    more[1]["aliases"] = json!([{"nfs": {"server": "10.0.0.8", "path": "/y"}}]);
    more.push(json!({"name": "c", "role": "Cache", "nfs": {"server": "nas", "path": "/z"}}));
    let says = [
        &format!(
            "[WL-603] storage of WeightArtifact {name:?} would no longer be protected, which takes the verb lower on it, and \"writer-"
        ),
        "has it not. Remedy: add new storage beside the old",
        "grant the verb lower on weightartifacts.weightlock.dev",
    ];
    for fewer in [json!(locations[..1]), json!(moved), json!(unnamed)] {
        let patch = json!({"spec": {"locations": fewer}});
        assert_refused(&harness::merge(&none, &made, &patch).await, &says);
    }
    assert_refused(&harness::try_delete(&none, &made).await, &says);
    assert_accepted(&harness::merge(&none, &made, &json!({"spec": {"locations": more}})).await);
    assert_accepted(&harness::merge(&some, &made, &json!({"spec": {"locations": locations}})).await);
    assert_accepted(&harness::try_delete(&some, &made).await);
    harness::delete(&everything, &made).await;
}

#[tokio::test]
async fn the_last_enforced_environment_of_an_artifact_is_kept() {
    fixture().await;
    let everything = harness::client().await;
    let name = harness::unique("artifact");
    let made = artifact(&name, &["inference", "lab", "trial", "nowhere"]);
    harness::create(&everything, &made).await.expect("an artifact");
    let (none, some) = (writer(&[]).await, writer(&[may("lower", "weightartifacts", &[&name])]).await);
    let permit = |names: &[&str]| json!({"spec": {"permittedEnvironments": named(names)}});
    assert_accepted(&harness::merge(&none, &made, &permit(&["inference", "trial", "nowhere"])).await);
    let says = [
        &format!("[WL-603] WeightArtifact {name:?} would be left with no environment whose admission is enforced"),
        "has it not. Remedy: keep one of them",
    ];
    for left in [&["trial"][..], &["trial", "nowhere"], &["nowhere"]] {
        assert_refused(&harness::merge(&none, &made, &permit(left)).await, &says);
    }
    assert_accepted(&harness::merge(&some, &made, &permit(&["trial", "nowhere"])).await);
    // Where none was enforced before, nothing is lost by other changes.
    assert_accepted(&harness::merge(&none, &made, &json!({"spec": {"contact": "d"}})).await);
    harness::delete(&everything, &made).await;
}

#[tokio::test]
async fn modes_are_lowered_and_namespaces_pinned_by_who_may() {
    fixture().await;
    let everything = harness::client().await;
    let made = environment("research", json!({}));
    harness::create(&everything, &made).await.expect("an environment");
    let name = made["metadata"]["name"].as_str().unwrap();
    let none = writer(&[]).await;
    let lower = writer(&[may("lower", "weightenvironments", &[name])]).await;
    let pin = writer(&[may("pin", "weightenvironments", &[name])]).await;
    let audit = json!({"spec": {"modes": {"admission": "Audit", "network": "Audit"}}});
    for other in [&none, &pin] {
        let said = harness::merge(other, &made, &audit).await;
        assert_refused(
            &said,
            &[
                &format!("[WL-603] WeightEnvironment {name:?} enforces admission, network and would no longer"),
                "has it not. Remedy: leave it at Enforce",
            ],
        );
        let said = harness::try_delete(other, &made).await;
        assert_refused(&said, &["[WL-603]", "enforces admission, network, verification and would no longer"]);
    }
    assert_accepted(&harness::try_delete(&lower, &made).await);
    assert_accepted(&harness::merge(&none, &made, &json!({"spec": {"modes": {"egress": "Enforce"}}})).await);
    let pinned = json!({"spec": {"members": [{"namespace": "n", "serviceAccounts": ["a"], "uid": "1234"}]}});
    for other in [&none, &lower] {
        let said = harness::merge(other, &made, &pinned).await;
        assert_refused(
            &said,
            &["[WL-603] namespace \"n\" is accepted under another UID", "has it not. Remedy: find out who"],
        );
    }
    assert_accepted(&harness::merge(&pin, &made, &pinned).await);
    // Told once, it stays.
    assert_accepted(&harness::merge(&none, &made, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    assert_accepted(&harness::merge(&lower, &made, &audit).await);
    let trial = json!({"spec": {"modes": {"verification": "Audit", "egress": "Audit"}}});
    assert_accepted(&harness::merge(&lower, &made, &trial).await);
    // One that enforces nothing is deleted by who may delete.
    assert_accepted(&harness::try_delete(&none, &made).await);
    harness::delete(&everything, &made).await;
}

#[tokio::test]
async fn what_the_controller_pinned_is_replaced_by_who_may_pin() {
    fixture().await;
    let (everything, controller) = (harness::client().await, harness::controller().await);
    let (artifact, environment) =
        (artifact(&harness::unique("artifact"), &["inference"]), environment("research", json!({})));
    let ready = json!({"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    for (made, resource, list, key, value) in [
        (&artifact, "weightartifacts", "locations", "name", "backendKey"),
        (&environment, "weightenvironments", "members", "namespace", "uid"),
    ] {
        harness::create(&everything, made).await.expect("a declaration");
        let name = made["metadata"]["name"].as_str().unwrap();
        let status = |pin: &str| json!({"status": {list: [{key: "a", value: pin}]}});
        let statuses = json!({"apiGroups": ["weightlock.dev"], "resources": [format!("{resource}/status")], "verbs": ["get", "update", "patch"]});
        let none = writer(std::slice::from_ref(&statuses)).await;
        let pin = writer(&[statuses, may("pin", resource, &[name])]).await;
        let ask =
            async |client: &Client, patch: &Value| harness::merge_subresource(client, made, "status", patch).await;
        assert_accepted(&ask(&controller, &status("found")).await);
        for patch in [status("other"), json!({"status": {list: []}})] {
            assert_refused(
                &ask(&none, &patch).await,
                &[
                    &format!("[WL-603] status.{list} of {name:?} has a pinned to found"),
                    "has it not. Remedy: leave the status to the controller",
                ],
            );
        }
        assert_accepted(&ask(&none, &json!({"status": {"conditions": [ready]}})).await);
        assert_accepted(&ask(&pin, &status("other")).await);
        assert_accepted(&ask(&controller, &status("found")).await);
        harness::delete(&everything, made).await;
    }
}
