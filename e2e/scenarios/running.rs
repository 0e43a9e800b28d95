//! Running pods: what may not be changed, and who may not come in.

use serde_json::json;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_pod_is_not_changed_and_not_entered() {
    scenario("running", |s| async move {
        let outside = s.namespace("out", &[]).await;
        let (ns, _) = s.serving(&["vllm"], |_| {}).await;
        s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        s.create(plain_pod(&outside, "plain")).await.unwrap();
        s.phase(&ns, "server", "Running").await;
        s.phase(&outside, "plain", "Running").await;

        // Images and ephemeral containers.
        let swap = json!({"spec": {"containers": [{"name": "server", "image": AGNHOST}]}});
        let swapped = kubectl(&["patch", "pod", "-n", &ns, "server", "-p", &swap.to_string()]).await.failure();
        assert_names(&swapped, "WL-401", &["server"]);
        let debug = [
            "debug",
            "-n",
            &ns,
            "server",
            "--image",
            AGNHOST,
            "--profile=general",
            "--attach=false",
            "--",
            "/agnhost",
            "pause",
        ];
        assert_names(&kubectl(&debug).await.failure(), "WL-402", &[]);
        let debug = [
            "debug",
            "-n",
            &outside,
            "plain",
            "--image",
            AGNHOST,
            "--profile=general",
            "--attach=false",
            "--",
            "/agnhost",
            "pause",
        ];
        kubectl(&debug).await.success();

        // Labels, annotations and deletion are nobody's business.
        kubectl(&["label", "pod", "-n", &ns, "server", "team=a"]).await.success();

        // Every door.
        assert_names(&kubectl(&["exec", "-n", &ns, "server", "--", "/bin/true"]).await.failure(), "WL-403", &[]);
        assert_names(&kubectl(&["attach", "-n", &ns, "server"]).await.failure(), "WL-403", &[]);
        assert_names(
            &kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{ns}/pods/server:8080/proxy/")]).await.failure(),
            "WL-403",
            &[],
        );
        kubectl(&["exec", "-n", &outside, "plain", "--", "/bin/sh", "-c", "true"]).await.success();

        kubectl(&["delete", "pod", "-n", &ns, "server", "--wait=true", "--timeout=50s"]).await.success();
    })
    .await;
}
