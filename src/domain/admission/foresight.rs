//! What would be said of pods before there are any.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use super::volumes::data_source;
use super::{decide, shape};
use crate::domain::workload::{Subject, subjects};
use crate::domain::world::{Claim, ClaimName};
use crate::domain::{Decision, Operation, Request, User, World};

/// Most pods of one object that are looked at.
const MAX_PODS: usize = 64;

/// What would be said of the creation of an object from a manifest: [`shape`], then [`decide`].
pub fn foresee(world: &World, subject: &Subject) -> Decision {
    let named = subject.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let request = |object| Request {
        operation: Operation::Create,
        group: subject.group,
        resource: subject.resource,
        subresource: None,
        namespace: &subject.namespace,
        name: named,
        user: User::default(),
        object: Some(object),
        old_object: None,
    };
    let shaped = shape(world, &request(&subject.object));
    let mut decision = decide(world, &request(shaped.object.as_ref().unwrap_or(&subject.object)));
    let mut warnings = shaped.warnings;
    warnings.append(&mut decision.warnings);
    let mut seen = BTreeSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
    Decision { warnings, ..decision }
}

/// What the author of a workload should know at once, since otherwise only its controller is told, pod by pod: the rules
/// that its pods would break. Nothing is refused by it. What cannot be told yet is not told.
pub fn foretell(world: &World, object: &Value, namespace: &str) -> Vec<String> {
    let (None, Ok(pods)) = (world.undecidable(), subjects(object, namespace)) else { return Vec::new() };
    let mut told = Vec::new();
    let mut seen = BTreeSet::new();
    let pods = &pods[..pods.len().min(MAX_PODS)];
    let world = with_claims(world, pods);
    for pod in pods {
        let decision = foresee(&world, pod);
        let refusals = decision.violations.iter().map(|violation| {
            format!(
                "[{}] its pods will be refused: {} Remedy: {}",
                violation.rule.id(),
                violation.fact,
                violation.remedy
            )
        });
        told.extend(refusals.chain(decision.warnings.iter().cloned()).filter(|text| seen.insert(text.clone())));
    }
    told
}

/// The world in which the claims that a StatefulSet makes for its pods are there. It is copied only where there are such.
fn with_claims<'a>(world: &'a World, pods: &[Subject]) -> Cow<'a, World> {
    let mut world = Cow::Borrowed(world);
    for made in pods.iter().flat_map(|pod| &pod.claims) {
        let named = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = ClaimName::new(named("/metadata/namespace"), named("/metadata/name"));
        if world.claims.contains_key(&name) {
            continue;
        }
        let volume = Some(named("/spec/volumeName")).filter(|volume| !volume.is_empty());
        let spec = made.get("spec").and_then(Value::as_object);
        let data_source = spec.and_then(|spec| data_source(spec, &name.namespace)).map(Box::new);
        world.to_mut().claims.insert(name, Claim { volume, data_source, ..Claim::default() });
    }
    if let Cow::Owned(world) = &mut world {
        world.look_up();
    }
    world
}
