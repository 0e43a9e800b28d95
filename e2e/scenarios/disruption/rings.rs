//! Each ring with the other two off: what it decides by itself, beside a pod that it lets run.

use std::time::Duration;

use serde_json::{Value, json};

use super::{DEPLOYMENTS, break_glass_commands, scale, scale_these};
use crate::harness::*;

/// Plays with parts of Weightlock away, and brings them back whatever happens.
async fn without(deployments: &[&str], play: impl Future<Output = ()>) {
    scale_these(deployments, 0).await;
    let played = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(play)).await;
    scale(2).await;
    if let Err(cause) = played {
        std::panic::resume_unwind(cause);
    }
}

fn made(api_version: &str, kind: &str, namespace: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "attack", "namespace": namespace}, "spec": spec})
}

/// A pod with one volume.
fn with_volume(namespace: &str, name: &str, source: Value) -> Value {
    let mut pod = plain_pod(namespace, name);
    pod["spec"]["volumes"] = json!([{"name": "w"}]);
    json_patch::merge(&mut pod["spec"]["volumes"][0], &source);
    pod
}

/// Ring 1, with every pod of Weightlock dead: nothing that can be seen in an object and the index gets past the API server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_decides_alone() {
    scenario("one", |s| async move {
        let outside = s.namespace("out", &[]).await;
        let (inside, weights) = s.serving(&["vllm"], |_| {}).await;
        s.create(model_server(&inside, "server", "vllm", "w")).await.unwrap();
        s.phase(&inside, "server", "Running").await;
        s.protected(&s.id).await;

        without(&DEPLOYMENTS, async {
            let directory = json!({"hostPath": {"path": weights.node_path}});
            let claim = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}});
            let asking = |fields: Value| {
                let mut claim = claim.clone();
                json_patch::merge(&mut claim, &fields);
                claim
            };
            let template = asking(json!({"volumeName": weights.volume}));
            let twin = json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "w"}});
            let by_hand = json!({"subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]});
            let mut endpoints = made("v1", "Endpoints", &inside, Value::Null);
            json_patch::merge(&mut endpoints, &by_hand);
            for (attack, rule) in [
                (with_volume(&outside, "thief", directory.clone()), "WL-101"),
                (made("v1", "PersistentVolumeClaim", &outside, asking(json!({"volumeName": weights.volume}))), "WL-112"),
                (made("v1", "PersistentVolumeClaim", &inside, asking(twin)), "WL-112"),
                (made("v1", "Service", &inside, json!({"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]})), "WL-405"),
                (made("v1", "Service", &inside, json!({"ports": [{"port": 80}]})), "WL-406"),
                (endpoints, "WL-406"),
            ] {
                assert_names(&s.refused(attack).await, rule, &["Remedy:"]);
            }
            // A claim that the pod makes for itself is refused when it is made, and the pod waits for it.
            let own = json!({"ephemeral": {"volumeClaimTemplate": {"spec": template}}});
            s.create(with_volume(&outside, "own", own)).await.unwrap();
            always("no claim is made of the template", Duration::from_secs(5), || async {
                match s.get("v1", "PersistentVolumeClaim", Some(&outside), "own-w").await {
                    Err(_) => Ok(()),
                    Ok(claim) => Err(claim.data.to_string()),
                }
            })
            .await;
            s.phase(&outside, "own", "Pending").await;
            let volume = format!("{}-copy", s.id);
            let redeclared = s.volume(&volume, &weights.node_path, Some((&outside, "w"))).await.unwrap_err().to_string();
            assert_names(&redeclared, "WL-112", &[&s.id]);
            for connection in [["exec", "server", "--", "/bin/true"].as_slice(), &["port-forward", "server", "8080"], &["attach", "server"]] {
                let args: Vec<&str> = connection.iter().take(1).copied().chain(["-n", &inside]).chain(connection.iter().skip(1).copied()).collect();
                assert_names(&kubectl(&args).await.failure(), "WL-403", &[]);
            }
            let path = ["-n", &inside, "networkpolicy", "weightlock-default-deny"];
            assert_names(&kubectl(&[&["delete"], path.as_slice()].concat()).await.failure(), "WL-602", &[]);
            assert_names(&kubectl(&["delete", "crd", "weightindexes.weightlock.dev"]).await.failure(), "WL-602", &[]);
            let status = r#"{"status":{"phase":"Succeeded"}}"#;
            let forged = ["patch", "pod", "server", "-n", &inside, "--subresource=status", "--type=merge", "-p", status];
            assert_names(&kubectl(&forged).await.failure(), "WL-404", &[]);

            // What has no business with weights is not held up, and what runs goes on.
            s.create(plain_pod(&outside, "plain")).await.unwrap();
            s.phase(&outside, "plain", "Running").await;
            s.create(made("v1", "PersistentVolumeClaim", &outside, claim.clone())).await.unwrap();
            s.phase(&inside, "server", "Running").await;
        })
        .await;
    })
    .await;
}

/// Ring 2, without the policies of the API server and with no controller to put them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_decides_alone() {
    scenario("two", |s| async move {
        let (inside, weights) = s.serving(&["vllm"], |_| {}).await;
        without(&["weightlock-controller"], async {
            open(&["validatingadmissionpolicybindings"]).await;
            let outside = s.namespace("out", &[]).await;
            eventually("the API server to ask no policy any more", SOON, || async {
                let theft = with_volume(&outside, "theft", json!({"hostPath": {"path": weights.node_path}}));
                s.create(theft).await.map(|_| ()).map_err(|e| e.to_string())
            })
            .await;
            let mut own = model_server(&inside, "own", "vllm", "w");
            own["spec"]["initContainers"] = json!([{"name": "weightlock-verify", "image": "registry.invalid/own:1"}]);
            let mut writer = model_server(&inside, "writer", "vllm", "w");
            writer["spec"]["containers"][0]["volumeMounts"][0]["mountPropagation"] = "HostToContainer".into();
            let mut host = model_server(&inside, "host", "vllm", "w");
            host["spec"]["hostNetwork"] = true.into();
            let mut unknown = model_server(&inside, "unknown", "vllm", "w");
            unknown["spec"]["volumes"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "x", "nfs": {"server": "nas", "path": "/x"}}));
            for (attack, rule) in [
                (model_server(&inside, "intruder", "default", "w"), "WL-102"),
                (host, "WL-201"),
                (own, "WL-302"),
                (writer, "WL-307"),
                (unknown, "WL-120"),
            ] {
                assert_names(&s.refused(attack).await, rule, &["Remedy:"]);
            }
            s.create(model_server(&inside, "server", "vllm", "w")).await.unwrap();
            s.phase(&inside, "server", "Running").await;
            let image = ["set", "image", "-n", &inside, "pod/server", "server=registry.invalid/other:1"];
            let changed = kubectl(&image).await.failure();
            assert_names(&changed, "WL-401", &[]);
            assert_names(
                &kubectl(&["exec", "-n", &inside, "server", "--", "/bin/true"]).await.failure(),
                "WL-403",
                &[],
            );
        })
        .await;
        s.condition("WeightEnvironment", &s.id, "AdmissionEnforced", "True").await;
    })
    .await;
}

