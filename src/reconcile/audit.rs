//! What Audit says of pods that run: an event on each pod that Enforce would refuse, with the text of the refusal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use super::{
    Context,
    error::ReconcileError,
    events::{self, Event, text},
};
use crate::{
    api::Mode,
    domain::{Operation, Request, User, World, admission, consumers, world::Environment},
};

/// What was told of each pod, by its UID, or by that and what else it is about after a slash. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<BTreeMap<String, String>>>);

impl Told {
    /// Whether this text was not the last one told of the pod.
    pub fn is_news(&self, uid: &str, note: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).map(String::as_str) != Some(note)
    }

    pub fn insert(&self, uid: String, note: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, note);
    }

    /// Forgets pods that are gone.
    pub fn retain(&self, world: &World) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.is_empty() {
            let there: BTreeSet<&str> = world.pods.values().map(|pod| text(pod, "/metadata/uid")).collect();
            told.retain(|key, _| key.split('/').next().is_some_and(|uid| there.contains(uid)));
        }
    }
}

/// Makes an event on each pod of an environment in Audit that Enforce would refuse, once.
///
/// # Errors
/// If the API server refuses an event; the next run tries again.
pub async fn tell(context: &Context, environment: &Environment) -> Result<(), ReconcileError> {
    if environment.modes.admission != Mode::Audit {
        return Ok(());
    }
    for (pod, warnings) in findings(&context.world, environment) {
        let uid = text(pod, "/metadata/uid").to_string();
        let note = warnings.join("\n");
        if !context.memory.audited.is_news(&uid, &note) {
            continue;
        }
        context.writer.event(&event(pod, &environment.name, &note)).await?;
        context.memory.audited.insert(uid, note);
    }
    Ok(())
}

/// The pods of an environment in Audit that Enforce would refuse, with what it would say.
fn findings<'a>(world: &'a World, environment: &Environment) -> Vec<(&'a Value, Vec<String>)> {
    let keeps = |namespace: &str| {
        world.membership(namespace).environment().is_some_and(|keeper| keeper.name == environment.name)
    };
    world
        .pods
        .iter()
        .filter(|((namespace, _), pod)| keeps(namespace) && !consumers::ended(pod))
        .map(|((namespace, name), pod)| (pod.as_ref(), refusal(world, namespace, name, pod)))
        .filter(|(_, warnings)| !warnings.is_empty())
        .collect()
}

/// What Enforce would say if the pod were made again.
fn refusal(world: &World, namespace: &str, name: &str, pod: &Value) -> Vec<String> {
    admission::decide(
        world,
        &Request {
            operation: Operation::Create,
            group: "",
            resource: "pods",
            subresource: None,
            namespace,
            name,
            user: User::default(),
            object: Some(pod),
            old_object: None,
        },
    )
    .warnings
}

fn event(pod: &Value, environment: &str, note: &str) -> Event {
    Event {
        regarding: events::pod_reference(pod),
        related: None,
        warning: true,
        reason: "WouldBeRefused",
        action: "Audit",
        note: format!("WeightEnvironment {environment:?} is in Audit; Enforce would refuse this pod: {note}"),
        occurrence: note.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::index;

    fn world(admission: &str) -> World {
        let objects = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm", "uid": "n1"}}),
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": "serving"}, "spec": {
                "purpose": "Inference", "members": [{"namespace": "llm", "serviceAccounts": ["vllm"]}],
                "modes": {"admission": admission, "network": "Audit", "verification": "Audit", "egress": "Audit"}}}),
        ];
        index::from_objects(objects, crate::domain::world::Settings::default()).unwrap()
    }

    fn gpu_pod(volume: serde_json::Value) -> Arc<Value> {
        Arc::new(
            json!({"metadata": {"namespace": "llm", "name": "p", "uid": "p1"}, "status": {"phase": "Running"}, "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}},
                            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [volume]}}),
        )
    }

    #[test]
    fn a_running_pod_that_enforce_would_refuse_is_found_and_its_neighbour_is_not() {
        let mut world = world("Audit");
        world
            .pods
            .insert(("llm".into(), "p".into()), gpu_pod(json!({"name": "v", "nfs": {"server": "nas", "path": "/m"}})));
        world.pods.insert(("llm".into(), "q".into()), gpu_pod(json!({"name": "v", "emptyDir": {}})));
        let environment = world.environments["serving"].clone();
        let found = findings(&world, &environment);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.iter().any(|warning| warning.contains("WL-120")), "{found:?}");
        let event = event(found[0].0, "serving", &found[0].1.join("\n"));
        assert!(event.note.starts_with("WeightEnvironment \"serving\" is in Audit; Enforce would refuse this pod: "));
    }

    #[test]
    fn the_same_is_told_once() {
        let told = Told::default();
        assert!(told.is_news("p1", "WL-120"));
        told.insert("p1".into(), "WL-120".into());
        assert!(!told.is_news("p1", "WL-120") && told.is_news("p1", "WL-204"));
        told.retain(&world("Audit"));
        assert!(told.is_news("p1", "WL-120"), "a pod that is gone is forgotten");
    }
}
