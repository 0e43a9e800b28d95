//! What must hold of the decision on any request: it is made, it is the same when it is made again, and nothing that is
//! added to a refused pod makes it pass.
//!
//! Input that begins with a brace is JSON: an AdmissionReview as the API server would send it, or a value that is put into
//! a sound pod at each place that rules look at. Other input is a program ([`program`]) that changes a request of
//! `requests.json` step by step, so that what is tried stays close to what a cluster sees.

mod program;

use std::sync::LazyLock;

use serde_json::{Value, json};
use weightlock::domain::admission::{decide, denial_text, foretell, shape};
use weightlock::domain::world::{AdminTierUse, GpuPodsOutside, RestartAllContainers, Settings};
use weightlock::domain::{Decision, Operation, PackedPod, Request, Rule, User, World};
use weightlock::index::from_objects;
use weightlock::webhook::review::Review;

/// The places of a pod at which a value of any form is tried.
const PLACES: [&str; 12] = [
    "",
    "/metadata",
    "/metadata/annotations",
    "/spec",
    "/spec/volumes",
    "/spec/volumes/0",
    "/spec/volumes/0/persistentVolumeClaim",
    "/spec/initContainers",
    "/spec/containers",
    "/spec/containers/0",
    "/spec/containers/0/volumeMounts/0",
    "/spec/containers/0/securityContext",
];

/// A small cluster in which every rule can be broken, and kept.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let objects: Vec<Value> = serde_json::from_str(include_str!("decide/world.json")).unwrap();
    let settings = Settings {
        gpu_pods_outside: GpuPodsOutside::Deny,
        node_access: weightlock::api::Mode::Enforce,
        node_agents: ["research/agent".parse().unwrap()].into(),
        restart_all_containers: RestartAllContainers::Auto,
        admin_tier: AdminTierUse::Auto,
        ..Settings::default()
    };
    let mut world = from_objects(objects, settings).unwrap();
    world.nodes.insert("node".into(), true);
    world
});

/// The same before its claims were listed.
static UNSYNCED: LazyLock<World> = LazyLock::new(|| {
    let mut world = WORLD.clone();
    world.unsynced.insert("PersistentVolumeClaim");
    world
});

/// The requests from which others are made, as an AdmissionReview has them.
static REQUESTS: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("decide/requests.json")).unwrap());

/// Any input.
pub fn check(data: &[u8]) {
    if data.first() != Some(&b'{') {
        return holds(&request(&program::run(data, &REQUESTS)));
    }
    if let Ok(review) = Review::parse(data) {
        return holds(&review.request());
    }
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    for place in PLACES {
        let mut asked = REQUESTS[0].clone();
        if let Some(found) = asked["object"].pointer_mut(place) {
            *found = value.clone();
        }
        holds(&request(&asked));
    }
}

/// A request as the rules see it. What is not of its type counts as absent.
fn request(asked: &Value) -> Request<'_> {
    let text = |pointer: &str| asked.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let object = |field: &str| asked.get(field).filter(|object| !object.is_null());
    Request {
        operation: match text("/operation") {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            _ => Operation::Connect,
        },
        group: text("/resource/group"),
        resource: text("/resource/resource"),
        subresource: Some(text("/subResource")).filter(|subresource| !subresource.is_empty()),
        namespace: text("/namespace"),
        name: text("/name"),
        user: User { name: text("/userInfo/username"), groups: Vec::new() },
        object: object("object"),
        old_object: object("oldObject"),
    }
}

