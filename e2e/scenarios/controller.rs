//! What the controller keeps true.

use std::time::Duration;

use serde_json::json;

use crate::harness::*;

/// What we own is repaired when it is changed or deleted; what is not ours is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_repaired_and_foreign_policies_stay() {
    scenario("drift", |s| async move {
        let ns = s.namespace("in", &[]).await;
        s.create(environment(&s.id, &ns, &["*"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        let deny = "weightlock-default-deny";
        let policy = |s: std::sync::Arc<Stage>, ns: String| async move { s.get("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), deny).await };
        let first = policy(s.clone(), ns.clone()).await.unwrap();
        s.create(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "theirs", "namespace": ns},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})).await.unwrap();
        // Nobody else may; a part of the cluster itself may, so that namespaces can go.
        let deletion = ["delete", "networkpolicy", "-n", &ns, deny, "--dry-run=server"];
        let refused = eventually("the API server to know whom to guard", SOON, || async {
            let ran = kubectl(&deletion).await;
            if ran.ok { Err(ran.stdout) } else { Ok(ran.stderr) }
        })
        .await;
        assert_names(&refused, "WL-602", &[deny, "is changed by the controller only"]);
        let narrower = json!({"spec": {"policyTypes": ["Ingress"]}});
        let refused = s.patch("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), deny, narrower).await.unwrap_err();
        assert_names(&refused.to_string(), "WL-602", &[deny]);
        let collector = ["--as", "system:serviceaccount:kube-system:generic-garbage-collector", "--as-group", "system:masters", "-n", &ns];
        kubectl(&[&["delete", "networkpolicy", deny], &collector[..]].concat()).await.success();
        eventually("the deleted policy to be back", Duration::from_secs(20), || async {
            match policy(s.clone(), ns.clone()).await {
                Ok(p) if p.metadata.uid != first.metadata.uid => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let change = ["patch", "networkpolicy", deny, "--type=merge", "-p", r#"{"spec":{"policyTypes":["Ingress"]}}"#];
        kubectl(&[&change[..], &collector[..]].concat()).await.success();
        eventually("the changed policy to be mended", Duration::from_secs(20), || async {
            let p = policy(s.clone(), ns.clone()).await.map_err(|e| e.to_string())?;
            if p.data["spec"]["policyTypes"] == json!(["Ingress", "Egress"]) { Ok(()) } else { Err(p.data["spec"].to_string()) }
        })
        .await;
        s.get("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), "theirs").await.unwrap();
    })
    .await;
}

/// A namespace belongs to one environment, and one that was made again is another namespace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_claimed_once_and_its_successor_inherits_nothing() {
    scenario("members", |s| async move {
        let ns = s.inference().await;
        let rival = format!("{}-rival", s.id);
        s.create(environment(&rival, &ns, &["*"])).await.unwrap();
        let (reason, message) = s.condition("WeightEnvironment", &rival, "Accepted", "False").await;
        assert_eq!(reason, "NamespaceConflict", "{message}");
        assert!(message.contains(&ns) && message.contains(&s.id), "{message}");
        s.delete("weightlock.dev/v1alpha1", "WeightEnvironment", None, &rival).await;

        kubectl(&["delete", "namespace", &ns, "--wait=true", "--timeout=55s"]).await.success();
        s.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}})).await.unwrap();
        let found = text(&json!(s.get("v1", "Namespace", None, &ns).await.unwrap().metadata.uid));
        let (_, message) = eventually("the environment to notice", SOON, || async {
            let env =
                s.get("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id).await.map_err(|e| e.to_string())?;
            let status = env.data["status"].to_string();
            if status.contains(&found) && env.data["status"]["members"][0]["problem"].is_string() {
                Ok(((), status))
            } else {
                Err(status)
            }
        })
        .await;
        assert!(message.contains(&ns));
        // Confirmed by its UID it is a member again.
        s.patch(
            "weightlock.dev/v1alpha1",
            "WeightEnvironment",
            None,
            &s.id,
            json!({"spec": {"members": [{"namespace": ns, "uid": found, "serviceAccounts": ["vllm"]}]}}),
        )
        .await
        .unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
    })
    .await;
}

/// The policies of an environment outlive its object until the last pod with weights is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_of_an_environment_waits_for_its_weights() {
    scenario("deletion", |s| async move {
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        s.phase(&ns, "server", "Running").await;
        s.delete("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id).await;
        eventually("the deletion to say what it waits for", SOON, || async {
            let env =
                s.get("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id).await.map_err(|e| e.to_string())?;
            let status = env.data["status"]["conditions"].to_string();
            if status.contains("server") { Ok(()) } else { Err(status) }
        })
        .await;
        always("the policies stay", Duration::from_secs(3), || async {
            s.get("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), "weightlock-default-deny")
                .await
                .map(|_| ())
                .map_err(|e| e.to_string())
        })
        .await;
        s.delete("v1", "Pod", Some(&ns), "server").await;
        eventually("the environment and its policies to be gone", SOON, || async {
            let env = s.get("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id).await;
            let policies = s.list("networking.k8s.io/v1", "NetworkPolicy", Some(&ns)).await;
            if env.is_err() && policies.is_empty() {
                Ok(())
            } else {
                Err(format!("{} policies, environment {env:?}", policies.len()))
            }
        })
        .await;
    })
    .await;
}

/// Where the cluster has the reports of OpenReports, what is found is in one for each object, as long as it is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_are_reported_where_reports_are_served() {
    scenario("reports", |s| async move {
        // A stand-in for the definition of OpenReports.
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let version = json!({"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
        let name = "clusterreports.openreports.io";
        s.create(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {"group": "openreports.io", "scope": "Cluster", "versions": [version],
                "names": {"plural": "clusterreports", "singular": "clusterreport", "kind": "ClusterReport", "listKind": "ClusterReportList"}},
        }))
        .await
        .unwrap();
        let (ns, _) = s.serving(&["vllm"], |env| env["spec"]["modes"]["admission"] = "Audit".into()).await;
        let mut host = plain_pod(&ns, "host");
        host["spec"]["hostNetwork"] = true.into();
        s.create(host).await.unwrap();
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        s.phase(&ns, "host", "Running").await;
        s.phase(&ns, "server", "Running").await;
        let report = format!("weightlock-environment-{}", s.id);
        let found = eventually("the report", SOON, || async {
            let found = s.get("openreports.io/v1alpha1", "ClusterReport", None, &report).await.map_err(|e| e.to_string())?;
            if found.data["summary"]["warn"] == 1 { Ok(found.data) } else { Err(found.data.to_string()) }
        })
        .await;
        let result = &found["results"][0];
        assert_eq!((&result["policy"], &result["result"]), (&json!("WL-201"), &json!("warn")), "{found}");
        assert_eq!(result["resources"][0]["name"], "host", "{found}");
        assert_eq!(found["scope"]["kind"], "WeightEnvironment", "{found}");
        s.delete("v1", "Pod", Some(&ns), "host").await;
        eventually("the report to go", SOON, || async {
            match s.get("openreports.io/v1alpha1", "ClusterReport", None, &report).await {
                Err(_) => Ok(()),
                Ok(found) => Err(found.data.to_string()),
            }
        })
        .await;
        s.phase(&ns, "server", "Running").await;
        s.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, name).await;
    })
    .await;
}
