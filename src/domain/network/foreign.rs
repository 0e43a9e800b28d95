//! NetworkPolicies that others write into the namespaces of an environment.
//!
//! Policies add up: whatever one allows is allowed. So one of a tenant is accepted if all that it allows is declared.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::opening::{Excess, Far, MOST_BLOCKS, Opening, Ports, uncovered};
use super::{Allowance, Direction, NAMESPACE_NAME};
use crate::api::Protocol;

/// Most pairs of namespace and labels that one peer may stand for.
const MOST_PEERS: usize = 256;

/// A kind of policy that opens the network of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `networking.k8s.io` NetworkPolicy.
    NetworkPolicy,
    /// `cilium.io` CiliumNetworkPolicy.
    Cilium,
    /// `crd.projectcalico.org` and `projectcalico.org` NetworkPolicy.
    Calico,
}

/// The resources, by API group and plural name, of the policies that are decided on.
pub const POLICIES: [(&str, &str); 4] = [
    ("networking.k8s.io", "networkpolicies"),
    ("cilium.io", "ciliumnetworkpolicies"),
    ("crd.projectcalico.org", "networkpolicies"),
    ("projectcalico.org", "networkpolicies"),
];

impl Kind {
    /// The kind of a resource, if it is one of [`POLICIES`].
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        let (group, _) = POLICIES.iter().find(|policy| **policy == (group, resource))?;
        Some(match *group {
            "networking.k8s.io" => Self::NetworkPolicy,
            "cilium.io" => Self::Cilium,
            _ => Self::Calico,
        })
    }
}

/// What a policy in a namespace allows beyond these allowances, and what cannot be told of it. Empty: it may be there.
pub fn excess(kind: Kind, policy: &Value, namespace: &str, allowances: &[Allowance]) -> Vec<Excess> {
    let mut reading = Reading { namespace, openings: Vec::new(), excess: Vec::new() };
    match kind {
        Kind::NetworkPolicy => reading.network_policy(policy.get("spec").unwrap_or(&Value::Null)),
        Kind::Cilium => super::cilium::read(policy, &mut reading),
        Kind::Calico => super::calico::read(policy, &mut reading),
    }
    let Reading { openings, mut excess, .. } = reading;
    let blocks = openings.iter().map(|opening| match &opening.far {
        Far::Block { except, .. } => 1 + except.len(),
        Far::Pods { .. } => 0,
    });
    if blocks.sum::<usize>() > MOST_BLOCKS {
        let what = format!("it has more than {MOST_BLOCKS} blocks of addresses, which are not compared");
        excess.push(Excess { at: "spec".into(), what, remedy: Some("split it into several policies") });
        return excess;
    }
    excess.extend(openings.iter().filter_map(|opening| uncovered(opening, allowances)));
    excess
}

/// What a policy says, so far.
pub(super) struct Reading<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// What it opens.
    pub openings: Vec<Opening>,
    /// What is refused whatever is declared.
    pub excess: Vec<Excess>,
}

pub(super) const EVERYONE: &str = "list the peers";
pub(super) const ALL_PORTS: &str = "list the ports by number";

