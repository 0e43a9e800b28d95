//! Which pods ask for a GPU.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::{Container, Pod, object, text};
use super::text::{Findings, quoted};
use crate::domain::rules::Rule;
use crate::domain::world::{
    DEVICE_ANNOTATIONS, DEVICE_CLASS_RESOURCE, GPU_DEVICE_CLASSES, GPU_RESOURCES, GPU_VARIABLES, GpuPodsOutside,
    NO_DEVICES, Settings, World,
};

/// Whether a resource is an accelerator.
pub(super) fn is_gpu(resource: &str, configured: &BTreeSet<String>) -> bool {
    configured.contains(resource)
        || GPU_RESOURCES.iter().any(|prefix| resource.starts_with(prefix))
        || resource.strip_prefix(DEVICE_CLASS_RESOURCE).is_some_and(|class| GPU_DEVICE_CLASSES.contains(&class))
}

/// What the pod asks for, as the fact of a violation: `container "x" asks for nvidia.com/gpu`. A way to a GPU that takes no
/// request counts too, as far as the pod itself shows it.
pub(super) fn asked(pod: &Pod<'_>, settings: &Settings) -> Option<String> {
    for container in &pod.containers {
        let Some(resources) = object(container.raw, "resources") else { continue };
        for list in ["limits", "requests"] {
            let Some(amounts) = object(resources, list) else { continue };
            for (resource, amount) in amounts {
                if is_gpu(resource, &settings.gpu_resources) && !is_zero(amount) {
                    return Some(format!(
                        "{} {} asks for {}",
                        container.kind.noun(),
                        quoted(container.name),
                        quoted(resource)
                    ));
                }
            }
        }
    }
    without_request(pod, settings)
}

/// How the pod gets a GPU that the scheduler knows nothing of.
fn without_request(pod: &Pod<'_>, settings: &Settings) -> Option<String> {
    for container in &pod.containers {
        let variables = container.raw.get("env").and_then(Value::as_array).into_iter().flatten();
        let mut given = variables.filter_map(|variable| gives(variable).then(|| variable["name"].as_str()).flatten());
        if let Some(name) = given.next() {
            return Some(format!(
                "{} {} sets {name}, which gives it GPUs without a request",
                container.kind.noun(),
                quoted(container.name)
            ));
        }
    }
    if let Some(class) =
        text(pod.spec, "runtimeClassName").filter(|class| settings.gpu_classes().any(|name| name == *class))
    {
        return Some(format!("the pod has runtimeClassName {}, which gives it GPUs without a request", quoted(class)));
    }
    let mut annotations = pod.annotations.into_iter().flatten();
    let (key, _) = annotations.find(|(key, _)| key.starts_with(DEVICE_ANNOTATIONS))?;
    Some(format!("the pod has annotation {}, which gives it devices without a request", quoted(key)))
}

fn gives(variable: &Value) -> bool {
    let part = |field: &str| variable.get(field).and_then(Value::as_str);
    part("name").is_some_and(|name| GPU_VARIABLES.contains(&name))
        && (variable.get("valueFrom").is_some_and(|source| !source.is_null())
            || !NO_DEVICES.contains(&part("value").unwrap_or_default()))
}

/// Whether the pod has ResourceClaims, or asks for a device class as a resource. It cannot be told whether that brings a GPU:
/// in an environment it counts as one.
pub(super) fn may_bring_one(pod: &Pod<'_>) -> bool {
    let asks = |container: &Container<'_>| {
        let lists =
            object(container.raw, "resources").into_iter().flat_map(|r| ["limits", "requests"].map(|l| object(r, l)));
        lists.flatten().flatten().any(|(resource, _)| resource.starts_with(DEVICE_CLASS_RESOURCE))
    };
    pod.spec.get("resourceClaims").and_then(Value::as_array).is_some_and(|claims| !claims.is_empty())
        || pod.containers.iter().any(asks)
}

/// Says, as the installation has it, that there is a GPU outside every environment.
pub(super) fn outside(world: &World, fact: String, remedy: &str, findings: &mut Findings) {
    match world.settings.gpu_pods_outside {
        GpuPodsOutside::Allow => {}
        GpuPodsOutside::Warn => findings.warn(format!("[{}] {fact} Remedy: {remedy}", Rule::GpuPodOutside.id())),
        GpuPodsOutside::Deny => findings.add(Rule::GpuPodOutside, fact, remedy.into()),
    }
}

fn is_zero(amount: &Value) -> bool {
    match amount {
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().parse::<f64>() == Ok(0.0),
        _ => false,
    }
}
