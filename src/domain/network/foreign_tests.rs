use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::{Port, Protocol};

fn ports(first: i32, last: i32) -> Vec<Port> {
    vec![Port { protocol: Protocol::TCP, port: first, end_port: Some(last) }]
}

fn allowance(direction: Direction, peers: Vec<PlannedPeer>, ports: Vec<Port>) -> Allowance {
    Allowance::Rule { direction, name: "r".into(), peers, ports }
}

fn gateway() -> PlannedPeer {
    let labels = BTreeMap::from([("app".into(), "gateway".into())]);
    PlannedPeer::Pods { namespace: "edge".into(), labels }
}

/// From the gateway to 8000-8010; to the own namespace on 29500, to two blocks of addresses on 443, and DNS.
fn declared() -> Vec<Allowance> {
    let cidr = |cidr: &str| PlannedPeer::Cidr(cidr.into());
    vec![
        Allowance::Dns,
        allowance(Direction::Ingress, vec![gateway()], ports(8000, 8010)),
        allowance(Direction::Egress, vec![PlannedPeer::Namespace("serving".into())], ports(29500, 29500)),
        allowance(
            Direction::Egress,
            vec![cidr("10.0.0.0/25"), cidr("10.0.0.128/25"), cidr("fd00::/64")],
            ports(443, 443),
        ),
    ]
}

fn found(kind: Kind, spec: Value) -> Vec<String> {
    let policy = json!({"spec": spec});
    excess(kind, &policy, "serving", &declared()).into_iter().map(|e| format!("{}: {}", e.at, e.what)).collect()
}

fn kubernetes(spec: Value) -> Vec<String> {
    found(Kind::NetworkPolicy, spec)
}

fn in_edge(labels: Value) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}, "podSelector": labels})
}

#[test]
fn what_is_declared_may_be_written_again_or_narrower() {
    let app = json!({"matchLabels": {"app": "gateway", "zone": "a"}});
    let passes = [
        json!({}),
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        json!({"podSelector": {}, "ingress": [{"from": [in_edge(app)], "ports": [{"port": 8000, "endPort": 8005}]}]}),
        json!({"egress": [{"to": [{"podSelector": {"matchLabels": {"app": "worker"}}}], "ports": [{"port": 29500}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}]}),
        // Two blocks cover what neither does.
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"port": 443}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/23", "except": ["10.0.1.0/24"]}}], "ports": [{"port": 443}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "fd00::1/128"}}], "ports": [{"port": 443}]}]}),
        json!({"egress": [{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}], "ports": [{"protocol": "UDP", "port": 53}]}]}),
        json!({"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["edge"]},
            {"key": "team", "operator": "Exists"}]},
            "podSelector": {"matchLabels": {"app": "gateway"}}}], "ports": [{"port": 8000}]}]}),
    ];
    for spec in passes {
        assert_eq!(kubernetes(spec.clone()), [""; 0], "{spec}");
    }
}

