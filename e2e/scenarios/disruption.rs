//! What holds while Weightlock itself is away, and that it comes back. These scenarios stop and restart Weightlock, so
//! they run one after another and after all the others.

mod lockout;
mod rings;
mod tier;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

const OURS: &str = "weightlock-system";
const DEPLOYMENTS: [&str; 2] = ["weightlock-controller", "weightlock-webhook"];

async fn scale(replicas: u32) {
    scale_these(&DEPLOYMENTS, replicas).await;
}

async fn scale_these(deployments: &[&str], replicas: u32) {
    for deployment in deployments {
        kubectl(&["scale", "-n", OURS, &format!("deployment/{deployment}"), &format!("--replicas={replicas}")])
            .await
            .success();
    }
    for deployment in deployments {
        if replicas > 0 {
            let watched = format!("deployment/{deployment}");
            kubectl(&["rollout", "status", "-n", OURS, &watched, "--timeout=55s"]).await.success();
            continue;
        }
        let component = format!("app.kubernetes.io/component={}", deployment.trim_start_matches("weightlock-"));
        eventually("every pod of ours to be gone", SOON, || async {
            let pods = kubectl(&["get", "pods", "-n", OURS, "-l", &component, "-o", "name"]).await.success();
            if pods.trim().is_empty() { Ok(()) } else { Err(pods) }
        })
        .await;
    }
}

/// A serving environment with its artifact and a running model server.
async fn serving(s: &Stage) -> (String, Weights) {
    let (ns, weights) = s.serving(&["vllm"], |_| {}).await;
    s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
    s.phase(&ns, "server", "Running").await;
    (ns, weights)
}

/// With every pod of ours dead the rest of the cluster does not notice, and nothing opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_opens_nothing_and_stops_nobody_else() {
    scenario("outage", |s| async move {
        let outside = s.namespace("out", &[]).await;
        let (ns, weights) = serving(&s).await;
        scale(0).await;
        let held = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(async {
            s.create(plain_pod(&outside, "plain")).await.unwrap();
            s.phase(&outside, "plain", "Running").await;
            // Inside, nothing new starts.
            let message = match s.create(model_server(&ns, "second", "vllm", "w")).await {
                Ok(_) => panic!("a weight pod was admitted with every webhook dead"),
                Err(refused) => refused.to_string(),
            };
            assert!(message.contains("weightlock"), "{message}");
            // Nobody waits for a warning that does not come.
            s.create(deployment(&plain_pod(&ns, "later"), 0)).await.unwrap();
            // What runs keeps running, with its policies.
            s.phase(&ns, "server", "Running").await;
            s.get("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), "weightlock-default-deny").await.unwrap();
            // The rules inside the API server hold by themselves.
            let copy = format!("{}-copy", s.id);
            let refused = s.volume(&copy, &weights.node_path, Some((&outside, "w"))).await.unwrap_err().to_string();
            assert_names(&refused, "WL-112", &[&s.id]);
            let mut thief = plain_pod(&outside, "thief");
            thief["spec"]["volumes"] = json!([{"name": "weights", "hostPath": {"path": weights.node_path}}]);
            assert_names(&s.refused(thief).await, "WL-101", &[&s.id]);
            assert_names(&kubectl(&["exec", "-n", &ns, "server", "--", "/bin/true"]).await.failure(), "WL-403", &[]);
        }))
        .await;
        scale(2).await;
        if let Err(cause) = held {
            std::panic::resume_unwind(cause);
        }
        eventually("the second server, now that we are back", SOON, || async {
            s.create(model_server(&ns, "second", "vllm", "w")).await.map(|_| ()).map_err(|e| e.to_string())
        })
        .await;
        s.phase(&ns, "second", "Running").await;
    })
    .await;
}

