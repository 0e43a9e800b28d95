use serde_json::json;

use super::fixture::{fixture, pod};
use crate::harness;

#[tokio::test]
async fn nobody_connects_into_an_enforced_environment() {
    let (client, f) = (harness::client().await, fixture().await);
    for (path, what) in [
        ("pods/p/exec?command=sh&stdout=true", "exec into Pod"),
        ("pods/p/attach?stdout=true", "attach into Pod"),
        ("pods/p/portforward?ports=80", "portforward into Pod"),
        ("pods/p/proxy", "proxy into Pod"),
        ("services/p/proxy", "proxy into Service"),
    ] {
        for method in ["POST", "GET"] {
            let ask = async |namespace: &str| harness::connect(&client, method, namespace, path).await;
            let said = ask(&f.inside).await;
            super::assert_refused(
                &Err(said.clone()),
                &[
                    &format!(
                        "[WL-403] {what} \"{}/p\" of environment \"inference\" is refused (workloads.debug: Deny)",
                        f.inside
                    ),
                    "Remedy: Read logs and metrics instead",
                ],
            );
            super::assert_refused(&Err(ask(&f.lab).await), &["[WL-403]", "environment \"lab\""]);
            // There is no such pod, so what passes ends there.
            for namespace in [&f.outside, &f.audit, &f.again] {
                let said = ask(namespace).await;
                assert!(said.contains("not found") && !said.contains("WL-"), "{method} {path} in {namespace}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn pods_of_an_environment_can_be_made_and_read() {
    let (client, f) = (harness::client().await, fixture().await);
    let mine = pod(&f.inside, json!([]));
    super::assert_accepted(&harness::create(&client, &mine).await);
    super::assert_accepted(&harness::merge(&client, &mine, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    harness::delete(&client, &mine).await;
}

#[tokio::test]
async fn nobody_goes_around_that_through_a_node() {
    let (client, f) = (harness::client().await, fixture().await);
    let node = harness::unique("node");
    for method in ["POST", "GET"] {
        let ask = async |path: &str| {
            harness::connect_to(&client, method, &format!("/api/v1/nodes/{node}/proxy/{path}")).await
        };
        for handler in ["run", "exec", "attach", "portForward", "containerLogs", "checkpoint"] {
            let said = ask(&format!("{handler}/{}/p/c?command=sh", f.inside)).await;
            super::assert_refused(
                &Err(said),
                &[
                    &format!("[WL-403] the proxy of Node {node:?} with path \"{handler}/{}/p/c\"", f.inside),
                    &format!("leads into namespace {:?} of environment \"inference\"", f.inside),
                    "Remedy: Read logs and metrics instead",
                ],
            );
        }
        super::assert_refused(
            &Err(ask(&format!("metrics/%2e%2e/run/{}/p/c", f.outside)).await),
            &["[WL-403]", "cannot be told"],
        );
        // There is no such node, so what passes ends there.
        for path in [
            "metrics",
            "stats/summary",
            "healthz",
            "pods",
            "",
            &format!("run/{}/p/c", f.outside),
            &format!("run/{}/p/c", f.audit),
        ] {
            let said = ask(path).await;
            assert!(said.contains("not found") && !said.contains("WL-"), "{method} {path}: {said}");
        }
    }
}
