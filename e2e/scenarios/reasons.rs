//! Every reason for which a verifier on a node refuses a volume, each beside its honest twin: one environment, an artifact
//! and a pod for each row of the table, all at once.

mod signers;
#[path = "../../tests/verifier/sigstore.rs"]
mod sigstore;
mod table;

use serde_json::{Value, json};
use weightlock::verifier::manifest::DEFAULT_PATH;

use crate::harness::*;
use signers::Signers;
use table::{BUNDLE, Base, Change, Declared, FILES, MOUNTED, MOVING, REVISION, Row, SIGNATURES};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_damage_to_files_is_stopped_for_its_reason() {
    scenario("files", |s| async move { play(&s, FILES).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_unfit_signature_is_stopped_for_its_reason() {
    scenario("signers", |s| async move { play(&s, SIGNATURES).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_during_the_reading_is_stopped_for_its_reason() {
    scenario("moving", |s| async move { play(&s, MOVING).await }).await;
}

async fn play(s: &Stage, rows: &[Row]) {
    let ns = s.namespace("in", &["vllm"]).await;
    s.create(environment(&s.id, &ns, &["vllm"])).await.unwrap();
    let signers = Signers::new();
    let mut mounted = None;
    for row in rows {
        let (node_dir, host_dir) = s.directory(row.name, &[]).await;
        // One directory further down, so that the row has a place outside of its artifact.
        let weights = host_dir.join("w");
        std::fs::create_dir(&weights).unwrap();
        let declared = row.lay(&weights, &signers);
        if row.name == "mount" {
            mounted = Some(Mount::new(&format!("{node_dir}/w/{MOUNTED}")));
        }
        if let Change::While(change) = row.change {
            table::when_read(&weights, change);
        }
        s.create(artifact_of(s, row, &declared, &format!("{node_dir}/w"))).await.unwrap();
    }
    s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
    for row in rows {
        s.condition("WeightArtifact", &format!("{}-{}", s.id, row.name), "Ready", "True").await;
    }
    for row in rows {
        s.create(pod(&ns, row, &format!("{NODE_DIR}/{}-{}/w", s.id, row.name))).await.unwrap();
    }
    let mut wrong = Vec::new();
    for row in rows {
        let pod = s.phase_of(&ns, row.name, &["Running", "Failed"]).await.data;
        let ended = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"];
        let message = text(&ended["message"]);
        let server = &pod["status"]["containerStatuses"][0]["state"];
        let as_told = match row.found {
            None => ended["exitCode"] == 0 && server["running"].is_object(),
            Some((reason, path)) => {
                // Without the quotation mark at its end: a long path is cut.
                let said = format!("[{reason:?}] {path:?}");
                ended["exitCode"] == reason.exit_code()
                    && message.contains(said.trim_end_matches('"'))
                    && server["running"].is_null()
                    && server["terminated"]["startedAt"].is_null()
            }
        };
        if !as_told {
            wrong.push(format!("{}: expected {:?}, found {ended}, server {server}", row.name, row.found));
        }
    }
    drop(mounted);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn artifact_of(s: &Stage, row: &Row, declared: &Declared, path: &str) -> Value {
    let mut json = Vec::new();
    declared.manifest.write_canonical(&mut json).unwrap();
    let inline: Value = serde_json::from_slice(&json).unwrap();
    let name = format!("{}-{}", s.id, row.name);
    let mut artifact = json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": name},
        "spec": {
            "type": "FineTune", "model": {"name": name, "version": "v1"},
            "manifestDigest": declared.manifest.digest().digest(), "manifest": {"inline": inline["files"]},
            "locations": [{"name": "node", "role": "Cache", "hostPath": {"path": path}}],
            "permittedEnvironments": [{"name": s.id}], "contact": CONTACT,
        },
    });
    let spec = &mut artifact["spec"];
    match row.base {
        Base::Listed => spec["manifest"] = json!({"path": DEFAULT_PATH}),
        Base::Formats => spec["formats"] = json!(["Safetensors"]),
        Base::Cache => {
            spec["layout"] = json!("HuggingFaceCache");
            spec["revision"] = json!(REVISION);
        }
        Base::Plain | Base::Signed | Base::Large => {}
    }
    if let Some(authority) = &declared.authority {
        spec["signature"] = json!({"bundlePath": BUNDLE, "authorities": [authority]});
    }
    artifact
}

fn pod(namespace: &str, row: &Row, path: &str) -> Value {
    let mut pod = model_server(namespace, row.name, "vllm", "unused");
    let spec = &mut pod["spec"];
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": NODE});
    spec["volumes"] = json!([{"name": "weights", "hostPath": {"path": path}}]);
    // More pods than the node has GPUs. The verifier takes the limits of the server: where something is to happen while it
    // reads, it reads slowly.
    spec["containers"][0]["resources"] = match row.base {
        Base::Large => json!({"limits": {"cpu": "200m", "memory": "512Mi"}}),
        _ => json!({}),
    };
    pod
}

/// A directory of the node that another one is mounted at, until it is dropped.
struct Mount {
    node: String,
    at: String,
}

impl Mount {
    fn new(at: &str) -> Self {
        let mount = Self { node: kubelet(NODE), at: at.into() };
        mount.run(&["mount", "-t", "tmpfs", "none", at]);
        mount
    }

    /// Runs a program in the mount namespace of the node.
    fn run(&self, command: &[&str]) {
        let entered = std::process::Command::new("nsenter").args(["-t", &self.node, "-m"]).args(command).status();
        assert!(entered.unwrap().success(), "{command:?}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.run(&["umount", &self.at]);
    }
}
