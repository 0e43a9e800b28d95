//! A network plan as NetworkPolicies.
//!
//! Two things are never rendered: an empty list of peers (it means everyone) and `except` (dataplanes differ in it).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use crate::{
    api::{Port, Protocol},
    domain::network::{Allowance, Direction, NAMESPACE_NAME, NetworkPlan, PlannedPeer, dns_peers, dns_ports},
};

/// Name of the policy that denies all that no other allows.
pub const DEFAULT_DENY: &str = "weightlock-default-deny";
/// Name of the policy that allows name resolution.
pub const DNS: &str = "weightlock-dns";
/// The policies of an environment, the default deny of each namespace first.
pub fn policies(environment: &str, plan: &NetworkPlan) -> Vec<NetworkPolicy> {
    let mut policies = Vec::new();
    for (namespace, allowances) in &plan.namespaces {
        policies.push(policy(environment, namespace, DEFAULT_DENY, spec(None, None)));
        for allowance in allowances {
            policies.push(match allowance {
                Allowance::Dns => {
                    policy(environment, namespace, DNS, rule(Direction::Egress, &dns_peers(), &dns_ports()))
                }
                Allowance::Rule { direction, name, peers, ports } => {
                    let name = format!("weightlock-{}-{name}", direction.as_str());
                    policy(environment, namespace, &name, rule(*direction, peers, ports))
                }
            });
        }
    }
    policies
}

fn policy(environment: &str, namespace: &str, name: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace.into()),
            labels: Some(super::labels(Some(environment))),
            annotations: Some(super::owner(Some(environment))),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    }
}

/// A policy for all pods. One without any rule denies both directions; one with a rule says nothing of the other.
fn spec(ingress: Option<NetworkPolicyIngressRule>, egress: Option<NetworkPolicyEgressRule>) -> NetworkPolicySpec {
    let both = ingress.is_none() && egress.is_none();
    let types = [("Ingress", both || ingress.is_some()), ("Egress", both || egress.is_some())];
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector::default()),
        policy_types: Some(types.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.into()).collect()),
        ingress: ingress.map(|rule| vec![rule]),
        egress: egress.map(|rule| vec![rule]),
    }
}

fn rule(direction: Direction, peers: &[PlannedPeer], ports: &[Port]) -> NetworkPolicySpec {
    let peers = Some(peers.iter().map(peer).collect());
    let ports = Some(ports.iter().map(port).collect());
    match direction {
        Direction::Ingress => spec(Some(NetworkPolicyIngressRule { from: peers, ports }), None),
        Direction::Egress => spec(None, Some(NetworkPolicyEgressRule { to: peers, ports })),
    }
}

fn peer(peer: &PlannedPeer) -> NetworkPolicyPeer {
    let namespace = |name: &str| selector(BTreeMap::from([(NAMESPACE_NAME.into(), name.into())]));
    match peer {
        PlannedPeer::Namespace(name) => {
            NetworkPolicyPeer { namespace_selector: Some(namespace(name)), ..NetworkPolicyPeer::default() }
        }
        PlannedPeer::Pods { namespace: name, labels } => NetworkPolicyPeer {
            namespace_selector: Some(namespace(name)),
            pod_selector: Some(selector(labels.clone())),
            ip_block: None,
        },
        PlannedPeer::Cidr(cidr) => NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: cidr.clone(), except: None }),
            ..NetworkPolicyPeer::default()
        },
    }
}

