//! Who may only write declarations opens nothing by them.

use serde_json::{Value, json};

use crate::harness::*;

/// Each verb is asked on the object that a change opens; who has it, and a cluster administrator, passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_of_declarations_opens_nothing_without_the_verb() {
    scenario("delegation", |s| async move {
        let (_, weights) = s.serving(&["vllm"], |_| {}).await;
        let trial_ns = s.namespace("trial", &[]).await;
        let trial = format!("{}-trial", s.id);
        let mut in_audit = environment(&trial, &trial_ns, &["*"]);
        in_audit["spec"]["modes"]["admission"] = json!("Audit");
        s.create(in_audit).await.unwrap();
        let writer = format!("{}-writer", s.id);
        let write = json!({"apiGroups": ["weightlock.dev"], "resources": ["weightartifacts", "weightenvironments"],
            "verbs": ["get", "create", "update", "patch", "delete"]});
        let group = "rbac.authorization.k8s.io";
        s.create(json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": writer}, "rules": [write]}))
            .await
            .unwrap();
        s.create(json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": writer},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": writer},
            "subjects": [{"apiGroup": group, "kind": "User", "name": writer}]}))
            .await
            .unwrap();

        // What opens nothing is the writer's.
        eventually("the rights of the writer", SOON, || async {
            match patch(&writer, "weightartifact", &s.id, json!({"spec": {"contact": CONTACT}})).await {
                ran if ran.ok => Ok(()),
                ran => Err(ran.stderr),
            }
        })
        .await;
        let wider = json!({"spec": {"permittedEnvironments": [{"name": s.id}, {"name": trial}]}});
        let said = patch(&writer, "weightartifact", &s.id, wider.clone()).await.failure();
        assert_names(&said, "WL-603", &[&trial, "the verb permit", &writer, "Remedy:"]);
        let theirs = artifact(&format!("{}-theirs", s.id), &weights, &[&trial]).to_string();
        let said = kubectl_with(&["create", "--as", &writer, "-f", "-"], &theirs).await.failure();
        assert_names(&said, "WL-603", &[&trial, "the verb permit"]);
        let said = kubectl(&["delete", "--as", &writer, "weightartifact", &s.id]).await.failure();
        assert_names(&said, "WL-603", &[&s.id, "the verb lower"]);
        let audit = json!({"spec": {"modes": {"admission": "Audit"}}});
        let said = patch(&writer, "weightenvironment", &s.id, audit.clone()).await.failure();
        assert_names(&said, "WL-603", &[&s.id, "enforces admission", "the verb lower"]);
        let said = kubectl(&["delete", "--as", &writer, "weightenvironment", &s.id]).await.failure();
        assert_names(&said, "WL-603", &["enforces admission, network, verification, egress"]);

        // The same once the verb is granted, on this environment.
        let permit = json!({"apiGroups": ["weightlock.dev"], "resources": ["weightenvironments"],
            "resourceNames": [trial], "verbs": ["permit"]});
        s.patch(&format!("{group}/v1"), "ClusterRole", None, &writer, json!({"rules": [write, permit]})).await.unwrap();
        eventually("the verb to be known", SOON, || async {
            match patch(&writer, "weightartifact", &s.id, wider.clone()).await {
                ran if ran.ok => Ok(()),
                ran => Err(ran.stderr),
            }
        })
        .await;
        // Not so much that nothing enforces it.
        let left = json!({"spec": {"permittedEnvironments": [{"name": trial}]}});
        let said = patch(&writer, "weightartifact", &s.id, left).await.failure();
        assert_names(&said, "WL-603", &["no environment whose admission is enforced", "the verb lower"]);

        // A cluster administrator has every verb.
        s.patch("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id, audit).await.unwrap();
    })
    .await;
}

async fn patch(user: &str, kind: &str, name: &str, patch: Value) -> Ran {
    kubectl(&["patch", "--as", user, kind, name, "--type=merge", "-p", &patch.to_string()]).await
}
