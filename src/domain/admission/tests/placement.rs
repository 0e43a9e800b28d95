//! WL-117, and what is decided when a pod that waited is placed on a node.

use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::admission::{BINDING, claims, decide, placed, places};
use crate::domain::decision::Decision;
use crate::domain::request::Operation;
use crate::domain::world::{Reverify, World};

/// The pod as the API server has it: with a UID.
fn stored(pod: Value) -> Value {
    set(pod, "/metadata/uid", json!("uid-of-pod"))
}

fn on_node(pod: Value) -> Value {
    placed(pod, &json!({"metadata": {"name": "vllm-0"}, "target": {"kind": "Node", "name": "n1"}}))
}

/// What is said when a stored pod is bound to a node.
fn bind_to_node(world: &World, namespace: &str, pod: &Value) -> Decision {
    let pod = on_node(pod.clone());
    decide(world, &request(Operation::Create, "pods", Some(BINDING), namespace, Some(&pod), None))
}

/// A pod with a generic ephemeral volume: of `serving`, its claim is `vllm-0-w`.
fn ephemeral() -> Value {
    let template = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}});
    set(ordinary("x"), "/spec/volumes/0", json!({"name": "w", "ephemeral": {"volumeClaimTemplate": template}}))
}

/// `small`, with the claim that is made for [`ephemeral`], bound to a volume with this handle.
fn with_made_claim(handle: &str) -> World {
    let mut world = small();
    bind(&mut world, "serving", "vllm-0-w", "pvc-1", handle);
    world.claims.get_mut(&claim("serving", "vllm-0-w")).unwrap().controller = Some("uid-of-pod".into());
    world
}

#[test]
fn wl_117_a_pod_is_placed_once_its_claims_are_bound() {
    for (name, says) in [("fresh", "is not bound"), ("nowhere", "does not exist")] {
        let pod = stored(ordinary(name));
        for decision in [bind_to_node(&small(), "serving", &pod), admit(&small(), "serving", &on_node(pod.clone()))] {
            let found = decision.violations.iter().find(|v| v.rule.id() == "WL-117").expect("WL-117");
            assert!(found.fact.contains(&format!("(PVC {name:?}) {says}")), "{}", found.fact);
            assert!(found.fact.contains("placed on node \"n1\""), "{}", found.fact);
            assert!(found.remedy.contains("leave out nodeName"), "{}", found.remedy);
        }
    }
    for pod in [ordinary("scratch"), set(ordinary("x"), "/spec/volumes", json!([]))] {
        passes(&bind_to_node(&small(), "serving", &stored(pod.clone())));
        passes(&admit(&small(), "serving", &on_node(pod)));
    }
    // A scheduler binds what waits for its first consumer, and then the pod.
    passes(&admit(&small(), "serving", &ordinary("fresh")));
    let mut world = small();
    bind(&mut world, "serving", "fresh", "pvc-2", "vol-new");
    passes(&bind_to_node(&world, "serving", &stored(ordinary("fresh"))));
}

#[test]
fn wl_117_bound_is_what_both_sides_say_and_nobody_deletes() {
    let scratch = claim("serving", "scratch");
    let changed = |change: &dyn Fn(&mut World)| {
        let mut world = small();
        change(&mut world);
        bind_to_node(&world, "serving", &stored(ordinary("scratch")))
    };
    refused(&changed(&|w| w.claims.get_mut(&scratch).unwrap().deleting = true), &["WL-117"], "is being deleted");
    refused(&changed(&|w| w.claims.get_mut(&scratch).unwrap().bound = false), &["WL-117"], "is not bound");
    refused(&changed(&|w| w.volumes.get_mut("pv-scratch").unwrap().claim = None), &["WL-117"], "is not bound");
    let another = claim("lab", "scratch");
    refused(
        &changed(&|w| w.volumes.get_mut("pv-scratch").unwrap().claim = Some(another.clone())),
        &["WL-117"],
        "is not bound",
    );
}

#[test]
fn wl_117_a_generic_ephemeral_volume_is_the_claim_that_was_made_for_the_pod() {
    let pod = stored(ephemeral());
    // Its claim is made after the pod, and so never before a node that the pod names itself.
    refused(&admit(&small(), "serving", &on_node(ephemeral())), &["WL-117"], "(PVC \"vllm-0-w\") is not made yet");
    refused(&bind_to_node(&small(), "serving", &pod), &["WL-117"], "is not made yet");
    passes(&bind_to_node(&with_made_claim("vol-new"), "serving", &pod));
    let mut strange = with_made_claim("vol-new");
    strange.claims.get_mut(&claim("serving", "vllm-0-w")).unwrap().controller = Some("uid-of-another".into());
    refused(&bind_to_node(&strange, "serving", &pod), &["WL-117"], "was not made for it");
    // Whoever may write claims makes one in its place.
    let attack = bind_to_node(&with_made_claim("vol-1"), "serving", &pod);
    assert!(ids(&attack).contains(&"WL-301"), "{attack:?}");
    assert_eq!(claims("serving", &pod), [claim("serving", "vllm-0-w")]);
}

