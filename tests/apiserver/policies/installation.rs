//! WL-602: what Weightlock itself runs with.

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use weightlock::api::WeightIndexSpec;
use weightlock::domain::settings::{Administrators, Settings};
use weightlock::render::policies::ring;

use super::fixture::{apply, fixture, pod};
use super::{assert_accepted, assert_refused};
use crate::harness;

const ADMINISTRATOR: &str = "platform@example.com";
const GROUP: &str = "example:platform";

fn object(version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}})
}

/// A change that the validation of Kubernetes lets pass for every kind.
fn label() -> Value {
    json!({"metadata": {"labels": {"a": harness::unique("b")}}})
}

#[tokio::test]
async fn the_lease_and_the_certificate_are_written_by_the_controller_alone() {
    let (client, controller) = (harness::client().await, harness::controller().await);
    fixture().await;
    let own = Settings::default().own_namespace;
    let says = |what: &str| {
        ["[WL-602] ".to_string() + what, "is written by the controller only".into(), "delete its Secrets".into()]
    };
    let lease = object("coordination.k8s.io/v1", "Lease", &own, "weightlock-controller");
    let authority = object("v1", "Secret", &own, "weightlock-webhook-ca");
    let serving = object("v1", "Secret", &own, "weightlock-webhook-tls");
    for ours in [&lease, &authority, &serving] {
        let said = says(&format!("{} {}", ours["kind"].as_str().unwrap(), ours["metadata"]["name"]));
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        assert_refused(&harness::try_create(&client, ours).await, &said);
        assert_accepted(&harness::create(&controller, ours).await);
        assert_refused(&harness::merge(&client, ours, &label()).await, &said);
        assert_accepted(&harness::merge(&controller, ours, &label()).await);
    }
    let said = says("Lease");
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    assert_refused(&harness::try_delete(&client, &lease).await, &said);
    harness::delete(&controller, &lease).await;
    for secret in [&authority, &serving] {
        harness::delete(&client, secret).await;
    }
    let mut generated = object("v1", "Secret", &own, "");
    generated["metadata"] = json!({"generateName": "token-", "namespace": own});
    assert_accepted(&harness::try_create(&client, &generated).await);
    // Objects of others beside them, and of the same name elsewhere.
    for theirs in [
        object("coordination.k8s.io/v1", "Lease", &own, "another"),
        object("v1", "Secret", &own, "pull-secret"),
        object("coordination.k8s.io/v1", "Lease", "default", "weightlock-controller"),
    ] {
        assert_accepted(&harness::create(&client, &theirs).await);
        assert_accepted(&harness::merge(&client, &theirs, &label()).await);
        harness::delete(&client, &theirs).await;
    }
}

/// Namespace of an installation with administrators. Made once: objects without a namespace meet each such policy.
async fn installed() -> &'static str {
    static INSTALLED: OnceCell<String> = OnceCell::const_new();
    INSTALLED.get_or_init(install).await
}

