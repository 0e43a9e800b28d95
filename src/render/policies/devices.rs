//! Devices by Dynamic Resource Allocation: ResourceClaims and their templates.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use super::{Check, Namespaces, Parameter, Policy, cel, fallback, gpus, node, rule, tag};
use crate::domain::Rule;
use crate::domain::world::{GPU_DEVICE_CLASSES, Settings};

/// Claims that reach devices in use are for agents of the node.
pub fn admin_access(settings: &Settings) -> Policy {
    let remedy = "leave out adminAccess; or, if this is for agents of the node, have the namespace listed in nodeAgents of Weightlock's chart.";
    Policy {
        name: "device-access",
        parameter: Parameter::None,
        actions: node::actions(settings),
        rules: claims(),
        scope: elsewhere(settings),
        variables: requests(),
        gate: None,
        checks: vec![Check {
            violations: format!(
                "variables.requests.filter(r, {}).map(r, {} + 'device request \"' + r.name + '\" asks for adminAccess, which reaches devices that pods with weights use. Remedy: ' + {})",
                of_request(|part| format!("('adminAccess' in {part} && {part}.adminAccess == true)")),
                tag(Rule::DeviceAdminAccess),
                cel::literal(remedy)
            ),
            unless: None,
            fallback: fallback(Rule::DeviceAdminAccess, "this claim reaches devices that pods with weights use"),
        }],
    }
}

/// A claim of a GPU outside every environment is warned of or refused, as the installation says.
pub fn gpus(settings: &Settings) -> Option<Policy> {
    let actions = gpus::actions(settings)?;
    let remedy = "make the claim in a namespace of a WeightEnvironment, or add the namespace to one.";
    let gpu = |part: &str| {
        format!("('deviceClassName' in {part} && {part}.deviceClassName in {})", cel::literals(GPU_DEVICE_CLASSES))
    };
    let mut variables = cel::membership();
    variables.extend(requests());
    Some(Policy {
        name: "gpu-claims",
        parameter: Parameter::FirstShard,
        actions,
        rules: claims(),
        scope: elsewhere(settings),
        variables,
        gate: None,
        checks: vec![Check {
            violations: format!(
                "variables.environment != '' ? [] : variables.requests.filter(r, {} || ('firstAvailable' in r && r.firstAvailable.exists(a, {}))).map(r, {} + 'device request \"' + r.name + '\" is for a GPU, and namespace \"' + request.namespace + '\" is in no environment. Remedy: ' + {})",
                of_request(gpu),
                gpu("a"),
                tag(Rule::GpuPodOutside),
                cel::literal(remedy)
            ),
            unless: None,
            fallback: fallback(Rule::GpuPodOutside, "this claim is for a GPU in a namespace of no environment"),
        }],
    })
}

/// All namespaces but those with agents of the node.
fn elsewhere(settings: &Settings) -> Namespaces {
    Namespaces::Except(settings.node_agent_namespaces().into_iter().map(String::from).collect())
}

/// The kinds of claims. What they ask for is never changed.
fn claims() -> Vec<NamedRuleWithOperations> {
    vec![rule("resource.k8s.io", &["*"], &["resourceclaims", "resourceclaimtemplates"], &["CREATE"])]
}

/// The requests of a claim. The spec of a template lies in its spec.
fn requests() -> Vec<(&'static str, String)> {
    vec![
        ("claim", "request.resource.resource == 'resourceclaims' ? dyn(object).spec : dyn(object).spec.spec".into()),
        (
            "requests",
            "'devices' in variables.claim && 'requests' in variables.claim.devices ? variables.claim.devices.requests : []".into(),
        ),
    ]
}

/// Whether something holds for request `r`: versions of the group have its fields in the request itself, or below `exactly`.
fn of_request(holds: impl Fn(&str) -> String) -> String {
    format!("({} || ('exactly' in r && {}))", holds("r"), holds("r.exactly"))
}