/// Weights change under a running server while no controller is there to see it: the kubelet ends the server and lets the
/// verifier decide again. The controller learns of it when it is back, from what the kubelet keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_weights_end_their_server_with_no_controller_alive() {
    scenario("alone", |s| async move {
        let ns = s.namespace("in", &["vllm"]).await;
        // Content of its own: an incident blocks the digest in the whole cluster, other scenarios included.
        let (content, other) = (s.id.clone().into_bytes(), format!("{} of the other", s.id).into_bytes());
        let weights = s.weights(&ns, "w", &[("model.safetensors", &content)]).await;
        let untouched = s.weights(&ns, "u", &[("model.safetensors", &other)]).await;
        let mut often = environment(&s.id, &ns, &["vllm"]);
        often["spec"]["verification"] = json!({"reverifyInterval": "2s", "maxBytesPerSecond": "100M"});
        s.create(often).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.protected(&s.id).await;
        let twin = format!("{}-twin", s.id);
        for (name, weights, pod, claim) in [(&s.id, &weights, "server", "w"), (&twin, &untouched, "twin", "u")] {
            s.create(artifact(name, weights, &[&s.id])).await.unwrap();
            s.condition("WeightArtifact", name, "Ready", "True").await;
            s.create(model_server(&ns, pod, "vllm", claim)).await.unwrap();
        }
        for pod in ["server", "twin"] {
            s.phase(&ns, pod, "Running").await;
        }

        const CONTROLLER: &[&str] = &["weightlock-controller"];
        scale_these(CONTROLLER, 0).await;
        let ended = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(async {
            std::fs::write(weights.host_dir.join("model.safetensors"), b"y").unwrap();
            eventually("the kubelet to have ended the server, and the verifier to refuse it", SOON, || async {
                let pod = s.get("v1", "Pod", Some(&ns), "server").await.map_err(|e| e.to_string())?;
                let status = &pod.data["status"];
                let taken_down = &status["containerStatuses"][0]["lastState"]["terminated"]["reason"];
                let verifier = &status["initContainerStatuses"][0];
                let codes = ["state", "lastState"].map(|state| verifier[state]["terminated"]["exitCode"].clone());
                if *taken_down == "RestartingAllContainers" && codes.contains(&json!(20)) {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            })
            .await;
            let twin = s.phase(&ns, "twin", "Running").await;
            assert_eq!(twin.data["status"]["containerStatuses"][0]["restartCount"], 0);
        }))
        .await;
        scale_these(CONTROLLER, 2).await;
        if let Err(cause) = ended {
            std::panic::resume_unwind(cause);
        }

        s.condition("WeightArtifact", &s.id, "Tampered", "True").await;
        eventually("the pod to be deleted", SOON, || async {
            match s.get("v1", "Pod", Some(&ns), "server").await {
                Err(_) => Ok(()),
                Ok(pod) => Err(pod.data["status"]["initContainerStatuses"].to_string()),
            }
        })
        .await;
        s.condition("WeightArtifact", &twin, "Ready", "True").await;
        s.phase(&ns, "twin", "Running").await;
    })
    .await;
}

/// The break-glass of docs/recovery.md, with every pod of ours dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn break_glass_opens_the_cluster_and_we_close_it_again() {
    scenario("glass", |s| async move {
        let (ns, _) = serving(&s).await;
        scale(0).await;
        let opened = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(async {
            for command in break_glass_commands() {
                let words: Vec<&str> = command.split_whitespace().skip(1).collect();
                kubectl(&words).await.success();
            }
            eventually("the API server to have heard of it", SOON, || async {
                let mut pod = plain_pod(&ns, "rescue");
                pod["spec"]["hostNetwork"] = json!(true);
                s.create(pod).await.map(|_| ()).map_err(|e| e.to_string())
            })
            .await;
        }))
        .await;
        scale(2).await;
        if let Err(cause) = opened {
            std::panic::resume_unwind(cause);
        }
        eventually("the rules to be back", SOON, || async {
            match s.create(model_server(&ns, "intruder", "default", "w")).await {
                Err(refused) if refused.to_string().contains("WL-102") => Ok(()),
                Err(other) => Err(other.to_string()),
                Ok(_) => {
                    s.delete("v1", "Pod", Some(&ns), "intruder").await;
                    Err("admitted".into())
                }
            }
        })
        .await;
    })
    .await;
}

