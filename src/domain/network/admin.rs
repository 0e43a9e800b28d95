//! What the Admin tier of the cluster's network decides for the pods of an environment, before any NetworkPolicy is asked.
//!
//! NetworkPolicies add up, so one that got past admission opens what it allows. The Admin tier decides before them: what is
//! declared is passed on to them, and everything else that the tier can name is denied.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Direction, NetworkPlan, PlannedPeer};
use crate::api::Port;

/// All addresses.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The decisions for the pods of some namespaces; of those that match a connection, the first holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTier {
    /// The namespaces; never empty.
    pub namespaces: Vec<String>,
    /// On connections to their pods.
    pub ingress: Vec<Decision>,
    /// On connections from their pods.
    pub egress: Vec<Decision>,
    /// The ingress rules whose peers the tier cannot name: on their ports it leaves all pods to NetworkPolicies.
    pub left_out: Vec<String>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// For people.
    pub name: String,
    /// What is decided.
    pub verdict: Verdict,
    /// The other ends that it is about; never empty.
    pub peers: Vec<TierPeer>,
    /// The ports of the end that is connected to; empty: all.
    pub ports: Vec<Port>,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// NetworkPolicies decide. To accept would take from a tenant the means to narrow.
    Pass,
    /// The connection is denied.
    Deny,
}

/// The other end of a connection, as the tier can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierPeer {
    /// All pods of the cluster.
    AllPods,
    /// All pods of the namespaces of these names.
    Namespaces(Vec<String>),
    /// The pods with labels in a namespace.
    Pods {
        /// Name of the namespace.
        namespace: String,
        /// Labels; never empty.
        labels: BTreeMap<String, String>,
    },
    /// Addresses; on the way out only.
    Network(String),
}

/// The tier for a plan; `None` if the plan is for no namespace.
pub fn admin_tier(plan: &NetworkPlan) -> Option<AdminTier> {
    // Every namespace of an environment has the same allowances.
    let allowances = plan.namespaces.values().next()?;
    let mut tier = AdminTier {
        namespaces: plan.namespaces.keys().cloned().collect(),
        ingress: vec![],
        egress: vec![],
        left_out: vec![],
    };
    for allowance in allowances {
        let rule = allowance.as_rule();
        match rule.direction {
            Direction::Egress => tier.egress.push(pass(rule.name, peers(&rule.peers), &rule.ports)),
            Direction::Ingress => {
                // Where network plugins hold the addresses of pods for addresses, pods are among these.
                let addresses = rule.peers.iter().any(|peer| matches!(peer, PlannedPeer::Cidr(_)));
                if addresses {
                    tier.left_out.push(rule.name.into());
                }
                let from = if addresses { vec![TierPeer::AllPods] } else { peers(&rule.peers) };
                tier.ingress.push(pass(rule.name, from, &rule.ports));
            }
        }
    }
    tier.ingress.push(deny(vec![TierPeer::AllPods]));
    let networks = EVERYWHERE.map(|network| TierPeer::Network(network.into()));
    tier.egress.push(deny([TierPeer::AllPods].into_iter().chain(networks).collect()));
    Some(tier)
}

fn pass(name: &str, peers: Vec<TierPeer>, ports: &[Port]) -> Decision {
    Decision { name: name.into(), verdict: Verdict::Pass, peers, ports: ports.to_vec() }
}

fn deny(peers: Vec<TierPeer>) -> Decision {
    Decision { name: "everything-else".into(), verdict: Verdict::Deny, peers, ports: vec![] }
}

/// Namespaces become one peer: an environment may have many.
fn peers(planned: &[PlannedPeer]) -> Vec<TierPeer> {
    let mut namespaces = Vec::new();
    let mut peers = Vec::new();
    for peer in planned {
        match peer {
            PlannedPeer::Namespace(name) => namespaces.push(name.clone()),
            PlannedPeer::Pods { namespace, labels } => {
                peers.push(TierPeer::Pods { namespace: namespace.clone(), labels: labels.clone() });
            }
            PlannedPeer::Cidr(cidr) => peers.push(TierPeer::Network(shortest(cidr))),
        }
    }
    if !namespaces.is_empty() {
        peers.insert(0, TierPeer::Namespaces(namespaces));
    }
    peers
}

