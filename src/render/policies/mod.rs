//! Ring 1: ValidatingAdmissionPolicies, which the API server evaluates itself. They hold with every pod of Weightlock
//! dead, in every namespace, and are looked up in the WeightIndex.
//!
//! Each policy that takes a shard has one binding per shard, by name: a shard that is missing refuses what the policy
//! matches (`parameterNotFoundAction: Deny`) instead of being skipped.

mod cel;
mod connections;
mod delegation;
mod devices;
mod gpus;
mod images;
mod in_use;
mod mounts;
mod node;
mod placed;
mod pods;
mod protection;
mod publication;
mod source;
mod storage;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use crate::api::{GROUP, IndexPart, Mode, VERSION, WeightIndex, WeightIndexSpec};
use crate::domain::Rule;
use crate::domain::network::NAMESPACE_NAME;
use crate::domain::world::Settings;

/// What every name of ours begins with.
pub const PREFIX: &str = "weightlock-";

/// The objects of ring 1. Made in the order of the fields, deleted in the opposite one: a binding that is seen before
/// its parameter refuses all that it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Ring {
    /// The policies. They do nothing before they are bound, but the API server begins to watch the parameters.
    pub policies: Vec<ValidatingAdmissionPolicy>,
    /// The shards of the index, the last first: when the number of shards doubles, keys move to later shards, which are made and
    /// bound before the others are written, so that a key is in both for a moment rather than in neither.
    pub shards: Vec<WeightIndex>,
    /// The bindings, those that protect the parameters first.
    pub bindings: Vec<ValidatingAdmissionPolicyBinding>,
}

/// Renders ring 1.
pub fn ring(settings: &Settings, shards: Vec<WeightIndexSpec>) -> Ring {
    let enforced = shards.first().into_iter().flat_map(|shard| &shard.members);
    let enforced = enforced.filter(|(_, member)| member.admission == Mode::Enforce).map(|(name, _)| name.clone());
    let registered = shards.iter().any(images::registered);
    let policies = all(settings, enforced.collect(), registered);
    let names: Vec<(IndexPart, String)> = shards.iter().map(|shard| (shard.part, shard_name(shard))).collect();
    let bindings = policies.iter().flat_map(|policy| policy.bindings(&names)).collect();
    Ring {
        policies: policies.into_iter().map(Policy::into_object).collect(),
        shards: shards.into_iter().rev().map(shard).collect(),
        bindings,
    }
}

/// `enforced`: the namespaces whose admission is enforced. `registered`: whether images are registered as weights.
fn all(settings: &Settings, enforced: Vec<String>, registered: bool) -> Vec<Policy> {
    let mut all = vec![
        protection::definitions(),
        protection::index(settings),
        protection::incidents(settings),
        protection::state(settings),
        storage::volumes(),
        storage::claims(),
        storage::snapshots(),
        storage::snapshot_contents(),
        storage::group_snapshots(),
        storage::group_snapshot_contents(),
        pods::refused(settings, registered),
        connections::connections(),
        connections::node_connections(),
        node::volumes(settings),
        devices::admin_access(settings),
    ];
    all.extend(protection::installation(settings));
    all.extend(delegation::all(settings));
    all.extend(pods::warned(settings));
    all.extend(pods::templates(settings, registered));
    all.extend(registered.then(|| images::updates(settings)));
    all.extend(devices::gpus(settings));
    all.extend(publication::all(&enforced));
    all.extend(protection::network_policies(settings, &enforced));
    all.extend(in_use::claims(enforced.clone()));
    all.extend(connections::statuses(enforced));
    all
}

/// Name of the policy, and of its binding, by which only its node says what the containers of a pod did (WL-404).
pub fn pod_statuses() -> String {
    format!("{PREFIX}{}", connections::STATUSES)
}

/// Name of a shard of the index.
pub fn shard_name(shard: &WeightIndexSpec) -> String {
    let part = match shard.part {
        IndexPart::Storage => "storage",
        IndexPart::Claims => "claims",
    };
    format!("{PREFIX}{part}-{}", shard.shard)
}

fn shard(spec: WeightIndexSpec) -> WeightIndex {
    WeightIndex { metadata: metadata(shard_name(&spec)), spec }
}

fn metadata(name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        labels: Some(super::labels(None)),
        annotations: Some(super::owner(None)),
        ..ObjectMeta::default()
    }
}

/// Which shards a policy is asked with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameter {
    /// It takes none.
    None,
    /// It looks only at what every shard has.
    FirstShard,
    /// Each shard of a part.
    EveryShard(IndexPart),
}

