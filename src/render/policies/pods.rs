//! What is asked of a pod when it is made, and of what makes pods. The API server takes an object apart anew for each policy, which
//! costs more than all that is asked of it. So the rules for pods stand in one policy, and those that only warn in another.

use super::{Check, Namespaces, Parameter, Policy, cel, cluster_namespaces, gpus, images, mounts, node, rule};
use crate::api::{IndexPart, Mode};
use crate::domain::world::{GpuPodsOutside, Settings};

/// What one rule asks of a pod, and the variables for it. Rules may share a variable if they say the same of it.
pub struct PodRule {
    pub concerned: Concern,
    pub variables: Vec<(&'static str, String)>,
    pub check: Check,
    /// Whether each shard of the index has something of its own to say.
    pub sharded: bool,
}

/// CEL of whether a pod has anything that a rule is about, whatever comes of it: see [`Policy::gate`].
#[derive(Default)]
pub struct Concern {
    /// Of a volume `v`.
    pub volume: Option<String>,
    /// Of a container `c`, of whichever sort.
    pub container: Option<String>,
    /// Of the pod itself.
    pub pod: Option<String>,
}

impl Concern {
    /// The same where `condition` holds, and nothing otherwise.
    fn only_if(self, condition: &str) -> Self {
        let and = |part: Option<String>| part.map(|part| format!("({condition} && ({part}))"));
        Self { volume: and(self.volume), container: and(self.container), pod: and(self.pod) }
    }
}

/// Whether a pod has anything that any of several rules is about. Each list of the pod is gone through once, since that is what costs.
pub fn gate(at: PodAt, concerns: &[Concern]) -> String {
    let spec = at.spec();
    let any = |part: fn(&Concern) -> Option<&String>| {
        let all: Vec<String> = concerns.iter().filter_map(part).cloned().collect();
        (!all.is_empty()).then(|| all.join(" || "))
    };
    let list =
        |name: &str, item: &str, any: &str| format!("(has({spec}.{name}) && {spec}.{name}.exists({item}, {any}))");
    let mut parts = Vec::new();
    parts.extend(any(|concern| concern.pod.as_ref()));
    parts.extend(any(|concern| concern.volume.as_ref()).map(|any| list("volumes", "v", &any)));
    if let Some(any) = any(|concern| concern.container.as_ref()) {
        parts.extend(cel::CONTAINERS.map(|name| list(name, "c", &any)));
    }
    parts.join(" || ")
}

/// Where in an object a pod stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PodAt {
    /// It is the object.
    Itself,
    /// The template of a Deployment, StatefulSet, DaemonSet or Job.
    Template,
    /// The template of the jobs of a CronJob.
    JobTemplate,
}

impl PodAt {
    /// From the object to what has the spec and the metadata of the pod.
    fn path(self) -> &'static str {
        match self {
            Self::Itself => "",
            Self::Template => ".spec.template",
            Self::JobTemplate => ".spec.jobTemplate.spec.template",
        }
    }

    /// CEL of its spec.
    pub fn spec(self) -> String {
        format!("object{}.spec", self.path())
    }

    /// CEL of its spec before an update.
    pub fn old_spec(self) -> String {
        format!("oldObject{}.spec", self.path())
    }

    /// CEL of its metadata.
    pub fn metadata(self) -> String {
        format!("object{}.metadata", self.path())
    }

    /// CEL of whether the request decides what never changes in a pod.
    pub fn decided(self) -> &'static str {
        match self {
            Self::Itself => "request.operation == 'CREATE'",
            Self::Template | Self::JobTemplate => "true",
        }
    }
}

/// The rules by which pods are refused. `registered`: whether images are registered as weights.
pub fn refused(settings: &Settings, registered: bool) -> Policy {
    let at = PodAt::Itself;
    let mut rules = vec![mounts::pods(at)];
    rules.extend(registered.then(|| images::pods(at)));
    rules.extend((settings.node_access == Mode::Enforce).then(|| node::pods(settings, at)));
    rules.extend((settings.gpu_pods_outside == GpuPodsOutside::Deny).then(|| gpus::pods(settings, at)));
    policy("pods", at, Parameter::EveryShard(IndexPart::Storage), &["Deny"], settings, rules)
}

