//! Whether one end may connect to another, by what environments declare. It is computed from declarations alone, and not from the
//! policies that are rendered of them, so that the one can be tested against the other.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{Direction, PlanError, PlannedPeer, declared};
use crate::{
    api::{Mode, Port, Protocol},
    domain::{World, lookup::Membership, world::Environment},
};

/// One end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Namespace and labels, where it is a pod with a network of its own.
    pub pod: Option<(String, BTreeMap<String, String>)>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Where a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the end that is connected to.
    pub port: u16,
}

/// What the environment of one end says of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// This end is in no environment that enforces its network.
    Free,
    /// A rule declares it.
    Declared {
        /// Name of the WeightEnvironment.
        environment: String,
        /// Name of the rule; "dns" is name resolution, which is declared without one.
        rule: String,
        /// The rule names addresses, and the other end is a pod: whether addresses of pods count as addresses is up to the network
        /// plugin.
        by_address: bool,
    },
    /// No rule declares it.
    Undeclared {
        /// Name of the WeightEnvironment.
        environment: String,
    },
}

/// What both ends say. It is allowed only if neither objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The end that connects.
    pub from: Side,
    /// The end that is connected to.
    pub to: Side,
}

/// How far a connection is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declaration {
    /// No end objects.
    Yes,
    /// No end objects if the network plugin counts addresses of pods as addresses.
    ByAddress,
    /// An end objects.
    No,
}

impl Reach {
    /// How far the connection is declared.
    pub fn declaration(&self) -> Declaration {
        let sides = [&self.from, &self.to];
        if sides.iter().any(|side| matches!(side, Side::Undeclared { .. })) {
            Declaration::No
        } else if sides.iter().any(|side| matches!(side, Side::Declared { by_address: true, .. })) {
            Declaration::ByAddress
        } else {
            Declaration::Yes
        }
    }
}

/// Whether `from` may connect to `to`. A pod that connects to itself is not asked about: nothing stops it.
///
/// # Errors
/// If an environment of an end cannot be planned.
pub fn reach(world: &World, from: &End, to: &End, destination: Destination) -> Result<Reach, PlanError> {
    if let Some(reason) = world.undecidable() {
        return Err(PlanError::Undecidable(reason));
    }
    Ok(Reach {
        from: side(world, from, Direction::Egress, to, destination)?,
        to: side(world, to, Direction::Ingress, from, destination)?,
    })
}

fn side(
    world: &World,
    end: &End,
    direction: Direction,
    other: &End,
    destination: Destination,
) -> Result<Side, PlanError> {
    let Some(environment) = end.pod.as_ref().and_then(|(namespace, _)| enforcing(world, namespace)) else {
        return Ok(Side::Free);
    };
    let allowances = declared(world, environment)?;
    let matching = allowances.iter().filter_map(|allowance| {
        let rule = allowance.as_rule();
        let by_address =
            matches(&rule.peers, &rule.ports, other, destination).filter(|_| rule.direction == direction)?;
        Some(Side::Declared { environment: environment.name.clone(), rule: rule.name.into(), by_address })
    });
    // The surest first.
    let found = matching.min_by_key(|side| matches!(side, Side::Declared { by_address: true, .. }));
    Ok(found.unwrap_or_else(|| Side::Undeclared { environment: environment.name.clone() }))
}

/// The environment that enforces the network of a namespace.
fn enforcing<'a>(world: &'a World, namespace: &str) -> Option<&'a Environment> {
    match world.membership(namespace) {
        Membership::Member { environment, .. } if environment.modes.network == Mode::Enforce => Some(environment),
        _ => None,
    }
}

/// Whether a rule is about it; if so, whether only by the address of a pod.
fn matches(peers: &[PlannedPeer], ports: &[Port], other: &End, destination: Destination) -> Option<bool> {
    let port = i32::from(destination.port);
    let on = |declared: &Port| {
        declared.protocol == destination.protocol
            && (declared.port..=declared.end_port.unwrap_or(declared.port)).contains(&port)
    };
    if !ports.iter().any(on) {
        return None;
    }
    let by_address = |peer: &PlannedPeer| match peer {
        PlannedPeer::Cidr(cidr) => {
            let network: IpNet = cidr.parse().ok()?;
            other.addresses.iter().any(|address| network.contains(address)).then_some(other.pod.is_some())
        }
        PlannedPeer::Namespace(_) | PlannedPeer::Pods { .. } => {
            let (namespace, labels) = other.pod.as_ref()?;
            peer.selects(namespace, labels).then_some(false)
        }
    };
    peers.iter().filter_map(by_address).min()
}
