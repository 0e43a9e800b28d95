//! WL-2xx: the shape of a pod that holds weights.

use super::assessment::Assessment;
use super::pod::{Container, Object, is_true, object, strings, text};
use super::text::{Findings, quoted};
use super::verifier::{drops, is_ours};
use crate::domain::rules::Rule;

/// Capabilities that may be added.
const ADDABLE: &[&str] = &["NET_BIND_SERVICE"];

/// SELinux types of containers.
const SELINUX_TYPES: &[&str] = &["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Every rule of the shape. `shaped`: the pod went through [`super::shape`], so that what it sets has to be there.
pub(super) fn rules(assessment: &Assessment<'_>, shaped: bool, findings: &mut Findings) {
    host_namespaces(assessment, findings);
    process_namespace(assessment, findings);
    if let Some(security) = assessment.pod.security() {
        confinement("the pod", security, "spec.securityContext", findings);
        if host_process(security) {
            privileged("the pod", "securityContext.windowsOptions.hostProcess", findings);
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

fn host_namespaces(assessment: &Assessment<'_>, findings: &mut Findings) {
    for (field, what) in [("hostNetwork", "network"), ("hostPID", "process"), ("hostIPC", "IPC")] {
        if is_true(assessment.pod.spec, field) {
            findings.add(
                Rule::HostNamespace,
                format!("the pod uses the {what} namespace of its node ({field}); a pod that holds weights may not."),
                format!("remove spec.{field}."),
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
    if is_true(security, "privileged") {
        privileged(&subject, "securityContext.privileged", findings);
    }
    if host_process(security) {
        privileged(&subject, "securityContext.windowsOptions.hostProcess", findings);
    }
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

fn privileged(subject: &str, field: &str, findings: &mut Findings) {
    findings.add(
        Rule::Privileged,
        format!("{subject} is privileged; a pod that holds weights may not be."),
        format!("remove {field}."),
    );
}

fn host_process(security: &Object) -> bool {
    object(security, "windowsOptions").is_some_and(|windows| is_true(windows, "hostProcess"))
}

fn capabilities(subject: &str, security: &Object, findings: &mut Findings) {
    let added = object(security, "capabilities").map(|c| strings(c, "add")).unwrap_or_default();
    let refused: Vec<String> = added
        .into_iter()
        .filter(|capability| {
            let upper = capability.to_ascii_uppercase();
            !ADDABLE.contains(&upper.strip_prefix("CAP_").unwrap_or(&upper))
        })
        .map(quoted)
        .collect();
    if !refused.is_empty() {
        findings.add(
            Rule::AddedCapability,
            format!(
                "{subject} adds {}; in a pod that holds weights only NET_BIND_SERVICE may be added.",
                refused.join(", ")
            ),
            format!("remove {} from securityContext.capabilities.add.", refused.join(", ")),
        );
    }
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
