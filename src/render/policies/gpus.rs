//! GPU pods outside environments follow the installation's setting: WL-501.

use super::pods::{Concern, PodAt, PodRule};
use super::{Check, cel, fallback, node, tag};
use crate::domain::Rule;
use crate::domain::world::{
    DEVICE_ANNOTATIONS, DEVICE_CLASS_RESOURCE, GPU_DEVICE_CLASSES, GPU_RESOURCES, GPU_VARIABLES, GpuPodsOutside,
    NO_DEVICES, Settings,
};

/// What becomes of GPUs outside every environment; `None`: nothing.
pub fn actions(settings: &Settings) -> Option<&'static [&'static str]> {
    match settings.gpu_pods_outside {
        GpuPodsOutside::Allow => None,
        GpuPodsOutside::Warn => Some(&["Warn"]),
        GpuPodsOutside::Deny => Some(&["Deny"]),
    }
}

/// A pod that asks for a GPU outside every environment.
pub fn pods(settings: &Settings, at: PodAt) -> PodRule {
    let (spec, metadata) = (at.spec(), at.metadata());
    let sets = |e: &str| {
        format!(
            "({e}.name in {} && (has({e}.valueFrom) || (has({e}.value) && !({e}.value in {}))))",
            cel::literals(GPU_VARIABLES),
            cel::literals(NO_DEVICES)
        )
    };
    let asks = format!(
        "(has(c.resources) && [has(c.resources.limits) ? c.resources.limits : {{}}, has(c.resources.requests) ? c.resources.requests : {{}}].exists(l, l.exists(r, {})))",
        is_gpu("r", settings)
    );
    let class = format!(
        "(has({spec}.runtimeClassName) && {spec}.runtimeClassName in {})",
        cel::literals(settings.gpu_classes())
    );
    let annotation = format!("k.startsWith({})", cel::literal(DEVICE_ANNOTATIONS));
    let mut variables = cel::membership();
    variables.extend(node::agent(settings, at));
    variables.extend([
        (
            "devices",
            format!("{spec}.containers + (has({spec}.initContainers) ? {spec}.initContainers : [])"),
        ),
        (
            "given",
            format!(
                "variables.devices.filter(c, has(c.env) && c.env.exists(e, {})).map(c, 'container \"' + c.name + '\" sets ' + c.env.filter(e, {})[0].name)",
                sets("e"),
                sets("e")
            ),
        ),
        (
            "classes",
            format!("{class} ? ['the pod has runtimeClassName \"' + {spec}.runtimeClassName + '\"'] : []"),
        ),
        (
            "annotations",
            format!(
                "has({metadata}.annotations) ? {metadata}.annotations.filter(k, {annotation}).map(k, 'the pod has annotation \"' + k + '\"') : []"
            ),
        ),
        ("gpus", format!("variables.devices.filter(c, {asks})")),
    ]);
    let violations = format!(
        "!({}) || variables.environment != '' || variables.agent ? [] : (variables.gpus.map(c, 'container \"' + c.name + '\" asks for a GPU') + (variables.given + variables.classes + variables.annotations).map(t, t + ', which gives it GPUs without a request')).map(t, {} + t + ', and namespace \"' + request.namespace + '\" is in no environment. Remedy: ' + {})",
        at.decided(),
        tag(Rule::GpuPodOutside),
        cel::literal(Rule::GpuPodOutside.describe().remedy)
    );
    let fallback = fallback(Rule::GpuPodOutside, "this pod asks for a GPU in a namespace of no environment");
    // Where it is but a warning, the name of the namespace will do: one that was made again is no member once the controller saw it.
    let outside = match settings.gpu_pods_outside {
        GpuPodsOutside::Warn => "!(request.namespace in params.spec.members) && ",
        GpuPodsOutside::Allow | GpuPodsOutside::Deny => "",
    };
    let concerned = Concern {
        container: Some(format!("{outside}({asks} || (has(c.env) && c.env.exists(e, {})))", sets("e"))),
        pod: Some(format!(
            "{outside}({class} || (has({metadata}.annotations) && {metadata}.annotations.exists(k, {annotation})))"
        )),
        volume: None,
    };
    PodRule { sharded: false, concerned, variables, check: Check { violations, unless: None, fallback } }
}

fn is_gpu(resource: &str, settings: &Settings) -> String {
    let mut tests: Vec<String> = Vec::new();
    for name in &settings.gpu_resources {
        tests.push(format!("{resource} == {}", cel::literal(name)));
    }
    for prefix in GPU_RESOURCES {
        tests.push(format!("{resource}.startsWith({})", cel::literal(prefix)));
    }
    let classes = GPU_DEVICE_CLASSES.map(|class| format!("{DEVICE_CLASS_RESOURCE}{class}"));
    tests.push(format!("{resource} in {}", cel::literals(classes)));
    format!("({})", tests.join(" || "))
}