impl Reading<'_> {
    /// Something of which it is clear, without a look at what is declared, that it may not be.
    pub fn refuse(&mut self, at: &str, what: impl Into<String>, remedy: &'static str) {
        self.excess.push(Excess { at: at.into(), what: what.into(), remedy: Some(remedy) });
    }

    /// Members that this version does not know may open anything.
    pub fn only(&mut self, at: &str, object: &Map<String, Value>, known: &[&str]) -> bool {
        let unknown: Vec<&String> = object.keys().filter(|key| !known.contains(&key.as_str())).collect();
        for key in &unknown {
            let what = format!("what {key:?} opens is not known to Weightlock");
            self.refuse(at, what, "say it with the fields that a NetworkPolicy of networking.k8s.io/v1 has");
        }
        unknown.is_empty()
    }

    /// What one rule opens, once its peers and ports are read.
    pub fn open(&mut self, direction: Direction, peers: Vec<(String, Vec<Far>)>, ports: &[Ports]) {
        for (at, fars) in peers {
            for far in fars {
                self.openings.push(Opening { at: at.clone(), direction, far, ports: ports.to_vec() });
            }
        }
    }

    fn network_policy(&mut self, spec: &Value) {
        // Without one it selects all pods and opens nothing.
        if spec.is_null() {
            return;
        }
        let Some(spec) = spec.as_object() else {
            return self.refuse("spec", "it is no object", "correct spec");
        };
        self.only("spec", spec, &["podSelector", "policyTypes", "ingress", "egress"]);
        // Rules of a type that policyTypes leaves out have no effect today. They are judged all the same.
        for (direction, field, peers) in [(Direction::Ingress, "ingress", "from"), (Direction::Egress, "egress", "to")]
        {
            for (at, rule) in items(spec, field, "spec") {
                let Some(rule) = rule.as_object() else {
                    self.refuse(&at, "it is no object", "correct it");
                    continue;
                };
                if !self.only(&at, rule, &[peers, "ports"]) {
                    continue;
                }
                let ends: Vec<(String, &Value)> = items(rule, peers, &at).collect();
                if ends.is_empty() {
                    self.refuse(&at, format!("without {peers:?} it is for everyone"), EVERYONE);
                    continue;
                }
                let Some(ports) = self.ports(&at, rule) else { continue };
                let ends = ends.into_iter().filter_map(|(at, end)| Some((at.clone(), self.peer(&at, end)?))).collect();
                self.open(direction, ends, &ports);
            }
        }
    }

    fn ports(&mut self, at: &str, rule: &Map<String, Value>) -> Option<Vec<Ports>> {
        let listed: Vec<(String, &Value)> = items(rule, "ports", at).collect();
        if listed.is_empty() {
            self.refuse(at, "without \"ports\" it is for all of them", ALL_PORTS);
            return None;
        }
        let mut ports = Vec::new();
        for (at, port) in listed {
            let object = port.as_object().cloned().unwrap_or_default();
            if !self.only(&at, &object, &["protocol", "port", "endPort"]) {
                return None;
            }
            let protocol = protocol(object.get("protocol").and_then(Value::as_str).unwrap_or("TCP"));
            let number = |field: &str| object.get(field).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
            let (Some(protocol), Some(first)) = (protocol, number("port")) else {
                self.refuse(&at, "it is no protocol and port number: a name is whatever a pod says it is", ALL_PORTS);
                return None;
            };
            let last = if object.contains_key("endPort") { number("endPort") } else { Some(first) };
            let Some(last) = last.filter(|last| *last >= first) else {
                self.refuse(&at, "endPort is no port at or after port", ALL_PORTS);
                return None;
            };
            ports.push(Ports { protocol, first, last });
        }
        Some(ports)
    }

    fn peer(&mut self, at: &str, peer: &Value) -> Option<Vec<Far>> {
        let object = peer.as_object().cloned().unwrap_or_default();
        if !self.only(at, &object, &["podSelector", "namespaceSelector", "ipBlock"]) {
            return None;
        }
        if let Some(block) = object.get("ipBlock") {
            return self.block(at, block).map(|far| vec![far]);
        }
        if object.is_empty() {
            self.refuse(at, "an empty peer is everyone", EVERYONE);
            return None;
        }
        let namespaces = match object.get("namespaceSelector") {
            None => [self.namespace.to_owned()].into(),
            Some(selector) => match self.required(at, selector)?.remove(NAMESPACE_NAME) {
                Some(names) => names,
                None => {
                    let what = "it selects namespaces by labels, which others may set";
                    self.refuse(at, what, "select them by kubernetes.io/metadata.name");
                    return None;
                }
            },
        };
        let labels = match object.get("podSelector") {
            None => BTreeMap::new(),
            Some(selector) => self.required(at, selector)?,
        };
        self.pods(at, &namespaces, &labels)
    }

    /// Each pair of a namespace and labels of pods that have these values.
    pub fn pods(
        &mut self,
        at: &str,
        namespaces: &BTreeSet<String>,
        labels: &BTreeMap<String, BTreeSet<String>>,
    ) -> Option<Vec<Far>> {
        let counts = labels.values().map(BTreeSet::len).chain([namespaces.len()]);
        if counts.fold(1usize, usize::saturating_mul) > MOST_PEERS {
            let what = format!("it stands for more than {MOST_PEERS} peers");
            self.refuse(at, what, "split it into several peers");
            return None;
        }
        let mut sets = vec![BTreeMap::new()];
        for (key, values) in labels {
            sets = sets
                .iter()
                .flat_map(|set: &BTreeMap<String, String>| {
                    values.iter().map(|value| {
                        let mut set = set.clone();
                        set.insert(key.clone(), value.clone());
                        set
                    })
                })
                .collect();
        }
        let far = |namespace: &String| {
            let namespace = namespace.clone();
            sets.iter().map(move |labels| Far::Pods { namespace: namespace.clone(), labels: labels.clone() })
        };
        Some(namespaces.iter().flat_map(far).collect())
    }

    /// A block of addresses: `cidr`, and `except`.
    pub fn block(&mut self, at: &str, block: &Value) -> Option<Far> {
        let object = block.as_object().cloned().unwrap_or_default();
        if !self.only(at, &object, &["cidr", "except"]) {
            return None;
        }
        let read = |value: &Value| value.as_str().and_then(|text| text.parse::<IpNet>().ok()).map(|net| net.trunc());
        let except: Option<Vec<IpNet>> = items(&object, "except", at).map(|(_, net)| read(net)).collect();
        match (object.get("cidr").and_then(read), except) {
            (Some(block), Some(except)) => Some(Far::Block { block, except }),
            _ => {
                self.refuse(at, "it is no block of addresses", "write it as 10.0.0.0/24");
                None
            }
        }
    }

    /// The values that a label selector requires, by key. Conditions that only narrow what it selects are left out.
    pub fn required(&mut self, at: &str, selector: &Value) -> Option<BTreeMap<String, BTreeSet<String>>> {
        let object = selector.as_object().cloned().unwrap_or_default();
        if !self.only(at, &object, &["matchLabels", "matchExpressions"]) {
            return None;
        }
        let required = required(&object);
        if required.is_none() {
            self.refuse(at, "it is no label selector", "correct it");
        }
        required
    }
}

fn required(selector: &Map<String, Value>) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let mut required: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut require = |key: &str, values: BTreeSet<String>| {
        required.entry(key.into()).and_modify(|had| had.retain(|value| values.contains(value))).or_insert(values);
    };
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        require(key, [value.as_str()?.to_owned()].into());
    }
    for (_, expression) in items(selector, "matchExpressions", "") {
        if expression.get("operator").and_then(Value::as_str)? == "In" {
            let values = expression.get("values").and_then(Value::as_array)?;
            let values = values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>()?;
            require(expression.get("key").and_then(Value::as_str)?, values);
        }
    }
    Some(required)
}

/// The members of a list, each with the field that it is.
pub(super) fn items<'v>(
    object: &'v Map<String, Value>,
    field: &str,
    at: &str,
) -> impl Iterator<Item = (String, &'v Value)> + use<'v> {
    let at = format!("{at}.{field}");
    let list = object.get(field).and_then(Value::as_array);
    list.into_iter().flatten().enumerate().map(move |(index, item)| (format!("{at}[{index}]"), item))
}

/// A protocol by its name.
pub(super) fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        _ => None,
    }
}
