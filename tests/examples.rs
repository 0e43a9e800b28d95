//! The examples are decided as their comments say, with the text that they promise. A cluster is not needed for it.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use weightlock::domain::admission::{decide, denial_text, shape};
use weightlock::domain::world::{Settings, World};
use weightlock::domain::{Decision, Operation, Request, User};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let parts =
        text.split("\n---").filter(|part| part.lines().any(|l| !l.trim().is_empty() && !l.starts_with(['#', '-'])));
    parts.map(|part| serde_saphyr::from_str(part).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

fn world() -> World {
    let held = ["10-namespaces.yaml", "20-storage.yaml", "30-artifact.yaml", "40-environments.yaml"];
    let objects = held.iter().flat_map(|file| documents(&examples().join(file))).collect();
    weightlock::index::from_objects(objects, Settings::default()).unwrap()
}

/// The decision on an object that is created, and what its author would read.
fn create(world: &World, object: &Value) -> (Decision, String) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let request = |object| Request {
        operation: Operation::Create,
        group: "",
        resource: match text("/kind") {
            "Pod" => "pods",
            "PersistentVolume" => "persistentvolumes",
            "PersistentVolumeClaim" => "persistentvolumeclaims",
            _ => "others",
        },
        subresource: None,
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        user: User::default(),
        object: Some(object),
        old_object: None,
    };
    let shaped = shape(world, &request(object)).object.unwrap_or_else(|| object.clone());
    let decision = decide(world, &request(&shaped));
    let denial = denial_text(text("/kind"), text("/metadata/namespace"), text("/metadata/name"), &decision);
    (decision, denial)
}

#[test]
fn bad_examples_are_refused_as_they_promise() {
    let world = world();
    let mut files = 0;
    for entry in std::fs::read_dir(examples().join("bad")).unwrap() {
        let path = entry.unwrap().path();
        let comments = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = comments.lines().filter_map(|line| line.strip_prefix("# Expect: ")).collect();
        let refused: Vec<String> = documents(&path)
            .iter()
            .map(|object| create(&world, object))
            .filter(|(d, _)| !d.allowed())
            .map(|(_, t)| t)
            .collect();
        assert!(!expected.is_empty() && !refused.is_empty(), "{}: {refused:?}", path.display());
        for text in expected {
            assert!(
                refused.iter().any(|r| r.contains(text)),
                "{} promises {text:?}:\n{}",
                path.display(),
                refused.join("\n")
            );
        }
        // What is promised is all there is to say: an example shows one thing.
        for id in weightlock::domain::rules::all().iter().map(|rule| format!("[{}]", rule.id())) {
            assert_eq!(
                refused.iter().any(|r| r.contains(&id)),
                comments.contains(&id),
                "{} and {id}:\n{}",
                path.display(),
                refused.join("\n")
            );
        }
        files += 1;
    }
    assert!(files >= 6, "only {files} examples");
}

#[test]
fn good_and_tampered_examples_are_admitted_with_a_verifier() {
    let world = world();
    for file in ["good/model-server.yaml", "tampered/judge.yaml"] {
        let pods: Vec<Value> = documents(&examples().join(file)).into_iter().filter(|o| o["kind"] == "Pod").collect();
        for pod in &pods {
            let (decision, denial) = create(&world, pod);
            assert_eq!(decision, Decision::default(), "{file}: {denial}");
        }
        assert!(!pods.is_empty(), "{file}");
    }
}
