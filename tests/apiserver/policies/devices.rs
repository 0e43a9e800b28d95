//! WL-502, and WL-501 of claims: the API server and the domain decide alike.

use serde_json::{Value, json};
use weightlock::domain::{Operation, Request, User, admission};

use super::fixture::fixture;
use crate::harness;

/// A claim or a template with one request, besides another that asks for nothing of interest. Versions before v1 are not
/// served by default any more.
fn claim(namespace: &str, kind: &str, fields: Value) -> Value {
    let other = json!({"deviceClassName": "nic.example.com"});
    let request = |name: &str, fields: &Value| match fields.get("firstAvailable") {
        Some(list) => json!({"name": name, "firstAvailable": list}),
        None => json!({"name": name, "exactly": fields}),
    };
    let spec = json!({"devices": {"requests": [request("other", &other), request("r", &fields)]}});
    let metadata = json!({"name": harness::unique("claim"), "namespace": namespace});
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": metadata,
        "spec": if kind == "ResourceClaim" { spec } else { json!({"spec": spec}) },
    })
}

/// What both say in Audit, which is a warning.
async fn said(object: &Value) -> (Vec<String>, Vec<String>) {
    let (client, f) = (harness::client().await, fixture().await);
    let warned = harness::warnings(&client, object).await;
    let resource = if object["kind"] == "ResourceClaim" { "resourceclaims" } else { "resourceclaimtemplates" };
    let decision = admission::decide(
        &f.world,
        &Request {
            operation: Operation::Create,
            group: "resource.k8s.io",
            resource,
            subresource: None,
            namespace: object["metadata"]["namespace"].as_str().unwrap(),
            name: "c",
            object: Some(object),
            old_object: None,
            user: User::default(),
        },
    );
    assert!(decision.allowed(), "{decision:?}");
    (warned.into_iter().map(|w| w.replace("\\\"", "\"")).collect(), decision.warnings)
}

#[tokio::test]
async fn claims_of_devices_in_use_and_of_gpus_outside_are_warned_of() {
    let (client, f) = (harness::client().await, fixture().await);
    // Kubernetes itself asks for this label, which whoever may change a namespace can set.
    let label = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    for namespace in [&f.inside, &f.outside] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        harness::merge(&client, &object, &label).await.expect("a label");
    }
    let admin = json!({"deviceClassName": "nic.example.com", "adminAccess": true});
    let gpu = json!({"deviceClassName": "gpu.nvidia.com"});
    let alternatives = json!({"firstAvailable": [
        {"name": "a", "deviceClassName": "x.example.com"}, {"name": "b", "deviceClassName": "mig.nvidia.com"},
    ]});
    let harmless = json!({"deviceClassName": "nic.example.com"});
    let (access, outside) =
        ("[WL-502] device request \"r\" asks for adminAccess", "[WL-501] device request \"r\" is for a GPU");
    for kind in ["ResourceClaim", "ResourceClaimTemplate"] {
        for (fields, namespace, expected) in [
            (&admin, &f.outside, Some(access)),
            (&admin, &f.inside, Some(access)),
            (&gpu, &f.outside, Some(outside)),
            (&alternatives, &f.outside, Some(outside)),
            (&gpu, &f.inside, None),
            (&harmless, &f.outside, None),
        ] {
            let object = claim(namespace, kind, fields.clone());
            let (server, domain) = said(&object).await;
            let ours = |list: &[String]| list.iter().filter(|w| w.contains("[WL-")).cloned().collect::<Vec<_>>();
            let (server, domain) = (ours(&server), ours(&domain));
            assert_eq!(
                (server.len(), domain.len()),
                (expected.iter().count(), expected.iter().count()),
                "{object} {server:?} {domain:?}"
            );
            for (expected, said) in expected.iter().flat_map(|e| [(e, &server[0]), (e, &domain[0])]) {
                assert!(said.contains(expected), "{object}: {said}");
            }
        }
    }
}
