//! The network of an environment: what its pods may reach and who may reach them, as a plan without any Kubernetes type.
//!
//! Each rule is one side of a connection. If both ends are environments, both must declare it: the default deny of the
//! other side holds until its own rule allows the connection.

mod admin;
mod calico;
mod cilium;
mod foreign;
#[cfg(test)]
mod foreign_tests;
mod opening;
mod reach;

use std::{borrow::Cow, collections::BTreeMap};

pub use admin::{AdminTier, Decision, TierPeer, Verdict, admin_tier};
pub use foreign::{Kind, POLICIES, excess};
pub use opening::Excess;
pub use reach::{Declaration, Destination, End, Reach, Side, reach};

use super::{World, lookup::Membership, world::Environment};
use crate::api::{Dns, Mode, Peer, Port, Protocol};

/// Label by which the API server names each namespace. Nobody can set it to another value.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Namespace and label of the cluster's DNS pods.
const DNS_PODS: (&str, &str, &str) = ("kube-system", "k8s-app", "kube-dns");
/// Address on which a node-local DNS cache listens, where there is one.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// The policies of one environment, and what of its declaration has no effect now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// The rules of each member namespace, by name. Empty in Audit mode.
    pub namespaces: BTreeMap<String, Vec<Allowance>>,
    /// Rules without effect, in the order of the declaration.
    pub gaps: Vec<Gap>,
}

/// What is allowed in a namespace beside the default deny, which every planned namespace has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Name resolution by the cluster's DNS.
    Dns,
    /// A declared rule.
    Rule {
        /// Which way the connections go.
        direction: Direction,
        /// Name of the rule.
        name: String,
        /// The other end; never empty.
        peers: Vec<PlannedPeer>,
        /// The ports of the end that is connected to; never empty.
        ports: Vec<Port>,
    },
}

/// An allowance as a rule, name resolution too.
struct AsRule<'a> {
    direction: Direction,
    name: &'a str,
    peers: Cow<'a, [PlannedPeer]>,
    ports: Cow<'a, [Port]>,
}

impl Allowance {
    fn as_rule(&self) -> AsRule<'_> {
        match self {
            Self::Dns => AsRule {
                direction: Direction::Egress,
                name: "dns",
                peers: dns_peers().to_vec().into(),
                ports: dns_ports().to_vec().into(),
            },
            Self::Rule { direction, name, peers, ports } => {
                AsRule { direction: *direction, name, peers: peers.into(), ports: ports.into() }
            }
        }
    }
}

/// Which way connections go, as seen from the environment's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To them.
    Ingress,
    /// From them.
    Egress,
}

impl Direction {
    /// The word for it in names and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

/// The other end of a connection, with every reference resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedPeer {
    /// All pods of the namespace of this name.
    Namespace(String),
    /// The pods with these labels in a namespace.
    Pods {
        /// Name of the namespace.
        namespace: String,
        /// Labels; never empty.
        labels: BTreeMap<String, String>,
    },
    /// Addresses.
    Cidr(String),
}

impl PlannedPeer {
    /// Whether it names the pods that have these labels in a namespace, by namespace and labels. Addresses name no pods.
    fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Namespace(name) => name == namespace,
            Self::Pods { namespace: name, labels: needed } => {
                name == namespace && needed.iter().all(|(key, value)| labels.get(key) == Some(value))
            }
            Self::Cidr(_) => false,
        }
    }
}

/// A declared rule that allows nothing now, since its other end does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which way the connections would go.
    pub direction: Direction,
    /// Name of the rule.
    pub rule: String,
    /// What is missing.
    pub reason: String,
}

/// Why there is no plan. What is in place stays in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The world is not complete yet.
    #[error("{0}")]
    Undecidable(String),
    /// There is no such environment.
    #[error("WeightEnvironment {0:?} is not known")]
    Unknown(String),
    /// A rule is not as its schema wants it.
    #[error("{} rule {rule:?}: {reason}", direction.as_str())]
    Malformed {
        /// Which way the connections would go.
        direction: Direction,
        /// Name of the rule.
        rule: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
}

/// The plan for an environment.
///
/// # Errors
/// If it cannot be computed; a caller then leaves alone what is in place.
pub fn plan(world: &World, environment: &str) -> Result<NetworkPlan, PlanError> {
    if let Some(reason) = world.undecidable() {
        return Err(PlanError::Undecidable(reason));
    }
    let Some(environment) = world.environments.get(environment) else {
        return Err(PlanError::Unknown(environment.into()));
    };
    let mut plan = NetworkPlan::default();
    let allowances = allowances(world, environment, &mut plan.gaps)?;
    if environment.modes.network == Mode::Enforce {
        plan.namespaces =
            accepted(world, environment).map(|namespace| (namespace.to_string(), allowances.clone())).collect();
    }
    Ok(plan)
}

