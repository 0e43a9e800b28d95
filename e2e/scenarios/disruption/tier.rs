//! The Admin tier of the network taken away from the whole cluster, and given back.

use serde_json::{Value, json};

use crate::harness::*;
use crate::network::{address, attempt, connect, wide_open};

const DEFINITION: &str = "clusternetworkpolicies.policy.networking.k8s.io";

/// On a cluster without the API the same policy opens what it allows, and status says both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_admin_tier_a_policy_that_got_past_admission_opens_and_status_says_so() {
    scenario("no-tier", |s| async move {
        let (ns, outside) = (s.namespace("in", &[]).await, s.namespace("out", &[]).await);
        s.create(wide_open(&ns)).await.unwrap();
        s.create(plain_pod(&outside, "stranger")).await.unwrap();
        s.create(environment(&s.id, &ns, &["*"])).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "AdminTierApplied", "True").await;
        s.create(plain_pod(&ns, "inside")).await.unwrap();
        let inside = format!("{}:8080", address(&s, &ns, "inside").await);
        let stranger = format!("{}:8080", address(&s, &outside, "stranger").await);
        assert!(connect(&outside, "stranger", &inside).await.is_err());
        assert_eq!(attempt(&s, &ns, "with", &stranger).await, "Failed");

        let definition = s.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, DEFINITION).await.unwrap();
        s.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, DEFINITION).await;
        let opened = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(async {
            // While the definition goes, writing fails for a moment.
            eventually("status to say that there is no such API", SOON, || async {
                let (reason, message) = s.condition("WeightEnvironment", &s.id, "AdminTierApplied", "False").await;
                if reason == "NotServed" { Ok(()) } else { Err(format!("{reason}: {message}")) }
            })
            .await;
            eventually("the policy to open", SOON, || connect(&outside, "stranger", &inside)).await;
            assert_eq!(attempt(&s, &ns, "without", &stranger).await, "Succeeded");
            let (reason, message) = s.condition("WeightEnvironment", &s.id, "NetworkContained", "False").await;
            assert_eq!(reason, "UndeclaredOpening", "{message}");
            // Without the policy all is well, as on any cluster that has no such API.
            s.delete("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), "open").await;
            s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
            eventually("the default deny to hold", SOON, || async {
                connect(&outside, "stranger", &inside).await.map_or_else(|_| Ok(()), |()| Err("reached".into()))
            })
            .await;
        }))
        .await;
        restore(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": DEFINITION, "annotations": definition.metadata.annotations}, "spec": definition.data["spec"]}))
        .await;
        if let Err(cause) = opened {
            std::panic::resume_unwind(cause);
        }
        s.condition("WeightEnvironment", &s.id, "AdminTierApplied", "True").await;
    })
    .await;
}

/// Not by the stage, which would take it away again.
async fn restore(definition: Value) {
    eventually("the definition to be back", SOON, || async {
        let ran = kubectl_with(&["apply", "--server-side", "-f", "-"], &definition.to_string()).await;
        if ran.ok { Ok(()) } else { Err(ran.stderr) }
    })
    .await;
}
