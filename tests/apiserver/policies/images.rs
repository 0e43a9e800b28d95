//! Images that are weights, in every namespace: WL-101 and WL-115.

use serde_json::{Value, json};
use weightlock::domain::backend::{Reference, is_id};

use super::fixture::{Fixture, fixture, pod};
use super::{assert_accepted, assert_refused};
use crate::harness;

const OTHER: &str = "registry.invalid/x:1";

fn running(namespace: &str, image: &str) -> Value {
    let mut pod = pod(namespace, json!([]));
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod
}

/// A pod with this image beside another one: in an init container, or in a volume.
fn hidden(namespace: &str, image: &str) -> [Value; 2] {
    let mut init = running(namespace, OTHER);
    init["spec"]["initContainers"] = json!([{"name": "i", "image": image}]);
    [init, pod(namespace, json!([{"name": "w", "image": {"reference": image}}]))]
}

fn references(f: &Fixture) -> Vec<String> {
    let (repository, digest) = (f.repository(), f.digest());
    vec![
        format!("mirror.example.com/x@{digest}"),
        format!("mirror.example.com/x:v3@{digest}"),
        repository.clone(),
        format!("{repository}:v3"),
        repository.replace("registry", "Registry"),
        repository.replace(".com/", ".com:443/"),
        format!("{repository}@sha256:{}", "0".repeat(64)),
        format!("{repository}-2:v3"),
        repository.replace(".com/", ".com:5000/"),
        format!("hub/{}", f.run),
        format!("docker.io/hub/{}:v3", f.run),
        format!("index.docker.io/hub/{}", f.run),
        format!("hub-{}", f.run),
        format!("library/hub-{}:v3", f.run),
        format!("localhost/hub-{}:v3", f.run),
        OTHER.to_string(),
    ]
}

#[tokio::test]
async fn weights_in_images_run_only_where_they_are_permitted() {
    let (client, f) = (harness::client().await, fixture().await);
    let mut seen = [0, 0];
    for reference in references(f) {
        let registered = f.world.artifacts_of_image(&reference).is_some();
        seen[usize::from(registered)] += 1;
        for object in std::iter::once(running(&f.outside, &reference)).chain(hidden(&f.outside, &reference)) {
            let said = harness::try_create(&client, &object).await;
            match registered {
                true => assert_refused(
                    &said,
                    &[
                        "[WL-101]",
                        &format!("has image {reference:?}, which is WeightArtifact \"orion-image\" (v1:"),
                        &format!(
                            "not permitted in namespace {:?} (no environment). Remedy: run in one of: inference",
                            f.outside
                        ),
                    ],
                ),
                false => assert_accepted(&said),
            }
        }
        for namespace in [&f.inside, &f.audit] {
            assert_accepted(&harness::try_create(&client, &running(namespace, &reference)).await);
        }
        assert!(!is_id(&reference) && !Reference::read(&reference).repository.is_empty());
    }
    assert!(seen[0] >= 4 && seen[1] >= 10, "{seen:?}");
}

#[tokio::test]
async fn an_image_is_not_changed_into_weights() {
    let (client, f) = (harness::client().await, fixture().await);
    let made = harness::create(&client, &running(&f.outside, OTHER)).await.expect("a pod");
    let becomes = |image: &str| {
        let mut containers = made["spec"]["containers"].clone();
        containers[0]["image"] = json!(image);
        json!({"spec": {"containers": containers}})
    };
    let said = harness::merge(&client, &made, &becomes(&format!("{}:v3", f.repository()))).await;
    assert_refused(&said, &["[WL-101] container \"main\" has image"]);
    let said = harness::merge(&client, &made, &becomes(&format!("sha256:{}", "a".repeat(64)))).await;
    assert_refused(&said, &["[WL-115] container \"main\" has image"]);
    assert_accepted(&harness::merge(&client, &made, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    assert_accepted(&harness::merge(&client, &made, &becomes("registry.invalid/x:2")).await);
    harness::delete(&client, &made).await;
}

#[tokio::test]
async fn an_image_is_not_named_by_its_id() {
    let (client, f) = (harness::client().await, fixture().await);
    for image in [format!("sha256:{}", "a".repeat(64)), "sha256:abcdef".to_string()] {
        for namespace in [&f.outside, &f.inside, &f.lab] {
            for object in std::iter::once(running(namespace, &image)).chain(hidden(namespace, &image)) {
                assert_refused(
                    &harness::try_create(&client, &object).await,
                    &[
                        "[WL-115]",
                        &format!(
                            "has image {image:?}, an ID, of which it cannot be told whether the image is WeightArtifact"
                        ),
                        "Remedy: name the image by its repository, with a tag or a digest; or ask weights-team@example.com.",
                    ],
                );
            }
        }
        assert_accepted(&harness::try_create(&client, &running(&f.audit, &image)).await);
        assert_accepted(&harness::try_create(&client, &running("kube-system", &image)).await);
    }
}