/// Labels of pods that a controller made from a template of an object that somebody wrote.
const FROM_TEMPLATES: [&str; 3] =
    ["pod-template-hash", "controller-revision-hash", "batch.kubernetes.io/controller-uid"];

/// Namespaces by name: a label could be written by whoever may edit the namespace.
enum Namespaces {
    /// All but these.
    Except(Vec<String>),
    /// All but these, and in them no pods from templates: told by labels, which who makes a pod can write, so nothing is refused by it.
    ExceptAndBare(Vec<String>),
    /// These.
    Only(Vec<String>),
}

impl Namespaces {
    /// For bindings. The API server reads the selectors of every policy anew at each write of anything, before it looks at what is
    /// written, and those of a binding only where the policy is about that.
    fn resources(&self) -> Option<MatchResources> {
        let (operator, names) = match self {
            Self::Except(names) if names.is_empty() => return None,
            Self::Except(names) | Self::ExceptAndBare(names) => ("NotIn", names),
            Self::Only(names) => ("In", names),
        };
        let bare = matches!(self, Self::ExceptAndBare(_));
        let bare = bare.then(|| FROM_TEMPLATES.map(|label| requirement(label, "DoesNotExist", None)).to_vec());
        Some(MatchResources {
            match_policy: Some("Equivalent".into()),
            namespace_selector: Some(LabelSelector {
                match_expressions: Some(vec![requirement(NAMESPACE_NAME, operator, Some(names.clone()))]),
                ..LabelSelector::default()
            }),
            object_selector: Some(LabelSelector { match_expressions: bare, ..LabelSelector::default() }),
            ..MatchResources::default()
        })
    }
}

fn requirement(key: &str, operator: &str, values: Option<Vec<String>>) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: key.into(), operator: operator.into(), values }
}

/// One policy with its bindings, before they are objects.
struct Policy {
    name: &'static str,
    parameter: Parameter,
    /// `Deny`, or `Warn`, or that and `Audit`, which marks the request in the API server's audit log.
    actions: &'static [&'static str],
    rules: Vec<NamedRuleWithOperations>,
    /// Namespaces, by name, to which it applies.
    scope: Namespaces,
    variables: Vec<(&'static str, String)>,
    /// A CEL expression that is true of all objects that may have violations, and should be false of nearly all others: of those the
    /// API server evaluates nothing else. It sees no variables and no namespace (`matchConditions`). `None`: all are asked.
    gate: Option<String>,
    checks: Vec<Check>,
}

/// One rule of a policy.
struct Check {
    /// A CEL expression that gives a list of texts, one for each violation. It cannot ask who may do what: the API server
    /// makes messages without its authorizer.
    violations: String,
    /// A CEL expression of whether the violations are permitted to the author of the request.
    unless: Option<String>,
    /// What is said where the texts are too long for the API server.
    fallback: String,
}

impl Policy {
    fn into_object(self) -> ValidatingAdmissionPolicy {
        let mut variables: Vec<Variable> =
            self.variables.into_iter().map(|(name, expression)| Variable { name: name.into(), expression }).collect();
        let mut validations = Vec::new();
        for (number, check) in self.checks.into_iter().enumerate() {
            let name = format!("violations{}", if number == 0 { String::new() } else { number.to_string() });
            let none = format!("size(variables.{name}) == 0");
            validations.push(Validation {
                expression: check.unless.map_or(none.clone(), |unless| format!("{none} || {unless}")),
                message: Some(check.fallback),
                message_expression: Some(cel::joined(&format!("variables.{name}"))),
                reason: Some("Forbidden".into()),
            });
            variables.push(Variable { name, expression: check.violations });
        }
        let gate = self.gate.map(|expression| vec![MatchCondition { name: "concerned".into(), expression }]);
        ValidatingAdmissionPolicy {
            metadata: metadata(format!("{PREFIX}{}", self.name)),
            spec: Some(ValidatingAdmissionPolicySpec {
                failure_policy: Some("Fail".into()),
                match_conditions: gate,
                param_kind: (self.parameter != Parameter::None).then(|| ParamKind {
                    api_version: Some(format!("{GROUP}/{VERSION}")),
                    kind: Some("WeightIndex".into()),
                }),
                match_constraints: Some(MatchResources {
                    match_policy: Some("Equivalent".into()),
                    namespace_selector: Some(LabelSelector::default()),
                    object_selector: Some(LabelSelector::default()),
                    resource_rules: Some(self.rules),
                    ..MatchResources::default()
                }),
                variables: Some(variables),
                validations: Some(validations),
                ..ValidatingAdmissionPolicySpec::default()
            }),
            status: None,
        }
    }