#[test]
fn what_is_not_declared_is_named_by_its_field() {
    let gateway = || in_edge(json!({"matchLabels": {"app": "gateway"}}));
    for (spec, expected) in [
        (json!({"egress": [{}]}), "spec.egress[0]: without \"to\" it is for everyone"),
        (
            json!({"policyTypes": ["Ingress"], "ingress": [{"from": []}]}),
            "spec.ingress[0]: without \"from\" it is for everyone",
        ),
        (json!({"ingress": [{"from": [gateway()]}]}), "spec.ingress[0]: without \"ports\" it is for all of them"),
        (
            json!({"ingress": [{"from": [gateway()], "ports": [{"protocol": "TCP"}]}]}),
            "spec.ingress[0].ports[0]: it is no protocol and port number: a name is whatever a pod says it is",
        ),
        (
            json!({"ingress": [{"from": [gateway()], "ports": [{"port": "http"}]}]}),
            "spec.ingress[0].ports[0]: it is no protocol and port number: a name is whatever a pod says it is",
        ),
        (
            json!({"ingress": [{"from": [gateway()], "ports": [{"port": 8000, "endPort": 8020}]}]}),
            "spec.ingress[0].from[0]: TCP 8011-8020 from the pods app=gateway of namespace \"edge\" is not declared",
        ),
        (
            json!({"ingress": [{"from": [gateway()], "ports": [{"port": 8000, "protocol": "UDP"}]}]}),
            "spec.ingress[0].from[0]: UDP 8000 from the pods app=gateway of namespace \"edge\" is not declared",
        ),
        (
            json!({"ingress": [{"from": [in_edge(json!({}))], "ports": [{"port": 8000}]}]}),
            "spec.ingress[0].from[0]: TCP 8000 from all pods of namespace \"edge\" is not declared",
        ),
        (
            json!({"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 8000}]}]}),
            "spec.ingress[0].from[0]: TCP 8000 from all pods of namespace \"serving\" is not declared",
        ),
        (
            json!({"ingress": [{"from": [in_edge(json!({"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["gateway", "thief"]}]}))], "ports": [{"port": 8000}]}]}),
            "spec.ingress[0].from[0]: TCP 8000 from the pods app=thief of namespace \"edge\" is not declared",
        ),
        (
            json!({"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 8000}]}]}),
            "spec.ingress[0].from[0]: it selects namespaces by labels, which others may set",
        ),
        (
            json!({"ingress": [{"from": [{}], "ports": [{"port": 8000}]}]}),
            "spec.ingress[0].from[0]: an empty peer is everyone",
        ),
        (
            json!({"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]}),
            "spec.egress[0].to[0]: TCP 443 to 0.0.0.0/5 is not declared",
        ),
        (
            json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/23", "except": ["10.0.1.0/25"]}}], "ports": [{"port": 443}]}]}),
            "spec.egress[0].to[0]: TCP 443 to 10.0.1.128/25 is not declared",
        ),
        (
            json!({"egress": [{"to": [{"ipBlock": {"cidr": "ten"}}], "ports": [{"port": 443}]}]}),
            "spec.egress[0].to[0]: it is no block of addresses",
        ),
        (
            json!({"egress": [{"to": [{"podSelector": {}, "anyone": true}], "ports": [{"port": 29500}]}]}),
            "spec.egress[0].to[0]: what \"anyone\" opens is not known to Weightlock",
        ),
        (
            json!({"egress": [{"to": [{"podSelector": {"matchLabels": {"a": 1}}}], "ports": [{"port": 29500}]}]}),
            "spec.egress[0].to[0]: it is no label selector",
        ),
        (json!("all"), "spec: it is no object"),
    ] {
        let found = kubernetes(spec.clone());
        assert!(found.iter().any(|text| text.starts_with(expected)), "{spec}: {found:#?}");
    }
}

#[test]
fn blocks_are_compared_up_to_a_number() {
    let except: Vec<String> = (0..300).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let spec =
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": except}}], "ports": [{"port": 443}]}]});
    assert_eq!(kubernetes(spec), ["spec: it has more than 256 blocks of addresses, which are not compared"]);
}

#[test]
fn cilium_says_the_same_in_its_own_words() {
    let cilium = |spec| found(Kind::Cilium, spec);
    let gateway = json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "edge", "k8s:app": "gateway"}});
    let port = json!([{"ports": [{"port": "8000", "protocol": "TCP"}]}]);
    for spec in [
        json!({"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["world"]}], "egress": [{}]}),
        json!({"ingress": [{"fromEndpoints": [gateway], "toPorts": port}]}),
        json!({"ingress": [{"fromEndpoints": [gateway],
            "toPorts": [{"ports": [{"port": "8000", "protocol": "TCP", "endPort": 8010}], "rules": {"http": [{"method": "GET"}]}}]}]}),
        json!({"egress": [{"toEndpoints": [{"matchLabels": {"app": "w"}}], "toPorts": [{"ports": [{"port": "29500", "protocol": "TCP"}]}]}]}),
        json!({"egress": [{"toCIDR": ["10.0.0.0/24"], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}]}),
    ] {
        assert_eq!(cilium(spec.clone()), [""; 0], "{spec}");
    }
    for (spec, expected) in [
        (
            json!({"ingress": [{"fromEntities": ["world"]}]}),
            "spec.ingress[0]: what \"fromEntities\" opens is not known to Weightlock",
        ),
        (
            json!({"egress": [{"toFQDNs": [{"matchPattern": "*"}], "toPorts": port}]}),
            "spec.egress[0]: what \"toFQDNs\" opens is not known to Weightlock",
        ),
        (
            json!({"ingress": [{"fromEndpoints": [gateway]}]}),
            "spec.ingress[0]: without \"toPorts\" it is for all ports",
        ),
        (json!({"ingress": [{"toPorts": port}]}), "spec.ingress[0]: without peers it is for everyone"),
        (
            json!({"ingress": [{"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}], "toPorts": port}]}),
            "spec.ingress[0].fromEndpoints[0]: \"reserved:host\" is no label of a pod",
        ),
        (
            json!({"ingress": [{"fromEndpoints": [{"matchExpressions": [
            {"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"}]}], "toPorts": port}]}),
            "spec.ingress[0].fromEndpoints[0]: it selects pods of namespaces that it does not name",
        ),
        (
            json!({"ingress": [{"fromEndpoints": [{"matchLabels": {"io.cilium.k8s.namespace.labels.team": "x"}}], "toPorts": port}]}),
            "spec.ingress[0].fromEndpoints[0]: it selects pods of namespaces that it does not name",
        ),
        (
            json!({"ingress": [{"fromEndpoints": [gateway], "toPorts": [{"ports": [{"port": "8000"}]}]}]}),
            "spec.ingress[0].fromEndpoints[0]: UDP 8000 from the pods app=gateway of namespace \"edge\" is not declared",
        ),
        (
            json!({"egress": [{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}],
            "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}]}),
            "spec.egress[0].toCIDRSet[0]: TCP 443 to 10.0.1.0/24 is not declared",
        ),
    ] {
        let found = cilium(spec.clone());
        assert!(found.iter().any(|text| text == expected), "{spec}: {found:#?}");
    }
    let several = json!({"specs": [{"endpointSelector": {}}, {"egress": [{"toEntities": ["all"]}]}]});
    let found = excess(Kind::Cilium, &several, "serving", &declared());
    assert_eq!(found[0].at, "specs[1].egress[0]");
}

#[test]
fn calico_may_allow_blocks_and_namespaces_by_name() {
    let calico = |spec| found(Kind::Calico, spec);
    for spec in [
        json!({"selector": "all()", "types": ["Egress"], "egress": [{"action": "Deny"}]}),
        json!({"egress": [{"action": "Allow", "protocol": "TCP", "destination": {"nets": ["10.0.0.0/26"], "ports": [443]}}]}),
        json!({"egress": [{"action": "Allow", "protocol": 6,
            "destination": {"namespaceSelector": "kubernetes.io/metadata.name == 'serving'", "ports": ["29500:29500"]}}]}),
    ] {
        assert_eq!(calico(spec.clone()), [""; 0], "{spec}");
    }
    for (spec, expected) in [
        (json!({"egress": [{"action": "Pass"}]}), "spec.egress[0]: it leaves the decision to others than this policy"),
        (
            json!({"egress": [{"action": "Allow"}]}),
            "spec.egress[0]: without a protocol and \"ports\" of the destination it is for all",
        ),
        (
            json!({"egress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [443]}}]}),
            "spec.egress[0].destination: it is for more than \"nets\" or one namespace by its name",
        ),
        (
            json!({"egress": [{"action": "Allow", "protocol": "TCP", "destination": {"domains": ["x"], "ports": [443]}}]}),
            "spec.egress[0].destination: what \"domains\" opens is not known to Weightlock",
        ),
        (
            json!({"egress": [{"action": "Allow", "protocol": "TCP",
            "destination": {"namespaceSelector": "projectcalico.org/name == 'edge' || all()", "ports": [443]}}]}),
            "spec.egress[0].destination: it is for more than \"nets\" or one namespace by its name",
        ),
        (
            json!({"ingress": [{"action": "Allow", "protocol": "TCP", "source": {"nets": ["10.0.0.0/26"]}, "destination": {"ports": [8000]}}]}),
            "spec.ingress[0].source.nets[0]: TCP 8000 from 10.0.0.0/26 is not declared",
        ),
    ] {
        let found = calico(spec.clone());
        assert!(found.iter().any(|text| text == expected), "{spec}: {found:#?}");
    }
}

/// A small world in which containment can be counted out: 16 addresses, 4 ports.
fn block() -> impl Strategy<Value = (u8, u8)> {
    (0u8..16, 28u8..=32).prop_map(|(address, length)| (address & (0xf0u16 << (32 - length) >> 4) as u8, length))
}

fn text((address, length): (u8, u8)) -> String {
    format!("192.0.2.{address}/{length}")
}

fn holds((address, length): (u8, u8), candidate: u8) -> bool {
    let shift = 32 - u32::from(length);
    u32::from(address) >> shift == u32::from(candidate) >> shift
}

proptest! {
    /// Whatever is declared and written: refused if and only if an address and a port get through that are not declared.
    #[test]
    fn containment_is_exact(
        declared in proptest::collection::vec((block(), 1i32..5, 0i32..3), 0..5),
        written in block(),
        except in proptest::collection::vec(block(), 0..4),
        first in 1i32..5,
        more in 0i32..3,
    ) {
        let allowances: Vec<Allowance> = declared
            .iter()
            .map(|(block, port, more)| {
                allowance(Direction::Egress, vec![PlannedPeer::Cidr(text(*block))], ports(*port, port + more))
            })
            .collect();
        let policy = json!({"spec": {"egress": [{
            "to": [{"ipBlock": {"cidr": text(written), "except": except.iter().map(|block| text(*block)).collect::<Vec<_>>()}}],
            "ports": [{"port": first, "endPort": first + more}],
        }]}});
        let open = |address: u8, port: i32| declared.iter().any(|(block, from, more)| {
            holds(*block, address) && (*from..=from + more).contains(&port)
        });
        let escapes = (0..16).any(|address| {
            holds(written, address) && !except.iter().any(|block| holds(*block, address))
                && (first..=first + more).any(|port| !open(address, port))
        });
        let found = excess(Kind::NetworkPolicy, &policy, "serving", &allowances);
        prop_assert_eq!(!found.is_empty(), escapes, "{:?}", found);
    }

    #[test]
    fn what_is_no_policy_is_refused(text in "[ -~]{0,40}", number in any::<i64>()) {
        for kind in [Kind::NetworkPolicy, Kind::Cilium, Kind::Calico] {
            let policy = json!({"spec": {"egress": [{"to": [text], "toPorts": [number], "action": "Allow"}]}});
            prop_assert!(!excess(kind, &policy, "n", &declared()).is_empty());
        }
    }
}