/// Those of which authors of pods are warned; `None`: there are none. Who writes a template is warned of it then, and nobody reads what
/// its controller is told, so pods that a controller made are not asked about.
pub fn warned(settings: &Settings) -> Option<Policy> {
    let at = PodAt::Itself;
    let gpus = (settings.gpu_pods_outside == GpuPodsOutside::Warn).then(|| gpus::pods(settings, at));
    let node = (settings.node_access == Mode::Audit).then(|| node::pods(settings, at));
    // Without a need for a parameter there is none: one that is lost would stop pods.
    let parameter = if gpus.is_some() { Parameter::FirstShard } else { Parameter::None };
    let rules: Vec<PodRule> = node.into_iter().chain(gpus).collect();
    (!rules.is_empty()).then(|| Policy {
        scope: Namespaces::ExceptAndBare(cluster_namespaces(settings)),
        ..policy("pod-warnings", at, parameter, &["Warn", "Audit"], settings, rules)
    })
}

/// Who writes a template outside every environment is warned of what will become of its pods. Within environments the webhook does
/// that, which knows more.
pub fn templates(settings: &Settings, registered: bool) -> [Policy; 2] {
    let asked = |name, at: PodAt, on: &[(&str, &[&str])]| {
        let mut rules = vec![mounts::pods(at), node::pods(settings, at)];
        rules.extend(registered.then(|| images::pods(at)));
        rules.extend((settings.gpu_pods_outside != GpuPodsOutside::Allow).then(|| gpus::pods(settings, at)));
        let policy = policy(name, at, Parameter::EveryShard(IndexPart::Storage), &["Warn", "Audit"], settings, rules);
        let gate = policy.gate.map(|concerned| {
            format!(
                "!(request.namespace in params.spec.members) && ({concerned}) && (request.operation == 'CREATE' || {} != {})",
                at.spec(),
                at.old_spec()
            )
        });
        let on = on.iter().map(|(group, resources)| rule(group, &["v1"], resources, &["CREATE", "UPDATE"]));
        Policy { rules: on.collect(), gate, ..policy }
    };
    [
        asked(
            "templates",
            PodAt::Template,
            &[("apps", &["deployments", "statefulsets", "daemonsets"]), ("batch", &["jobs"])],
        ),
        asked("job-templates", PodAt::JobTemplate, &[("batch", &["cronjobs"])]),
    ]
}

fn policy(
    name: &'static str,
    at: PodAt,
    parameter: Parameter,
    actions: &'static [&'static str],
    settings: &Settings,
    rules: Vec<PodRule>,
) -> Policy {
    let mut variables: Vec<(&'static str, String)> = Vec::new();
    let mut checks = Vec::new();
    let mut concerned = Vec::new();
    for PodRule { concerned: by, variables: more, mut check, sharded } in rules {
        if sharded || !matches!(parameter, Parameter::EveryShard(_)) {
            concerned.push(by);
        } else {
            // Each shard would say it again.
            concerned.push(by.only_if("params.spec.shard == 0"));
            check.violations = format!("params.spec.shard == 0 ? ({}) : []", check.violations);
        }
        for variable in more {
            if !variables.contains(&variable) {
                variables.push(variable);
            }
        }
        checks.push(check);
    }
    Policy {
        name,
        parameter,
        actions,
        rules: vec![
            // Volumes and privileges of a pod never change, so other updates of it (labels, finalizers) are not asked about.
            rule("", &["v1"], &["pods"], &["CREATE"]),
            rule("", &["v1"], &["pods/ephemeralcontainers"], &["UPDATE"]),
        ],
        scope: Namespaces::Except(cluster_namespaces(settings)),
        variables,
        gate: Some(gate(at, &concerned)),
        checks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_has_two_meanings() {
        let settings =
            Settings { node_access: Mode::Enforce, gpu_pods_outside: GpuPodsOutside::Deny, ..Settings::default() };
        let policy = refused(&settings, true);
        let mut names: Vec<_> = policy.variables.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        assert_eq!(policy.checks.len(), 4);
    }
}