    fn bindings(&self, shards: &[(IndexPart, String)]) -> Vec<ValidatingAdmissionPolicyBinding> {
        let policy = format!("{PREFIX}{}", self.name);
        let bind = |name: String, parameter: Option<String>| ValidatingAdmissionPolicyBinding {
            metadata: metadata(name),
            spec: Some(ValidatingAdmissionPolicyBindingSpec {
                policy_name: Some(policy.clone()),
                param_ref: parameter.map(|name| ParamRef {
                    name: Some(name),
                    parameter_not_found_action: Some("Deny".into()),
                    ..ParamRef::default()
                }),
                validation_actions: Some(self.actions.iter().map(ToString::to_string).collect()),
                match_resources: self.scope.resources(),
            }),
        };
        let mine: Vec<&String> = match self.parameter {
            Parameter::None => return vec![bind(policy.clone(), None)],
            Parameter::FirstShard => shards.iter().map(|(_, name)| name).take(1).collect(),
            Parameter::EveryShard(part) => shards.iter().filter(|(of, _)| *of == part).map(|(_, name)| name).collect(),
        };
        mine.into_iter().enumerate().map(|(n, name)| bind(format!("{policy}-{n}"), Some(name.clone()))).collect()
    }
}

/// Where the pods that keep the cluster and Weightlock running are: a parameter that is lost must not stop them.
fn cluster_namespaces(settings: &Settings) -> Vec<String> {
    settings.cluster_namespaces().map(String::from).to_vec()
}

/// The id of a rule at the beginning of a text, as a CEL literal.
fn tag(rule: Rule) -> String {
    cel::literal(&format!("[{}] ", rule.id()))
}

/// What is said where the text of a violation cannot be made.
fn fallback(rule: Rule, fact: &str) -> String {
    format!("[{}] {fact}. Remedy: {}", rule.id(), rule.describe().remedy)
}

