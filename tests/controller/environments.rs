//! Environments: policies, drift, namespaces that change hands, deletion.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::*;

const DENY: &str = "weightlock-default-deny";

#[tokio::test]
async fn policies_are_written_put_back_and_a_rival_is_named() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("drift");
    namespace(&client, &name).await;
    let mut environment = environment(&name, &name);
    environment["spec"]["network"] = json!({
        "egress": [{"name": "store", "to": {"cidr": "10.20.0.0/24"}, "ports": [{"protocol": "TCP", "port": 443}]},
                   {"name": "later", "to": {"environment": "not-there"}, "ports": [{"protocol": "TCP", "port": 9}]}],
    });
    apply(&client, &environment).await;
    let message = wait_for(&client, &environment, "NetworkPoliciesApplied", "True", "PeerMissing").await;
    assert!(message.contains("egress rule \"later\": WeightEnvironment \"not-there\" does not exist"), "{message}");
    for policy_name in [DENY, "weightlock-dns", "weightlock-egress-store"] {
        assert!(get(&client, &policy(&name, policy_name)).await.is_object(), "{policy_name}");
    }
    assert!(
        get(&client, &policy(&name, "weightlock-egress-later")).await.is_null(),
        "a rule without a peer has no policy"
    );

    let deny = policy(&name, DENY);
    let wanted = get(&client, &deny).await["spec"].clone();
    delete(&client, &deny).await;
    eventually("the deleted policy is back", async || match get(&client, &deny).await["spec"] == wanted {
        true => Ok(()),
        false => Err("not yet".into()),
    })
    .await;

    for _ in 0..4 {
        patch(&client, &deny, "open-it-up", &json!({"spec": {"egress": [{}]}})).await;
        eventually("what a rival added is gone", async || match get(&client, &deny).await["spec"] == wanted {
            true => Ok(()),
            false => Err("not yet".into()),
        })
        .await;
    }
    let message = wait_for(&client, &environment, "Contested", "True", "RivalWriter").await;
    assert!(
        message.contains(&format!("NetworkPolicy {name}/{DENY}")) && message.contains("\"open-it-up\""),
        "{message}"
    );
}

#[tokio::test]
async fn an_object_of_someone_else_is_neither_changed_nor_taken_for_ours() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("foreign");
    namespace(&client, &name).await;
    let mut theirs = policy(&name, DENY);
    theirs["spec"] = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
    create(&client, &theirs).await;
    let environment = environment(&name, &name);
    apply(&client, &environment).await;
    let message = wait_for(&client, &environment, "NetworkPoliciesApplied", "False", "ForeignObject").await;
    assert!(message.starts_with(&format!("NetworkPolicy {name}/{DENY} exists and is not Weightlock's")), "{message}");
    assert_eq!(get(&client, &theirs).await["spec"]["egress"], json!([{}]));
    delete(&client, &theirs).await;
    wait_for(&client, &environment, "NetworkPoliciesApplied", "True", "Applied").await;
}

#[tokio::test]
async fn a_namespace_that_was_made_again_does_not_inherit_until_its_uid_is_written() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("again");
    let first = namespace(&client, &name).await;
    let environment = environment(&name, &name);
    apply(&client, &environment).await;
    wait_for(&client, &environment, "Ready", "True", "Ready").await;

    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    delete(&client, &object).await;
    eventually("the namespace is gone", async || match get(&client, &object).await.is_null() {
        true => Ok(()),
        false => Err("still there".into()),
    })
    .await;
    let second = namespace(&client, &name).await;
    let message = wait_for(&client, &environment, "Accepted", "False", "NamespaceRecreated").await;
    assert!(message.contains(&format!("expected UID {first}, found {second}")), "{message}");
    assert!(get(&client, &policy(&name, DENY)).await.is_null());

    let members = json!({"spec": {"members": [{"namespace": name, "serviceAccounts": ["*"], "uid": second}]}});
    patch(&client, &environment, "person", &members).await;
    wait_for(&client, &environment, "Ready", "True", "Ready").await;
    assert!(get(&client, &policy(&name, DENY)).await.is_object());
}

