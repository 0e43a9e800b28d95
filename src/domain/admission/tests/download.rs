//! WL-311 and WL-312: weights that arrive by download, as KServe's storage-initializer brings them.

use serde_json::{Value, json};

use super::support::*;
use crate::domain::request::Operation;

const VOLUME: &str = "kserve-provision-location";
const ANNOTATION: &str = "/metadata/annotations/weights.weightlock.dev~1kserve-provision-location";
const INIT: &str = "/spec/initContainers/0";

/// A predictor as KServe makes it: an init container fills an emptyDir, which the server mounts read-only.
fn predictor() -> Value {
    let mut pod = server("orion");
    pod["metadata"]["annotations"] = json!({"weights.weightlock.dev/kserve-provision-location": "orion"});
    pod["spec"]["volumes"] = json!([{"name": VOLUME, "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": VOLUME, "mountPath": "/mnt/models", "readOnly": true}]);
    pod["spec"]["initContainers"] = json!([{
        "name": "storage-initializer", "image": DOWNLOADER, "args": ["s3://models/orion", "/mnt/models"],
        "securityContext": {"runAsUser": 1000},
        "volumeMounts": [{"name": VOLUME, "mountPath": "/mnt/models"}],
    }]);
    pod
}

fn names(pod: &Value) -> Vec<&str> {
    pod["spec"]["initContainers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

#[test]
fn a_download_is_verified_ahead_of_all_that_read_it() {
    let world = small();
    let pod = shaped(&world, "serving", &predictor());
    passes(&judge(&world, "serving", &pod));
    assert_eq!(names(&pod), ["storage-initializer", "weightlock-verify"]);
    assert_eq!(pod.pointer("/spec/initContainers/0/volumeMounts/0/readOnly"), None);
    assert_eq!(pod.pointer("/spec/containers/0/volumeMounts/0/readOnly"), Some(&json!(true)));
    let verifier = &pod["spec"]["initContainers"][1];
    assert_eq!(verifier["volumeMounts"], json!([{"name": VOLUME, "mountPath": "/weightlock/0", "readOnly": true}]));
    assert_eq!(
        verifier["args"],
        json!([
            "--artifact",
            "orion",
            "--digest",
            DIGEST,
            "--root",
            "/weightlock/0",
            "--manifest",
            ".weightlock/manifest.json"
        ])
    );
    // The verifier reads as whoever wrote.
    assert_eq!(verifier["securityContext"]["runAsUser"], 1000);
    assert_eq!(shaped(&world, "serving", &pod), pod, "shaping again changes something");
}

#[test]
fn a_trusted_container_may_run_ahead_of_the_downloader() {
    let world = small();
    let mesh = json!({"name": "mesh", "image": "registry.example.com/mesh/init"});
    let mut pod = predictor();
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, mesh);
    let pod = shaped(&world, "serving", &pod);
    passes(&judge(&world, "serving", &pod));
    assert_eq!(names(&pod), ["mesh", "storage-initializer", "weightlock-verify"]);
}

#[test]
fn nobody_else_writes_a_download() {
    let world = small();
    // Behind the verifier, mounts become read-only; where that is taken back, the pod is refused.
    let patcher = json!({"name": "patch", "image": "tools", "volumeMounts": [{"name": VOLUME, "mountPath": "/m"}]});
    let pod = shaped(&world, "serving", &set(predictor(), "/spec/initContainers/-", patcher.clone()));
    passes(&judge(&world, "serving", &pod));
    assert_eq!(names(&pod), ["storage-initializer", "weightlock-verify", "patch"]);
    let taken_back = set(pod, "/spec/initContainers/2/volumeMounts/0/readOnly", json!(false));
    refused(&judge(&world, "serving", &taken_back), &["WL-304"], "init container \"patch\" mounts weights writable");
    // Ahead of the downloader it keeps the downloader behind the verifier.
    let mut pod = predictor();
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, patcher);
    let decision = admit(&world, "serving", &pod);
    refused(&decision, &["WL-312"], "and runs after weightlock-verify");
}

#[test]
fn a_download_is_weights_in_every_rule() {
    let privileged = set(predictor(), "/spec/containers/0/securityContext/privileged", json!(true));
    refused(&admit(&small(), "serving", &privileged), &["WL-204"], "privileged");
    let mut elsewhere = predictor();
    elsewhere["spec"]["serviceAccountName"] = json!("trainer");
    refused(
        &admit(&small(), "lab", &elsewhere),
        &["WL-101"],
        "volume \"kserve-provision-location\" is WeightArtifact \"orion\"",
    );
    let stranger = set(predictor(), "/spec/serviceAccountName", json!("default"));
    refused(&admit(&small(), "serving", &stranger), &["WL-102"], "orion");
}

