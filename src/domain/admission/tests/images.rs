//! Images that are weights: WL-101, WL-115 and WL-116.

use serde_json::{Value, json};

use super::support::*;
use crate::domain::World;
use crate::domain::backend::BackendKey;
use crate::domain::world::LocationSource;

const DIGEST: &str = "sha256:5c1e";
const REPOSITORY: &str = "registry.example.com/models/orion";

/// The artifact is an image, too.
fn in_images() -> World {
    with_artifact(|a| {
        a.locations[1].source = LocationSource::Key(BackendKey::image(DIGEST));
        a.locations[1].aliases = vec![BackendKey::repository(REPOSITORY)];
    })
}

fn running(image: &str) -> Value {
    let mut pod = set(server("orion"), "/spec/containers/0/image", json!(image));
    pod["spec"].as_object_mut().unwrap().remove("volumes");
    pod["spec"]["containers"][0].as_object_mut().unwrap().remove("volumeMounts");
    pod
}

fn mounting(image: &str) -> Value {
    set(server("orion"), "/spec/volumes/0", json!({"name": "w", "image": {"reference": image}}))
}

#[test]
fn wl_101_an_image_is_known_by_digest_and_by_repository() {
    let by_digest = format!("mirror.example.com/x@{DIGEST}");
    for image in [by_digest, format!("{REPOSITORY}:v3"), format!("{REPOSITORY}@sha256:other")] {
        let decision = admit(&in_images(), "research", &running(&image));
        refused(&decision, &["WL-101"], "container \"vllm\" has image");
        refused(&admit(&in_images(), "research", &mounting(&image)), &["WL-101"], "is WeightArtifact \"orion\" (image");
    }
    for image in [format!("{REPOSITORY}-2:v3"), "mirror.example.com/x@sha256:other".into()] {
        passes(&admit(&in_images(), "research", &ordinary_of(&image)));
    }
}

fn ordinary_of(image: &str) -> Value {
    set(ordinary("scratch"), "/spec/containers/0/image", json!(image))
}

#[test]
fn wl_116_the_image_of_a_container_is_named_by_its_digest() {
    let by_digest = format!("{REPOSITORY}@{DIGEST}");
    passes(&admit(&in_images(), "serving", &running(&by_digest)));
    for image in [format!("{REPOSITORY}:v3"), format!("{REPOSITORY}@sha256:other")] {
        refused(&admit(&in_images(), "serving", &running(&image)), &["WL-116"], "by its repository alone");
    }
    // It is weights, so that the pod is hardened like any other that holds them.
    let shared = set(running(&by_digest), "/spec/shareProcessNamespace", json!(true));
    refused(&admit(&in_images(), "serving", &shared), &["WL-202"], "");
}

#[test]
fn an_image_volume_of_weights_is_verified() {
    let pod = shaped(&in_images(), "serving", &mounting(&format!("{REPOSITORY}:v3")));
    assert_eq!(pod.pointer("/spec/initContainers/0/name"), Some(&json!("weightlock-verify")));
    passes(&judge(&in_images(), "serving", &pod));
}

#[test]
fn wl_115_an_image_is_not_named_by_its_id_where_images_are_weights() {
    for namespace in ["research", "serving"] {
        let decision = admit(&in_images(), namespace, &ordinary_of("sha256:abc"));
        refused(&decision, &["WL-115"], "has image \"sha256:abc\", an ID");
        passes(&admit(&small(), namespace, &ordinary_of("sha256:abc")));
    }
    let volume =
        set(ordinary("scratch"), "/spec/volumes/0", json!({"name": "w", "image": {"reference": "sha256:abc"}}));
    refused(&admit(&in_images(), "research", &volume), &["WL-115"], "volume \"w\"");
}
