//! What is asked of a pod when it is made. The API server takes a pod apart anew for each policy, which costs more than all that is
//! asked of it. So the rules for pods stand in one policy, and those that only warn in another.

use super::{Check, Namespaces, Parameter, Policy, cluster_namespaces, gpus, images, mounts, node, rule};
use crate::api::{IndexPart, Mode};
use crate::domain::world::{GpuPodsOutside, Settings};

/// What one rule asks of a pod, and the variables for it. Rules may share a variable if they say the same of it.
pub struct PodRule {
    /// CEL of whether a pod has anything that the rule is about, whatever comes of it: see [`Policy::gate`].
    pub concerned: String,
    pub variables: Vec<(&'static str, String)>,
    pub check: Check,
}

/// The rules by which pods are refused. `registered`: whether images are registered as weights.
pub fn refused(settings: &Settings, registered: bool) -> Policy {
    let mut rules = vec![mounts::pods()];
    rules.extend(registered.then(images::pods));
    rules.extend((settings.node_access == Mode::Enforce).then(|| node::pods(settings)));
    rules.extend((settings.gpu_pods_outside == GpuPodsOutside::Deny).then(|| gpus::pods(settings)));
    policy("pods", Parameter::EveryShard(IndexPart::Storage), &["Deny"], settings, rules)
}

/// Those of which authors of pods are warned; `None`: there are none.
pub fn warned(settings: &Settings) -> Option<Policy> {
    let gpus = (settings.gpu_pods_outside == GpuPodsOutside::Warn).then(|| gpus::pods(settings));
    let node = (settings.node_access == Mode::Audit).then(|| node::pods(settings));
    // Without a need for a parameter there is none: one that is lost would stop pods.
    let parameter = if gpus.is_some() { Parameter::FirstShard } else { Parameter::None };
    let rules: Vec<PodRule> = node.into_iter().chain(gpus).collect();
    (!rules.is_empty()).then(|| policy("pod-warnings", parameter, &["Warn", "Audit"], settings, rules))
}

fn policy(
    name: &'static str,
    parameter: Parameter,
    actions: &'static [&'static str],
    settings: &Settings,
    rules: Vec<PodRule>,
) -> Policy {
    let mut variables: Vec<(&'static str, String)> = Vec::new();
    let mut checks = Vec::new();
    let mut concerned = Vec::new();
    for PodRule { concerned: by, variables: more, check } in rules {
        concerned.push(format!("({by})"));
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
        gate: Some(concerned.join(" || ")),
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
