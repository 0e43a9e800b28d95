//! WL-701: what others open in the network of an environment is what the environment declares.

use serde_json::Value;

use super::text::Findings;
use crate::api::Mode;
use crate::domain::network::{Kind, declared, excess};
use crate::domain::request::Request;
use crate::domain::rules::Rule;
use crate::domain::world::{Environment, World};

/// A policy in a namespace of an environment. Where the network is in Audit nothing is denied, so a policy can only narrow.
pub(super) fn policy(
    world: &World,
    kind: Kind,
    request: &Request<'_>,
    environment: &Environment,
    findings: &mut Findings,
) {
    if environment.modes.network == Mode::Audit || request.user.name == world.settings.controller() {
        return;
    }
    let allowances = match declared(world, environment) {
        Ok(allowances) => allowances,
        Err(error) => {
            findings.add(
                Rule::UndeclaredOpening,
                format!("it cannot be told what WeightEnvironment {:?} declares: {error}.", environment.name),
                format!("correct spec.network of WeightEnvironment {:?}.", environment.name),
            );
            return;
        }
    };
    let object = request.object.unwrap_or(&Value::Null);
    for found in excess(kind, object, request.namespace, &allowances) {
        let declare = format!("declare it in spec.network of WeightEnvironment {:?}, or remove it", environment.name);
        findings.add(
            Rule::UndeclaredOpening,
            format!("{}: {}.", found.at, found.what),
            format!("{}.", found.remedy.map_or(declare, str::to_owned)),
        );
    }
}
