//! Only the node's own agents reach a node: WL-114. What reaches it, and who its agents are, stands in the policies
//! themselves.

use super::pods::{Concern, PodAt, PodRule};
use super::{Check, Namespaces, Parameter, Policy, cel, fallback, rule, tag};
use crate::api::Mode;
use crate::domain::Rule;
use crate::domain::node::{CAPABILITIES, DIRECTORIES, HARMLESS, NETWORK_CAPABILITY, VOLUMES};
use crate::domain::world::Settings;

/// `variables.account` of a pod, as `nodeAgents` lists it, and whether it is an agent of its node.
pub fn agent(settings: &Settings, at: PodAt) -> [(&'static str, String); 2] {
    let agents = cel::literals(settings.node_agents.iter().map(ToString::to_string));
    let spec = at.spec();
    let account = format!(
        "request.namespace + '/' + (has({spec}.serviceAccountName) && {spec}.serviceAccountName != '' ? {spec}.serviceAccountName : 'default')"
    );
    [("account", account), ("agent", format!("variables.account in {agents}"))]
}

/// Pods that reach their node run as one of its agents.
pub fn pods(settings: &Settings, at: PodAt) -> PodRule {
    let spec = at.spec();
    let security = |path: &str| format!("has({path}.securityContext) ? dyn({path}.securityContext) : dyn({{}})");
    let containers = |list: &str| {
        format!(
            "(has({spec}.{list}) ? {spec}.{list}.map(c, {{'name': dyn(string(c.name)), 'security': {}}}) : [])",
            security("c")
        )
    };
    let is_true = |field: &str| format!("(has({spec}.{field}) && {spec}.{field})");
    let host_process = |of: &str| {
        format!(
            "has({of}.windowsOptions) && has({of}.windowsOptions.hostProcess) && {of}.windowsOptions.hostProcess == true"
        )
    };
    let mut variables = agent(settings, at).to_vec();
    variables.extend([
        ("security", security(&spec)),
        ("secured", cel::CONTAINERS.map(containers).join(" + ")),
        (
            "hostPaths",
            format!(
                "has({spec}.volumes) ? {spec}.volumes.filter(v, has(v.hostPath)).map(v, {{'name': string(v.name), 'raw': string(v.hostPath.path), 'path': {}}}) : []",
                cel::host_path("v.hostPath.path")
            ),
        ),
        (
            "capabilities",
            format!(
                "{} + ({} ? [{}] : [])",
                cel::literals(CAPABILITIES.iter().copied()),
                is_true("hostNetwork"),
                cel::literal(NETWORK_CAPABILITY)
            ),
        ),
        (
            "adding",
            "variables.secured.filter(c, has(c.security.capabilities) && has(c.security.capabilities.add)).map(c, {'name': dyn(c.name), 'added': dyn(c.security.capabilities.add.filter(a, a.upperAscii().replace('CAP_', '') in variables.capabilities))}).filter(c, size(c.added) > 0)".to_string(),
        ),
    ]);
    let remedy = "' Remedy: remove it; or, if this is an agent of the node, have service account \"' + variables.account + '\" listed in nodeAgents of Weightlock\\'s chart.'";
    let of_containers = |condition: &str, text: &str| {
        format!(
            "variables.secured.filter(c, {condition}).map(c, {} + 'container \"' + c.name + '\" {text}' + {remedy})",
            tag(Rule::NodeAccess)
        )
    };
    let of_pod = |condition: &str, text: &str| {
        format!("({condition} ? [{} + 'the pod {text}' + {remedy}] : [])", tag(Rule::NodeAccess))
    };
    let process = "is a process of its node (securityContext.windowsOptions.hostProcess).";
    let lists = [
        format!(
            "variables.hostPaths.filter(v, {}).map(v, {} + 'volume \"' + v.name + '\" (hostPath \"' + v.raw + '\") {} + {remedy})",
            reaches("v.path"),
            tag(Rule::NodeAccess),
            reached("v.path")
        ),
        of_pod(
            &is_true("hostPID"),
            "uses the process namespace of its node (hostPID), and so reaches the files of every process there.",
        ),
        of_pod(&host_process("variables.security"), process),
        of_containers(
            "has(c.security.privileged) && c.security.privileged == true",
            "is privileged, and so reaches all of its node.",
        ),
        of_containers(&host_process("c.security"), process),
        format!(
            "variables.adding.map(c, {} + 'container \"' + c.name + '\" adds \"' + c.added.join('\", \"') + '\", and so reaches beyond its pod on the node.' + {remedy})",
            tag(Rule::NodeAccess)
        ),
    ];
    let violations = format!("variables.agent ? [] : {}", lists.join(" + "));
    let fallback = fallback(Rule::NodeAccess, "this pod reaches its node, and is none of its agents");
    let concerned = Concern {
        pod: Some(format!(
            "{} || (has({spec}.securityContext) && has({spec}.securityContext.windowsOptions))",
            is_true("hostPID")
        )),
        volume: Some("has(v.hostPath)".into()),
        container: Some(
            "(has(c.securityContext) && (has(c.securityContext.windowsOptions) || (has(c.securityContext.privileged) && c.securityContext.privileged) || (has(c.securityContext.capabilities) && has(c.securityContext.capabilities.add))))".into(),
        ),
    };
    PodRule { sharded: false, concerned, variables, check: Check { violations, unless: None, fallback } }
}

/// No PersistentVolume is a directory of the node that reaches all others, but for namespaces with agents of the node.
pub fn volumes(settings: &Settings) -> Policy {
    let source = |field: &str| {
        format!(
            "(has(object.spec.{field}) ? [{{'raw': '{field} \"' + object.spec.{field}.path + '\"', 'path': {}}}] : [])",
            cel::host_path(&format!("object.spec.{field}.path"))
        )
    };
    Policy {
        name: "node-volumes",
        parameter: Parameter::None,
        actions: actions(settings),
        rules: vec![rule("", &["v1"], &["persistentvolumes"], &["CREATE", "UPDATE"])],
        scope: Namespaces::Except(vec![]),
        variables: vec![
            (
                "destination",
                "has(object.spec.claimRef) && has(object.spec.claimRef.namespace) ? object.spec.claimRef.namespace : ''".into(),
            ),
            // What is as it was may stay: status, finalizers and labels of a volume can always be written.
            (
                "asked",
                format!(
                    "!(variables.destination in {}) && (request.operation == 'CREATE' || (has(object.spec.claimRef) && (!has(oldObject.spec.claimRef) || object.spec.claimRef != oldObject.spec.claimRef)))",
                    cel::literals(settings.node_agent_namespaces())
                ),
            ),
            ("name", cel::NAME.into()),
            ("paths", format!("{} + {}", source("hostPath"), source("local"))),
        ],
        gate: None,
        checks: vec![Check {
            violations: format!(
                "!variables.asked ? [] : variables.paths.filter(v, {}).map(v, {} + 'PersistentVolume \"' + variables.name + '\" (' + v.raw + ') {} + ' Remedy: use a directory of its own; or reserve the volume, by spec.claimRef, for a namespace that nodeAgents of Weightlock\\'s chart lists.')",
                reaches("v.path"),
                tag(Rule::NodeAccess),
                reached("v.path")
            ),
            unless: None,
            fallback: fallback(
                Rule::NodeAccess,
                "this PersistentVolume is a directory of the node that reaches the volumes of all its pods",
            ),
        }],
    }
}

pub(super) fn actions(settings: &Settings) -> &'static [&'static str] {
    match settings.node_access {
        Mode::Audit => &["Warn", "Audit"],
        Mode::Enforce => &["Deny"],
    }
}

/// Whether one of two paths is or holds the other.
fn overlap(path: &str, directory: &str) -> String {
    format!(
        "({path} == '/' || {path} == {directory} || {path}.startsWith({directory} + '/') || {directory}.startsWith({path} + '/'))"
    )
}

/// Whether a canonical path reaches a directory of the node.
fn reaches(path: &str) -> String {
    let spared = cel::literals(HARMLESS.iter().chain(VOLUMES).copied());
    format!(
        "{}.exists(d, {}) && !{spared}.exists(s, {path} == s || {path}.startsWith(s + '/'))",
        directories(),
        overlap(path, "d")
    )
}

/// `reaches … of the node, …`, within a literal that is still open, of a path that does.
fn reached(path: &str) -> String {
    format!(
        "reaches ' + {}.filter(d, {})[0] + ' of the node, and through it the volumes of all its pods.'",
        directories(),
        overlap(path, "d")
    )
}

fn directories() -> String {
    cel::literals(DIRECTORIES.iter().copied())
}
