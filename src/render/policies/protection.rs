//! Ring 1 keeps what it stands on: the definitions of the custom resources, and the index.

use super::{Namespaces, Parameter, Policy, cel, fallback, rule, tag};
use crate::api::GROUP;
use crate::domain::Rule;
use crate::domain::world::Settings;
use crate::render::{MANAGED_BY, OWNER};

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
    let controller = settings.controller();
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
    let controller = settings.controller();
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

/// The NetworkPolicies of environments are changed and deleted by the controller, and with their namespace. The controller
/// would put them back, but what flows until then has flown. `None`: there is no namespace to guard.
pub fn network_policies(settings: &Settings, enforced: &[String]) -> Option<Policy> {
    if enforced.is_empty() {
        return None;
    }
    let remedy = "change spec.network of the WeightEnvironment; the controller writes its policies from it.";
    // What others may write into any object: owners, finalizers, annotations of their own.
    let kept = "has(object.spec) && object.spec == oldObject.spec && has(object.metadata.labels) && oldObject.metadata.labels.all(k, k in object.metadata.labels && object.metadata.labels[k] == oldObject.metadata.labels[k]) && has(object.metadata.annotations) && variables.owner in object.metadata.annotations && object.metadata.annotations[variables.owner] == oldObject.metadata.annotations[variables.owner]";
    let ours = format!(
        "has(oldObject.metadata.labels) && {0} in oldObject.metadata.labels && oldObject.metadata.labels[{0}] == {1} && has(oldObject.metadata.annotations) && variables.owner in oldObject.metadata.annotations",
        cel::literal(MANAGED_BY.0),
        cel::literal(MANAGED_BY.1)
    );
    Some(Policy {
        name: "protect-network-policies",
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule("networking.k8s.io", &["*"], &["networkpolicies"], &["UPDATE", "DELETE"])],
        scope: Namespaces::Only(enforced.to_vec()),
        variables: vec![
            ("owner", cel::literal(OWNER)),
            ("ours", ours),
            (
                "allowed",
                format!(
                    "request.userInfo.username == {} || {} || (request.operation == 'UPDATE' && {kept})",
                    cel::literal(&settings.controller()),
                    cel::cluster()
                ),
            ),
        ],
        violations: format!(
            "!variables.ours || variables.allowed ? [] : [{} + 'NetworkPolicy \"' + request.namespace + '/' + oldObject.metadata.name + '\" of Weightlock is changed by the controller only, and not by \"' + request.userInfo.username + '\". Remedy: ' + {}]",
            tag(Rule::OwnObject),
            cel::literal(remedy)
        ),
        unless: None,
        fallback: fallback(Rule::OwnObject, "a NetworkPolicy of Weightlock is changed by the controller only"),
    })
}

const UNINSTALL: &str =
    "to uninstall, delete the ValidatingAdmissionPolicyBindings of Weightlock first (docs/recovery.md).";