/// What is declared for each namespace of an environment, whether or not policies are written for it.
///
/// # Errors
/// If it cannot be computed.
pub fn declared(world: &World, environment: &Environment) -> Result<Vec<Allowance>, PlanError> {
    allowances(world, environment, &mut Vec::new())
}

/// Who resolves names: the cluster's DNS pods, and a cache on the node.
pub fn dns_peers() -> [PlannedPeer; 2] {
    let (namespace, label, value) = DNS_PODS;
    [
        PlannedPeer::Pods { namespace: namespace.into(), labels: BTreeMap::from([(label.into(), value.into())]) },
        PlannedPeer::Cidr(NODE_LOCAL_DNS.into()),
    ]
}

/// The ports on which names are resolved.
pub fn dns_ports() -> [Port; 2] {
    [Protocol::UDP, Protocol::TCP].map(|protocol| Port { protocol, port: 53, end_port: None })
}

/// The namespaces that are members of an environment now, by UID and without a rival claim.
pub fn accepted<'a>(world: &'a World, environment: &'a Environment) -> impl Iterator<Item = &'a str> {
    environment.members.iter().map(|member| member.namespace.as_str()).filter(|namespace| {
        matches!(world.membership(namespace), Membership::Member { environment: keeper, .. } if keeper.name == environment.name)
    })
}

fn allowances(world: &World, environment: &Environment, gaps: &mut Vec<Gap>) -> Result<Vec<Allowance>, PlanError> {
    let network = &environment.network;
    let mut allowances = match network.dns {
        Dns::Cluster => vec![Allowance::Dns],
        Dns::None => vec![],
    };
    let ingress = network.ingress.iter().map(|rule| (Direction::Ingress, &rule.name, &rule.from, &rule.ports));
    let egress = network.egress.iter().map(|rule| (Direction::Egress, &rule.name, &rule.to, &rule.ports));
    for (direction, name, peer, ports) in ingress.chain(egress) {
        if ports.is_empty() {
            let reason = "it has no ports, which would mean all. Remedy: list the ports".into();
            return Err(PlanError::Malformed { direction, rule: name.clone(), reason });
        }
        match resolve(world, environment, peer) {
            Ok(Resolved::Peers(peers)) => {
                allowances.push(Allowance::Rule { direction, name: name.clone(), peers, ports: ports.clone() });
            }
            Ok(Resolved::Nothing(reason)) => gaps.push(Gap { direction, rule: name.clone(), reason }),
            Err(reason) => return Err(PlanError::Malformed { direction, rule: name.clone(), reason: reason.into() }),
        }
    }
    Ok(allowances)
}

enum Resolved {
    Peers(Vec<PlannedPeer>),
    /// There is no other end now. An empty list of peers would mean everyone.
    Nothing(String),
}

fn resolve(world: &World, environment: &Environment, peer: &Peer) -> Result<Resolved, &'static str> {
    match (&peer.environment, &peer.itself, &peer.pods, &peer.cidr) {
        (Some(name), None, None, None) => Ok(match world.environments.get(name) {
            None => Resolved::Nothing(format!("WeightEnvironment {name:?} does not exist")),
            Some(other) => members(world, other),
        }),
        (None, Some(_), None, None) => Ok(members(world, environment)),
        (None, None, Some(pods), None) => {
            if pods.labels.is_empty() {
                return Err("its peer selects a whole namespace. Remedy: give at least one label");
            }
            let peer = PlannedPeer::Pods { namespace: pods.namespace.clone(), labels: pods.labels.clone() };
            Ok(Resolved::Peers(vec![peer]))
        }
        (None, None, None, Some(cidr)) => Ok(Resolved::Peers(vec![PlannedPeer::Cidr(cidr.clone())])),
        _ => Err("its peer takes exactly one of: environment, self, pods, cidr"),
    }
}

