//! Ring 1 keeps what it stands on: the definitions of the custom resources, and the index.

use super::{CONTROLLER_SERVICE_ACCOUNT, Namespaces, Parameter, Policy, cel, rule, tag};
use crate::api::GROUP;
use crate::domain::Rule;
use crate::domain::world::Settings;

/// Our definitions are not deleted while this policy is bound. Without the definition of their parameter, policies
/// refuse every request that they match; without the others, all declarations are gone.
pub fn definitions() -> Policy {
    Policy {
        name: "protect-definitions",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule("apiextensions.k8s.io", &["*"], &["customresourcedefinitions"], &["DELETE"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![],
        violations: format!(
            "oldObject.spec.group == {} ? [{} + 'CustomResourceDefinition \"' + oldObject.metadata.name + '\" is what Weightlock protects weights by. Remedy: ' + {}] : []",
            cel::literal(GROUP),
            tag(Rule::OwnObject),
            cel::literal(UNINSTALL)
        ),
        unless: None,
        fallback: format!("[{}] a definition of Weightlock is deleted. Remedy: {UNINSTALL}", Rule::OwnObject.id()),
    }
}

/// Only the controller writes the index.
pub fn index(settings: &Settings) -> Policy {
    let controller = format!("system:serviceaccount:{}:{CONTROLLER_SERVICE_ACCOUNT}", settings.own_namespace);
    let remedy = "change WeightArtifacts and WeightEnvironments; the controller writes the index from them.";
    Policy {
        name: "protect-index",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule(GROUP, &["*"], &["weightindexes"], &["CREATE", "UPDATE", "DELETE"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![],
        violations: format!(
            "request.userInfo.username == {} ? [] : [{} + 'WeightIndex \"' + (has(request.name) ? request.name : '') + '\" is written by the controller only, and not by \"' + request.userInfo.username + '\". Remedy: ' + {}]",
            cel::literal(&controller),
            tag(Rule::OwnObject),
            cel::literal(remedy)
        ),
        unless: None,
        fallback: format!(
            "[{}] a WeightIndex is written by the controller only. Remedy: {remedy}",
            Rule::OwnObject.id()
        ),
    }
}

/// Only the controller writes incidents; a person deletes them. Who could write one could block any weights.
pub fn incidents(settings: &Settings) -> Policy {
    let controller = format!("system:serviceaccount:{}:{CONTROLLER_SERVICE_ACCOUNT}", settings.own_namespace);
    let remedy = "to clear an incident, delete it (kubectl weightlock clear).";
    Policy {
        name: "protect-incidents",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule(GROUP, &["*"], &["weightincidents"], &["CREATE", "UPDATE"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![],
        violations: format!(
            "request.userInfo.username == {} ? [] : [{} + 'WeightIncident \"' + (has(request.name) ? request.name : '') + '\" is written by the controller only, and not by \"' + request.userInfo.username + '\". Remedy: ' + {}]",
            cel::literal(&controller),
            tag(Rule::OwnObject),
            cel::literal(remedy)
        ),
        unless: None,
        fallback: format!(
            "[{}] a WeightIncident is written by the controller only. Remedy: {remedy}",
            Rule::OwnObject.id()
        ),
    }
}

const UNINSTALL: &str =
    "to uninstall, delete the ValidatingAdmissionPolicyBindings of Weightlock first (docs/recovery.md).";
