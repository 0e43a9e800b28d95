//! What is rendered for the network of environments means what they declare: generated environments, every ordered pair of ends,
//! and an evaluator of the policies that knows nothing of Weightlock.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod evaluator;

use std::collections::BTreeMap;

use evaluator::{Endpoint, Policies};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use weightlock::api::Protocol;
use weightlock::domain::World;
use weightlock::domain::network::{self, Declaration, Destination, End, Reach, Side};
use weightlock::domain::world::Settings;
use weightlock::index;
use weightlock::render;

/// Each namespace with the environment that claims it, if one does. `again` was made again since it was pinned.
const NAMESPACES: [(&str, Option<&str>); 7] = [
    ("a-one", Some("a")),
    ("a-two", Some("a")),
    ("b-one", Some("b")),
    ("c-one", Some("c")),
    ("again", Some("c")),
    ("outside", None),
    ("kube-system", None),
];
const PROTOCOLS: [(Protocol, &str); 3] = [(Protocol::TCP, "TCP"), (Protocol::UDP, "UDP"), (Protocol::SCTP, "SCTP")];
const PORTS: [u16; 4] = [53, 79, 80, 443];
const OUTSIDE: [&str; 4] = ["192.0.2.7", "198.51.100.1", "fd00:20::1", "169.254.20.10"];

fn peers() -> impl Strategy<Value = Value> {
    let labels = select(vec![json!({"app": "x"}), json!({"app": "y"}), json!({"app": "x", "tier": "p"})]);
    let namespace = select(NAMESPACES.map(|(name, _)| name).to_vec());
    let networks = [
        "0.0.0.0/0",
        "192.0.2.0/24",
        "192.0.2.7/32",
        "10.0.1.0/24",
        "10.0.0.0/8",
        "fd00:20::/64",
        "::/0",
        "fd00:10::/32",
    ];
    prop_oneof![
        select(vec!["a", "b", "c", "nowhere"]).prop_map(|name| json!({"environment": name})),
        Just(json!({"self": {}})),
        (namespace, labels).prop_map(|(namespace, labels)| json!({"pods": {"namespace": namespace, "labels": labels}})),
        select(networks.to_vec()).prop_map(|cidr| json!({"cidr": cidr})),
    ]
}

fn ports() -> impl Strategy<Value = Value> {
    let protocol = select(PROTOCOLS.map(|(_, name)| name).to_vec());
    let one = (protocol, select(PORTS.to_vec()), select(vec![None, Some(0), Some(1), Some(400)])).prop_map(
        |(protocol, port, more)| match more {
            None => json!({"protocol": protocol, "port": port}),
            Some(more) => json!({"protocol": protocol, "port": port, "endPort": port + more}),
        },
    );
    prop::collection::vec(one, 1..3).prop_map(Value::from)
}

fn rules(side: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::vec((peers(), ports()), 0..4).prop_map(move |rules| {
        let rules = rules.into_iter().enumerate();
        rules.map(|(n, (peer, ports))| json!({"name": format!("r{n}"), side: peer, "ports": ports})).collect()
    })
}

fn environment(name: &'static str) -> impl Strategy<Value = Value> {
    (
        rules("from"),
        rules("to"),
        select(vec!["Cluster", "None"]),
        select(vec!["Enforce", "Enforce", "Enforce", "Audit"]),
    )
        .prop_map(move |(ingress, egress, dns, mode)| {
            let claimed = NAMESPACES.iter().filter(|(_, environment)| *environment == Some(name));
            let members: Vec<Value> = claimed
                .map(|(namespace, _)| json!({"namespace": namespace, "uid": "u", "serviceAccounts": ["*"]}))
                .collect();
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": name},
                "spec": {"purpose": "Inference", "members": members,
                    "modes": {"admission": "Enforce", "network": mode, "verification": "Enforce", "egress": "Audit"},
                    "network": {"ingress": ingress, "egress": egress, "dns": dns}}})
        })
}

