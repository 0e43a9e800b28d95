//! WL-114: only the node's own agents reach a node.
//!
//! Outside environments nobody verifies what a pod is, and whoever reaches a node reads the storage of every pod on it.

use super::assessment::Assessment;
use super::hardening::{added, host_process};
use super::pod::{Object, Pod, is_true, object, text};
use super::text::{Findings, quoted};
use crate::api::Mode;
use crate::domain::node;
use crate::domain::rules::Rule;
use crate::domain::world::World;

/// Every way in which the pod reaches its node, unless it runs as an agent of the node.
pub(super) fn pod(assessment: &Assessment<'_>, findings: &mut Findings) {
    let (world, pod) = (assessment.world, &assessment.pod);
    let account = pod.service_account();
    if world.settings.is_node_agent(assessment.namespace, account) {
        return;
    }
    let listed = format!("{}/{account}", assessment.namespace);
    for way in ways(pod) {
        say(
            world,
            Rule::NodeAccess,
            way,
            format!(
                "remove it; or, if this is an agent of the node, have service account {} listed in nodeAgents of Weightlock's chart.",
                quoted(&listed)
            ),
            findings,
        );
    }
}

/// A PersistentVolume that is a directory of the node which reaches all others. `namespace`: that of the claim that it is
/// for, empty for none.
pub(super) fn volume(world: &World, name: &str, spec: &Object, namespace: &str, findings: &mut Findings) {
    if world.settings.has_node_agents(namespace) {
        return;
    }
    for source in ["hostPath", "local"] {
        let path = object(spec, source).and_then(|source| text(source, "path"));
        let subject = |path| format!("PersistentVolume {} ({source} {})", quoted(name), quoted(path));
        if let Some(way) = path.and_then(|path| directory(&subject(path), path)) {
            say(
                world,
                Rule::NodeAccess,
                way,
                "use a directory of its own; or reserve the volume, by spec.claimRef, for a namespace that nodeAgents of Weightlock's chart lists.".into(),
                findings,
            );
        }
    }
}

/// Says, as nodeAccess of the installation has it, that a rule about the node is broken.
pub(super) fn say(world: &World, rule: Rule, fact: String, remedy: String, findings: &mut Findings) {
    match world.settings.node_access {
        Mode::Enforce => findings.add(rule, fact, remedy),
        Mode::Audit => findings.warn(format!("[{}] {fact} Remedy: {remedy}", rule.id())),
    }
}

fn ways(pod: &Pod<'_>) -> Vec<String> {
    let mut ways = Vec::new();
    for volume in &pod.volumes {
        let path = object(volume.raw, "hostPath").and_then(|source| text(source, "path"));
        let subject = |path| format!("volume {} (hostPath {})", quoted(volume.name), quoted(path));
        ways.extend(path.and_then(|path| directory(&subject(path), path)));
    }
    if is_true(pod.spec, "hostPID") {
        ways.push("the pod uses the process namespace of its node (hostPID), and so reaches the files of every process there.".into());
    }
    if pod.security().is_some_and(host_process) {
        ways.push("the pod is a process of its node (securityContext.windowsOptions.hostProcess).".into());
    }
    for container in &pod.containers {
        let Some(security) = container.security() else { continue };
        let subject = format!("container {}", quoted(container.name));
        if is_true(security, "privileged") {
            ways.push(format!("{subject} is privileged, and so reaches all of its node."));
        }
        if host_process(security) {
            ways.push(format!("{subject} is a process of its node (securityContext.windowsOptions.hostProcess)."));
        }
        let reaching = added(security, |name| {
            node::CAPABILITIES.contains(&name) || (name == node::NETWORK_CAPABILITY && is_true(pod.spec, "hostNetwork"))
        });
        if !reaching.is_empty() {
            ways.push(format!("{subject} adds {reaching}, and so reaches beyond its pod on the node."));
        }
    }
    ways
}

fn directory(subject: &str, path: &str) -> Option<String> {
    let directory = node::directory(path, node::HARMLESS)?;
    Some(format!("{subject} reaches {directory} of the node, and through it the volumes of all its pods."))
}
