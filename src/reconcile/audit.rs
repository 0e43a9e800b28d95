//! Pods that run although the rules refuse them: from before an environment was enforced, made while all was down, or left
//! behind by a change of the environment. They are counted in a condition and told by events, and evicted only where the
//! environment says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

use super::{
    Context,
    conditions::Wanted,
    error::ReconcileError,
    events::{self, Event, text},
    members::name_some,
};
use crate::{
    api::{Mode, Remediation},
    domain::{Operation, Request, Rule, User, World, admission, world::Environment},
    render::report::Finding,
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
            let there: BTreeSet<&str> = world.pods.values().map(|pod| pod.uid()).collect();
            told.retain(|key, _| key.split('/').next().is_some_and(|uid| there.contains(uid)));
        }
    }
}

/// A pod that runs and would be refused if it were made again as it is.
#[derive(Debug)]
pub struct Refused {
    pod: ObjectReference,
    /// `namespace/name`.
    shown: String,
    /// Ids of the rules, each once.
    rules: BTreeSet<String>,
    /// The texts of the refusal.
    texts: Vec<String>,
    /// It is not evicted, whatever the rules: it is going, or its node would bring it back.
    stays: bool,
}

impl Refused {
    fn new(pod: &Value, texts: Vec<String>) -> Self {
        Self {
            pod: events::pod_reference(pod),
            shown: format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name")),
            rules: texts.iter().filter_map(|text| id(text)).map(String::from).collect(),
            texts,
            stays: pod.pointer("/metadata/deletionTimestamp").is_some() || events::is_static(pod),
        }
    }

    fn uid(&self) -> &str {
        self.pod.uid.as_deref().unwrap_or_default()
    }
}

/// The pods of an environment that would be refused now, or that Enforce would refuse where it is in Audit.
pub fn refused(world: &World, environment: &Environment) -> Vec<Refused> {
    let keeps = |namespace: &str| {
        world.membership(namespace).environment().is_some_and(|keeper| keeper.name == environment.name)
    };
    // Each once and in order, as the pods are named.
    let members: BTreeSet<String> = environment.members.iter().map(|member| member.namespace.clone()).collect();
    let mut found = Vec::new();
    for namespace in members.iter().filter(|namespace| keeps(namespace)) {
        for (name, pod) in world.pods_in(namespace).filter(|(_, pod)| !pod.ended()) {
            let pod = pod.unpack();
            let texts = refusal(world, environment, namespace, name, &pod);
            if !texts.is_empty() {
                found.push(Refused::new(&pod, texts));
            }
        }
    }
    found
}

/// What would be said if the pod were made again. In Audit the violations are among the warnings.
fn refusal(world: &World, environment: &Environment, namespace: &str, name: &str, pod: &Value) -> Vec<String> {
    let decision = admission::decide(
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
    );
    let warnings = if environment.enforces_admission() { vec![] } else { decision.warnings };
    let violations = decision.violations.iter().map(ToString::to_string);
    let texts = violations.chain(warnings.into_iter().filter(|text| id(text).is_some()));
    // What a pod that was placed has mounted is looked at itself.
    texts.filter(|text| id(text) != Some(Rule::PlacedUnbound.id())).collect()
}

/// The id of the rule that a text is of; some warnings are of none.
fn id(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.split_once(']').map(|(id, _)| id)
}

/// Whether no pod runs that would be refused.
pub fn condition(environment: &Environment, refused: &[Refused]) -> Wanted {
    const KIND: &str = "PodsConform";
    let shown: Vec<String> =
        refused.iter().map(|pod| format!("{} ({})", pod.shown, Vec::from_iter(pod.rules.clone()).join(", "))).collect();
    match (refused.is_empty(), environment.modes.admission) {
        (true, _) => Wanted::yes(KIND, "Conform", "No pod that runs would be refused if it were made again."),
        (false, Mode::Audit) => {
            Wanted::no(KIND, "WouldBeRefused", format!("Enforce would refuse: {}.", name_some(&shown)))
        }
        (false, Mode::Enforce) => Wanted::no(
            KIND,
            "RunAgainstRules",
            format!(
                "Pods run that would be refused now: {}. Remedy: make them again, or delete them; an event on each has the text.",
                name_some(&shown)
            ),
        ),
    }
}

/// What is reported of them: each text is of one rule.
pub fn findings(environment: &Environment, refused: &[Refused]) -> Vec<Finding> {
    let enforced = environment.enforces_admission();
    let mut findings = Vec::new();
    for pod in refused {
        findings.extend(pod.texts.iter().filter_map(|text| {
            let rule = id(text)?.to_string();
            Some(Finding { pod: pod.pod.clone(), rule, text: text.clone(), enforced })
        }));
    }
    findings
}

/// Makes an event on each such pod, once for each text.
///
/// # Errors
/// If the API server refuses an event; the next run tries again.
pub async fn tell(context: &Context, environment: &Environment, refused: &[Refused]) -> Result<(), ReconcileError> {
    for pod in refused {
        let note = pod.texts.join("\n");
        if !context.memory.audited.is_news(pod.uid(), &note) {
            continue;
        }
        context.writer.event(&event(&pod.pod, environment, &note)).await?;
        context.memory.audited.insert(pod.uid().into(), note);
    }
    Ok(())
}

fn event(pod: &ObjectReference, environment: &Environment, note: &str) -> Event {
    let name = &environment.name;
    let (reason, action, note) = match environment.modes.admission {
        Mode::Audit => (
            "WouldBeRefused",
            "Audit",
            format!("WeightEnvironment {name:?} is in Audit; Enforce would refuse this pod: {note}"),
        ),
        Mode::Enforce => (
            "RunsAgainstRules",
            "Watch",
            format!("This pod runs, but WeightEnvironment {name:?} would refuse it now: {note}"),
        ),
    };
    Event { regarding: pod.clone(), related: None, warning: true, reason, action, occurrence: note.clone(), note }
}