pub(super) fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn port(port: &Port) -> NetworkPolicyPort {
    let protocol = match port.protocol {
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
        Protocol::SCTP => "SCTP",
    };
    NetworkPolicyPort {
        protocol: Some(protocol.into()),
        port: Some(IntOrString::Int(port.port)),
        end_port: port.end_port.filter(|end| *end != port.port),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::network::{Kind, excess};

    pub fn plan() -> NetworkPlan {
        let port = |protocol, port, end_port| Port { protocol, port, end_port };
        let rule = |direction, name: &str, peers, ports| Allowance::Rule { direction, name: name.into(), peers, ports };
        let allowances = vec![
            Allowance::Dns,
            rule(
                Direction::Ingress,
                "gateway",
                vec![PlannedPeer::Pods {
                    namespace: "gateway".into(),
                    labels: BTreeMap::from([("app".into(), "gateway".into())]),
                }],
                vec![port(Protocol::TCP, 8000, None)],
            ),
            rule(
                Direction::Egress,
                "peers",
                vec![PlannedPeer::Namespace("serving-a".into()), PlannedPeer::Namespace("serving-b".into())],
                vec![port(Protocol::TCP, 29500, Some(29600)), port(Protocol::UDP, 4791, Some(4791))],
            ),
            rule(
                Direction::Egress,
                "store",
                vec![PlannedPeer::Cidr("10.20.0.0/24".into()), PlannedPeer::Cidr("fd00:20::/64".into())],
                vec![port(Protocol::TCP, 443, None)],
            ),
        ];
        NetworkPlan { namespaces: BTreeMap::from([("serving-a".into(), allowances)]), gaps: vec![] }
    }

    /// Compares objects with the files of a directory below `tests/golden`, which has one for each and no other.
    pub fn assert_recorded<K: kube::Resource + serde::Serialize>(directory: &str, objects: &[K]) {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(directory);
        let bless = std::env::var_os("WEIGHTLOCK_BLESS").is_some();
        let mut names = std::collections::BTreeSet::new();
        for object in objects {
            let name = format!("{}.yaml", object.meta().name.as_deref().unwrap());
            let file = golden.join(&name);
            let rendered = serde_saphyr::to_string(object).unwrap();
            if bless {
                std::fs::create_dir_all(&golden).unwrap();
                std::fs::write(&file, &rendered).unwrap();
            }
            let recorded = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(rendered, recorded, "{} differs; WEIGHTLOCK_BLESS=1 records it", file.display());
            names.insert(name);
        }
        let files: std::collections::BTreeSet<_> = std::fs::read_dir(&golden)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(files, names, "what is recorded is no longer rendered");
    }

    #[test]
    fn policies_are_as_recorded() {
        assert_recorded("network", &policies("production-inference", &plan()));
    }

    /// A tenant may copy what is there.
    #[test]
    fn what_is_rendered_is_what_is_declared() {
        let plan = plan();
        for policy in policies("e", &plan) {
            let value = serde_json::to_value(&policy).unwrap();
            assert_eq!(excess(Kind::NetworkPolicy, &value, "serving-a", &plan.namespaces["serving-a"]), [], "{value}");
        }
    }

    #[test]
    fn no_peer_list_is_empty_and_nothing_is_excepted() {
        for policy in policies("e", &plan()) {
            let spec = policy.spec.unwrap();
            for rule in spec.ingress.into_iter().flatten() {
                assert!(rule.from.is_some_and(|peers| !peers.is_empty()));
                assert!(rule.ports.is_some_and(|ports| !ports.is_empty()));
            }
            for rule in spec.egress.into_iter().flatten() {
                let peers = rule.to.unwrap();
                assert!(!peers.is_empty());
                assert!(peers.iter().all(|peer| peer.ip_block.as_ref().is_none_or(|block| block.except.is_none())));
                assert!(peers.iter().all(|peer| *peer != NetworkPolicyPeer::default()));
            }
        }
    }

    #[test]
    fn the_default_deny_takes_all_pods_in_both_directions() {
        let policies = policies("e", &plan());
        let deny = policies[0].spec.as_ref().unwrap();
        assert_eq!(policies[0].metadata.name.as_deref(), Some(DEFAULT_DENY));
        assert_eq!(deny.pod_selector, Some(LabelSelector::default()));
        assert_eq!(deny.policy_types, Some(vec!["Ingress".into(), "Egress".into()]));
        assert_eq!((&deny.ingress, &deny.egress), (&None, &None));
    }
}
