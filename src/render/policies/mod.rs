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

use std::collections::BTreeSet;

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

/// Renders ring 1. `left_out`: namespaces whose admission is enforced, and that the shards have no room for.
pub fn ring(settings: &Settings, shards: Vec<WeightIndexSpec>, left_out: impl IntoIterator<Item = String>) -> Ring {
    let enforced = shards.first().into_iter().flat_map(|shard| &shard.members);
    let enforced = enforced.filter(|(_, member)| member.admission == Mode::Enforce).map(|(name, _)| name.clone());
    let enforced: BTreeSet<String> = enforced.chain(left_out).collect();
    let registered = shards.iter().any(images::registered);
    let policies = all(settings, enforced.into_iter().collect(), registered);
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
mod tests;
