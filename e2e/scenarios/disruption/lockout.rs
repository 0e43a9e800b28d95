//! Nobody is locked out: whatever ends Weightlock, the rest of the cluster goes on, nothing opens, and it comes back.

use std::time::Duration;

use base64::Engine;
use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::{Value, json};

use super::{DEPLOYMENTS, OURS, scale, scale_these, serving};
use crate::harness::*;

/// Longer than it takes to find a node dead, and to make its pods elsewhere.
const LONG: Duration = Duration::from_secs(150);

/// The rest of the cluster goes on: an unrelated pod starts, and pods of the cluster itself, those of its network among them.
async fn the_rest_goes_on(s: &Stage, outside: &str) {
    s.create(plain_pod(outside, "plain")).await.unwrap();
    s.phase(outside, "plain", "Running").await;
    kubectl(&["rollout", "restart", "-n", "kube-system", "deployment/coredns"]).await.success();
    kubectl(&["rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=55s"]).await.success();
    // As agents of the network and of the storage are.
    let agent = format!("{}-agent", s.id);
    let mut pod = plain_pod("kube-system", &agent);
    pod["spec"]["hostNetwork"] = true.into();
    pod["spec"]["hostPID"] = true.into();
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    pod["spec"]["volumes"] = json!([{"name": "cni", "hostPath": {"path": "/etc/cni"}}, {"name": "kubelet", "hostPath": {"path": "/var/lib/kubelet"}}]);
    s.create(pod).await.unwrap();
    s.phase("kube-system", &agent, "Running").await;
}

/// Nothing opens: weights are mounted neither outside nor inside.
async fn nothing_opens(s: &Stage, outside: &str, inside: &str, weights: &Weights, because: &str) {
    let mut thief = plain_pod(outside, "thief");
    thief["spec"]["volumes"] = json!([{"name": "weights", "hostPath": {"path": weights.node_path}}]);
    assert_names(&s.refused(thief).await, "WL-101", &[&s.id]);
    eventually("pods inside to be refused", SOON, || async {
        match s.create(model_server(inside, "second", "default", "w")).await {
            Err(refused) if refused.to_string().contains(because) => Ok(()),
            Err(refused) => Err(refused.to_string()),
            Ok(_) => panic!("admitted with no webhook to decide"),
        }
    })
    .await;
}

/// The environment is served again.
async fn is_back(s: &Stage, inside: &str) {
    eventually("a server, now that we are back", LONG, || async {
        s.create(model_server(inside, "second", "vllm", "w")).await.map(|_| ()).map_err(|e| e.to_string())
    })
    .await;
    s.phase(inside, "second", "Running").await;
    assert_names(&s.refused(model_server(inside, "intruder", "default", "w")).await, "WL-102", &[]);
}

/// Plays, and brings Weightlock back with `mend` whatever happens.
async fn mended(play: impl Future<Output = ()>, mend: impl AsyncFnOnce()) {
    let played = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(play)).await;
    mend().await;
    if let Err(cause) = played {
        std::panic::resume_unwind(cause);
    }
}

/// Somebody deletes the namespace of Weightlock, with all that is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_namespace_is_deleted() {
    scenario("deleted", |s| async move {
        let outside = s.namespace("out", &[]).await;
        let (inside, weights) = serving(&s).await;
        let values = helm(&["get", "values", "-n", OURS, "weightlock", "-o", "json"]).await.success();
        let file = std::env::temp_dir().join(format!("{}-values.json", s.id));
        std::fs::write(&file, values).unwrap();
        let play = async {
            kubectl(&["delete", "namespace", OURS, "--timeout=55s"]).await.success();
            nothing_opens(&s, &outside, &inside, &weights, "weightlock").await;
            the_rest_goes_on(&s, &outside).await;
            s.phase(&inside, "server", "Running").await;
        };
        mended(play, async || {
            // As docs/recovery.md has it: what is installed is installed again.
            let chart = root().join("charts/weightlock").display().to_string();
            let path = file.display().to_string();
            let install = ["upgrade", "--install", "-n", OURS, "weightlock", &chart, "-f", &path, "--create-namespace"];
            helm(&[&install[..], &["--wait", "--timeout", "180s"]].concat()).await.success();
        })
        .await;
        let _ = std::fs::remove_file(&file);
        is_back(&s, &inside).await;
    })
    .await;
}

