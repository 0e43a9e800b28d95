//! WL-2xx: the shape of a pod that holds weights.

use super::assessment::Assessment;
use super::pod::{Container, Object, is_true, object, strings, text};
use super::text::{Findings, quoted};
use super::verifier::{drops, is_ours};
use crate::domain::node;
use crate::domain::rules::Rule;

/// Capabilities that may be added.
const ADDABLE: &[&str] = &["NET_BIND_SERVICE"];

/// Whom a violation is about.
struct Who {
    name: &'static str,
    /// What can be done instead, after the remedy.
    instead: &'static str,
}

const HOLDER: &Who = &Who { name: "a pod that holds weights", instead: "" };
const NEIGHBOUR: &Who =
    &Who { name: "a pod of an environment", instead: ", or run node tools in a namespace of their own" };

/// SELinux types of containers.
const SELINUX_TYPES: &[&str] = &["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Every rule of the shape. `shaped`: the pod went through [`super::shape`], so that what it sets has to be there.
pub(super) fn rules(assessment: &Assessment<'_>, shaped: bool, findings: &mut Findings) {
    host_namespaces(assessment, HOLDER, findings);
    process_namespace(assessment, findings);
    if let Some(security) = assessment.pod.security() {
        confinement("the pod", security, "spec.securityContext", findings);
        if host_process(security) {
            privileged("the pod", HOLDER, "securityContext.windowsOptions.hostProcess", findings);
        }
    }
    for container in &assessment.pod.containers {
        // What is injected is compared with what is rendered, field by field.
        if is_ours(container) {
            continue;
        }
        rules_of_container(assessment, container, shaped, findings);
    }
}

/// What no pod of an environment may be, whether or not it holds weights: on the node of a pod that does, it would read
/// them from there.
pub(super) fn reach(assessment: &Assessment<'_>, findings: &mut Findings) {
    host_namespaces(assessment, NEIGHBOUR, findings);
    if assessment.pod.security().is_some_and(host_process) {
        privileged("the pod", NEIGHBOUR, "securityContext.windowsOptions.hostProcess", findings);
    }
    for container in assessment.pod.containers.iter().filter(|container| !is_ours(container)) {
        let Some(security) = container.security() else { continue };
        let subject = format!("{} {}", container.kind.noun(), quoted(container.name));
        privilege(&subject, NEIGHBOUR, security, findings);
        let reaching = added(security, |name| node::CAPABILITIES.contains(&name) || name == node::NETWORK_CAPABILITY);
        if !reaching.is_empty() {
            findings.add(
                Rule::AddedCapability,
                format!(
                    "{subject} adds {reaching}; {} may not, since it reaches other pods of its node.",
                    NEIGHBOUR.name
                ),
                format!("remove {reaching} from securityContext.capabilities.add{}.", NEIGHBOUR.instead),
            );
        }
    }
}

fn host_namespaces(assessment: &Assessment<'_>, who: &Who, findings: &mut Findings) {
    for (field, what) in [("hostNetwork", "network"), ("hostPID", "process"), ("hostIPC", "IPC")] {
        if is_true(assessment.pod.spec, field) {
            findings.add(
                Rule::HostNamespace,
                format!("the pod uses the {what} namespace of its node ({field}); {} may not.", who.name),
                format!("remove spec.{field}{}.", who.instead),
            );
        }
    }
}

fn process_namespace(assessment: &Assessment<'_>, findings: &mut Findings) {
    if is_true(assessment.pod.spec, "shareProcessNamespace") {
        findings.add(
            Rule::SharedProcessNamespace,
            "the containers of the pod share a process namespace, and with it their mounts; in a pod that holds weights they may not.".into(),
            "remove spec.shareProcessNamespace.".into(),
        );
    }
}

fn rules_of_container(assessment: &Assessment<'_>, container: &Container<'_>, shaped: bool, findings: &mut Findings) {
    let subject = format!("{} {}", container.kind.noun(), quoted(container.name));
    let security = container.security();
    seccomp(assessment, &subject, security, shaped, findings);
    if shaped && !drops(security, "NET_RAW") {
        findings.add(
            Rule::NetRaw,
            format!("{subject} keeps NET_RAW; in a pod that holds weights it is dropped."),
            "add NET_RAW or ALL to securityContext.capabilities.drop.".into(),
        );
    }
    let Some(security) = security else { return };
    privilege(&subject, HOLDER, security, findings);
    capabilities(&subject, security, findings);
    if is_true(security, "allowPrivilegeEscalation") {
        findings.add(
            Rule::PrivilegeEscalation,
            format!("{subject} asks for privilege escalation; a pod that holds weights may not."),
            "remove securityContext.allowPrivilegeEscalation or set it to false.".into(),
        );
    }
    if let Some(mount) = text(security, "procMount").filter(|mount| *mount != "Default") {
        findings.add(
            Rule::ProcMount,
            format!("{subject} has procMount {}; in a pod that holds weights /proc stays masked.", quoted(mount)),
            "remove securityContext.procMount.".into(),
        );
    }
    confinement(&subject, security, "securityContext", findings);
}

/// Whether a container is privileged, or on Windows a process of the host.
fn privilege(subject: &str, who: &Who, security: &Object, findings: &mut Findings) {
    if is_true(security, "privileged") {
        privileged(subject, who, "securityContext.privileged", findings);
    }
    if host_process(security) {
        privileged(subject, who, "securityContext.windowsOptions.hostProcess", findings);
    }
}

fn privileged(subject: &str, who: &Who, field: &str, findings: &mut Findings) {
    findings.add(
        Rule::Privileged,
        format!("{subject} is privileged; {} may not be.", who.name),
        format!("remove {field}{}.", who.instead),
    );
}

pub(super) fn host_process(security: &Object) -> bool {
    object(security, "windowsOptions").is_some_and(|windows| is_true(windows, "hostProcess"))
}

fn capabilities(subject: &str, security: &Object, findings: &mut Findings) {
    let refused = added(security, |capability| !ADDABLE.contains(&capability));
    if !refused.is_empty() {
        findings.add(
            Rule::AddedCapability,
            format!("{subject} adds {refused}; in a pod that holds weights only NET_BIND_SERVICE may be added."),
            format!("remove {refused} from securityContext.capabilities.add."),
        );
    }
}

/// The added capabilities of a kind, as the author wrote them, with commas between them. The kind is asked with the name
/// as the kernel has it, without `CAP_`.
pub(super) fn added(security: &Object, of_kind: impl Fn(&str) -> bool) -> String {
    let added = object(security, "capabilities").map(|c| strings(c, "add")).unwrap_or_default();
    let found = added.into_iter().filter(|name| of_kind(&node::capability(name)));
    found.map(quoted).collect::<Vec<_>>().join(", ")
}

/// RuntimeDefault and Localhost are filters: profiles of a node come from its administrators. The container's own
/// setting outranks the pod's.
fn seccomp(
    assessment: &Assessment<'_>,
    subject: &str,
    security: Option<&Object>,
    shaped: bool,
    findings: &mut Findings,
) {
    let own = security.and_then(|s| object(s, "seccompProfile"));
    let profile = own.or_else(|| assessment.pod.security().and_then(|s| object(s, "seccompProfile")));
    let found = match profile {
        None if !shaped => return,
        None => "no seccomp profile".to_owned(),
        Some(profile) => match text(profile, "type") {
            Some("RuntimeDefault" | "Localhost") => return,
            other => format!("seccomp profile {}", quoted(other.unwrap_or_default())),
        },
    };
    findings.add(
        Rule::Seccomp,
        format!("{subject} runs with {found}; in a pod that holds weights system calls are filtered."),
        "set securityContext.seccompProfile.type: RuntimeDefault.".into(),
    );
}

/// AppArmor and SELinux, as the baseline level of Pod Security has them.
fn confinement(subject: &str, security: &Object, field: &str, findings: &mut Findings) {
    if let Some(profile) = object(security, "appArmorProfile").and_then(|p| text(p, "type"))
        && !matches!(profile, "RuntimeDefault" | "Localhost")
    {
        findings.add(
            Rule::MandatoryAccessControl,
            format!("{subject} has AppArmor profile {}; a pod that holds weights stays confined.", quoted(profile)),
            format!("remove {field}.appArmorProfile."),
        );
    }
    let Some(options) = object(security, "seLinuxOptions") else { return };
    let lifts = ["user", "role"]
        .into_iter()
        .find(|part| text(options, part).is_some())
        .or_else(|| text(options, "type").filter(|t| !SELINUX_TYPES.contains(t)).map(|_| "type"));
    if let Some(part) = lifts {
        findings.add(
            Rule::MandatoryAccessControl,
            format!("{subject} sets the SELinux {part}; a pod that holds weights stays confined."),
            format!("remove {field}.seLinuxOptions.{part}."),
        );
    }
}