/// The usual form of a network: the tier limits the length.
fn shortest(cidr: &str) -> String {
    cidr.parse::<IpNet>().map_or_else(|_| cidr.into(), |network| network.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Allowance;
    use super::*;
    use crate::api::Protocol;

    fn port(port: i32) -> Port {
        Port { protocol: Protocol::TCP, port, end_port: None }
    }

    fn rule(direction: Direction, name: &str, peers: Vec<PlannedPeer>) -> Allowance {
        Allowance::Rule { direction, name: name.into(), peers, ports: vec![port(8000)] }
    }

    fn tier(allowances: Vec<Allowance>) -> AdminTier {
        let namespaces = ["a", "b"].map(|name| (name.to_string(), allowances.clone()));
        admin_tier(&NetworkPlan { namespaces: BTreeMap::from(namespaces), gaps: vec![] }).unwrap()
    }

    fn said(decisions: &[Decision]) -> Vec<(&str, Verdict, &[TierPeer], usize)> {
        decisions.iter().map(|d| (d.name.as_str(), d.verdict, d.peers.as_slice(), d.ports.len())).collect()
    }

    #[test]
    fn what_is_declared_is_passed_on_and_the_rest_is_denied_last() {
        let found = tier(vec![
            Allowance::Dns,
            rule(Direction::Egress, "peers", ["a", "b"].map(|name| PlannedPeer::Namespace(name.into())).to_vec()),
            rule(Direction::Egress, "store", vec![PlannedPeer::Cidr("10.20.0.0/24".into())]),
            rule(Direction::Ingress, "peers", vec![PlannedPeer::Namespace("a".into())]),
        ]);
        assert_eq!((found.namespaces.join(" ").as_str(), found.left_out.len()), ("a b", 0));
        let network = |cidr: &str| TierPeer::Network(cidr.into());
        let everyone = [TierPeer::AllPods, network("0.0.0.0/0"), network("::/0")];
        let both = [TierPeer::Namespaces(vec!["a".into(), "b".into()])];
        let store = [network("10.20.0.0/24")];
        let egress = said(&found.egress);
        assert_eq!((egress[0].0, egress[0].1, egress[0].2.len(), egress[0].3), ("dns", Verdict::Pass, 2, 2));
        assert_eq!(
            egress[1..],
            [
                ("peers", Verdict::Pass, &both[..], 1),
                ("store", Verdict::Pass, &store[..], 1),
                ("everything-else", Verdict::Deny, &everyone[..], 0),
            ]
        );
        let a = [TierPeer::Namespaces(vec!["a".into()])];
        assert_eq!(
            said(&found.ingress),
            [("peers", Verdict::Pass, &a[..], 1), ("everything-else", Verdict::Deny, &[TierPeer::AllPods][..], 0)]
        );
    }

    #[test]
    fn ingress_from_addresses_is_left_to_network_policies_on_its_ports_and_told() {
        let found = tier(vec![rule(Direction::Ingress, "balancer", vec![PlannedPeer::Cidr("192.0.2.0/24".into())])]);
        assert_eq!(found.left_out, ["balancer"]);
        assert_eq!(
            said(&found.ingress),
            [
                ("balancer", Verdict::Pass, &[TierPeer::AllPods][..], 1),
                ("everything-else", Verdict::Deny, &[TierPeer::AllPods][..], 0)
            ]
        );
        assert_eq!(found.egress.len(), 1);
    }

    #[test]
    fn a_network_is_written_short() {
        assert_eq!(shortest("0000:0000:0000:0000:0000:0000:192.168.100.228/128"), "::c0a8:64e4/128");
        assert_eq!(shortest("10.20.0.0/24"), "10.20.0.0/24");
    }

    #[test]
    fn a_plan_for_no_namespace_has_no_tier() {
        assert_eq!(admin_tier(&NetworkPlan::default()), None);
    }
}
