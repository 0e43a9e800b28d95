//! What NetworkPolicies and ClusterNetworkPolicies mean, from their API documentation and from nothing of Weightlock's: it reads the
//! objects as JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

/// One end of a connection: a pod, or an address that is none.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub pod: Option<(String, BTreeMap<String, String>)>,
    pub address: IpAddr,
}

pub struct Policies<'a> {
    /// `networking.k8s.io/v1` NetworkPolicies.
    pub namespaced: &'a [Value],
    /// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicies, all in the Admin tier.
    pub admin: &'a [Value],
    /// Whether the network plugin matches addresses of pods against blocks. Its documentation leaves it open.
    pub pods_are_addresses: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    In,
    Out,
}

/// A connection as one end of it, a pod, has it.
struct Connection<'a> {
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
    way: Way,
    other: &'a Endpoint,
    protocol: &'a str,
    port: u16,
}

impl Policies<'_> {
    /// Whether a connection is let through at both ends.
    pub fn allow(&self, from: &Endpoint, to: &Endpoint, protocol: &str, port: u16) -> bool {
        self.side(from, Way::Out, to, protocol, port) && self.side(to, Way::In, from, protocol, port)
    }

    fn side(&self, own: &Endpoint, way: Way, other: &Endpoint, protocol: &str, port: u16) -> bool {
        let Some((namespace, labels)) = &own.pod else { return true };
        let connection = Connection { namespace, labels, way, other, protocol, port };
        match self.admin(&connection).as_deref() {
            Some("Accept") => true,
            Some("Deny") => false,
            None | Some("Pass") => self.namespaced(&connection),
            Some(action) => panic!("no action: {action}"),
        }
    }

    /// The action of the first rule that matches, by priority and place.
    fn admin(&self, connection: &Connection<'_>) -> Option<String> {
        let &Connection { namespace, labels, way, other, protocol, port } = connection;
        let mut policies: Vec<&Value> = self.admin.iter().map(|policy| &policy["spec"]).collect();
        policies.sort_by_key(|spec| spec["priority"].as_u64().unwrap());
        let (rules, peers) = if way == Way::In { ("ingress", "from") } else { ("egress", "to") };
        for spec in policies {
            assert_eq!(spec["tier"], "Admin");
            if !pods(&spec["subject"], namespace, labels) {
                continue;
            }
            for rule in list(&spec[rules]) {
                let peer = rule.get(peers).map(list).is_none_or(|peers| {
                    peers.iter().any(|peer| match (peer.get("networks"), &other.pod) {
                        (Some(networks), None) => in_networks(networks, other.address),
                        (Some(networks), Some(_)) => self.pods_are_addresses && in_networks(networks, other.address),
                        (None, Some((namespace, labels))) => pods(peer, namespace, labels),
                        (None, None) => false,
                    })
                });
                let ports = rule.get("protocols").map(list).is_none_or(|protocols| {
                    protocols.iter().any(|stated| {
                        let (name, of) = stated.as_object().unwrap().iter().next().unwrap();
                        name.eq_ignore_ascii_case(protocol) && in_numbers(&of["destinationPort"], port)
                    })
                });
                if peer && ports {
                    return Some(rule["action"].as_str().unwrap().into());
                }
            }
        }
        None
    }

    /// Policies add up; a pod that none selects in a direction is open in it.
    fn namespaced(&self, connection: &Connection<'_>) -> bool {
        let &Connection { namespace, labels, way, other, protocol, port } = connection;
        let (kind, rules, peers) =
            if way == Way::In { ("Ingress", "ingress", "from") } else { ("Egress", "egress", "to") };
        let selecting: Vec<&Value> = (self.namespaced.iter())
            .filter(|policy| policy["metadata"]["namespace"] == namespace)
            .map(|policy| &policy["spec"])
            .filter(|spec| selects(&spec["podSelector"], labels))
            .filter(|spec| match spec.get("policyTypes") {
                Some(types) => list(types).iter().any(|listed| listed == kind),
                None => way == Way::In || spec.get("egress").is_some(),
            })
            .collect();
        let through = |rule: &Value| {
            let peer = rule.get(peers).map(list).filter(|peers| !peers.is_empty()).is_none_or(|peers| {
                peers.iter().any(|peer| match (peer.get("ipBlock"), &other.pod) {
                    (Some(block), None) => in_block(block, other.address),
                    (Some(block), Some(_)) => self.pods_are_addresses && in_block(block, other.address),
                    (None, None) => false,
                    (None, Some((theirs, labels))) => {
                        let there = match peer.get("namespaceSelector") {
                            Some(selector) => selects(selector, &of_namespace(theirs)),
                            None => theirs == namespace,
                        };
                        there && peer.get("podSelector").is_none_or(|selector| selects(selector, labels))
                    }
                })
            });
            let ports = rule.get("ports").map(list).filter(|ports| !ports.is_empty()).is_none_or(|ports| {
                ports.iter().any(|stated| {
                    let same = stated.get("protocol").is_none_or(|name| name == protocol)
                        && (stated.get("protocol").is_some() || protocol == "TCP");
                    let first = stated.get("port").map(|number| number.as_u64().unwrap());
                    let last = stated.get("endPort").map(|number| number.as_u64().unwrap()).or(first);
                    same && first.is_none_or(|first| first <= port.into())
                        && last.is_none_or(|last| last >= port.into())
                })
            });
            peer && ports
        };
        selecting.is_empty() || selecting.iter().flat_map(|spec| list(&spec[rules])).any(through)
    }
}

/// `namespaces` or `pods` of a ClusterNetworkPolicy.
fn pods(peer: &Value, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    match (peer.get("namespaces"), peer.get("pods")) {
        (Some(namespaces), None) => selects(namespaces, &of_namespace(namespace)),
        (None, Some(pods)) => {
            selects(&pods["namespaceSelector"], &of_namespace(namespace)) && selects(&pods["podSelector"], labels)
        }
        _ => panic!("neither namespaces nor pods: {peer}"),
    }
}

fn of_namespace(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("kubernetes.io/metadata.name".into(), name.into())])
}

fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let none = Map::new();
    let equal = selector.get("matchLabels").and_then(Value::as_object).unwrap_or(&none);
    let expressions = selector.get("matchExpressions").map(list).unwrap_or_default();
    equal.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
        && expressions.iter().all(|expression| {
            let found = labels.get(expression["key"].as_str().unwrap());
            let listed = |value: &String| list(&expression["values"]).iter().any(|listed| listed == value);
            match expression["operator"].as_str().unwrap() {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                operator => panic!("no operator: {operator}"),
            }
        })
}

fn in_block(block: &Value, address: IpAddr) -> bool {
    let within = |network: &Value| network.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address);
    within(&block["cidr"]) && !block.get("except").map(list).unwrap_or_default().iter().any(within)
}

fn in_networks(networks: &Value, address: IpAddr) -> bool {
    list(networks).iter().any(|network| network.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address))
}

fn in_numbers(numbers: &Value, port: u16) -> bool {
    match numbers.get("range") {
        Some(range) => (range["start"].as_u64().unwrap()..=range["end"].as_u64().unwrap()).contains(&port.into()),
        None => numbers["number"].as_u64().unwrap() == u64::from(port),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
