//! Events of `events.k8s.io`, made once for each thing that happened.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1 as events},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::Resource;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::hex;

/// Name of the controller in events.
pub const REPORTING_CONTROLLER: &str = "weightlock.dev/controller";
/// The longest note the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The object it is shown on.
    pub regarding: ObjectReference,
    /// Another object that has to do with it.
    pub related: Option<ObjectReference>,
    /// Whether someone should look at it (`Warning`), or not (`Normal`).
    pub warning: bool,
    /// Machine-readable reason, in CamelCase.
    pub reason: &'static str,
    /// What was being done, in CamelCase.
    pub action: &'static str,
    /// The text for people.
    pub note: String,
    /// Tells this occurrence from others on the same object with the same reason; the event is made once for each.
    pub occurrence: String,
}

impl Event {
    /// The object for the API server, as reported by the process `instance` now.
    pub fn render(&self, instance: &str) -> events::Event {
        let object = self.regarding.name.as_deref().unwrap_or_default();
        events::Event {
            metadata: ObjectMeta {
                name: Some(self.name(object)),
                // Events on cluster-scoped objects live in `default`; the API server takes no other place for them.
                namespace: Some(self.regarding.namespace.clone().unwrap_or_else(|| "default".into())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some(if self.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(self.reason.into()),
            action: Some(self.action.into()),
            note: Some(shorten(&self.note, LONGEST_NOTE).into()),
            regarding: Some(self.regarding.clone()),
            related: self.related.clone(),
            reporting_controller: Some(REPORTING_CONTROLLER.into()),
            reporting_instance: Some(shorten(instance, 128).into()),
            ..events::Event::default()
        }
    }

    fn name(&self, object: &str) -> String {
        let uid = self.regarding.uid.as_deref().unwrap_or_default();
        let digest = Sha256::digest(format!("{uid}\n{}\n{}", self.reason, self.occurrence));
        format!("{}.{}", shorten(object, 200).trim_end_matches(['.', '-']), hex(&digest[..8]))
    }
}

/// A reference to an object, as events take it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}

/// A reference to a pod that is raw JSON.
pub fn pod_reference(pod: &Value) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(text(pod, "/metadata/namespace").into()),
        name: Some(text(pod, "/metadata/name").into()),
        uid: Some(text(pod, "/metadata/uid").into()),
        ..ObjectReference::default()
    }
}

/// What a node writes on the mirror of a static pod. Nobody can write it later.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod is the mirror of one that its node runs without asking anybody.
pub fn is_static(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").and_then(|annotations| annotations.get(MIRROR)).is_some()
}

/// The string at a JSON pointer; empty where there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The beginning of a text, cut at a character.
pub fn shorten(text: &str, longest: usize) -> &str {
    if text.len() <= longest {
        return text;
    }
    let mut end = longest;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(occurrence: &str) -> Event {
        Event {
            regarding: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("serving".into()),
                name: Some("llm-0".into()),
                uid: Some("u1".into()),
                ..ObjectReference::default()
            },
            related: None,
            warning: true,
            reason: "VerificationFailed",
            action: "Verify",
            note: "ä".repeat(1000),
            occurrence: occurrence.into(),
        }
    }

    #[test]
    fn the_name_is_the_same_for_the_same_occurrence_only() {
        let name = |event: Event| event.render("pod-0").metadata.name;
        assert_eq!(name(event("1")), name(event("1")));
        assert_ne!(name(event("1")), name(event("2")));
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let note = event("1").render("pod-0").note.unwrap_or_default();
        assert_eq!(note.len(), 1024);
        assert!(note.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn events_on_cluster_scoped_objects_live_in_default() {
        let mut event = event("1");
        event.regarding.namespace = None;
        assert_eq!(event.render("pod-0").metadata.namespace.as_deref(), Some("default"));
    }
}
