//! An artifact that cannot be read, as one that a newer version wrote: it stays protected and holds up nobody.

use kube::Client;
use serde_json::{Value, json};

use super::cluster::*;

fn path(name: &str) -> String {
    format!("v1:nfs:nas.example.com:/models/{name}")
}

fn unreadable(mut artifact: Value) -> Value {
    artifact["spec"]["type"] = "TypeOfTomorrow".into();
    artifact
}

/// The definition as a newer version may have it.
async fn newer(client: &Client) {
    define(client, "WeightArtifact", |definition| {
        let types = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/type/enum";
        let types = definition.pointer_mut(types).and_then(Value::as_array_mut).expect("the types");
        types.push("TypeOfTomorrow".into());
    })
    .await;
}

/// The entry of an artifact's path in the index: of whom it is, and where it may be.
async fn entry(client: &Client, name: &str) -> Option<(Value, Value)> {
    let shard = shard(client, 0).await;
    let entry = &shard["spec"]["paths"][path(name)];
    let terms = &shard["spec"]["terms"][entry["terms"].as_str()?];
    Some((entry["of"].clone(), terms["environments"].clone()))
}

/// What an earlier process wrote of an artifact that is not to be read any more.
async fn remembered(name: &str) {
    let controller = as_controller().await;
    eventually("the index has an entry from before", async || {
        let index = shard(&controller, 0).await;
        let spec = json!({
            "terms": {"before": {"environments": ["long-gone"], "contact": "before@example.com"}},
            "paths": {path(name): {"of": name, "terms": "before"}},
        });
        patch(&controller, &index, "weightlock-test", &json!({"spec": spec})).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        entry(&controller, name).await.map(|_| ()).ok_or("it was written over".into())
    })
    .await;
}

#[tokio::test]
async fn one_that_cannot_be_read_stays_protected_and_holds_up_no_other() {
    // It changes a definition.
    let _alone = ALONE.write().await;
    let (client, _) = controller().await;
    let (lost, forgotten, later) = (unique("lost"), unique("forgotten"), unique("later"));
    apply(&client, &registered(&lost)).await;
    wait_for(&client, &registered(&lost), "Enforced", "True", "Enforced").await;
    newer(&client).await;
    for name in [&lost, &forgotten] {
        apply(&client, &unreadable(registered(name))).await;
    }
    remembered(&forgotten).await;

    // Another is declared, and is in force.
    apply(&client, &registered(&later)).await;
    wait_for(&client, &registered(&later), "Enforced", "True", "Enforced").await;
    let kept = [(&lost, "not-there"), (&forgotten, "long-gone"), (&later, "not-there")];
    for (name, place) in kept {
        assert_eq!(entry(&client, name).await, Some((json!(name), json!([place]))), "{name}");
    }
    for name in [&lost, &forgotten] {
        noted(&client, "Unreadable", &format!("cannot read WeightArtifact {name}: ")).await;
    }

    // Once they can be read, it is as they say.
    let mut corrected = registered(&forgotten);
    corrected["spec"]["permittedEnvironments"] = json!([{"name": "elsewhere"}]);
    apply(&client, &corrected).await;
    apply(&client, &registered(&lost)).await;
    for artifact in [&corrected, &registered(&lost)] {
        wait_for(&client, artifact, "Enforced", "True", "Enforced").await;
    }
    assert_eq!(entry(&client, &forgotten).await, Some((json!(forgotten), json!(["elsewhere"]))));
    for name in [&lost, &forgotten, &later] {
        delete(&client, &registered(name)).await;
    }
    define(&client, "WeightArtifact", |_| {}).await;
}