fn world() -> impl Strategy<Value = World> {
    (environment("a"), environment("b"), environment("c")).prop_map(|(a, b, c)| {
        let namespaces = NAMESPACES.map(|(name, _)| {
            let uid = if name == "again" { "later" } else { "u" };
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": uid}})
        });
        index::from_objects([a, b, c].into_iter().chain(namespaces).collect(), Settings::default()).unwrap()
    })
}

/// Pods of each namespace, every second with an address of the other family, and addresses outside the cluster.
fn ends() -> Vec<Endpoint> {
    let mut ends = Vec::new();
    for (n, (namespace, _)) in NAMESPACES.iter().enumerate() {
        for (m, labels) in
            [&[("app", "x")][..], &[("app", "x"), ("tier", "p")], &[("app", "y"), ("k8s-app", "kube-dns")]]
                .into_iter()
                .enumerate()
        {
            let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let address = if (n + m) % 2 == 0 { format!("10.0.{n}.{m}") } else { format!("fd00:10::{n}:{m}") };
            ends.push(Endpoint { pod: Some((namespace.to_string(), labels)), address: address.parse().unwrap() });
        }
    }
    ends.extend(OUTSIDE.map(|address| Endpoint { pod: None, address: address.parse().unwrap() }));
    ends
}

fn declared(world: &World, from: &Endpoint, to: &Endpoint, protocol: Protocol, port: u16) -> Reach {
    let end = |it: &Endpoint| End { pod: it.pod.clone(), addresses: vec![it.address] };
    network::reach(world, &end(from), &end(to), Destination { protocol, port }).unwrap()
}

struct Rendered {
    namespaced: Vec<Value>,
    admin: Vec<Value>,
    /// Ingress rules with addresses, of the environments by name: on their ports the Admin tier passes all pods.
    left_out: BTreeMap<String, Vec<String>>,
}

fn rendered(world: &World) -> Rendered {
    let mut rendered = Rendered { namespaced: vec![], admin: vec![], left_out: BTreeMap::new() };
    for name in world.environments.keys() {
        let plan = network::plan(world, name).unwrap();
        let policies = render::network::policies(name, &plan);
        rendered.namespaced.extend(policies.iter().map(|policy| serde_json::to_value(policy).unwrap()));
        if let Some(tier) = network::admin_tier(&plan) {
            let policies = render::cluster_network_policy::policies(name, &tier);
            rendered.admin.extend(policies.iter().map(|policy| serde_json::to_value(policy).unwrap()));
            rendered.left_out.insert(name.clone(), tier.left_out);
        }
    }
    rendered
}