#[test]
fn wl_311_what_an_annotation_may_name() {
    let world = small();
    let with = |value: Value| set(predictor(), ANNOTATION, value);
    refused(&admit(&world, "serving", &with(json!("lora"))), &["WL-311", "WL-312"], "\"lora\" is no WeightArtifact");
    let open = with_artifact(|artifact| artifact.digest = None);
    refused(&admit(&open, "serving", &predictor()), &["WL-311", "WL-312"], "WeightArtifact \"orion\" is open");
    let absent = set(predictor(), "/metadata/annotations/weights.weightlock.dev~1x", json!("orion"));
    refused(&admit(&world, "serving", &absent), &["WL-311"], "the pod has no volume \"x\"");
    let claim =
        set(predictor(), "/spec/volumes/0", json!({"name": VOLUME, "persistentVolumeClaim": {"claimName": "orion"}}));
    let decision = admit(&world, "serving", &claim);
    assert!(ids(&decision).contains(&"WL-311"), "{decision:?}");
    assert!(decision.violations.iter().any(|v| v.fact.contains("is no emptyDir")), "{decision:?}");
    let nobody = set(predictor(), "/spec/initContainers", json!([]));
    refused(&admit(&world, "serving", &nobody), &["WL-311"], "no init container with an image of delivery.download");
    let reader = set(predictor(), &format!("{INIT}/volumeMounts/0/readOnly"), json!(true));
    refused(
        &admit(&world, "serving", &reader),
        &["WL-311", "WL-312"],
        "mounts volume \"kserve-provision-location\" writable",
    );
    let other = set(predictor(), &format!("{INIT}/image"), json!("docker.io/evil/initializer"));
    assert!(ids(&admit(&world, "serving", &other)).contains(&"WL-311"));
}

#[test]
fn wl_312_where_a_downloader_may_be() {
    let world = small();
    let undeclared = set(predictor(), "/metadata/annotations", json!({}));
    refused(&admit(&world, "serving", &undeclared), &["WL-312"], "but fills no volume of which is declared");
    let sidecar = set(predictor(), &format!("{INIT}/restartPolicy"), json!("Always"));
    let decision = admit(&world, "serving", &sidecar);
    assert!(
        decision.violations.iter().any(|v| v.rule.id() == "WL-312" && v.fact.contains("would go on writing")),
        "{decision:?}"
    );
    let main = set(predictor(), "/spec/containers/0/image", json!(DOWNLOADER));
    refused(&admit(&world, "serving", &main), &["WL-312"], "container \"vllm\" has the image of a downloader");
    // A second volume, of which nobody says what it receives.
    let mut second = predictor();
    second["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "more", "emptyDir": {}}));
    for container in ["/spec/initContainers/0", "/spec/containers/0"] {
        second = set(second, &format!("{container}/volumeMounts/-"), json!({"name": "more", "mountPath": "/more"}));
    }
    refused(&admit(&world, "serving", &second), &["WL-312"], "fills volume \"more\" for other containers");
    let alone = set(second, "/spec/containers/0/volumeMounts/1", json!({"name": VOLUME, "mountPath": "/again"}));
    passes(&admit(&world, "serving", &alone));
}

#[test]
fn images_are_listed_exactly_or_by_prefix() {
    let world = with_environment(|environment| environment.downloaders = vec!["registry.example.com/fetch/".into()]);
    let with = |image: &str| set(predictor(), &format!("{INIT}/image"), json!(image));
    passes(&admit(&world, "serving", &with("registry.example.com/fetch/hub:1")));
    assert!(ids(&admit(&world, "serving", &with("registry.example.com/fetch-evil/hub:1"))).contains(&"WL-311"));
    assert!(ids(&admit(&small(), "serving", &with(&format!("{DOWNLOADER}0")))).contains(&"WL-311"));
}

#[test]
fn wl_601_a_declaration_stays_while_the_pod_runs() {
    let world = small();
    let old = shaped(&world, "serving", &predictor());
    for annotations in [json!({}), json!({"weights.weightlock.dev/kserve-provision-location": "other"})] {
        let new = set(old.clone(), "/metadata/annotations", annotations);
        let update = request(Operation::Update, "pods", None, "serving", Some(&new), Some(&old));
        refused(
            &crate::domain::admission::decide(&world, &update),
            &["WL-601"],
            "weights.weightlock.dev/kserve-provision-location",
        );
    }
    let labelled = set(old.clone(), "/metadata/labels", json!({"a": "b"}));
    passes(&crate::domain::admission::decide(
        &world,
        &request(Operation::Update, "pods", None, "serving", Some(&labelled), Some(&old)),
    ));
}
