//! Properties of every pod: nothing panics, nothing that is added makes a refused pod pass, and shaping is idempotent.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::PackedPod;
use crate::domain::admission::{BINDING, decide, denial_text, placed, shape, writes};
use crate::domain::decision::Decision;
use crate::domain::request::Operation;
use crate::domain::world::EGRESS_BANDWIDTH;
use crate::domain::world::World;

/// Any JSON, with the names of fields that the rules look at among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["orion", "scratch", "fresh", "w", "weightlock-verify", "Always", "/", ""])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_field(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_field() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "metadata",
            "annotations",
            "spec",
            "containers",
            "initContainers",
            "ephemeralContainers",
            "volumes",
            "volumeMounts",
            "volumeDevices",
            "securityContext",
            "capabilities",
            "add",
            "drop",
            "seccompProfile",
            "type",
            "name",
            "image",
            "args",
            "persistentVolumeClaim",
            "claimName",
            "nfs",
            "csi",
            "hostPath",
            "path",
            "ephemeral",
            "volumeClaimTemplate",
            "resources",
            "limits",
            "requests",
            "restartPolicy",
            "claimRef",
            "volumeName",
            "dataSource",
            "deletionTimestamp",
        ])
        .prop_map(str::to_owned),
        "[a-z]{0,6}",
    ]
}

/// A pod of parts that are sound in themselves.
fn any_pod() -> impl Strategy<Value = Value> {
    let volume = (prop::sample::select(vec!["w", "v", "u"]), any_source()).prop_map(|(name, source)| {
        let mut volume = json!({"name": name});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        volume
    });
    (
        prop::collection::vec(any_container(), 0..3),
        prop::collection::vec(any_container(), 1..3),
        prop::collection::vec(volume, 0..3),
        prop::sample::select(vec!["vllm", "default", "trainer"]),
        prop::bool::weighted(0.1),
        prop::sample::select(vec![
            Value::Null,
            Value::Null,
            json!({"weights.weightlock.dev/w": "orion"}),
            json!({"weights.weightlock.dev/v": "nothing"}),
            json!({EGRESS_BANDWIDTH: "10M"}),
            json!({"cdi.k8s.io/gpu": "vendor.com/gpu=0"}),
        ]),
    )
        .prop_map(|(inits, containers, volumes, account, host, annotations)| {
            json!({"metadata": {"name": "p", "annotations": annotations}, "spec": {
                "serviceAccountName": account, "hostNetwork": host,
                "initContainers": inits, "containers": containers, "volumes": volumes,
            }})
        })
}

fn any_source() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"emptyDir": {}}),
        json!({"configMap": {"name": "c"}}),
        json!({"persistentVolumeClaim": {"claimName": "orion"}}),
        json!({"persistentVolumeClaim": {"claimName": "scratch", "readOnly": true}}),
        json!({"persistentVolumeClaim": {"claimName": "fresh"}}),
        json!({"persistentVolumeClaim": {"claimName": "nowhere"}}),
        json!({"nfs": {"server": "nas", "path": "/models/orion"}}),
        json!({"nfs": {"server": "nas", "path": "/models"}}),
        json!({"hostPath": {"path": "/"}}),
        json!({"image": {"reference": "i"}}),
        json!({"quantumDisk": {}}),
        json!({"csi": {"driver": "secrets-store.csi.k8s.io"}}),
        json!({"csi": {"driver": "EBS.csi.aws.com", "volumeHandle": "vol-1"}}),
        json!({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}),
        json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "orion"}}}}}),
    ])
}

