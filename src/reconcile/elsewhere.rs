//! Pods that hold an artifact where it is not permitted: from before it was declared, made while all was down, or static
//! ones, which a node runs without asking anybody. They are named, and nothing is done to them: a static pod comes back,
//! whoever deletes its mirror.

use k8s_openapi::api::core::v1::ObjectReference;

use super::{
    Context, conditions::Wanted, error::ReconcileError, events::Event, members::name_some, verification::Holder,
};
use crate::domain::{Membership, Rule, World, index_plan, world::Artifact};
use crate::render::report::Finding;

/// A pod that holds an artifact where it is not permitted.
pub struct Elsewhere<'a> {
    pod: &'a ObjectReference,
    /// How a message calls it.
    shown: String,
    /// Why it may not.
    fact: String,
}

/// Such pods of an artifact. Agents of the node may reach any directory; a static pod is none of them, whatever service
/// account stands there. What environments in Audit would refuse is told by them,
/// and a namespace is pinned in a moment.
pub fn found<'a>(world: &World, artifact: &Artifact, holders: &'a [Holder<'_>]) -> Vec<Elsewhere<'a>> {
    let enforced = index_plan::enforced(world, artifact);
    let running = holders.iter().filter(|holder| !holder.ended);
    running
        .filter_map(|holder| {
            let namespace = holder.reference.namespace.as_deref().unwrap_or_default();
            let account = &holder.account;
            let fact = world.permits(artifact, namespace, account).err()?.fact;
            let pod = &holder.reference;
            if let Some(node) = &holder.static_on {
                let shown = format!("static pod {} of node {node}", holder.name);
                return Some(Elsewhere { pod, shown, fact });
            }
            let membership = world.membership(namespace);
            let audited = membership.environment().is_some_and(|environment| !environment.enforces_admission());
            let unpinned = matches!(membership, Membership::Unpinned { .. });
            let spared = !enforced || audited || unpinned || world.settings.is_node_agent(namespace, account);
            (!spared).then(|| Elsewhere { pod, shown: format!("pod {}", holder.name), fact })
        })
        .collect()
}

/// Whether no pod holds the artifact where it is not permitted.
pub fn condition(elsewhere: &[Elsewhere<'_>]) -> Wanted {
    const KIND: &str = "Contained";
    if elsewhere.is_empty() {
        return Wanted::yes(KIND, "Contained", "No pod that runs holds the weights where they are not permitted.");
    }
    let shown: Vec<String> = elsewhere.iter().map(|found| found.shown.clone()).collect();
    let text = format!("Pods hold the weights where they are not permitted: {}. Remedy: {REMEDY}", name_some(&shown));
    Wanted::no(KIND, "HeldElsewhere", text)
}

const REMEDY: &str = "delete these pods; a static pod ends when its manifest is taken from the node, and whoever put it there is root on it.";

/// What is reported of them.
pub fn findings(elsewhere: &[Elsewhere<'_>]) -> Vec<Finding> {
    let rule = Rule::NotPermittedHere.id();
    let of = |found: &Elsewhere<'_>| Finding {
        pod: found.pod.clone(),
        rule: rule.to_string(),
        text: format!("[{rule}] {}: {} Remedy: {REMEDY}", found.shown, found.fact),
        enforced: true,
    };
    elsewhere.iter().map(of).collect()
}

/// Makes an event on each such pod and on the artifact, once.
///
/// # Errors
/// If the API server refuses an event; the next run tries again.
pub async fn tell(
    context: &Context,
    artifact: &ObjectReference,
    elsewhere: &[Elsewhere<'_>],
) -> Result<(), ReconcileError> {
    let name = artifact.name.as_deref().unwrap_or_default();
    for found in elsewhere {
        let uid = format!("{}/{name}", found.pod.uid.as_deref().unwrap_or_default());
        if !context.memory.elsewhere.is_news(&uid, &found.fact) {
            continue;
        }
        for event in occurrences(artifact, found) {
            context.writer.event(&event).await?;
        }
        context.memory.elsewhere.insert(uid, found.fact.clone());
    }
    Ok(())
}

fn occurrences(artifact: &ObjectReference, found: &Elsewhere<'_>) -> [Event; 2] {
    let event = |regarding: &ObjectReference, related: &ObjectReference| Event {
        regarding: regarding.clone(),
        related: Some(related.clone()),
        warning: true,
        reason: "HeldElsewhere",
        action: "Watch",
        note: format!("{}: {} Remedy: {REMEDY}", found.shown, found.fact),
        occurrence: format!("{} {}", found.pod.uid.as_deref().unwrap_or_default(), found.fact),
    };
    [event(found.pod, artifact), event(artifact, found.pod)]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        domain::{consumers, world::Settings},
        index,
        reconcile::{
            events::{MIRROR, text},
            verification,
        },
    };

    fn world(admission: &str) -> World {
        let objects = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm", "uid": "n1"}}),
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": "serving"}, "spec": {
                "purpose": "Inference", "members": [{"namespace": "llm", "serviceAccounts": ["vllm"]}],
                "modes": {"admission": admission, "network": "Audit", "verification": "Audit", "egress": "Audit"}}}),
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": "orion"}, "spec": {
                "type": "Base", "model": {"name": "orion"}, "contact": "c", "permittedEnvironments": [{"name": "serving"}],
                "locations": [{"name": "disk", "role": "Cache", "hostPath": {"path": "/srv/orion"}}]}}),
        ];
        index::from_objects(objects, Settings::default()).unwrap()
    }

    fn pod(namespace: &str, annotations: Value, phase: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": "p", "uid": "u", "annotations": annotations},
            "spec": {"nodeName": "node1", "serviceAccountName": "vllm",
                "volumes": [{"name": "w", "hostPath": {"path": "/srv/orion/v3"}}]},
            "status": {"phase": phase}})
    }

    /// How the pod is named among those elsewhere.
    fn shown(world: &mut World, pod: &Value) -> Option<String> {
        let key = (text(pod, "/metadata/namespace").to_owned(), "p".to_owned());
        world.pods = [(key.clone(), std::sync::Arc::new(pod.clone().into()))].into_iter().collect();
        assert!(consumers::holdings(world, &key.0, &world.pods[&key]).artifacts.contains("orion"), "{pod}");
        let holders = verification::holders(world, &[key], "orion", None);
        let found = found(world, &world.artifacts["orion"], &holders);
        assert_eq!(condition(&found).holds(), found.is_empty());
        found.first().map(|found| {
            assert!(condition(std::slice::from_ref(found)).message.contains(&found.shown));
            assert!(found.fact.contains("not permitted in namespace"), "{}", found.fact);
            found.shown.clone()
        })
    }

    #[test]
    fn a_pod_that_holds_weights_elsewhere_is_named_and_one_that_may_is_not() {
        let mut world = world("Enforce");
        let none = json!({});
        assert_eq!(shown(&mut world, &pod("llm", none.clone(), "Running")), None);
        assert_eq!(shown(&mut world, &pod("research", none.clone(), "Running")).as_deref(), Some("pod research/p"));
        assert_eq!(shown(&mut world, &pod("research", none.clone(), "Succeeded")), None);
        // Agents of the node reach its directories; static pods are none.
        assert_eq!(shown(&mut world, &pod("kube-system", none, "Running")), None);
        let mirror = json!({MIRROR: "h"});
        assert_eq!(
            shown(&mut world, &pod("kube-system", mirror, "Running")).as_deref(),
            Some("static pod kube-system/p of node node1")
        );
    }

    #[test]
    fn in_audit_only_static_pods_are_named() {
        let mut world = world("Audit");
        assert_eq!(shown(&mut world, &pod("research", json!({}), "Running")), None);
        assert!(shown(&mut world, &pod("research", json!({MIRROR: "h"}), "Running")).is_some());
    }
}
