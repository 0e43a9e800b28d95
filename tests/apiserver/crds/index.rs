//! The largest shards of the WeightIndex that a plan makes are taken by the API server.

use serde_json::{Value, json};
use weightlock::api::{IndexMember, WeightIndex, WeightIndexSpec};
use weightlock::domain::index_plan::{self, MAX_MEMBERS};
use weightlock::domain::world::Settings;
use weightlock::index;

use crate::harness;

/// The first shard of a cluster with 6,000 members, and as many disks as one shard still takes.
fn crowded(name: impl Fn(usize) -> String) -> WeightIndexSpec {
    let mut objects = Vec::new();
    for environment in 0..60 {
        let namespaces = (0..100).map(|n| name(environment * 100 + n));
        let (mut members, mut pins) = (Vec::new(), Vec::new());
        for namespace in namespaces {
            let uid = format!("00000000-0000-0000-0000-{:012}", members.len());
            members.push(json!({"namespace": namespace, "serviceAccounts": ["*"]}));
            pins.push(json!({"namespace": namespace, "uid": uid}));
            objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "uid": uid}}));
        }
        objects.push(json!({
            "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": format!("environment-{environment}")},
            "spec": {"purpose": "Inference", "members": members,
                "modes": {"admission": "Enforce", "network": "Audit", "verification": "Audit", "egress": "Audit"}},
            "status": {"members": pins},
        }));
    }
    objects.extend((0..2500).map(|n| {
        let disk = json!({"driver": "ebs.csi.aws.com", "volumeHandle": format!("vol-{n:017x}")});
        json!({
            "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": format!("model-{n}")},
            "spec": {"type": "Base", "model": {"name": "m"}, "contact": "c", "locations": [{"name": "disk", "role": "Cache", "csi": disk}],
                "permittedEnvironments": [{"name": "environment-0"}]},
        })
    }));
    let world = index::from_objects(objects, Settings::default()).expect("a world");
    index_plan::plan(&world, &[]).expect("a plan").remove(0)
}

#[tokio::test]
async fn the_api_server_takes_the_most_members_that_a_plan_has() {
    let client = harness::client().await;
    harness::install_definitions(&client).await;
    let controller = harness::controller().await;
    let object = |spec: &WeightIndexSpec| {
        serde_json::to_value(WeightIndex::new(&harness::unique("crowded"), spec.clone())).unwrap()
    };
    let many = crowded(|n| format!("namespace-{n:06}"));
    assert_eq!(many.members.len(), MAX_MEMBERS);
    let long = crowded(|n| format!("{n:063}"));
    assert!(long.members.len() < MAX_MEMBERS);
    for spec in [&many, &long] {
        let made: Value = harness::create(&controller, &object(spec)).await.expect("a shard");
        harness::delete(&controller, &made).await;
    }
    let mut more = many.clone();
    let member: IndexMember = more.members.values().next().unwrap().clone();
    more.members.insert("one-more".into(), member);
    let said = harness::try_create(&controller, &object(&more)).await.unwrap_err();
    assert!(said.contains("spec.members: Too many: 5001: must have at most 5000 items"), "{said}");
}