fn rule(group: &str, versions: &[&str], resources: &[&str], operations: &[&str]) -> NamedRuleWithOperations {
    let list = |items: &[&str]| Some(items.iter().map(|item| (*item).to_string()).collect());
    NamedRuleWithOperations {
        api_groups: list(&[group]),
        api_versions: list(versions),
        resources: list(resources),
        operations: list(operations),
        scope: Some("*".into()),
        ..NamedRuleWithOperations::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{IndexMember, IndexReach};
    use crate::domain::world::GpuPodsOutside;

    fn shards(n: i32) -> Vec<WeightIndexSpec> {
        let of =
            |part| (0..n).map(move |shard| WeightIndexSpec { part, shard, shards: n, ..WeightIndexSpec::default() });
        of(IndexPart::Storage).chain(of(IndexPart::Claims)).collect()
    }

    /// Operator and names by which a binding selects namespaces.
    fn selected(spec: &ValidatingAdmissionPolicyBindingSpec) -> (String, Option<Vec<String>>) {
        let resources = spec.match_resources.clone().unwrap();
        let by = resources.namespace_selector.unwrap().match_expressions.unwrap().swap_remove(0);
        (by.operator, by.values)
    }

    #[test]
    fn every_binding_with_a_parameter_denies_when_it_is_gone() {
        let ring = ring(&Settings::default(), shards(2));
        let bound: Vec<_> = ring.bindings.iter().filter_map(|b| b.spec.as_ref()?.param_ref.as_ref()).collect();
        assert!(bound.len() >= 10, "{bound:?}");
        for reference in bound {
            assert_eq!(reference.parameter_not_found_action.as_deref(), Some("Deny"));
            assert!(ring.shards.iter().any(|s| s.metadata.name == reference.name), "{reference:?}");
        }
    }

    #[test]
    fn every_policy_fails_closed_is_bound_and_names_its_rule() {
        let ring = ring(&Settings::default(), shards(1));
        for policy in &ring.policies {
            let (name, spec) = (policy.metadata.name.clone().unwrap(), policy.spec.clone().unwrap());
            assert_eq!(spec.failure_policy.as_deref(), Some("Fail"), "{name}");
            assert!(name.starts_with(PREFIX));
            assert!(
                ring.bindings.iter().any(|b| b.spec.as_ref().unwrap().policy_name.as_ref() == Some(&name)),
                "{name}"
            );
            let message = spec.validations.unwrap()[0].message.clone().unwrap();
            assert!(message.starts_with("[WL-") && message.contains("Remedy: "), "{name}: {message}");
        }
    }

    #[test]
    fn pod_policies_spare_the_cluster_and_ourselves() {
        let settings = Settings { own_namespace: "elsewhere".into(), ..Settings::default() };
        let all = ring(&settings, shards(1));
        for policy in all.policies {
            let constraints = policy.spec.unwrap().match_constraints.unwrap();
            let on_pods = constraints
                .resource_rules
                .unwrap()
                .iter()
                .any(|r| r.resources.as_ref().is_some_and(|r| r.contains(&"pods".to_string())));
            let bound = all.bindings.iter().map(|binding| binding.spec.clone().unwrap());
            let bound: Vec<_> = bound.filter(|spec| spec.policy_name == policy.metadata.name).collect();
            assert!(!bound.is_empty());
            for spec in bound.into_iter().filter(|_| on_pods) {
                assert_eq!(
                    selected(&spec).1.as_deref(),
                    Some(&["kube-system".to_string(), "elsewhere".to_string()][..])
                );
            }
        }
    }

    #[test]
    fn statuses_are_guarded_where_admission_is_enforced_and_need_no_parameter() {
        let member =
            |admission| IndexMember { uid: "u".into(), environment: "e".into(), admission, reach: IndexReach::Nobody };
        let members =
            |of: &[(&str, Mode)]| of.iter().map(|(name, mode)| ((*name).to_string(), member(*mode))).collect();
        let with = |of: &[(&str, Mode)]| {
            let shard = WeightIndexSpec { members: members(of), ..WeightIndexSpec::default() };
            let ring = ring(&Settings::default(), vec![shard]);
            let name = Some("weightlock-pod-statuses".to_string());
            let bound = ring.bindings.into_iter().find(|b| b.metadata.name == name);
            ring.policies.into_iter().find(|p| p.metadata.name == name).map(|p| (p.spec.unwrap(), bound.unwrap()))
        };
        assert!(with(&[("trial", Mode::Audit)]).is_none());
        let (policy, binding) = with(&[("llm", Mode::Enforce), ("trial", Mode::Audit)]).unwrap();
        // A lost parameter would stop every kubelet.
        let bound = binding.spec.unwrap();
        assert_eq!((policy.param_kind, &bound.param_ref), (None, &None));
        assert_eq!(selected(&bound), ("In".into(), Some(vec!["llm".to_string()])));
        // It would be read at each write of anything.
        assert_eq!(policy.match_constraints.unwrap().namespace_selector, Some(LabelSelector::default()));
    }

    #[test]
    fn pods_are_refused_or_warned_of_as_the_installation_has_it() {
        let expected = [
            (Mode::Audit, GpuPodsOutside::Warn, 1, 2, 2),
            (Mode::Audit, GpuPodsOutside::Allow, 1, 1, 1),
            (Mode::Enforce, GpuPodsOutside::Warn, 2, 1, 2),
            (Mode::Audit, GpuPodsOutside::Deny, 2, 1, 1),
            (Mode::Enforce, GpuPodsOutside::Deny, 3, 0, 0),
        ];
        for (node_access, gpu_pods_outside, refused, warned, bindings) in expected {
            let settings = Settings { node_access, gpu_pods_outside, ..Settings::default() };
            let ring = ring(&settings, shards(2));
            let policy = |name: &str| ring.policies.iter().find(|p| p.metadata.name.as_deref() == Some(name));
            let checks =
                |name: &str| policy(name).map_or(0, |policy| policy.spec.clone().unwrap().validations.unwrap().len());
            assert_eq!((checks("weightlock-pods"), checks("weightlock-pod-warnings")), (refused, warned));
            let bound: Vec<_> = ring.bindings.iter().filter_map(|b| b.spec.as_ref()).collect();
            let of = |name: &str| bound.iter().filter(|s| s.policy_name.as_deref() == Some(name)).count();
            // One for each shard, but a warning is given once.
            assert_eq!((of("weightlock-pods"), of("weightlock-pod-warnings")), (2, bindings.min(1)));
            for spec in bound {
                let actions = spec.validation_actions.clone().unwrap();
                match spec.policy_name.as_deref() {
                    Some("weightlock-pods") => assert_eq!(actions, ["Deny"]),
                    Some("weightlock-pod-warnings") => assert_eq!(actions, ["Warn", "Audit"]),
                    _ => {}
                }
            }
        }
    }
}
