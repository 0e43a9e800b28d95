//! An Admin tier as ClusterNetworkPolicies (`policy.networking.k8s.io/v1alpha2`). Their definition is somebody else's, so only
//! what we write of it is here.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use kube::{Resource, core::ClusterResourceScope};
use serde::{Deserialize, Serialize};

use super::{labels, network::selector, owner, policies::PREFIX};
use crate::{
    api::{Port, Protocol},
    domain::network::{AdminTier, Decision, NAMESPACE_NAME, TierPeer, Verdict},
};

/// Most rules of a direction in one policy, most peers and most ports in one rule, as the definition has it.
const MOST: usize = 25;
/// Priority of the first policy of an environment. The policies of others that come before it, which are those with smaller
/// numbers, decide first: passing on what is declared skips none of their denials. Two environments may have the same
/// number, since no pod is in both.
const FIRST: usize = 900;

/// A policy of the whole cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClusterNetworkPolicy {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Spec {
    tier: String,
    priority: usize,
    subject: Peer,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ingress: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    egress: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Rule {
    #[serde(default)]
    name: String,
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Vec<Peer>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Vec<Peer>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    protocols: Vec<Ports>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Peer {
    Namespaces(LabelSelector),
    #[serde(rename_all = "camelCase")]
    Pods {
        namespace_selector: LabelSelector,
        pod_selector: LabelSelector,
    },
    Networks(Vec<String>),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Ports {
    Tcp(Destination),
    Udp(Destination),
    Sctp(Destination),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    destination_port: Numbers,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Numbers {
    Number(i32),
    Range { start: i32, end: i32 },
}

impl Resource for ClusterNetworkPolicy {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "ClusterNetworkPolicy".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "policy.networking.k8s.io".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1alpha2".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "clusternetworkpolicies".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The policies of an environment. What is denied stands behind all that is passed on, so it is in the last.
pub fn policies(environment: &str, tier: &AdminTier) -> Vec<ClusterNetworkPolicy> {
    let ingress = rules(&tier.ingress, |rule, peers| Rule { from: Some(peers), ..rule });
    let egress = rules(&tier.egress, |rule, peers| Rule { to: Some(peers), ..rule });
    let (mut ingress, mut egress) = (ingress.chunks(MOST), egress.chunks(MOST));
    let mut policies = Vec::new();
    loop {
        let (ingress, egress) = (ingress.next(), egress.next());
        if ingress.is_none() && egress.is_none() {
            return policies;
        }
        let number = policies.len();
        policies.push(ClusterNetworkPolicy {
            metadata: ObjectMeta {
                // The number first: an environment may have a name that ends in one.
                name: Some(format!("{PREFIX}{number}-{environment}")),
                labels: Some(labels(Some(environment))),
                annotations: Some(owner(Some(environment))),
                ..ObjectMeta::default()
            },
            spec: Spec {
                tier: "Admin".into(),
                priority: FIRST + number,
                subject: Peer::Namespaces(namespaces(&tier.namespaces)),
                ingress: ingress.unwrap_or_default().to_vec(),
                egress: egress.unwrap_or_default().to_vec(),
            },
        });
    }
}

fn rules(decisions: &[Decision], with_peers: impl Fn(Rule, Vec<Peer>) -> Rule) -> Vec<Rule> {
    let mut rules = Vec::new();
    for decision in decisions {
        let ports: Vec<Ports> = decision.ports.iter().map(port).collect();
        let peers: Vec<Peer> = decision.peers.iter().map(peer).collect();
        // Without ports a rule is for all, so that there is one list of them even then.
        let ports = if ports.is_empty() { vec![vec![]] } else { ports.chunks(MOST).map(<[_]>::to_vec).collect() };
        for protocols in ports {
            for peers in peers.chunks(MOST) {
                let rule = Rule {
                    name: decision.name.clone(),
                    action: match decision.verdict {
                        Verdict::Pass => "Pass".into(),
                        Verdict::Deny => "Deny".into(),
                    },
                    from: None,
                    to: None,
                    protocols: protocols.clone(),
                };
                rules.push(with_peers(rule, peers.to_vec()));
            }
        }
    }
    rules
}

fn peer(peer: &TierPeer) -> Peer {
    match peer {
        TierPeer::AllPods => Peer::Namespaces(LabelSelector::default()),
        TierPeer::Namespaces(names) => Peer::Namespaces(namespaces(names)),
        TierPeer::Pods { namespace, labels } => Peer::Pods {
            namespace_selector: namespaces(std::slice::from_ref(namespace)),
            pod_selector: selector(labels.clone()),
        },
        TierPeer::Network(network) => Peer::Networks(vec![network.clone()]),
    }
}

fn namespaces(names: &[String]) -> LabelSelector {
    let requirement =
        LabelSelectorRequirement { key: NAMESPACE_NAME.into(), operator: "In".into(), values: Some(names.to_vec()) };
    LabelSelector { match_labels: None, match_expressions: Some(vec![requirement]) }
}

fn port(port: &Port) -> Ports {
    let destination_port = match port.end_port {
        Some(end) if end != port.port => Numbers::Range { start: port.port, end },
        _ => Numbers::Number(port.port),
    };
    let destination = Destination { destination_port };
    match port.protocol {
        Protocol::TCP => Ports::Tcp(destination),
        Protocol::UDP => Ports::Udp(destination),
        Protocol::SCTP => Ports::Sctp(destination),
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::tests::{assert_recorded, plan};
    use super::*;
    use crate::domain::network::admin_tier;

    #[test]
    fn policies_are_as_recorded() {
        let tier = admin_tier(&plan()).unwrap();
        assert_recorded("cluster-network-policy", &policies("production-inference", &tier));
    }

    /// The most that a declaration may have: the definition's limits are kept, and the denial comes last.
    #[test]
    fn many_rules_are_spread_over_policies_in_order() {
        let ports =
            |number: i32| (1..=number).map(|port| Port { protocol: Protocol::TCP, port, end_port: None }).collect();
        let decision = |name: String, verdict, ports| Decision { name, verdict, peers: vec![TierPeer::AllPods], ports };
        let mut egress: Vec<Decision> =
            (0..64).map(|rule| decision(format!("r{rule}"), Verdict::Pass, ports(32))).collect();
        egress.push(decision("everything-else".into(), Verdict::Deny, vec![]));
        let ingress = vec![decision("everything-else".into(), Verdict::Deny, vec![])];
        let tier = AdminTier { namespaces: vec!["a".into()], ingress, egress, left_out: vec![] };
        let policies = policies("e-1", &tier);
        let names: Vec<_> = policies.iter().map(|policy| policy.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, (0..6).map(|n| format!("weightlock-{n}-e-1")).collect::<Vec<_>>());
        let priorities: Vec<_> = policies.iter().map(|policy| policy.spec.priority).collect();
        assert_eq!(priorities, [900, 901, 902, 903, 904, 905]);
        let rules: Vec<&Rule> = policies.iter().flat_map(|policy| &policy.spec.egress).collect();
        assert!(policies.iter().all(|policy| policy.spec.egress.len() <= MOST && policy.spec.ingress.len() <= MOST));
        assert!(rules.iter().all(|rule| rule.protocols.len() <= MOST && rule.from.is_none()));
        assert_eq!(rules.iter().map(|rule| rule.protocols.len()).sum::<usize>(), 64 * 32);
        let denied: Vec<_> = rules.iter().map(|rule| rule.action == "Deny").collect();
        assert!(denied.last() == Some(&true) && denied.iter().filter(|denied| **denied).count() == 1);
        assert_eq!(policies.iter().map(|policy| policy.spec.ingress.len()).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn peers_and_ports_are_as_the_definition_has_them() {
        let value = |peer: &TierPeer| serde_json::to_value(super::peer(peer)).unwrap();
        assert_eq!(value(&TierPeer::AllPods), serde_json::json!({"namespaces": {}}));
        assert_eq!(value(&TierPeer::Network("::/0".into())), serde_json::json!({"networks": ["::/0"]}));
        let port = |end_port| serde_json::to_value(super::port(&Port { protocol: Protocol::SCTP, port: 7, end_port }));
        assert_eq!(port(Some(7)).unwrap(), serde_json::json!({"sctp": {"destinationPort": {"number": 7}}}));
        let range = serde_json::json!({"sctp": {"destinationPort": {"range": {"start": 7, "end": 9}}}});
        assert_eq!(port(Some(9)).unwrap(), range);
    }
}