/// The commands of the break-glass section, as the document gives them.
fn break_glass_commands() -> Vec<String> {
    let document = std::fs::read_to_string(root().join("docs/recovery.md")).unwrap();
    let section = document
        .split("<!-- break-glass -->")
        .nth(1)
        .expect("docs/recovery.md marks its commands with <!-- break-glass -->");
    let commands: Vec<String> = section.lines().filter(|l| l.starts_with("kubectl ")).map(str::to_string).collect();
    assert!(!commands.is_empty(), "docs/recovery.md names no command");
    commands
}

/// The pod that leads.
async fn lease_holder() -> String {
    let path = "jsonpath={.spec.holderIdentity}";
    kubectl(&["get", "lease", "-n", OURS, "weightlock-controller", "-o", path]).await.success().trim().to_string()
}

/// The leader dies while work comes in; nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_leader_loses_nothing() {
    scenario("leader", |s| async move {
        let holder = lease_holder().await;
        let mut namespaces = Vec::new();
        for i in 0..4 {
            namespaces.push(s.namespace(&format!("n{i}"), &["vllm"]).await);
        }
        for (i, ns) in namespaces.iter().enumerate() {
            s.create(environment(&format!("{}-{i}", s.id), ns, &["vllm"])).await.unwrap();
            if i == 1 {
                kubectl(&["delete", "pod", "-n", OURS, &holder, "--grace-period=0", "--force"]).await.success();
            }
        }
        for (i, ns) in namespaces.iter().enumerate() {
            s.condition("WeightEnvironment", &format!("{}-{i}", s.id), "Ready", "True").await;
            s.get("networking.k8s.io/v1", "NetworkPolicy", Some(ns), "weightlock-default-deny").await.unwrap();
        }
        // A pod that was deleted by force may still finish what it is at; its successor takes over and goes on.
        eventually("the lease to change hands", SOON, || async {
            let next = lease_holder().await;
            if next != holder && !next.is_empty() { Ok(()) } else { Err(next) }
        })
        .await;
        let last = s.namespace("last", &["vllm"]).await;
        s.create(environment(&format!("{}-last", s.id), &last, &["vllm"])).await.unwrap();
        s.condition("WeightEnvironment", &format!("{}-last", s.id), "Ready", "True").await;
    })
    .await;
}

/// A lost certificate is issued anew and taken up without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_needs_no_restart() {
    scenario("certificate", |s| async move {
        let (ns, _) = serving(&s).await;
        let pods = || async {
            kubectl(&[
                "get",
                "pods",
                "-n",
                OURS,
                "-l",
                "app.kubernetes.io/component=webhook",
                "-o",
                "jsonpath={range .items[*]}{.metadata.uid}{.status.containerStatuses[0].restartCount} {end}",
            ])
            .await
            .success()
        };
        let before = pods().await;
        assert!(!before.trim().is_empty());
        let old = kubectl(&["get", "secret", "-n", OURS, "weightlock-webhook-tls", "-o", "jsonpath={.data.tls\\.crt}"])
            .await
            .success();
        kubectl(&["delete", "secret", "-n", OURS, "weightlock-webhook-tls", "weightlock-webhook-ca"]).await.success();
        eventually("a new certificate", SOON, || async {
            let ran =
                kubectl(&["get", "secret", "-n", OURS, "weightlock-webhook-tls", "-o", "jsonpath={.data.tls\\.crt}"])
                    .await;
            if ran.ok && ran.stdout != old && !ran.stdout.is_empty() { Ok(()) } else { Err(ran.stderr) }
        })
        .await;
        // The kubelet brings a changed Secret within about a minute.
        let long = Duration::from_secs(180);
        eventually("admission with the new certificate", long, || async {
            match s.create(model_server(&ns, "intruder", "default", "w")).await {
                Err(refused) if refused.to_string().contains("WL-102") => Ok(()),
                Err(other) => Err(other.to_string()),
                Ok(_) => panic!("a pod was admitted that must be refused"),
            }
        })
        .await;
        s.create(model_server(&ns, "third", "vllm", "w")).await.unwrap();
        assert_eq!(before, pods().await, "a webhook pod was restarted or replaced");
    })
    .await;
}

