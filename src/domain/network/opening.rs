//! Whether what a policy opens is contained in what an environment declares.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Allowance, Direction, PlannedPeer};
use crate::api::{Port, Protocol};

/// Most blocks of addresses of one policy that are compared. Each may be cut along every other.
pub(super) const MOST_BLOCKS: usize = 256;

/// Consecutive ports of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port.
    pub first: u16,
    /// The last port, which may be the first.
    pub last: u16,
}

/// The other end of what is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Far {
    /// Pods that have at least these labels, in a namespace.
    Pods {
        /// Name of the namespace.
        namespace: String,
        /// Labels; empty: all its pods.
        labels: BTreeMap<String, String>,
    },
    /// Addresses.
    Block {
        /// All of these,
        block: IpNet,
        /// but for these.
        except: Vec<IpNet>,
    },
}

/// What a policy lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The field that says it, such as `spec.egress[0].to[1]`.
    pub at: String,
    /// Which way connections go.
    pub direction: Direction,
    /// The other end.
    pub far: Far,
    /// The ports of the end that is connected to.
    pub ports: Vec<Ports>,
}

/// What a policy opens beyond what is declared, or what cannot be told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The field that says it.
    pub at: String,
    /// What is wrong with it.
    pub what: String,
    /// What to write instead, where that is not to declare it.
    pub remedy: Option<&'static str>,
}

/// What of an opening no allowance covers. The first of it is named, since one suffices to refuse.
pub(super) fn uncovered(opening: &Opening, allowances: &[Allowance]) -> Option<Excess> {
    let declared = declared(opening.direction, allowances);
    let missing = match &opening.far {
        Far::Pods { namespace, labels } => {
            let covering = declared.iter().filter(|(peer, _)| peer.selects(namespace, labels));
            let have: Vec<Ports> = covering.flat_map(|(_, ports)| ports.iter().copied()).collect();
            first_missing(&opening.ports, &have).map(|ports| (pods(namespace, labels), ports))
        }
        Far::Block { block, except } => {
            let blocks: Vec<(IpNet, &[Ports])> = declared
                .iter()
                .filter_map(|(peer, ports)| match peer {
                    PlannedPeer::Cidr(cidr) => Some((cidr.parse().ok()?, ports.as_slice())),
                    PlannedPeer::Namespace(_) | PlannedPeer::Pods { .. } => None,
                })
                .collect();
            in_block(*block, except, &opening.ports, &blocks).map(|(block, ports)| (block.to_string(), ports))
        }
    };
    missing.map(|(far, ports)| Excess {
        at: opening.at.clone(),
        what: format!(
            "{ports} {} {far} is not declared",
            if opening.direction == Direction::Ingress { "from" } else { "to" }
        ),
        remedy: None,
    })
}

/// The peers and ports that are declared for a direction.
fn declared(direction: Direction, allowances: &[Allowance]) -> Vec<(PlannedPeer, Vec<Ports>)> {
    let mut declared = Vec::new();
    for rule in allowances.iter().map(Allowance::as_rule).filter(|rule| rule.direction == direction) {
        let ports: Vec<Ports> = rule.ports.iter().filter_map(Ports::of).collect();
        declared.extend(rule.peers.iter().map(|peer| (peer.clone(), ports.clone())));
    }
    declared
}

/// A part of the block, and ports, that nothing declared covers. Where something declared or excepted lies within the
/// block, its halves are asked, so that the answer is exact whatever the blocks are cut into.
fn in_block(
    block: IpNet,
    except: &[IpNet],
    needed: &[Ports],
    declared: &[(IpNet, &[Ports])],
) -> Option<(IpNet, Ports)> {
    if except.iter().any(|net| net.contains(&block)) {
        return None;
    }
    let covering = declared.iter().filter(|(net, _)| net.contains(&block));
    let have: Vec<Ports> = covering.flat_map(|(_, ports)| ports.iter().copied()).collect();
    let missing = first_missing(needed, &have)?;
    let within = |net: &IpNet| *net != block && block.contains(net);
    if !declared.iter().any(|(net, _)| within(net)) && !except.iter().any(within) {
        return Some((block, missing));
    }
    let halves = block.subnets(block.prefix_len().saturating_add(1)).ok()?;
    halves.into_iter().find_map(|half| in_block(half, except, needed, declared))
}

/// The first of the needed ports that are not among those that there are.
fn first_missing(needed: &[Ports], have: &[Ports]) -> Option<Ports> {
    needed.iter().find_map(|needed| {
        let mut next = u32::from(needed.first);
        while next <= u32::from(needed.last) {
            let covers = |ports: &&Ports| {
                ports.protocol == needed.protocol && (u32::from(ports.first)..=u32::from(ports.last)).contains(&next)
            };
            match have.iter().filter(covers).map(|ports| u32::from(ports.last)).max() {
                Some(last) => next = last + 1,
                None => {
                    let later = have.iter().filter(|p| p.protocol == needed.protocol).map(|p| u32::from(p.first));
                    let end = later
                        .filter(|first| *first > next)
                        .min()
                        .map_or(u32::from(needed.last), |first| (first - 1).min(u32::from(needed.last)));
                    let port = |port: u32| u16::try_from(port).unwrap_or(u16::MAX);
                    return Some(Ports { first: port(next), last: port(end), ..*needed });
                }
            }
        }
        None
    })
}

fn pods(namespace: &str, labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return format!("all pods of namespace {namespace:?}");
    }
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("the pods {} of namespace {namespace:?}", labels.join(","))
}

impl Ports {
    /// Ports as they are declared; `None` where they are no ports, which the schema excludes.
    fn of(port: &Port) -> Option<Self> {
        let first = u16::try_from(port.port).ok()?;
        let last = port.end_port.map_or(Some(first), |end| u16::try_from(end).ok())?;
        Some(Self { protocol: port.protocol, first, last })
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { protocol, first, last } = self;
        if first == last { write!(f, "{protocol:?} {first}") } else { write!(f, "{protocol:?} {first}-{last}") }
    }
}
