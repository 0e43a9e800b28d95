//! WL-502 and, for claims, WL-501: devices by Dynamic Resource Allocation.

use serde_json::Value;

use super::pod::{Object, is_true, object, text};
use super::text::{Findings, quoted};
use super::{gpu, node_access};
use crate::domain::request::Request;
use crate::domain::rules::Rule;
use crate::domain::world::{GPU_DEVICE_CLASSES, World};

/// API group of claims of devices.
pub(super) const GROUP: &str = "resource.k8s.io";

/// A ResourceClaim, or a ResourceClaimTemplate: what its requests may reach.
///
/// Versions of the group differ in where a request has its fields: in itself, or below `exactly`.
pub(super) fn claim(world: &World, request: &Request<'_>, findings: &mut Findings) {
    let spec = request.object.and_then(|object| object.get("spec")).and_then(Value::as_object);
    let spec = match request.resource {
        "resourceclaimtemplates" => spec.and_then(|spec| object(spec, "spec")),
        _ => spec,
    };
    let Some(spec) = spec else {
        findings.add(Rule::Malformed, "spec is missing or not an object.".into(), "correct spec.".into());
        return;
    };
    if world.settings.has_node_agents(request.namespace) {
        return;
    }
    let requests = object(spec, "devices").and_then(|devices| devices.get("requests")).and_then(Value::as_array);
    for wanted in requests.into_iter().flatten().filter_map(Value::as_object) {
        let name = text(wanted, "name").unwrap_or_default();
        let parts: Vec<&Object> = parts(wanted).collect();
        if parts.iter().any(|part| is_true(part, "adminAccess")) {
            admin_access(world, name, findings);
        }
        let class = parts.iter().filter_map(|part| text(part, "deviceClassName"));
        if let Some(class) = class.into_iter().find(|class| GPU_DEVICE_CLASSES.contains(class)) {
            gpu_outside(world, request.namespace, name, class, findings);
        }
    }
}

/// A request itself, and the alternatives below it.
fn parts(request: &Object) -> impl Iterator<Item = &Object> {
    let alternatives = request.get("firstAvailable").and_then(Value::as_array).into_iter().flatten();
    [Some(request), object(request, "exactly")].into_iter().flatten().chain(alternatives.filter_map(Value::as_object))
}

fn admin_access(world: &World, name: &str, findings: &mut Findings) {
    let fact = format!(
        "device request {} asks for adminAccess, which reaches devices that pods with weights use.",
        quoted(name)
    );
    let remedy = "leave out adminAccess; or, if this is for agents of the node, have the namespace listed in nodeAgents of Weightlock's chart.";
    node_access::say(world, Rule::DeviceAdminAccess, fact, remedy.into(), findings);
}

fn gpu_outside(world: &World, namespace: &str, name: &str, class: &str, findings: &mut Findings) {
    if world.membership(namespace).environment().is_some() {
        return;
    }
    let fact = format!(
        "device request {} is for a GPU (class {}) in namespace {namespace:?}, which belongs to no environment.",
        quoted(name),
        quoted(class)
    );
    let remedy = "make the claim in a namespace of a WeightEnvironment, or add the namespace to one.";
    gpu::outside(world, fact, remedy, findings);
}
