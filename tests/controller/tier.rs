//! The Admin tier of the network: written where it is served, put back, told where it is not.

use std::path::Path;

use kube::Client;
use serde_json::{Value, json};

use super::cluster::*;

const KIND: &str = "AdminTierApplied";

/// The definition of ClusterNetworkPolicy, of the version that the cluster of `e2e/cluster` has.
fn definition() -> Value {
    shipped(
        "sigs.k8s.io/network-policy-api",
        "config/crd/standard/policy.networking.k8s.io_clusternetworkpolicies.yaml",
    )
}

/// A definition by which Cilium is recognised.
fn cilium() -> Value {
    shipped("github.com/cilium/cilium", "pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnodes.yaml")
}

/// A file of a module that the cluster of `e2e/cluster` is made of.
fn shipped(name: &str, file: &str) -> Value {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/cluster/modules/cilium");
    let output =
        std::process::Command::new("go").args(["mod", "download", "-json", name]).current_dir(module).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = std::fs::read_to_string(Path::new(found["Dir"].as_str().unwrap()).join(file)).unwrap();
    let mut definition: Value = serde_saphyr::from_str(&text).unwrap();
    definition.as_object_mut().unwrap().remove("status");
    definition
}

fn tier(number: usize, environment: &str) -> Value {
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": format!("weightlock-{number}-{environment}")}})
}

async fn gone(client: &Client, what: &Value) {
    eventually(&format!("{} is gone", what["metadata"]["name"]), async || match get(client, what).await.is_null() {
        true => Ok(()),
        false => Err("still there".into()),
    })
    .await;
}

/// One after the other: they serve the kind and take it away again.
#[tokio::test]
async fn the_admin_tier_is_written_where_it_is_served_and_told_where_it_is_not() {
    let _alone = ALONE.write().await;
    let (client, _) = controller().await;
    for definition in [definition(), cilium()] {
        if get(&client, &definition).await.is_object() {
            delete(&client, &definition).await; // an earlier run was stopped
            gone(&client, &definition).await;
        }
    }
    let name = unique("tier");
    let environment = ready_environment(&client, &name).await;
    let message = wait_for(&client, &environment, KIND, "False", "NotServed").await;
    assert!(message.contains("This cluster has no ClusterNetworkPolicies"), "{message}");

    apply(&client, &definition()).await;
    wait_for(&client, &environment, KIND, "True", "Applied").await;
    written_and_put_back(&client, &name).await;
    limits_are_kept(&client, &name, &environment).await;
    that_of_someone_else_is_left_alone(&client).await;
    // It goes with the mode and comes back with it.
    patch(&client, &environment, "person", &json!({"spec": {"modes": {"network": "Audit"}}})).await;
    wait_for(&client, &environment, KIND, "False", "Audit").await;
    gone(&client, &tier(0, &name)).await;
    patch(&client, &environment, "person", &json!({"spec": {"modes": {"network": "Enforce"}}})).await;
    wait_for(&client, &environment, KIND, "True", "InPart").await;
    delete(&client, &environment).await;
    gone(&client, &tier(0, &name)).await;
    gone(&client, &environment).await;

    let later = ready_environment(&client, &unique("tier")).await;
    wait_for(&client, &later, KIND, "True", "Applied").await;
    not_with_cilium(&client, &later).await;
    delete(&client, &definition()).await;
    wait_for(&client, &later, KIND, "False", "NotServed").await;
    wait_for(&client, &later, "Ready", "True", "Ready").await;
}

/// Unless the installation says so: it may refuse what is declared.
async fn not_with_cilium(client: &Client, environment: &Value) {
    let policy = tier(0, environment["metadata"]["name"].as_str().unwrap());
    apply(client, &cilium()).await;
    let message = wait_for(client, environment, KIND, "False", "CiliumMayRefuse").await;
    assert!(message.contains("set adminTier: Always"), "{message}");
    gone(client, &policy).await;
    wait_for(client, environment, "Ready", "True", "Ready").await;
    delete(client, &cilium()).await;
    wait_for(client, environment, KIND, "True", "Applied").await;
    assert!(get(client, &policy).await.is_object());
}

