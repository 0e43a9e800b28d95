//! Pods that run, kept small: there may be a hundred thousand of them.
//!
//! What is asked of every pod in every round (whether it has ended, what it may hold) is read once, and kept as it is
//! compared. All else is kept as deflated JSON, and parsed where it is asked, which is of few pods. Nothing of a spec or of
//! metadata is left out, so that no rule can ask for what is not there; of a status all is that nothing reads.

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec};
use serde::Serialize;
use serde_json::{Map, Value};

use super::consumers::{self, Source, text};

/// Deflate's level. On a pod with three containers (12 kB) it leaves a fifth, in about the time that parsing takes; the highest
/// takes half as long again and leaves 7 % less.
const LEVEL: u8 = 2;
/// The lists of a status that say what containers do.
const STATUSES: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

/// A pod that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedPod {
    uid: Box<str>,
    ended: bool,
    sources: Box<[Source]>,
    images: Box<[Box<str>]>,
    json: Box<[u8]>,
}

impl PackedPod {
    /// Keeps a pod.
    pub fn new(mut pod: Value) -> Self {
        if let Some(status) = pod.get_mut("status") {
            *status = read_of_status(status.take());
        }
        Self {
            uid: text(&pod, "/metadata/uid").into(),
            ended: consumers::ended(&pod),
            sources: consumers::sources(&pod),
            images: consumers::images(&pod),
            json: pack(&pod),
        }
    }

    /// The pod, with all of its metadata and spec, and of its status what is read. Were it not to be had back, it is nothing:
    /// that is a malformed pod, which every rule refuses.
    pub fn unpack(&self) -> Value {
        unpack(&self.json)
    }

    /// Its UID; empty where it has none.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Whether it has ended: see [`consumers::ended`].
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What its volumes are.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The images that it names, and that its node says it runs.
    pub(super) fn images(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(AsRef::as_ref)
    }
}

impl From<Value> for PackedPod {
    fn from(pod: Value) -> Self {
        Self::new(pod)
    }
}

/// An object as deflated JSON. What cannot be JSON is nothing.
pub fn pack(object: &impl Serialize) -> Box<[u8]> {
    let text = serde_json::to_vec(object).unwrap_or_default();
    compress_to_vec(&text, LEVEL).into()
}

/// What was packed; null where it was nothing, or is no longer what it was.
pub fn unpack(packed: &[u8]) -> Value {
    let text = decompress_to_vec(packed).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// What is read of a status ([`consumers`] and [`super::verdict`] do): the phase, and of containers the name, the image that runs, and the states in which they run or
/// ended. All else changes often. What does not have the shape of a status is kept as it is.
fn read_of_status(status: Value) -> Value {
    let Value::Object(mut status) = status else { return status };
    status.retain(|field, _| field == "phase" || STATUSES.contains(&field.as_str()));
    let lists = status.values_mut().filter_map(Value::as_array_mut);
    for container in lists.flatten().filter_map(Value::as_object_mut) {
        container.retain(|field, _| matches!(field.as_str(), "name" | "imageID" | "state" | "lastState"));
        for state in container.values_mut().filter_map(Value::as_object_mut) {
            state.retain(|field, _| matches!(field.as_str(), "running" | "terminated"));
            if let Some(running) = state.get_mut("running") {
                *running = Value::Object(Map::new());
            }
            if let Some(ended) = state.get_mut("terminated").and_then(Value::as_object_mut) {
                ended.retain(|field, _| {
                    matches!(field.as_str(), "exitCode" | "message" | "reason" | "startedAt" | "finishedAt")
                });
            }
        }
    }
    Value::Object(status)
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