fn any_container() -> impl Strategy<Value = Value> {
    (
        prop::sample::select(vec!["a", "b", "c", "weightlock-verify", "weightlock-reverify"]),
        prop::sample::select(vec!["tools", "registry.example.com/mesh/init", DOWNLOADER]),
        prop::sample::select(vec![Value::Null, json!("Always")]),
        prop::sample::select(vec![
            Value::Null,
            json!({}),
            json!({"runAsUser": 0}),
            json!({"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}),
        ]),
        prop::collection::vec((prop::sample::select(vec!["w", "v", "u"]), any::<bool>()), 0..3),
        prop::sample::select(vec![json!({}), json!({"limits": {"cpu": "1", "memory": "1Gi"}}), json!({"limits": {"nvidia.com/gpu": 1}})]),
    )
        .prop_map(|(name, image, restart, security, mounts, resources)| {
            let mounts: Vec<Value> =
                mounts.into_iter().map(|(v, ro)| json!({"name": v, "mountPath": format!("/{v}"), "readOnly": ro})).collect();
            json!({"name": name, "image": image, "restartPolicy": restart, "securityContext": security, "volumeMounts": mounts, "resources": resources})
        })
}

fn any_world() -> impl Strategy<Value = World> {
    let mode = || prop::sample::select(vec![Mode::Enforce, Mode::Audit]);
    (mode(), mode(), mode(), any::<bool>()).prop_map(|(admission, verification, egress, again)| {
        with_environment(|e| {
            e.reverify = again.then(|| crate::domain::world::Reverify {
                every_seconds: 60,
                max_bytes_per_second: 1_000_000,
                cpu: "100m".into(),
                memory: "64Mi".into(),
            });
            e.modes.admission = admission;
            e.modes.verification = verification;
            e.modes.egress = egress;
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_decided(object in any_json(), old in any_json(), namespace in prop::sample::select(vec!["serving", "research", ""])) {
        let world = small();
        for operation in [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect] {
            for resource in ["pods", "services", "persistentvolumeclaims", "persistentvolumes"] {
                let request = request(operation, resource, None, namespace, Some(&object), Some(&old));
                let decision = decide(&world, &request);
                let _ = denial_text(resource, namespace, "n", &decision);
                let _ = shape(&world, &request);
            }
        }
        // As a pod that a binding places, and as the binding.
        let pod = placed(object.clone(), &old);
        let _ = decide(&world, &request(Operation::Create, "pods", Some(BINDING), namespace, Some(&pod), None));
        // As a part of a pod that is otherwise sound.
        for pointer in ["/spec/volumes/0", "/spec/containers/0", "/spec/initContainers", "/spec/containers/0/securityContext", "/metadata"] {
            let pod = set(server("orion"), pointer, object.clone());
            let _ = admit(&world, namespace, &pod);
        }
    }

    #[test]
    fn shaping_is_idempotent(world in any_world(), pod in any_pod()) {
        let once = shaped(&world, "serving", &pod);
        prop_assert_eq!(shaped(&world, "serving", &once), once);
    }

    #[test]
    fn placing_takes_no_rule_back(world in any_world(), pod in any_pod()) {
        let created = judge(&world, "serving", &pod);
        let pod = placed(pod, &json!({"target": {"name": "n1"}}));
        let bound = decide(&world, &request(Operation::Create, "pods", Some(BINDING), "serving", Some(&pod), None));
        for id in ids(&created) {
            prop_assert!(ids(&bound).contains(&id), "{} is gone: {:?}", id, bound.violations);
        }
    }

    #[test]
    fn shaping_never_makes_it_worse(pod in any_pod()) {
        let world = small();
        let before = judge(&world, "serving", &pod);
        let after = admit(&world, "serving", &pod);
        // It puts right what is missing, and breaks no rule that was kept.
        for id in ids(&after) {
            prop_assert!(ids(&before).contains(&id), "{} is new: {:?}", id, after.violations);
        }
    }

    /// Of pods as the API server may be sent them, in worlds of every mode: the same each time, whatever it is.
    #[test]
    fn a_decision_is_the_same_each_time(world in any_world(), pod in any_pod()) {
        for namespace in ["serving", "research", "lab", "nowhere"] {
            let pod = shaped(&world, namespace, &pod);
            prop_assert_eq!(judge(&world, namespace, &pod), judge(&world, namespace, &pod));
        }
    }

    /// Pods that run are kept small; what is said of them is said of all that they are.
    #[test]
    fn a_pod_that_was_kept_is_decided_as_it_is(world in any_world(), pod in any_pod(), json in any_json()) {
        let bare = json.as_object().is_some();
        for pod in [&pod, &shaped(&world, "serving", &pod), &set(pod.clone(), "/spec/volumes/-", json.clone())]
            .into_iter()
            .chain(bare.then_some(&json))
        {
            let kept = PackedPod::new(pod.clone()).unpack();
            for namespace in ["serving", "research", "lab", "nowhere"] {
                prop_assert_eq!(judge(&world, namespace, &kept), judge(&world, namespace, pod));
                prop_assert_eq!(admit(&world, namespace, &kept), admit(&world, namespace, pod));
                prop_assert_eq!(writes(&world, namespace, &kept, "orion"), writes(&world, namespace, pod, "orion"));
            }
        }
    }

    #[test]
    fn what_is_added_makes_no_refused_pod_pass(
        world in prop_oneof![any_world(), Just(making())],
        pod in any_pod(),
        container in any_container(),
        source in any_source(),
        label in "[a-z]{1,8}",
    ) {
        let mut volume = json!({"name": "added"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        let ignore = |annotations: &Value| {
            let mut more = annotations.as_object().cloned().unwrap_or_default();
            more.insert("weightlock.dev/ignore".into(), "true".into());
            Value::from(more)
        };
        let annotations = ignore(&pod["metadata"]["annotations"]);
        let ephemeral = json!([container]);
        let additions = [
            ("/spec/containers/-", &container),
            ("/spec/initContainers/-", &container),
            ("/spec/ephemeralContainers", &ephemeral),
            ("/spec/volumes/-", &volume),
            ("/metadata/labels", &json!({&label: label})),
            ("/metadata/annotations", &annotations),
        ];
        for namespace in ["serving", "research", "lab"] {
            let refusal = admit(&world, namespace, &pod);
            if refusal.allowed() {
                continue;
            }
            let mut all = pod.clone();
            for (pointer, value) in additions {
                // A downloader that is missing, and named as what is missing, may be added.
                if completes(&refusal, value) {
                    continue;
                }
                let more = set(pod.clone(), pointer, value.clone());
                let decision = admit(&world, namespace, &more);
                prop_assert!(!decision.allowed(), "{pointer} {value} made it pass in {namespace}");
                all = set(all, pointer, value.clone());
            }
            prop_assert!(!admit(&world, namespace, &all).allowed(), "all of it made it pass in {namespace}");
        }
    }
}

/// Whether what is added is the fact that a refusal says is missing.
fn completes(refusal: &Decision, added: &Value) -> bool {
    added["image"] == DOWNLOADER && ids(refusal).contains(&"WL-311")
}