/// What allows everything, for all pods of each namespace: policies that got past admission.
fn open() -> Vec<Value> {
    NAMESPACES
        .map(|(namespace, _)| {
            json!({"metadata": {"namespace": namespace, "name": "open"}, "spec": {"podSelector": {},
                "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}})
        })
        .to_vec()
}

fn each_pair(
    mut look: impl FnMut(&Endpoint, &Endpoint, (Protocol, &str), u16) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let ends = ends();
    for from in &ends {
        for to in ends.iter().filter(|to| to.address != from.address && (to.pod.is_some() || from.pod.is_some())) {
            for protocol in PROTOCOLS {
                for port in PORTS {
                    look(from, to, protocol, port)?;
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// With and without the Admin tier, and whether or not the network plugin counts addresses of pods.
    #[test]
    fn policies_allow_what_is_declared_and_nothing_else(world in world()) {
        let Rendered { namespaced, admin, .. } = rendered(&world);
        each_pair(|from, to, (protocol, name), port| {
            let declaration = declared(&world, from, to, protocol, port).declaration();
            for pods_are_addresses in [false, true] {
                let expected = match declaration {
                    Declaration::Yes => true,
                    Declaration::ByAddress => pods_are_addresses,
                    Declaration::No => false,
                };
                for admin in [&[][..], &admin] {
                    let policies = Policies { namespaced: &namespaced, admin, pods_are_addresses };
                    prop_assert_eq!(policies.allow(from, to, name, port), expected,
                        "{:?} to {:?} {} {}, tier {}, pods by address {}: {:?}", from, to, name, port, admin.len(), pods_are_addresses, declaration);
                }
            }
            Ok(())
        })?;
    }

    /// Whatever NetworkPolicies say, the Admin tier denies what is not declared, as far as the API has words for it.
    #[test]
    fn the_admin_tier_holds_whatever_network_policies_allow(world in world()) {
        let Rendered { mut namespaced, admin, left_out } = rendered(&world);
        namespaced.extend(open());
        each_pair(|from, to, (protocol, name), port| {
            let reach = declared(&world, from, to, protocol, port);
            let by_address = reach.declaration() == Declaration::ByAddress;
            let unnamed = |side: &Side| match side {
                // Who comes from an address that is no pod, or on a port of a rule with addresses.
                Side::Undeclared { environment } => from.pod.is_none() || !left_out[environment].is_empty(),
                _ => false,
            };
            for pods_are_addresses in [false, true] {
                let policies = Policies { namespaced: &namespaced, admin: &admin, pods_are_addresses };
                let allowed = policies.allow(from, to, name, port);
                match reach.declaration() {
                    Declaration::Yes => prop_assert!(allowed, "declared: {:?} to {:?} {} {}", from, to, name, port),
                    Declaration::ByAddress => {}
                    Declaration::No if matches!(reach.from, Side::Undeclared { .. }) => {
                        prop_assert!(!allowed, "out: {:?} to {:?} {} {}", from, to, name, port);
                    }
                    Declaration::No => prop_assert!(!allowed || unnamed(&reach.to), "in: {:?} to {:?} {} {}", from, to, name, port),
                }
            }
            prop_assert!(!by_address || from.pod.is_some() && to.pod.is_some());
            Ok(())
        })?;
    }
}

/// The evaluator can tell: it is not one that allows or denies everything.
#[test]
fn the_evaluator_follows_the_documentation() {
    let pod = |namespace: &str, app: &str, address: &str| Endpoint {
        pod: Some((namespace.into(), BTreeMap::from([("app".into(), app.into())]))),
        address: address.parse().unwrap(),
    };
    let (x, y, out) = (pod("n", "x", "10.0.0.1"), pod("n", "y", "10.0.0.2"), pod("m", "x", "10.0.0.3"));
    let policy = |spec: Value| json!({"metadata": {"namespace": "n", "name": "p"}, "spec": spec});
    let allow = |namespaced: &[Value], from: &Endpoint, to: &Endpoint, port| {
        Policies { namespaced, admin: &[], pods_are_addresses: false }.allow(from, to, "TCP", port)
    };
    assert!(allow(&[], &out, &x, 1), "no policy: open");
    let own = [policy(
        json!({"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 1, "endPort": 2}]}]}),
    )];
    assert!(allow(&own, &y, &x, 2) && !allow(&own, &y, &x, 3) && !allow(&own, &out, &x, 1), "own namespace only");
    assert!(allow(&own, &out, &y, 1) && allow(&own, &x, &out, 1), "not selected, and the other direction");
    let block = [policy(
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}}]}]}),
    )];
    let at = |address: &str| Endpoint { pod: None, address: address.parse().unwrap() };
    assert!(allow(&block, &x, &at("192.0.2.1"), 1) && !allow(&block, &x, &at("192.0.2.9"), 1));
    assert!(!allow(&block, &x, &out, 1) && allow(&block, &out, &x, 1));
    let tier = |action: &str| {
        json!({"spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
        "ingress": [{"action": action, "from": [{"namespaces": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["n"]}]}}]}]}})
    };
    let with = |action: &str, from: &Endpoint| {
        Policies { namespaced: &own, admin: &[tier(action)], pods_are_addresses: false }.allow(from, &x, "TCP", 1)
    };
    assert!(with("Accept", &out) && !with("Pass", &out) && !with("Deny", &out) && with("Deny", &y));
}
