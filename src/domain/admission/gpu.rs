//! Which pods ask for a GPU.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::{Pod, object};
use super::text::quoted;
use crate::domain::world::GPU_RESOURCES;

/// Whether a resource is an accelerator.
pub(super) fn is_gpu(resource: &str, configured: &BTreeSet<String>) -> bool {
    configured.contains(resource) || GPU_RESOURCES.iter().any(|prefix| resource.starts_with(prefix))
}

/// What the pod asks for, as the fact of a violation: `container "x" asks for nvidia.com/gpu`.
pub(super) fn asked(pod: &Pod<'_>, configured: &BTreeSet<String>) -> Option<String> {
    for container in &pod.containers {
        let Some(resources) = object(container.raw, "resources") else { continue };
        for list in ["limits", "requests"] {
            let Some(amounts) = object(resources, list) else { continue };
            for (resource, amount) in amounts {
                if is_gpu(resource, configured) && !is_zero(amount) {
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
    None
}

/// Whether the pod has ResourceClaims. It cannot be told whether they bring a GPU: in an environment they count as one.
pub(super) fn may_bring_one(pod: &Pod<'_>) -> bool {
    pod.spec.get("resourceClaims").and_then(Value::as_array).is_some_and(|claims| !claims.is_empty())
}

fn is_zero(amount: &Value) -> bool {
    match amount {
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().parse::<f64>() == Ok(0.0),
        _ => false,
    }
}
