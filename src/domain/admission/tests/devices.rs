//! WL-502, and WL-501 of claims.

use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::admission::decide;
use crate::domain::decision::Decision;
use crate::domain::request::{Operation, Request, User};
use crate::domain::world::{GpuPodsOutside, World};

fn strict() -> World {
    let mut world = small();
    world.settings.node_access = Mode::Enforce;
    world.settings.gpu_pods_outside = GpuPodsOutside::Deny;
    world.settings.node_agents.insert("monitoring/dcgm".parse().unwrap());
    world
}

fn decided(world: &World, resource: &str, namespace: &str, spec: &Value) -> Decision {
    let object = json!({"metadata": {"name": "c", "namespace": namespace}, "spec": spec});
    decide(
        world,
        &Request {
            operation: Operation::Create,
            group: "resource.k8s.io",
            resource,
            subresource: None,
            namespace,
            name: "c",
            object: Some(&object),
            old_object: None,
            user: User::default(),
        },
    )
}

/// A spec with one request, in the shape of each version, and the resource that it is for.
fn shapes(fields: &Value) -> Vec<(&'static str, Value)> {
    let mut beta = json!({"name": "r"});
    json_patch::merge(&mut beta, fields);
    let devices = |request: Value| json!({"devices": {"requests": [{"name": "other", "exactly": {"deviceClassName": "nic.example.com"}}, request]}});
    let (v1, beta) = (devices(json!({"name": "r", "exactly": fields})), devices(beta));
    vec![
        ("resourceclaims", v1.clone()),
        ("resourceclaims", beta),
        ("resourceclaimtemplates", json!({"metadata": {}, "spec": v1})),
    ]
}

#[test]
fn wl_502_devices_in_use_are_reached_by_agents_of_the_node_alone() {
    for (resource, spec) in shapes(&json!({"deviceClassName": "nic.example.com", "adminAccess": true})) {
        for namespace in ["research", "serving"] {
            let decision = decided(&strict(), resource, namespace, &spec);
            let violation = &decision.violations[0];
            assert_eq!((violation.rule.id(), decision.violations.len()), ("WL-502", 1), "{decision:?}");
            assert!(violation.fact.starts_with("device request \"r\" asks for adminAccess"), "{violation:?}");
            assert!(violation.remedy.contains("nodeAgents"), "{violation:?}");
        }
        let lenient = World { settings: crate::domain::world::Settings::default(), ..strict() };
        let decision = decided(&lenient, resource, "research", &spec);
        assert!(decision.allowed() && decision.warnings[0].starts_with("[WL-502] "), "{decision:?}");
        for namespace in ["monitoring", "kube-system", "weightlock-system"] {
            assert_eq!(decided(&strict(), resource, namespace, &spec), Decision::default(), "{namespace}");
        }
    }
    for (resource, spec) in shapes(&json!({"deviceClassName": "nic.example.com", "adminAccess": false})) {
        assert_eq!(decided(&strict(), resource, "research", &spec), Decision::default());
    }
}

#[test]
fn wl_501_a_claim_of_a_gpu_outside_every_environment() {
    let mut all = shapes(&json!({"deviceClassName": "gpu.nvidia.com"}));
    let alternatives =
        json!([{"name": "a", "deviceClassName": "x.example.com"}, {"name": "b", "deviceClassName": "mig.nvidia.com"}]);
    all.push(("resourceclaims", json!({"devices": {"requests": [{"name": "r", "firstAvailable": alternatives}]}})));
    for (resource, spec) in all {
        let decision = decided(&strict(), resource, "research", &spec);
        let violation = &decision.violations[0];
        assert_eq!((violation.rule.id(), decision.violations.len()), ("WL-501", 1), "{decision:?}");
        assert!(violation.fact.starts_with("device request \"r\" is for a GPU (class "), "{violation:?}");
        assert_eq!(decided(&strict(), resource, "serving", &spec), Decision::default());
        let mut world = strict();
        world.settings.gpu_pods_outside = GpuPodsOutside::Warn;
        let decision = decided(&world, resource, "research", &spec);
        assert!(decision.allowed() && decision.warnings[0].starts_with("[WL-501] "), "{decision:?}");
        world.settings.gpu_pods_outside = GpuPodsOutside::Allow;
        assert_eq!(decided(&world, resource, "research", &spec), Decision::default());
    }
}

#[test]
fn what_is_no_claim_is_refused_and_other_kinds_of_the_group_pass() {
    let decision = decided(&strict(), "resourceclaims", "research", &Value::Null);
    assert_eq!(ids(&decision), ["WL-902"]);
    assert_eq!(decided(&strict(), "resourceslices", "research", &Value::Null), Decision::default());
}
