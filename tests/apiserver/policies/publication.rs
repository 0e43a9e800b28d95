//! What leads clients to pods of an environment: WL-405, WL-406.

use serde_json::{Value, json};

use super::fixture::fixture;
use super::{assert_accepted, assert_refused};
use crate::harness;

fn service(namespace: &str, fields: Value) -> Value {
    let mut spec = json!({"selector": {"app": "vllm"}, "ports": [{"port": 8000}]});
    json_patch::merge(&mut spec, &fields);
    let metadata = json!({"name": harness::unique("out"), "namespace": namespace});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

#[tokio::test]
async fn a_service_of_an_environment_is_not_published() {
    let (client, f) = (harness::client().await, fixture().await);
    for (fields, says) in [
        (json!({"type": "NodePort"}), "is of type NodePort"),
        (json!({"type": "LoadBalancer"}), "is of type LoadBalancer"),
        (json!({"externalIPs": ["192.0.2.7"]}), "has externalIPs"),
        (json!({"type": "NodePort", "externalTrafficPolicy": "Local"}), "is of type NodePort"),
    ] {
        let ask = async |namespace: &str| harness::try_create(&client, &service(namespace, fields.clone())).await;
        let local = fields.get("externalTrafficPolicy").is_some();
        for namespace in [&f.inside, &f.gated] {
            assert_refused(
                &ask(namespace).await,
                &["[WL-405] Service", says, "as if they were the node", "Remedy: Use type ClusterIP and a proxy"],
            );
        }
        // Clients are declared by their addresses there, which only Local shows.
        match local {
            true => assert_accepted(&ask(&f.lab).await),
            false => assert_refused(&ask(&f.lab).await, &["[WL-405]", says]),
        }
        for namespace in [&f.outside, &f.audit] {
            assert_accepted(&ask(namespace).await);
        }
    }
    for fields in [json!({}), json!({"type": "ClusterIP"}), json!({"clusterIP": "None"})] {
        assert_accepted(&harness::try_create(&client, &service(&f.inside, fields)).await);
    }
}

#[tokio::test]
async fn a_service_is_not_published_later_either_and_can_still_be_written() {
    let (client, f) = (harness::client().await, fixture().await);
    let made = service(&f.inside, json!({}));
    assert_accepted(&harness::create(&client, &made).await);
    let ask = async |patch: Value| harness::merge(&client, &made, &patch).await;
    assert_refused(&ask(json!({"spec": {"type": "NodePort"}})).await, &["[WL-405]", "is of type NodePort"]);
    assert_refused(&ask(json!({"spec": {"externalIPs": ["192.0.2.7"]}})).await, &["[WL-405]", "has externalIPs"]);
    assert_refused(&ask(json!({"spec": {"selector": null}})).await, &["[WL-406]", "has no selector"]);
    assert_accepted(&ask(json!({"metadata": {"labels": {"a": "b"}}})).await);
    assert_accepted(&ask(json!({"spec": {"selector": {"app": "other"}}})).await);
    harness::delete(&client, &made).await;
}

#[tokio::test]
async fn clients_are_led_in_by_a_proxy_only_where_somebody_is_let_in() {
    let (client, f) = (harness::client().await, fixture().await);
    let group = "gateway.networking.k8s.io";
    harness::stand_ins(
        &client,
        group,
        &[("httproutes", "HTTPRoute", "Namespaced"), ("referencegrants", "ReferenceGrant", "Namespaced")],
    )
    .await;
    let backend = json!({"service": {"name": "vllm", "port": {"number": 8000}}});
    for (version, kind, spec) in [
        ("networking.k8s.io/v1", "Ingress", json!({"defaultBackend": backend})),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            json!({"rules": [{"backendRefs": [{"name": "vllm", "port": 8000}]}]}),
        ),
        (
            "gateway.networking.k8s.io/v1",
            "ReferenceGrant",
            json!({"from": [], "to": [{"group": "", "kind": "Service"}]}),
        ),
    ] {
        let ask = async |namespace: &str| {
            let metadata = json!({"name": harness::unique("route"), "namespace": namespace});
            let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
            harness::try_create_served(&client, &object).await
        };
        assert_refused(
            &ask(&f.inside).await,
            &[
                &format!("[WL-405] {kind} \"{}/route-", f.inside),
                "leads clients to pods of an environment that lets nobody in",
            ],
        );
        for namespace in [&f.gated, &f.lab, &f.outside, &f.audit] {
            assert_accepted(&ask(namespace).await);
        }
    }
}

#[tokio::test]
async fn endpoints_of_an_environment_are_written_by_the_cluster() {
    let (client, f) = (harness::client().await, fixture().await);
    let controller = harness::somebody("system:serviceaccount:kube-system:endpointslice-controller", &[]).await;
    let slice = |namespace: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": harness::unique("slice"), "namespace": namespace, "labels": {"kubernetes.io/service-name": "vllm"}},
            "endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"name": "", "port": 8000, "protocol": "TCP"}],
        })
    };
    let endpoints = |namespace: &str| {
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": harness::unique("ends"), "namespace": namespace},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 8000}]}],
        })
    };
    for object in [&slice as &dyn Fn(&str) -> Value, &endpoints] {
        for namespace in [&f.inside, &f.lab] {
            assert_refused(
                &harness::try_create(&client, &object(namespace)).await,
                &[
                    "[WL-406] Endpoint",
                    "which is none of the controllers of the cluster",
                    "Remedy: Give the Service a selector",
                ],
            );
            assert_accepted(&harness::try_create(&controller, &object(namespace)).await);
        }
        for namespace in [&f.outside, &f.audit] {
            assert_accepted(&harness::try_create(&client, &object(namespace)).await);
        }
    }
    // What the cluster wrote is not led elsewhere, and can be labelled.
    let made = slice(&f.inside);
    assert_accepted(&harness::create(&controller, &made).await);
    let elsewhere = json!({"endpoints": [{"addresses": ["192.0.2.8"]}]});
    assert_refused(&harness::merge(&client, &made, &elsewhere).await, &["[WL-406] EndpointSlice"]);
    assert_accepted(&harness::merge(&client, &made, &json!({"metadata": {"labels": {"a": "b"}}})).await);
    harness::delete(&client, &made).await;
}

#[tokio::test]
async fn a_service_of_an_environment_has_a_selector() {
    let (client, f) = (harness::client().await, fixture().await);
    let bare = |namespace: &str, fields: Value| {
        let mut made = service(namespace, fields);
        made["spec"].as_object_mut().unwrap().remove("selector");
        made
    };
    for fields in [json!({}), json!({"clusterIP": "None"})] {
        let ask = async |namespace: &str| harness::try_create(&client, &bare(namespace, fields.clone())).await;
        assert_refused(&ask(&f.inside).await, &["[WL-406] Service", "has no selector", "use type ExternalName"]);
        assert_accepted(&ask(&f.outside).await);
    }
    let elsewhere = json!({"type": "ExternalName", "externalName": "store.example.com"});
    assert_accepted(&harness::try_create(&client, &bare(&f.inside, elsewhere)).await);
}
