use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{World, consumers, verdict};

const DIGEST: &str = "sha256:5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e";

fn any_state() -> impl Strategy<Value = Value> {
    let ended = (prop::sample::select(vec![json!(0), json!(20), json!(25), json!(137), json!("25"), json!(null)]),
        prop::sample::select(vec![json!("Drifted: 1 finding in WeightArtifact \"orion\"\n"), json!("in WeightArtifact \"other\""),
            json!("Verified: WeightArtifact \"orion\" sha256:5c1e: 3 files, 3221225472 bytes (3.0 GiB)"), json!(7)]),
        prop::sample::select(vec!["Error", "RestartingAllContainers"]))
        .prop_map(|(code, message, reason)| json!({"terminated": {"exitCode": code, "message": message, "reason": reason,
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:09Z", "containerID": "containerd://1", "signal": 9}}));
    prop_oneof![
        ended.clone(),
        ended,
        Just(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})),
        Just(json!({"running": null})),
        Just(json!({"waiting": {"reason": "PodInitializing"}})),
        Just(json!({})),
        Just(json!("running")),
        Just(Value::Null),
    ]
}

fn any_statuses() -> impl Strategy<Value = Value> {
    let status = (
        prop::sample::select(vec![verdict::VERIFIER, verdict::REVERIFIER, "c"]),
        any_state(),
        any_state(),
        prop::sample::select(vec!["", "r.example.com/x@sha256:1", "sha256:2"]),
    )
        .prop_map(|(name, state, last, id)| {
            json!({"name": name, "state": state, "lastState": last, "imageID": id, "ready": true,
            "restartCount": 3, "image": "x", "containerID": "containerd://2", "volumeMounts": [{"name": "w"}]})
        });
    prop_oneof![
        4 => prop::collection::vec(status, 0..4).prop_map(Value::from),
        1 => prop::sample::select(vec![json!({}), json!("x"), json!([1, null, "c"]), Value::Null]),
    ]
}

/// A pod with a verifier and a sidecar, and any status.
fn any_pod() -> impl Strategy<Value = Value> {
    let phase =
        prop::sample::select(vec![json!("Running"), json!("Succeeded"), json!("Failed"), json!(3), Value::Null]);
    let status = (phase, any_statuses(), any_statuses(), any_statuses()).prop_map(|(phase, main, init, ephemeral)| {
        json!({"phase": phase, "containerStatuses": main, "initContainerStatuses": init, "ephemeralContainerStatuses": ephemeral,
            "conditions": [{"type": "Ready"}], "podIP": "10.0.0.1", "qosClass": "Burstable", "fieldOfTomorrow": {"a": 1}})
    });
    let status = prop_oneof![8 => status, 1 => prop::sample::select(vec![json!("x"), json!([]), Value::Null])];
    (status, any::<bool>()).prop_map(|(status, downloads)| {
        let args = json!(["--artifact", "orion", "--digest", DIGEST]);
        let image = World::default().settings.verifier_image;
        let mut pod = json!({"metadata": {"namespace": "serving", "name": "p", "uid": "u"},
            "spec": {"initContainers": [{"name": verdict::VERIFIER, "image": image, "args": args},
                    {"name": verdict::REVERIFIER, "image": image, "args": args}],
                "containers": [{"name": "c", "image": "tools", "fieldOfTomorrow": [1.5, true]}],
                "volumes": [{"name": "w", "emptyDir": {}}, {"name": "v", "persistentVolumeClaim": {"claimName": "v"}}, {"name": "q", "quantumDisk": {}}]},
            "status": status});
        if downloads {
            pod["metadata"]["annotations"] = json!({"weights.weightlock.dev/w": "orion"});
        }
        pod
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_of_a_status_is_kept(pod in any_pod()) {
        let world = World::default();
        let packed = PackedPod::new(pod.clone());
        let kept = packed.unpack();
        prop_assert_eq!(verdict::verdict(&world, &kept, "orion", DIGEST), verdict::verdict(&world, &pod, "orion", DIGEST));
        prop_assert_eq!(verdict::drift(&kept, "orion", DIGEST), verdict::drift(&pod, "orion", DIGEST));
        prop_assert_eq!(consumers::stopped(&kept), consumers::stopped(&pod));
        prop_assert_eq!(packed.ended(), consumers::ended(&pod));
        prop_assert_eq!(consumers::ended(&kept), packed.ended());
        // What was read in advance is what is read of all of it.
        prop_assert_eq!(&packed.sources, &consumers::sources(&pod));
        prop_assert_eq!(&packed.images, &consumers::images(&pod));
        // All but the status is kept.
        prop_assert_eq!((&kept["metadata"], &kept["spec"]), (&pod["metadata"], &pod["spec"]));
        // Kept again, it is the same.
        prop_assert_eq!(&PackedPod::new(kept), &packed);
    }
}

#[test]
fn a_pod_that_cannot_be_had_back_is_none_that_a_rule_lets_pass() {
    let mut packed = PackedPod::new(json!({"metadata": {"name": "p"}, "spec": {"containers": []}}));
    packed.json = vec![0xff; 8].into();
    assert_eq!(packed.unpack(), Value::Null);
    let world = crate::domain::admission::test_world();
    let request = crate::domain::Request {
        operation: crate::domain::Operation::Create,
        group: "",
        resource: "pods",
        subresource: None,
        namespace: "serving",
        name: "p",
        user: Default::default(),
        object: Some(&packed.unpack()),
        old_object: None,
    };
    assert!(!crate::domain::admission::decide(&world, &request).allowed());
}
