//! `kubectl weightlock` as a process: what it prints and the exit codes that scripts rely on. No cluster is needed.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use weightlock::verifier::manifest::DEFAULT_PATH;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn plugin(args: &[&str], stdin: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-weightlock"))
        .args(args)
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env("USER", "ada")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn weights() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    fs::write(dir.path().join("model.safetensors"), "weights").unwrap();
    dir
}

#[test]
fn digest_prints_a_resource_that_can_be_applied() {
    let dir = weights();
    let directory = dir.path().to_str().unwrap();
    let args = ["digest", directory, "--name", "orion", "--environment", "eval", "--claim", "ns/c", "--contact", "x@y"];
    let ran = plugin(&args, "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!ran.out.contains("EDIT"), "{}", ran.out);
    let artifact: serde_json::Value = serde_saphyr::from_str(&ran.out).unwrap();
    let digest = plugin(&["digest", directory, "-o", "digest"], "").out.trim().to_owned();
    let expected = serde_json::json!({
        "apiVersion": "weightlock.dev/v1alpha1",
        "kind": "WeightArtifact",
        "metadata": {"name": "orion"},
        "spec": {
            "type": "Base",
            "model": {"name": "orion"},
            "manifestDigest": digest,
            "manifest": {"inline": [
                {"path": "config.json", "size": 2, "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
                {"path": "model.safetensors", "size": 7, "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"},
            ]},
            "locations": [{"name": "serving", "role": "Serving", "persistentVolumeClaim": {"namespace": "ns", "name": "c"}}],
            "permittedEnvironments": [{"name": "eval"}],
            "contact": "x@y",
        },
    });
    assert_eq!(artifact, expected);
    let manifest = plugin(&["digest", directory, "-o", "manifest"], "").out;
    let parsed = weightlock::verifier::manifest::Manifest::parse(manifest.as_bytes()).unwrap();
    assert_eq!(parsed.digest().digest(), digest);
}

#[test]
fn what_is_left_to_edit_is_marked() {
    let dir = weights();
    let ran = plugin(&["digest", dir.path().to_str().unwrap()], "");
    assert_eq!(ran.code, 0);
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("# EDIT ")).count(), 2, "{}", ran.out);
}

#[test]
fn a_manifest_that_was_written_verifies_and_a_change_has_the_code_of_the_verifier() {
    let dir = weights();
    let directory = dir.path().to_str().unwrap();
    let args = ["digest", directory, "--write-manifest", "-o", "digest"];
    let digest = plugin(&args, "").out.trim().to_owned();
    assert!(dir.path().join(DEFAULT_PATH).exists());
    let verified = plugin(&["verify", directory, "--digest", &digest], "");
    assert_eq!(verified.code, 0, "{}", verified.err);
    assert!(verified.out.starts_with("Verified: "), "{}", verified.out);
    // Hashed again, it is the same artifact: the manifest is no part of what it lists.
    assert_eq!(plugin(&args, "").out.trim(), digest);

    fs::write(dir.path().join("model.safetensors"), "Weights").unwrap();
    let refused = plugin(&["verify", directory, "--digest", &digest], "");
    assert_eq!(refused.code, 20);
    assert!(refused.out.contains("[HashMismatch] \"model.safetensors\""), "{}", refused.out);
}

#[test]
fn more_files_than_an_artifact_lists_need_the_manifest_in_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..257 {
        fs::write(dir.path().join(format!("{number}")), "").unwrap();
    }
    let directory = dir.path().to_str().unwrap();
    let ran = plugin(&["digest", directory], "");
    assert!(
        ran.out.contains("# NOT READY: 257 files are more than the 256 that a WeightArtifact can list."),
        "{}",
        ran.out
    );
    let ran = plugin(&["digest", directory, "--write-manifest"], "");
    assert!(!ran.out.contains("NOT READY"));
    let artifact: serde_json::Value = serde_saphyr::from_str(&ran.out).unwrap();
    assert_eq!(artifact["spec"]["manifest"], serde_json::json!({"path": DEFAULT_PATH}));
}

#[test]
fn digest_refuses_what_no_artifact_may_hold() {
    let dir = weights();
    std::os::unix::fs::symlink("config.json", dir.path().join("link")).unwrap();
    let ran = plugin(&["digest", dir.path().to_str().unwrap()], "");
    assert_eq!(ran.code, 23);
    assert_eq!(ran.out, "");
    assert!(ran.err.contains("[Symlink] \"link\": is a symbolic link"), "{}", ran.err);
    assert!(ran.err.contains("Remedy: replace the link by the file it points to."), "{}", ran.err);
}

#[test]
fn rules_are_explained() {
    let ran = plugin(&["explain", "WL-101"], "");
    assert_eq!(ran.code, 0);
    assert!(ran.out.starts_with("WL-101 "), "{}", ran.out);
    assert_eq!(plugin(&["explain", "WL-000"], "").code, 2);
}