fn members(world: &World, environment: &Environment) -> Resolved {
    let mut namespaces: Vec<&str> = accepted(world, environment).collect();
    namespaces.sort_unstable();
    if namespaces.is_empty() {
        return Resolved::Nothing(format!("WeightEnvironment {:?} has no accepted namespace", environment.name));
    }
    Resolved::Peers(namespaces.into_iter().map(|namespace| PlannedPeer::Namespace(namespace.into())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{EgressRule, IngressRule, Modes, Network, PodPeer, Protocol, SelfPeer},
        domain::world::EnvironmentMember,
    };

    fn environment(name: &str, members: &[(&str, &str)]) -> Environment {
        Environment {
            name: name.into(),
            created: "2026-01-01T00:00:00Z".into(),
            members: members
                .iter()
                .map(|(namespace, uid)| EnvironmentMember {
                    namespace: (*namespace).into(),
                    uid: Some((*uid).into()),
                    service_accounts: Default::default(),
                    pod_status_protected_since: None,
                })
                .collect(),
            modes: Modes {
                admission: Mode::Enforce,
                network: Mode::Enforce,
                verification: Mode::Enforce,
                egress: Mode::Audit,
            },
            volumes: Default::default(),
            trusted_init: vec![],
            reverify: None,
            downloaders: vec![],
            network: Network::default(),
            egress_rate: None,
            deleting: false,
        }
    }

    fn world(environments: Vec<Environment>, namespaces: &[(&str, &str)]) -> World {
        World {
            environments: environments.into_iter().map(|environment| (environment.name.clone(), environment)).collect(),
            namespaces: namespaces.iter().map(|(name, uid)| (String::from(*name), String::from(*uid))).collect(),
            ..World::default()
        }
    }

    fn egress(name: &str, to: Peer) -> EgressRule {
        EgressRule { name: name.into(), to, ports: vec![Port { protocol: Protocol::TCP, port: 9000, end_port: None }] }
    }

    fn to_environment(name: &str) -> Peer {
        Peer { environment: Some(name.into()), ..Peer::default() }
    }

    #[test]
    fn a_namespace_that_was_made_again_has_no_policies_and_is_no_peer() {
        let mut serving = environment("serving", &[("a", "u1"), ("b", "old")]);
        serving.network.egress = vec![egress("self", Peer { itself: Some(SelfPeer {}), ..Peer::default() })];
        let plan = plan(&world(vec![serving], &[("a", "u1"), ("b", "new")]), "serving").unwrap();
        assert_eq!(plan.namespaces.keys().collect::<Vec<_>>(), ["a"]);
        let Allowance::Rule { peers, .. } = &plan.namespaces["a"][1] else { panic!("{plan:?}") };
        assert_eq!(peers, &[PlannedPeer::Namespace("a".into())]);
    }

    #[test]
    fn a_peer_without_accepted_namespaces_gives_no_rule_and_a_gap() {
        let mut serving = environment("serving", &[("a", "u1")]);
        serving.network.egress =
            vec![egress("eval", to_environment("evaluation")), egress("gone", to_environment("nowhere"))];
        let evaluation = environment("evaluation", &[("e", "old")]);
        let plan = plan(&world(vec![serving, evaluation], &[("a", "u1"), ("e", "new")]), "serving").unwrap();
        assert_eq!(plan.namespaces["a"], [Allowance::Dns]);
        let gaps: Vec<_> = plan.gaps.iter().map(|gap| (gap.rule.as_str(), gap.reason.as_str())).collect();
        assert_eq!(
            gaps,
            [
                ("eval", "WeightEnvironment \"evaluation\" has no accepted namespace"),
                ("gone", "WeightEnvironment \"nowhere\" does not exist"),
            ]
        );
    }

    #[test]
    fn audit_plans_nothing() {
        let mut serving = environment("serving", &[("a", "u1")]);
        serving.modes.network = Mode::Audit;
        assert_eq!(plan(&world(vec![serving], &[("a", "u1")]), "serving"), Ok(NetworkPlan::default()));
    }

    #[test]
    fn what_cannot_be_computed_is_an_error_and_never_an_empty_plan() {
        let mut serving = environment("serving", &[("a", "u1")]);
        serving.network.ingress = vec![IngressRule {
            name: "gateway".into(),
            from: Peer {
                pods: Some(PodPeer { namespace: "gateway".into(), labels: BTreeMap::new() }),
                ..Peer::default()
            },
            ports: vec![Port { protocol: Protocol::TCP, port: 8000, end_port: None }],
        }];
        let mut world = world(vec![serving], &[("a", "u1")]);
        assert_eq!(
            plan(&world, "serving").unwrap_err().to_string(),
            "ingress rule \"gateway\": its peer selects a whole namespace. Remedy: give at least one label"
        );
        assert_eq!(plan(&world, "other"), Err(PlanError::Unknown("other".into())));
        world.unsynced.insert("Namespace");
        assert!(matches!(plan(&world, "serving"), Err(PlanError::Undecidable(_))));
    }

    #[test]
    fn a_rule_without_ports_or_without_a_peer_is_malformed() {
        for (rule, reason) in [
            (
                EgressRule { ports: vec![], ..egress("r", to_environment("serving")) },
                "it has no ports, which would mean all. Remedy: list the ports",
            ),
            (egress("r", Peer::default()), "its peer takes exactly one of: environment, self, pods, cidr"),
        ] {
            let mut serving = environment("serving", &[("a", "u1")]);
            serving.network.egress = vec![rule];
            let error = plan(&world(vec![serving], &[("a", "u1")]), "serving").unwrap_err();
            assert_eq!(error.to_string(), format!("egress rule \"r\": {reason}"));
        }
    }
}