async fn written_and_put_back(client: &Client, name: &str) {
    let policy = tier(0, name);
    let live = get(client, &policy).await;
    let wanted = live["spec"].clone();
    assert_eq!((&wanted["tier"], &wanted["priority"]), (&json!("Admin"), &json!(900)), "{live}");
    assert_eq!(live["metadata"]["labels"]["weightlock.dev/environment"], name);
    assert_eq!(wanted["subject"]["namespaces"]["matchExpressions"][0]["values"], json!([name]));
    delete(client, &policy).await;
    eventually("the deleted policy is back", async || match get(client, &policy).await["spec"] == wanted {
        true => Ok(()),
        false => Err("not yet".into()),
    })
    .await;
    patch(client, &policy, "open-it-up", &json!({"spec": {"egress": null}})).await;
    eventually("what a rival took away is back", async || match get(client, &policy).await["spec"] == wanted {
        true => Ok(()),
        false => Err("not yet".into()),
    })
    .await;
}

/// As many rules and ports as a declaration may have, a peer of each kind.
async fn limits_are_kept(client: &Client, name: &str, environment: &Value) {
    let ports = |number: u16| -> Vec<Value> {
        (1..=number)
            .map(|port| json!({"protocol": (["TCP", "UDP", "SCTP"][usize::from(port % 3)]), "port": port}))
            .collect()
    };
    let rule = |number: usize, side: &str, peer: Value, ports: Vec<Value>| json!({"name": format!("r{number}"), side: peer, "ports": ports});
    let peers = [
        json!({"self": {}}),
        json!({"pods": {"namespace": "default", "labels": {"a": "b"}}}),
        json!({"cidr": "0000:0000:0000:0000:0000:0000:192.168.100.228/128"}),
        json!({"cidr": "10.20.0.0/24"}),
    ];
    let egress: Vec<Value> = (0..64).map(|n| rule(n, "to", peers[n % 4].clone(), ports(32))).collect();
    let ingress = vec![
        rule(0, "from", json!({"cidr": "10.20.0.0/24"}), ports(1)),
        rule(1, "from", json!({"self": {}}), ports(1)),
    ];
    patch(client, environment, "person", &json!({"spec": {"network": {"ingress": ingress, "egress": egress}}})).await;
    let message = wait_for(client, environment, KIND, "True", "InPart").await;
    assert!(message.ends_with("NetworkPolicies alone decide: r0."), "{message}");
    eventually("six policies", async || match get(client, &tier(5, name)).await.is_object() {
        true => Ok(()),
        false => Err("not yet".into()),
    })
    .await;
    let last = get(client, &tier(5, name)).await["spec"]["egress"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["action"], "Deny", "{last}");
    assert!(get(client, &tier(6, name)).await.is_null());
    patch(client, environment, "person", &json!({"spec": {"network": {"ingress": ingress, "egress": []}}})).await;
    for number in 1..=5 {
        gone(client, &tier(number, name)).await;
    }
}

async fn that_of_someone_else_is_left_alone(client: &Client) {
    let name = unique("theirs");
    let mut theirs = tier(0, &name);
    theirs["spec"] = json!({"tier": "Baseline", "priority": 1, "subject": {"namespaces": {}},
        "egress": [{"action": "Accept", "to": [{"namespaces": {}}]}]});
    create(client, &theirs).await;
    namespace(client, &name).await;
    let environment = environment(&name, &name);
    apply(client, &environment).await;
    let message = wait_for(client, &environment, KIND, "False", "ForeignObject").await;
    assert!(
        message.starts_with(&format!("ClusterNetworkPolicy weightlock-0-{name} exists and is not Weightlock's")),
        "{message}"
    );
    wait_for(client, &environment, "Ready", "True", "Ready").await;
    assert_eq!(get(client, &theirs).await["spec"]["tier"], "Baseline");
    delete(client, &theirs).await;
    wait_for(client, &environment, KIND, "True", "Applied").await;
    delete(client, &environment).await;
    gone(client, &theirs).await;
}