/// Ring 3, after a time in which neither of the others was there: what got in is named as long as it runs, and nothing
/// follows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watches_find_what_got_in() {
    scenario("three", |s| async move {
        let outside = s.namespace("out", &[]).await;
        let (inside, weights) = s.serving(&["vllm"], |_| {}).await;
        s.create(model_server(&inside, "server", "vllm", "w")).await.unwrap();
        s.phase(&inside, "server", "Running").await;
        let thief = |name: &str| with_volume(&outside, name, json!({"hostPath": {"path": weights.node_path}}));
        let writer = |name: &str| {
            let mut pod = with_volume(&inside, name, json!({"persistentVolumeClaim": {"claimName": "w"}}));
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "w", "mountPath": "/w"}]);
            pod
        };
        without(&DEPLOYMENTS, async {
            open(&[]).await;
            for pod in [thief("thief"), writer("writer")] {
                let name = text(&pod["metadata"]["name"]);
                let namespace = text(&pod["metadata"]["namespace"]);
                eventually("it to get in", SOON, || async {
                    s.create(pod.clone()).await.map(|_| ()).map_err(|e| e.to_string())
                })
                .await;
                s.phase(&namespace, &name, "Running").await;
            }
        })
        .await;
        let (_, held) = s.condition("WeightArtifact", &s.id, "Contained", "False").await;
        assert!(held.contains(&format!("pod {outside}/thief")), "{held}");
        assert!(!held.contains("server"), "{held}");
        let (_, found) = s.condition("WeightEnvironment", &s.id, "PodsConform", "False").await;
        assert!(found.contains("writer") && found.contains("WL-3"), "{found}");
        for (pod, rule) in [(thief("second"), "WL-101"), (writer("second"), "WL-102")] {
            let namespace = text(&pod["metadata"]["namespace"]);
            eventually("the rules to be back", SOON, || async {
                match s.create(pod.clone()).await {
                    Err(refused) if refused.to_string().contains(&format!("[{rule}]")) => Ok(()),
                    Err(other) => Err(other.to_string()),
                    Ok(_) => {
                        s.delete("v1", "Pod", Some(&namespace), "second").await;
                        Err("admitted".into())
                    }
                }
            })
            .await;
        }
        s.phase(&inside, "server", "Running").await;
        // Evicted only where the environment says so, and nothing else with it.
        s.get("v1", "Pod", Some(&inside), "writer").await.expect("it still runs");
        let evict = json!({"spec": {"remediation": "Evict"}});
        s.patch("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id, evict).await.unwrap();
        eventually("the writer to be evicted", SOON, || async {
            match s.get("v1", "Pod", Some(&inside), "writer").await {
                Err(_) => Ok(()),
                Ok(pod) => Err(pod.data["status"]["phase"].to_string()),
            }
        })
        .await;
        s.phase(&inside, "server", "Running").await;
        s.get("v1", "Pod", Some(&outside), "thief").await.expect("no environment says that it be evicted");
        s.delete("v1", "Pod", Some(&outside), "thief").await;
        s.condition("WeightArtifact", &s.id, "Contained", "True").await;
        s.condition("WeightEnvironment", &s.id, "PodsConform", "True").await;
    })
    .await;
}

/// Takes rules out of the way, as docs/recovery.md has it: of these kinds, or all.
async fn open(kinds: &[&str]) {
    for command in break_glass_commands() {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        if words[0] == "delete" && (kinds.is_empty() || kinds.contains(&words[1])) {
            kubectl(&words).await.success();
        }
    }
}