/// The node with every replica of ours dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_with_all_of_us_dies() {
    scenario("dead", |s| async move {
        let outside = s.namespace("out", &[]).await;
        let (inside, weights) = serving(&s).await;
        kubectl(&["cordon", NODE]).await.success();
        // None is kept where it is by what was there before.
        scale(0).await;
        scale(2).await;
        kubectl(&["uncordon", NODE]).await.success();
        let nodes = kubectl(&["get", "pods", "-n", OURS, "-o", "jsonpath={.items[*].spec.nodeName}"]).await.success();
        assert!(nodes.split_whitespace().all(|node| node == "node2"), "{nodes}");
        let play = async {
            cluster(&["node", "stop", "2"]).await.success();
            nothing_opens(&s, &outside, &inside, &weights, "weightlock").await;
            let mut plain = plain_pod(&outside, "plain");
            plain["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": NODE});
            s.create(plain).await.unwrap();
            s.phase(&outside, "plain", "Running").await;
            // They are made anew on the other node, by nobody's hand.
            is_back(&s, &inside).await;
        };
        mended(play, async || {
            cluster(&["node", "start", "2"]).await.success();
            kubectl(&["wait", "--for=condition=Ready", "node/node2", "--timeout=55s"]).await.success();
            scale(2).await;
        })
        .await;
    })
    .await;
}

/// The certificate of the webhook has expired, and no controller was there to renew it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_has_expired() {
    scenario("expired", |s| async move {
        let outside = s.namespace("out", &[]).await;
        let (inside, weights) = serving(&s).await;
        let play = async {
            scale_these(&["weightlock-controller"], 0).await;
            let part = async |name: &str, field: &str| {
                let path = format!("jsonpath={{.data.{field}}}");
                let encoded = kubectl(&["get", "secret", "-n", OURS, name, "-o", &path]).await.success();
                String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()).unwrap()
            };
            let authority = part("weightlock-webhook-ca", "ca\\.crt").await;
            let key = KeyPair::from_pem(&part("weightlock-webhook-ca", "ca\\.key").await).unwrap();
            let issuer = Issuer::from_ca_cert_pem(&authority, key).unwrap();
            let own = KeyPair::generate().unwrap();
            let mut expired = CertificateParams::new(vec![format!("weightlock-webhook.{OURS}.svc")]).unwrap();
            expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
            expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
            let certificate = expired.signed_by(&own, &issuer).unwrap();
            let patch =
                json!({"stringData": {"tls.crt": certificate.pem(), "tls.key": own.serialize_pem()}}).to_string();
            // Nobody else may write it.
            let write = ["patch", "secret", "weightlock-webhook-tls", "-n", OURS, "--type=merge", "-p", &patch];
            assert_names(&kubectl(&write).await.failure(), "WL-602", &[]);
            let controller = format!("system:serviceaccount:{OURS}:weightlock-controller");
            let as_it = ["--as", controller.as_str(), "--as-group=system:masters"];
            kubectl(&[&write[..], &as_it].concat()).await.success();
            // The kubelet brings a changed Secret within about a minute.
            eventually("the expired certificate to be served", LONG, || async {
                match s.create(model_server(&inside, "second", "default", "w")).await {
                    Err(refused) if refused.to_string().contains("expired") => Ok(()),
                    Err(refused) => Err(refused.to_string()),
                    Ok(_) => panic!("admitted"),
                }
            })
            .await;
            nothing_opens(&s, &outside, &inside, &weights, "expired").await;
            the_rest_goes_on(&s, &outside).await;
        };
        // The controller renews it as soon as it is there.
        mended(play, async || scale(2).await).await;
        is_back(&s, &inside).await;
    })
    .await;
}

/// Somebody rolls out an image that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_start_replaces_nobody() {
    scenario("image", |s| async move {
        let (inside, _) = serving(&s).await;
        let deployments = DEPLOYMENTS.map(|name| format!("deployment/{name}"));
        let play = async {
            for deployment in &deployments {
                kubectl(&["set", "image", "-n", OURS, deployment, "*=registry.invalid/none:1"]).await.success();
            }
            eventually("the new pods to wait for their image", SOON, || async {
                let reasons = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
                let waiting = kubectl(&["get", "pods", "-n", OURS, "-o", reasons]).await.success();
                if waiting.matches("Image").count() + waiting.matches("ErrImagePull").count() >= 2 {
                    Ok(())
                } else {
                    Err(waiting)
                }
            })
            .await;
            is_back(&s, &inside).await;
            // The controller that leads is still an old one.
            let late = s.namespace("late", &["vllm"]).await;
            s.create(environment(&format!("{}-late", s.id), &late, &["vllm"])).await.unwrap();
            s.condition("WeightEnvironment", &format!("{}-late", s.id), "Ready", "True").await;
        };
        mended(play, async || {
            for deployment in &deployments {
                kubectl(&["rollout", "undo", "-n", OURS, deployment]).await.success();
                kubectl(&["rollout", "status", "-n", OURS, deployment, "--timeout=55s"]).await.success();
            }
        })
        .await;
    })
    .await;
}