#[test]
fn what_a_claim_has_become_is_decided_when_the_pod_is_placed() {
    let pod = stored(shaped(&small(), "serving", &ordinary("scratch")));
    passes(&bind_to_node(&small(), "serving", &pod));
    // Deleted, and made again as a second volume of the weights.
    let mut world = small();
    bind(&mut world, "serving", "scratch", "pv-spare", "vol-1");
    let decision = bind_to_node(&world, "serving", &pod);
    assert!(ids(&decision).contains(&"WL-301"), "{decision:?}");
    let stranger = stored(set(ordinary("scratch"), "/spec/serviceAccountName", json!("default")));
    passes(&bind_to_node(&small(), "serving", &stranger));
    let decision = bind_to_node(&world, "serving", &stranger);
    assert!(ids(&decision).contains(&"WL-102"), "{decision:?}");
    // Nothing of the like concerns a server that was made for its weights.
    passes(&bind_to_node(&small(), "serving", &stored(shaped(&small(), "serving", &server("orion")))));
    // A namespace that was made again is not the one that was permitted.
    let mut again = small();
    again.namespaces.insert("serving".into(), "uid-new".into());
    let server = stored(shaped(&small(), "serving", &server("orion")));
    assert!(ids(&bind_to_node(&again, "serving", &server)).contains(&"WL-103"));
}

/// An update of Weightlock, or of the interval of an environment, does not stop the pods that wait for a node.
#[test]
fn a_verifier_of_the_day_on_which_the_pod_was_created_is_taken() {
    let again = |every_seconds| {
        with_environment(|e| {
            e.reverify = Some(Reverify {
                every_seconds,
                max_bytes_per_second: 200_000_000,
                cpu: "100m".into(),
                memory: "128Mi".into(),
            });
        })
    };
    let pod = stored(shaped(&again(3600), "serving", &server("orion")));
    let mut later = again(60);
    later.settings.verifier_image = "registry.example.com/weightlock-verify@sha256:2".into();
    passes(&bind_to_node(&later, "serving", &pod));
    // Whoever creates such a pod now gets the one of today.
    assert_eq!(ids(&judge(&later, "serving", &pod)), ["WL-309", "WL-302"]);
    later.settings.verifier_image = "elsewhere.example.com/weightlock-verify@sha256:2".into();
    assert_eq!(ids(&bind_to_node(&later, "serving", &pod)), ["WL-309", "WL-302"]);
    let altered = set(pod, "/spec/initContainers/0/args/1", json!("another"));
    assert_eq!(ids(&bind_to_node(&again(3600), "serving", &altered)), ["WL-302"]);
}

#[test]
fn in_audit_it_is_a_warning_and_in_enforce_warnings_are_not_repeated() {
    let world = with_environment(|e| e.modes.admission = Mode::Audit);
    let decision = bind_to_node(&world, "serving", &stored(ordinary("fresh")));
    assert!(decision.allowed());
    assert!(decision.warnings.iter().any(|warning| warning.starts_with("[WL-117] ")), "{decision:?}");
    let mut world = small();
    let effort = crate::domain::world::Effort { bytes: 1 << 40, seconds: 3600 };
    world.artifacts.get_mut("orion").unwrap().effort = Some(effort);
    let pod = shaped(&world, "serving", &server("orion"));
    assert_eq!(judge(&world, "serving", &pod).warnings.len(), 1);
    passes(&bind_to_node(&world, "serving", &stored(pod)));
}

#[test]
fn a_binding_brings_a_node_and_annotations() {
    let binding = json!({
        "metadata": {"annotations": {"weights.weightlock.dev/w": "orion", "a": "b"}},
        "target": {"name": "n1"},
    });
    let pod = placed(set(ordinary("scratch"), "/metadata/annotations", json!({"a": "c", "d": "e"})), &binding);
    assert_eq!(pod["metadata"]["annotations"], json!({"a": "b", "d": "e", "weights.weightlock.dev/w": "orion"}));
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(placed(ordinary("scratch"), &binding)["metadata"]["annotations"]["a"], "b");
    // What is no binding places the pod all the same, so that nothing is taken for one that waits.
    assert_eq!(placed(ordinary("scratch"), &Value::Null)["spec"]["nodeName"], "(none)");
}

#[test]
fn which_requests_place_a_pod() {
    let (waits, named) = (ordinary("scratch"), on_node(ordinary("scratch")));
    let asked = |operation, resource, subresource, pod| {
        places(&request(operation, resource, subresource, "serving", Some(pod), None))
    };
    assert!(asked(Operation::Create, "pods", Some(BINDING), &waits));
    assert!(asked(Operation::Create, "pods", None, &named));
    assert!(!asked(Operation::Create, "pods", None, &waits));
    assert!(!asked(Operation::Update, "pods", None, &named));
    assert!(!asked(Operation::Create, "pods", Some("eviction"), &named));
}

#[test]
fn a_binding_without_the_pod_is_malformed() {
    let binding = json!({"metadata": {"name": "vllm-0"}, "target": {"kind": "Node", "name": "n1"}});
    let decision =
        decide(&small(), &request(Operation::Create, "pods", Some(BINDING), "serving", Some(&binding), None));
    refused(&decision, &["WL-902"], "spec is missing");
}