fn holds(request: &Request<'_>) {
    let decision = decide(&WORLD, request);
    assert_eq!(decision, decide(&WORLD, request), "decided twice");
    assert_eq!(decision.allowed(), decision.violations.is_empty());
    let _ = denial_text(request.resource, request.namespace, request.name, &decision);
    if request.operation == Operation::Delete {
        assert_eq!(decision, Decision::default());
    }
    let shaped = shape(&WORLD, request);
    assert_eq!(shaped, shape(&WORLD, request), "shaped twice");
    if let Some(object) = &shaped.object {
        let again = shape(&WORLD, &Request { object: Some(object), ..request.clone() });
        assert_eq!(again.object, None, "shaping what was shaped changes it: {object}");
    }
    if let Some(object) = request.object {
        let _ = foretell(&WORLD, object, request.namespace);
    }
    let new_pod = request.operation == Operation::Create
        && (request.group, request.resource, request.subresource) == ("", "pods", None);
    if new_pod {
        let unsynced = decide(&UNSYNCED, request);
        assert!(unsynced.violations.iter().any(|v| v.rule == Rule::NotSynced), "{unsynced:?}");
        if let Some(object) = request.object {
            only_refused_more(request, object);
            // What is said of a pod that runs is said of it as it is kept. One that runs was text, so it is not too deep to be read.
            if serde_json::from_str::<Value>(&object.to_string()).is_ok() {
                let kept = PackedPod::new(object.clone()).unpack();
                let again = decide(&WORLD, &Request { object: Some(&kept), ..request.clone() });
                assert_eq!(again, decision, "kept: {object}");
            }
        }
    }
}

/// The decision on a new pod as the mutation leaves it.
fn admitted(request: &Request<'_>, object: &Value) -> Decision {
    let request = Request { object: Some(object), ..request.clone() };
    let shaped = shape(&WORLD, &request).object;
    decide(&WORLD, &Request { object: shaped.as_ref().or(request.object), ..request.clone() })
}

/// A refused pod with a container, a volume or a label more is refused, unless what is added is what it lacked.
fn only_refused_more(request: &Request<'_>, object: &Value) {
    let lists = |pointer: &str| object.pointer(pointer).and_then(Value::as_array);
    // No container at all is a fact that a container removes.
    if lists("/spec/containers").is_none_or(|containers| containers.is_empty()) {
        return;
    }
    // So is, for an annotation that says what a volume receives, that there is no such volume.
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    if annotations.is_some_and(|annotations| annotations.keys().any(|key| key.ends_with("/added"))) {
        return;
    }
    if admitted(request, object).allowed() {
        return;
    }
    let first = object.pointer("/spec/volumes/0/name").cloned().unwrap_or_default();
    let reader = json!([{"name": first, "mountPath": "/added", "readOnly": true}]);
    for (pointer, added) in [
        ("/spec/containers", json!({"name": "added", "image": "tools"})),
        ("/spec/containers", json!({"name": "added", "image": "tools", "volumeMounts": reader})),
        ("/spec/initContainers", json!({"name": "added", "image": "tools", "volumeMounts": reader})),
        (
            "/spec/initContainers",
            json!({"name": "added", "image": "registry.example.com/mesh/init", "restartPolicy": "Always"}),
        ),
        ("/spec/ephemeralContainers", json!({"name": "added", "image": "tools"})),
        ("/spec/volumes", json!({"name": "added", "emptyDir": {}})),
        ("/spec/volumes", json!({"name": "added", "persistentVolumeClaim": {"claimName": "orion"}})),
        ("/spec/volumes", json!({"name": "added", "nfs": {"server": "nas", "path": "/models/orion"}})),
        ("/metadata/labels", json!("added")),
        ("/metadata/annotations", json!("added")),
    ] {
        let mut more = object.clone();
        if !add(&mut more, pointer, added.clone()) {
            continue;
        }
        let decision = admitted(request, &more);
        assert!(!decision.allowed(), "{added} at {pointer} made it pass in {:?}: {object}", request.namespace);
    }
}

/// Adds to a list, or a key to an object. Not where something else is in its place.
fn add(object: &mut Value, pointer: &str, added: Value) -> bool {
    let Some((parent, field)) = pointer.rsplit_once('/') else { return false };
    let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) else { return false };
    let of_text = added.is_string();
    let place = parent.entry(field).or_insert(Value::Null);
    if place.is_null() {
        *place = if of_text { json!({}) } else { json!([]) };
    }
    match place {
        Value::Array(items) if !of_text => items.push(added),
        Value::Object(fields) if of_text => drop(fields.insert("example.com/added-by-the-check".into(), added)),
        _ => return false,
    }
    true
}