/// Evicts such pods where the environment is enforced and says so; returns whether one is left that could not be evicted yet.
///
/// A pod whose verifier alone is another than that of now stays: an update of Weightlock would else end every server. A static
/// pod stays too, since its node brings it back.
///
/// # Errors
/// If the API server refuses for another reason than a PodDisruptionBudget.
pub async fn remedy(
    context: &Context,
    environment: &Environment,
    remediation: Remediation,
    refused: &[Refused],
) -> Result<bool, ReconcileError> {
    let mut left = false;
    if remediation == Remediation::Report || !environment.enforces_admission() {
        return Ok(left);
    }
    for pod in refused.iter().filter(|pod| is_evicted(pod)) {
        let (namespace, name) = (pod.pod.namespace.as_deref(), pod.pod.name.as_deref());
        left |= !context.writer.evict(namespace.unwrap_or_default(), name.unwrap_or_default(), pod.uid()).await?;
    }
    Ok(left)
}

fn is_evicted(refused: &Refused) -> bool {
    let of_another_verifier = [Rule::VerifierAltered.id(), Rule::ReverifierAltered.id()];
    !refused.stays && refused.rules.iter().any(|id| !of_another_verifier.contains(&id.as_str()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{domain::PackedPod, index};

    fn world(admission: &str) -> World {
        let objects = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm", "uid": "n1"}}),
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": "serving"}, "spec": {
                "purpose": "Inference", "members": [{"namespace": "llm", "serviceAccounts": ["vllm"]}],
                "modes": {"admission": admission, "network": "Audit", "verification": "Audit", "egress": "Audit"}}}),
        ];
        index::from_objects(objects, crate::domain::world::Settings::default()).unwrap()
    }

    fn gpu_pod(volume: serde_json::Value) -> Arc<PackedPod> {
        let pod = json!({"metadata": {"namespace": "llm", "name": "p", "uid": "p1"}, "status": {"phase": "Running"}, "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}},
                            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [volume]}});
        Arc::new(pod.into())
    }

    #[test]
    fn a_running_pod_that_enforce_would_refuse_is_found_and_its_neighbour_is_not() {
        let mut world = world("Audit");
        world
            .pods
            .insert(("llm".into(), "p".into()), gpu_pod(json!({"name": "v", "nfs": {"server": "nas", "path": "/m"}})));
        world.pods.insert(("llm".into(), "q".into()), gpu_pod(json!({"name": "v", "emptyDir": {}})));
        let environment = world.environments["serving"].clone();
        let found = refused(&world, &environment);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].rules.contains("WL-120"), "{found:?}");
        let event = event(&found[0].pod, &environment, &found[0].texts.join("\n"));
        assert!(event.note.starts_with("WeightEnvironment \"serving\" is in Audit; Enforce would refuse this pod: "));
        let condition = condition(&environment, &found);
        assert_eq!((condition.reason, condition.holds()), ("WouldBeRefused", false));
    }

    #[test]
    fn a_pod_that_slipped_past_is_found_where_admission_is_enforced() {
        let mut world = world("Enforce");
        world
            .pods
            .insert(("llm".into(), "p".into()), gpu_pod(json!({"name": "v", "nfs": {"server": "nas", "path": "/m"}})));
        let mut plain = json!({"metadata": {"namespace": "llm", "name": "q", "uid": "q1"}, "status": {"phase": "Running"},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        world.pods.insert(("llm".into(), "q".into()), Arc::new(plain.clone().into()));
        plain["status"]["phase"] = "Failed".into();
        plain["spec"]["hostNetwork"] = true.into();
        world.pods.insert(("llm".into(), "ended".into()), Arc::new(plain.into()));
        let environment = world.environments["serving"].clone();
        let found = refused(&world, &environment);
        assert_eq!(found.iter().map(|pod| pod.shown.as_str()).collect::<Vec<_>>(), ["llm/p"], "{found:?}");
        assert!(found[0].rules.contains("WL-120") && is_evicted(&found[0]), "{found:?}");
        let event = event(&found[0].pod, &environment, "[WL-120] n");
        assert_eq!(event.note, "This pod runs, but WeightEnvironment \"serving\" would refuse it now: [WL-120] n");
        let said = condition(&environment, &found);
        assert!(said.reason == "RunAgainstRules" && said.message.contains("llm/p (WL-120"), "{said:?}");
        assert!(condition(&environment, &[]).holds());
    }

    #[test]
    fn a_pod_with_another_verifier_and_a_static_one_are_not_evicted() {
        let pod = |annotations: serde_json::Value| json!({"metadata": {"annotations": annotations}});
        let of = |pod: &Value, rules: &[&str]| {
            is_evicted(&Refused::new(pod, rules.iter().map(|id| format!("[{id}] n")).collect()))
        };
        let plain = pod(json!({}));
        assert!(!of(&plain, &["WL-302"]) && !of(&plain, &["WL-302", "WL-309"]));
        assert!(of(&plain, &["WL-301"]) && of(&plain, &["WL-101", "WL-302"]));
        assert!(!of(&pod(json!({"kubernetes.io/config.mirror": "x"})), &["WL-101"]));
        assert!(!of(&json!({"metadata": {"deletionTimestamp": "2026-11-28T00:00:00Z"}}), &["WL-101"]));
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