/// Puts the policy in force as it is rendered, under a name of its own and for a namespace of its own.
async fn install() -> String {
    let client = harness::client().await;
    let own = harness::unique("wl-own");
    harness::namespace(&client, &own).await;
    harness::default_service_account(&client, &own).await;
    let settings = Settings {
        own_namespace: own.clone(),
        administrators: Administrators {
            users: [ADMINISTRATOR.to_string()].into(),
            groups: [GROUP.to_string()].into(),
        },
        ..Settings::default()
    };
    let rendered = ring(&settings, vec![WeightIndexSpec { shards: 1, ..WeightIndexSpec::default() }], []);
    let named = Some("weightlock-protect-installation".to_string());
    let mut policy = rendered.policies.iter().find(|p| p.metadata.name == named).expect("the policy").clone();
    let mut binding = rendered.bindings.iter().find(|b| b.metadata.name == named).expect("the binding").clone();
    policy.metadata.name = Some(format!("weightlock-{own}"));
    binding.metadata.name = policy.metadata.name.clone();
    binding.spec.as_mut().unwrap().policy_name = policy.metadata.name.clone();
    apply(&client, &policy).await;
    apply(&client, &binding).await;
    let attempt = object("v1", "Secret", &own, "attempt");
    harness::eventually("the policy is in force", async || match harness::try_create(&client, &attempt).await {
        Err(said) if said.contains("[WL-602]") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    own
}

#[tokio::test]
async fn what_weightlock_runs_with_is_changed_by_its_administrators() {
    let client = harness::client().await;
    fixture().await;
    let own = installed().await;
    let administrators = [
        harness::somebody(ADMINISTRATOR, &["system:masters"]).await,
        harness::somebody("somebody@example.com", &["system:masters", GROUP]).await,
    ];
    let part =
        harness::somebody(&format!("system:serviceaccount:{own}:weightlock-controller"), &["system:masters"]).await;
    let cluster =
        harness::somebody("system:serviceaccount:kube-system:replicaset-controller", &["system:masters"]).await;

    let template = json!({
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "registry.invalid/x:1", "args": ["--verifier-image=evil"]}]},
    });
    let mut deployment = object("apps/v1", "Deployment", own, "weightlock-webhook");
    deployment["spec"] = json!({"selector": {"matchLabels": {"app": "x"}}, "template": template});
    let mut binding = object("rbac.authorization.k8s.io/v1", "RoleBinding", own, "mine");
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"});
    let mut service = object("v1", "Service", own, "weightlock-webhook");
    service["spec"] = json!({"ports": [{"port": 443}]});
    let mut policy = object("networking.k8s.io/v1", "NetworkPolicy", own, "open");
    policy["spec"] = json!({"podSelector": {}, "ingress": [{}]});
    let mut role = object("rbac.authorization.k8s.io/v1", "ClusterRole", "", &harness::unique("weightlock-role"));
    role["metadata"].as_object_mut().unwrap().remove("namespace");
    role["rules"] = json!([]);
    let says = ["[WL-602]", "is a part of Weightlock", "is none of its administrators. Remedy: ask an administrator"];
    for object in [
        &deployment,
        &binding,
        &service,
        &policy,
        &role,
        &object("v1", "ServiceAccount", own, "weightlock-controller"),
        &pod(own, json!([])),
    ] {
        assert_refused(&harness::try_create(&client, object).await, &says);
        assert_accepted(&harness::create(&part, object).await);
        assert_refused(&harness::merge(&client, object, &label()).await, &says);
        for administrator in &administrators {
            assert_accepted(&harness::merge(administrator, object, &label()).await);
        }
        assert_accepted(&harness::merge(&cluster, object, &label()).await);
        if object["kind"] == "Pod" {
            // A node is drained by whoever may.
            harness::delete(&client, object).await;
        } else {
            assert_refused(&harness::try_delete(&client, object).await, &says);
            harness::delete(&administrators[0], object).await;
        }
    }
    let mut generated = pod(own, json!([]));
    generated["metadata"] = json!({"generateName": "evil-", "namespace": own});
    assert_refused(&harness::try_create(&client, &generated).await, &says);
    assert_accepted(&harness::try_create(&cluster, &generated).await);
    let gone = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}});
    assert_refused(&harness::try_delete(&client, &gone).await, &says);

    // ConfigMaps are put into every namespace by others; and elsewhere nothing is asked.
    let other = harness::unique("wl-other");
    harness::namespace(&client, &other).await;
    for object in [
        object("v1", "ConfigMap", own, "bundle"),
        object("v1", "Secret", &other, "attempt"),
        object("v1", "ServiceAccount", &other, "mine"),
    ] {
        assert_accepted(&harness::create(&client, &object).await);
    }
    let mut theirs = role.clone();
    theirs["metadata"]["name"] = harness::unique("their-role").into();
    assert_accepted(&harness::create(&client, &theirs).await);
    harness::delete(&client, &theirs).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}});
    harness::delete(&client, &namespace).await;
}

#[tokio::test]
async fn nobody_execs_into_weightlock_but_its_administrators() {
    let client = harness::client().await;
    fixture().await;
    let own = installed().await;
    let administrator = harness::somebody(ADMINISTRATOR, &["system:masters"]).await;
    for path in ["exec?command=sh", "attach", "portforward", "proxy/metrics"] {
        let path = format!("pods/x/{path}");
        let said = harness::connect(&client, "GET", own, &path).await;
        assert!(said.contains("[WL-602]") && said.contains("is none of its administrators"), "{path}: {said}");
        let said = harness::connect(&administrator, "GET", own, &path).await;
        assert!(!said.contains("WL-602"), "{path}: {said}");
    }
}