/// The store of events takes nothing more: nothing that Weightlock does waits for an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_can_be_written() {
    scenario("events", |s| async move {
        let (inside, _) = serving(&s).await;
        let (kind, name) = ("ValidatingAdmissionPolicy", s.id.clone());
        let made = |kind: &str, spec: Value| {
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        };
        // As an etcd of its own for events answers that is out of space: the API server hands out an error for each.
        let rules = json!({"resourceRules": [
            {"apiGroups": ["", "events.k8s.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["events"]}]});
        let full = json!({"expression": "false", "message": "etcdserver: mvcc: database space exceeded"});
        s.create(made(kind, json!({"matchConstraints": rules, "validations": [full]}))).await.unwrap();
        let binding = json!({"policyName": name, "validationActions": ["Deny"]});
        s.create(made("ValidatingAdmissionPolicyBinding", binding)).await.unwrap();
        eventually("events to be refused", SOON, || async {
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": inside, "generateName": "probe-"},
                "involvedObject": {"kind": "Pod", "namespace": inside, "name": "server"}, "reason": "Probe", "message": "probe",
            });
            match s.create(event).await {
                Err(refused) if refused.to_string().contains("space exceeded") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let late = s.namespace("late", &["vllm"]).await;
        s.create(environment(&format!("{}-late", s.id), &late, &["vllm"])).await.unwrap();
        s.condition("WeightEnvironment", &format!("{}-late", s.id), "Ready", "True").await;
        is_back(&s, &inside).await;
        // A controller that starts now takes the lease, and works.
        scale_these(&["weightlock-controller"], 0).await;
        scale(2).await;
        let last = s.namespace("last", &["vllm"]).await;
        s.create(environment(&format!("{}-last", s.id), &last, &["vllm"])).await.unwrap();
        s.condition("WeightEnvironment", &format!("{}-last", s.id), "Ready", "True").await;
    })
    .await;
}

/// Where administrators are listed, nobody else changes what Weightlock runs with, whatever RBAC gives them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_change_the_installation() {
    scenario("administrators", |s| async move {
        let chart = root().join("charts/weightlock").display().to_string();
        let set = async |groups: &str| {
            let upgrade = ["upgrade", "-n", OURS, "weightlock", &chart, "--reuse-values", "--set-json"];
            let values = format!("administrators.groups={groups}");
            helm(&[&upgrade[..], &[&values, "--wait", "--timeout", "100s"]].concat()).await.success();
        };
        let user = format!("{}-platform", s.id);
        let editor = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"namespace": OURS, "name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        s.create(editor).await.unwrap();
        let other = "controller=registry.invalid/other:1";
        let change = ["set", "image", "-n", OURS, "deployment/weightlock-controller", other, "--dry-run=server", "--as", &user];
        kubectl(&change).await.success();
        let play = async {
            set(r#"["system:masters"]"#).await;
            eventually("the change to be refused", SOON, || async {
                let ran = kubectl(&change).await;
                if ran.stderr.contains("[WL-602]") { Ok(()) } else { Err(format!("{ran:?}")) }
            })
            .await;
            let refused = kubectl(&change).await.failure();
            assert_names(&refused, "WL-602", &["weightlock-controller", &user, "administrators"]);
            let exec = ["exec", "-n", OURS, "deployment/weightlock-controller", "--as", &user, "--", "/weightlock"];
            assert_names(&kubectl(&exec).await.failure(), "WL-602", &[]);
            // An administrator may, and whoever may otherwise restart them still does not have to.
            kubectl(&change[..change.len() - 2]).await.success();
            kubectl(&["rollout", "restart", "-n", OURS, "deployment/weightlock-controller"]).await.success();
            kubectl(&["rollout", "status", "-n", OURS, "deployment/weightlock-controller", "--timeout=55s"]).await.success();
        };
        mended(play, async || set("[]").await).await;
        eventually("RBAC alone to decide again", SOON, || async {
            let ran = kubectl(&change).await;
            if ran.ok { Ok(()) } else { Err(ran.stderr) }
        })
        .await;
    })
    .await;
}
