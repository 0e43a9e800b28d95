//! Ways to pods of an environment that no rule of its network declares.

use serde_json::{Value, json};

use crate::harness::*;

fn service(namespace: &str, name: &str, fields: Value) -> Value {
    let mut spec = json!({"selector": {"app": name}, "ports": [{"port": 8080}]});
    json_patch::merge(&mut spec, &fields);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// Clients outside the cluster come in only where the environment names them, and by their own addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_an_environment_are_published_only_to_whom_it_names() {
    scenario("published", |s| async move {
        let ns = s.inference().await;
        let attack = service(&ns, "out", json!({"type": "NodePort", "externalTrafficPolicy": "Local"}));
        let message = refused_soon(&s, &attack).await;
        assert_names(&message, "WL-405", &["is of type NodePort", "as if they were the node", "network.ingress"]);
        let others = [json!({"type": "LoadBalancer"}), json!({"externalIPs": ["192.0.2.7"]})];
        for fields in others {
            assert_names(&s.refused(service(&ns, "out", fields)).await, "WL-405", &["Service", "Remedy:"]);
        }
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "out", "namespace": ns},
            "spec": {"defaultBackend": {"service": {"name": "out", "port": {"number": 8080}}}}});
        assert_names(&refused_soon(&s, &ingress).await, "WL-405", &["Ingress", "lets nobody in"]);

        // A Service within the cluster passes, and is not published later.
        s.create(service(&ns, "server", json!({}))).await.unwrap();
        let later = s.patch("v1", "Service", Some(&ns), "server", json!({"spec": {"type": "NodePort"}})).await;
        assert_names(&later.unwrap_err().to_string(), "WL-405", &["is of type NodePort"]);

        // Where clients are named by address, they are let in, but only by their own address.
        let clients = json!([{"name": "clients", "from": {"cidr": "198.51.100.0/24"},
            "ports": [{"protocol": "TCP", "port": 8080}]}]);
        s.patch(
            "weightlock.dev/v1alpha1",
            "WeightEnvironment",
            None,
            &s.id,
            json!({"spec": {"network": {"ingress": clients}}}),
        )
        .await
        .unwrap();
        eventually("what is declared to pass", SOON, || async {
            s.create(attack.clone()).await.map(|_| ()).map_err(|e| e.to_string())
        })
        .await;
        let hidden = service(&ns, "hidden", json!({"type": "NodePort"}));
        assert_names(&s.refused(hidden).await, "WL-405", &["externalTrafficPolicy: Local"]);
        s.create(ingress).await.unwrap();

        // Outside nobody is asked.
        let outside = s.namespace("out", &[]).await;
        s.create(service(&outside, "out", json!({"type": "NodePort"}))).await.unwrap();
    })
    .await;
}

/// Endpoints come from the cluster's own controllers, which are not disturbed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_an_environment_are_not_written_by_hand() {
    scenario("endpoints", |s| async move {
        let ns = s.inference().await;
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "by-hand", "namespace": ns, "labels": {"kubernetes.io/service-name": "server"}},
            "endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]});
        assert_names(
            &refused_soon(&s, &slice).await,
            "WL-406",
            &["none of the controllers of the cluster", "selector"],
        );
        let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "server", "namespace": ns},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 8080}]}]});
        assert_names(&s.refused(endpoints).await, "WL-406", &["Endpoints"]);
        let bare = service(&ns, "server", json!({"selector": null}));
        assert_names(&refused_soon(&s, &bare).await, "WL-406", &["has no selector", "ExternalName"]);

        s.create(service(&ns, "server", json!({}))).await.unwrap();
        s.create(plain_pod(&ns, "server")).await.unwrap();
        s.phase(&ns, "server", "Running").await;
        let pod = s.get("v1", "Pod", Some(&ns), "server").await.unwrap();
        let address = text(&pod.data["status"]["podIP"]);
        for (version, kind) in [("discovery.k8s.io/v1", "EndpointSlice"), ("v1", "Endpoints")] {
            eventually("the endpoints that the cluster writes", SOON, || async {
                let found = s.list(version, kind, Some(&ns)).await;
                let found = serde_json::to_string(&found).unwrap();
                if found.contains(&format!("{address:?}")) {
                    Ok(())
                } else {
                    Err(format!("{address} is not in {found}"))
                }
            })
            .await;
        }
    })
    .await;
}

/// The refusal of an attack, once the namespace is among those that its policy looks at. Each policy takes effect by itself.
async fn refused_soon(s: &Stage, attack: &Value) -> String {
    let (version, kind) = (text(&attack["apiVersion"]), text(&attack["kind"]));
    let (namespace, name) = (text(&attack["metadata"]["namespace"]), text(&attack["metadata"]["name"]));
    eventually("the attack to be refused", SOON, || async {
        match s.create(attack.clone()).await {
            Err(refused) => Ok(refused.to_string()),
            Ok(_) => {
                s.delete(&version, &kind, Some(&namespace), &name).await;
                Err("accepted".to_string())
            }
        }
    })
    .await
}
