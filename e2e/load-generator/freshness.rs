//! How long a change takes from the API server to the decisions of the webhook.
//!
//! A claim is made that names a volume of registered weights. Before, a pod that mounts it is refused because there is no
//! such claim; the webhook is asked without a pause until it says something else. The time begins when the request to make
//! the claim is sent, so what the API server and etcd take is in it; it is given beside.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use axum::body::Bytes;
use serde_json::json;
use weightlock::domain::Operation;

use super::arguments::Arguments;
use super::decision::Sample;
use super::objects::{Plan, model_server};
use super::report::Report;
use super::server::Server;
use super::statistics::Durations;
use super::tls::Connection;

pub async fn measure(
    arguments: &Arguments,
    authority: &[u8],
    server: &Server,
    plan: &Plan,
    report: &mut Report,
) -> Result<()> {
    let mut connection = Connection::open(&arguments.address, authority).await?;
    let (mut writes, mut from_request, mut from_answer) = (Durations::new()?, Durations::new()?, Durations::new()?);
    for change in 0..arguments.changes {
        let artifact = change * 10 % plan.artifacts;
        let (namespace, _) = plan.claim_of(artifact);
        let claim = format!("change-{change}");
        let review = Sample {
            kind: "change",
            namespace: namespace.clone(),
            operation: Operation::Create,
            object: model_server("change", &claim),
            old: None,
            allowed: false,
        };
        let review = Bytes::from(review.review().to_string());
        let absent = |answer: &Bytes| answer.windows(6).any(|text| text == b"WL-111");
        if !absent(&connection.post("/validate", review.clone()).await?) {
            bail!("a claim that does not exist is not refused");
        }
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace, "name": claim},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "fast",
                "volumeName": format!("pvc-{artifact:08}-5c1e-4d2f-9b7d-0123456789ab")},
        });
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
        let started = Instant::now();
        let write = async {
            server.put("POST", &path, &object).await?;
            anyhow::Ok(started.elapsed())
        };
        let seen = async {
            while absent(&connection.post("/validate", review.clone()).await?) {
                if started.elapsed() > Duration::from_secs(10) {
                    bail!("the webhook does not see a change within 10 s");
                }
            }
            anyhow::Ok(started.elapsed())
        };
        let (written, seen) = tokio::try_join!(write, seen)?;
        writes.add(written);
        from_request.add(seen);
        // It may be seen before the answer is: watches are told when it is stored.
        from_answer.add(seen.saturating_sub(written));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report.change("the write itself", &writes);
    report.change("from the request to the decision", &from_request);
    report.change("from the answer to the decision", &from_answer);
    Ok(())
}