#[tokio::test]
async fn the_second_claimant_of_a_namespace_is_not_accepted() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("claim");
    namespace(&client, &name).await;
    // By name the second comes first; what counts is who holds the namespace.
    let (first, second) = (environment(&format!("z-{name}"), &name), environment(&format!("a-{name}"), &name));
    apply(&client, &first).await;
    wait_for(&client, &first, "Ready", "True", "Ready").await;
    apply(&client, &second).await;
    let message = wait_for(&client, &second, "Accepted", "False", "NamespaceConflict").await;
    assert!(
        message.contains(&format!("belongs to WeightEnvironment \"z-{name}\", which claimed it first")),
        "{message}"
    );

    delete(&client, &first).await;
    wait_for(&client, &second, "Ready", "True", "Ready").await;
    let labels = get(&client, &policy(&name, DENY)).await["metadata"]["labels"].clone();
    assert_eq!(labels["weightlock.dev/environment"], format!("a-{name}"));
}

/// The live policies of a namespace are all there.
async fn covered(client: &kube::Client, namespace: &str) -> Result<(), String> {
    match get(client, &policy(namespace, DENY)).await.is_object() {
        true => Ok(()),
        false => Err("no default deny".into()),
    }
}

async fn weights(client: &kube::Client, name: &str) -> Value {
    let path = format!("/models/{name}");
    let location = json!({"name": "share", "role": "Primary", "nfs": {"server": "nas.example.com", "path": path}});
    let artifact = artifact(name, location, &[name]);
    apply(client, &artifact).await;
    wait_for(client, &artifact, "LocationsResolved", "True", "Resolved").await;
    pod(name, "llm-0", &path)
}

#[tokio::test]
async fn deleting_an_environment_waits_for_the_pods_that_hold_weights() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let name = unique("delete");
    let environment = ready_environment(&client, &name).await;
    let pod = weights(&client, &name).await;
    create(&client, &pod).await;

    delete(&client, &environment).await;
    let message = wait_for(&client, &environment, "Ready", "False", "WaitingForPods").await;
    assert!(message.contains(&format!("is left: {name}/llm-0.")), "{message}");
    delete(&client, &policy(&name, DENY)).await;
    eventually("policies are put back while it waits", async || covered(&client, &name).await).await;

    delete(&client, &pod).await;
    eventually("the environment and its policies are gone", async || {
        let left = (get(&client, &environment).await, get(&client, &policy(&name, DENY)).await);
        match left == (Value::Null, Value::Null) {
            true => Ok(()),
            false => Err("still there".into()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_leaves_keeps_its_policies_while_weights_are_in_it() {
    let _shared = ALONE.read().await;
    let (client, _) = controller().await;
    let (name, other) = (unique("leave"), unique("stay"));
    namespace(&client, &name).await;
    namespace(&client, &other).await;
    let mut environment = environment(&name, &name);
    let member = |namespace: &str| json!({"namespace": namespace, "serviceAccounts": ["*"]});
    environment["spec"]["members"] = json!([member(&name), member(&other)]);
    apply(&client, &environment).await;
    wait_for(&client, &environment, "Ready", "True", "Ready").await;
    let pod = weights(&client, &name).await;
    create(&client, &pod).await;

    environment["spec"]["members"] = json!([member(&other)]);
    apply(&client, &environment).await;
    let message = wait_for(&client, &environment, "Ready", "False", "WaitingForPods").await;
    assert!(message.contains(&format!("stay: {name}/llm-0.")), "{message}");
    covered(&client, &name).await.unwrap();

    delete(&client, &pod).await;
    wait_for(&client, &environment, "Ready", "True", "Ready").await;
    eventually("its policies are gone", async || match covered(&client, &name).await {
        Err(_) => Ok(()),
        Ok(()) => Err("still there".into()),
    })
    .await;
    covered(&client, &other).await.unwrap();
}

#[tokio::test]
async fn in_steady_state_nothing_is_written() {
    let _alone = ALONE.write().await;
    let (client, metrics) = controller().await;
    let name = unique("steady");
    ready_environment(&client, &name).await;
    let pod = weights(&client, &name).await;
    create(&client, &pod).await;
    // What other tests left to do is done when nothing was written for a while.
    let mut before = -1.0;
    eventually("the writes of earlier tests end", async || {
        let last = std::mem::replace(&mut before, writes(&metrics));
        tokio::time::sleep(Duration::from_secs(3)).await;
        if last == before { Ok(()) } else { Err(format!("{before} writes")) }
    })
    .await;
    // Unrelated changes wake it, and it finds everything as it should be.
    for round in 0..5 {
        let annotation = json!({"metadata": {"annotations": {"round": round.to_string()}}});
        patch(&client, &pod, "tenant", &annotation).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(writes(&metrics), before);
    assert!(before > 0.0, "it did write before");
}