#[test]
fn what_cannot_be_checked_is_an_error_and_never_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().to_str().unwrap();
    for (args, stdin, message) in [
        (vec!["check", "-f", "-", "--manifests", world], "kind: Pod", "apiVersion is missing"),
        (
            vec!["check", "-f", "-", "--manifests", world],
            "{a: [",
            "standard input cannot be read as Kubernetes manifests",
        ),
        (vec!["check", "-f", "/nonexistent.yaml", "--manifests", world], "", "cannot read /nonexistent.yaml"),
        (vec!["check", "-f", "-", "--manifests", "/nonexistent"], "", "cannot read /nonexistent"),
        (vec!["check", "-f", "-"], "{apiVersion: v1, kind: Pod}", "no cluster to talk to"),
        (vec!["check"], "", "--filename <FILE>"),
        (vec!["register", "orion", "--environment", "e"], "", "claim \"orion\" is not pvc/NAME"),
        (vec!["register", "pvc/orion"], "", "--environment \"\" is missing"),
        (vec!["impact"], "", "no cluster to talk to"),
    ] {
        let ran = plugin(&args, stdin);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(message), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
}

/// The cluster that the walk-through declares, as a directory of manifests.
fn walk_through() -> tempfile::TempDir {
    let world = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(format!("{}/examples", env!("CARGO_MANIFEST_DIR"))).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), world.path().join(entry.file_name())).unwrap();
        }
    }
    world
}

/// The example at this path in the walk-through, decided on there.
fn check_example(example: &str, more: &[&str]) -> Ran {
    let world = walk_through();
    let example = format!("{}/examples/{example}", env!("CARGO_MANIFEST_DIR"));
    let args = ["check", "-f", &example, "--manifests", world.path().to_str().unwrap()];
    plugin(&[&args, more].concat(), "")
}

#[test]
fn check_allows_the_good_example() {
    let ran = check_example("good/model-server.yaml", &[]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "Pod llm-serving/vllm: allowed\n"), "{}", ran.err);
}

#[test]
fn check_refuses_the_bad_examples_with_the_rules_they_name() {
    let directory = format!("{}/examples/bad", env!("CARGO_MANIFEST_DIR"));
    let mut refused = 0;
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let rules: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# Expect: [")).collect();
        // Admission puts the verifier in the place of what pretends to be it, so nothing is left to refuse.
        if name == "own-verifier.yaml" {
            continue;
        }
        let ran = check_example(&format!("bad/{name}"), &[]);
        assert_eq!(ran.code, 1, "{name}: {}{}", ran.out, ran.err);
        assert!(!rules.is_empty(), "{name}");
        for rule in rules {
            assert!(ran.out.contains(&format!("[{rule}")), "{name}: {}", ran.out);
        }
        refused += 1;
    }
    assert!(refused >= 5, "{refused}");
}

#[test]
fn the_json_of_check_has_rule_fact_and_remedy() {
    let ran = check_example("bad/wrong-service-account.yaml", &["-o", "json"]);
    assert_eq!(ran.code, 1);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["allowed"], false);
    let violation = &json["verdicts"][0]["violations"][0];
    assert_eq!(violation["rule"], "WL-102");
    assert!(
        violation["fact"].as_str().unwrap().contains("not permitted for service account \"default\""),
        "{violation}"
    );
    assert!(violation["remedy"].as_str().unwrap().starts_with("set spec.serviceAccountName"), "{violation}");
}

#[test]
fn check_sees_through_the_templates_of_workloads() {
    let template = "{spec: {containers: [{name: c, image: i, volumeMounts: [{name: w, mountPath: /w}]}], volumes: [{name: w, hostPath: {path: /mnt/weights/orion-70b}}]}}";
    let world = walk_through();
    let directory = world.path().to_str().unwrap();
    for (kind, spec) in [
        ("apps/v1, kind: Deployment", format!("{{template: {template}}}")),
        ("batch/v1, kind: CronJob", format!("{{jobTemplate: {{spec: {{template: {template}}}}}}}")),
        (
            "leaderworkerset.x-k8s.io/v1, kind: LeaderWorkerSet",
            format!("{{leaderWorkerTemplate: {{workerTemplate: {template}}}}}"),
        ),
    ] {
        let object = format!("{{apiVersion: {kind}, metadata: {{name: n, namespace: research}}, spec: {spec}}}");
        let ran = plugin(&["check", "-f", "-", "--manifests", directory], &object);
        assert_eq!(ran.code, 1, "{kind}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains("[WL-101] volume \"w\" is WeightArtifact \"orion-70b-v3\""), "{kind}: {}", ran.out);
    }
}

#[test]
fn check_says_which_storage_it_could_not_recognise() {
    let artifact = format!("{}/examples/30-artifact.yaml", env!("CARGO_MANIFEST_DIR"));
    let ran = plugin(&["check", "-f", "-", "--manifests", &artifact], "{apiVersion: v1, kind: ConfigMap}");
    assert_eq!(ran.code, 0);
    assert!(
        ran.err.contains("Note: location \"serving\" of WeightArtifact \"orion-70b-v3\" cannot be told"),
        "{}",
        ran.err
    );
}