/// Upgrade and uninstall: afterwards nothing of ours blocks the cluster, and the declarations are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstall_leaves_nothing_that_blocks() {
    scenario("uninstall", |s| async move {
        let (ns, _) = serving(&s).await;
        let chart = root().join("charts/weightlock").display().to_string();
        let values: Value =
            serde_json::from_str(&helm(&["get", "values", "-n", OURS, "weightlock", "-o", "json"]).await.success())
                .unwrap();
        let file = std::env::temp_dir().join(format!("{}-values.json", s.id));
        std::fs::write(&file, values.to_string()).unwrap();
        let path = file.display().to_string();
        helm(&[
            "upgrade",
            "-n",
            OURS,
            "weightlock",
            &chart,
            "-f",
            &path,
            "--set",
            "logLevel=debug",
            "--wait",
            "--timeout",
            "100s",
        ])
        .await
        .success();
        s.phase(&ns, "server", "Running").await;

        helm(&["uninstall", "-n", OURS, "weightlock", "--wait", "--timeout", "120s"]).await.success();
        let gone = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(async {
            for kind in [
                "validatingwebhookconfigurations",
                "mutatingwebhookconfigurations",
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "clusternetworkpolicies",
            ] {
                let left = kubectl(&["get", kind, "-o", "name"]).await.success();
                assert!(!left.contains("weightlock"), "left behind: {left}");
            }
            s.get("weightlock.dev/v1alpha1", "WeightArtifact", None, &s.id).await.expect("the declarations are kept");
            eventually("a pod in the former environment", SOON, || async {
                s.create(plain_pod(&ns, "free")).await.map(|_| ()).map_err(|e| e.to_string())
            })
            .await;
            // Nothing waits for a finalizer of ours.
            let spare = format!("{}-spare", s.id);
            s.create(environment(&spare, &ns, &["*"])).await.unwrap();
            kubectl(&["delete", "weightenvironment", &spare, &s.id, "--wait=true", "--timeout=30s"]).await.success();
        }))
        .await;
        helm(&[
            "install",
            "-n",
            OURS,
            "weightlock",
            &chart,
            "-f",
            &path,
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
        ])
        .await
        .success();
        let _ = std::fs::remove_file(file);
        if let Err(cause) = gone {
            std::panic::resume_unwind(cause);
        }
    })
    .await;
}

/// A rival that keeps writing what is ours is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rival_writer_is_named() {
    scenario("rival", |s| async move {
        let ns = s.namespace("in", &[]).await;
        s.create(environment(&s.id, &ns, &["*"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        // Only a part of the cluster itself can still be a rival where admission is enforced.
        let rival = "system:serviceaccount:kube-system:rival-operator";
        for i in 0..12 {
            let types = if i % 2 == 0 { r#"["Ingress"]"# } else { r#"["Egress"]"# };
            let patch = format!(r#"{{"spec":{{"policyTypes":{types}}}}}"#);
            kubectl(&[
                "patch",
                "networkpolicy",
                "-n",
                &ns,
                "weightlock-default-deny",
                "--type=merge",
                "--field-manager=rival-operator",
                "--as",
                rival,
                "--as-group=system:masters",
                "-p",
                &patch,
            ])
            .await
            .success();
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        let (_, message) = s.condition("WeightEnvironment", &s.id, "Contested", "True").await;
        assert!(message.contains("rival-operator") && message.contains("weightlock-default-deny"), "{message}");
    })
    .await;
}
