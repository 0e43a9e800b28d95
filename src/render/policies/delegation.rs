//! Who may widen what is declared: WL-603. The rights to write WeightArtifacts and WeightEnvironments are RBAC's; what a
//! change opens needs a further verb on the object that it opens, so that both can be given to different people.
//!
//! The verbs are `permit` (on a WeightEnvironment: weights are let into it), `lower` (on a WeightEnvironment: a mode is no
//! longer Enforce; on a WeightArtifact: storage is no longer protected) and `pin` (on either: what was found once is
//! replaced). No request is ever made with them; `kubectl auth can-i` answers for them.

use super::{Check, Namespaces, Parameter, Policy, cel, fallback, rule, tag};
use crate::api::GROUP;
use crate::domain::Rule;
use crate::domain::world::Settings;

const ARTIFACTS: &str = "weightartifacts";
const ENVIRONMENTS: &str = "weightenvironments";
/// Environments that one request may open, for who may not open all. The API server allows a policy some 28 questions to
/// RBAC, and an expression two.
const AT_ONCE: usize = 20;
/// The variables that put the questions, two each.
const CHUNKS: [&str; AT_ONCE / 2] =
    ["may0", "may2", "may4", "may6", "may8", "may10", "may12", "may14", "may16", "may18"];

/// The policies.
pub fn all(settings: &Settings) -> Vec<Policy> {
    vec![
        permits(),
        unregistered(),
        unenforced(),
        modes(),
        namespaces(),
        pinned(settings, "pinned-locations", ARTIFACTS, "locations", &["name", "backendKey"]),
        pinned(settings, "pinned-members", ENVIRONMENTS, "members", &["namespace", "uid"]),
    ]
}

/// Weights are let into an environment only by who may open it, as a permitted one or as one that produces them.
fn permits() -> Policy {
    let mut variables = vec![
        ("before", format!("request.operation == 'CREATE' ? [] : {}", places("oldObject"))),
        ("opened", format!("({}).filter(n, !(n in variables.before))", places("object"))),
        ("everywhere", may(ENVIRONMENTS, None, "permit")),
    ];
    for (first, name) in (0..AT_ONCE).step_by(2).zip(CHUNKS) {
        let question = may(ENVIRONMENTS, Some("variables.opened[i]"), "permit");
        variables.push((name, format!("[{first}, {}].all(i, i >= size(variables.opened) || {question})", first + 1)));
    }
    let each_of_them: Vec<String> = CHUNKS.iter().map(|name| format!("variables.{name}")).collect();
    let artifact = format!("'WeightArtifact \"' + ({}) + '\" is let into '", cel::NAME);
    let lacks = "\"' + request.userInfo.username + '\" has it not on every environment that this opens.";
    let each = format!(
        "variables.opened.map(n, {} + {artifact} + 'environment \"' + n + '\", which takes the verb permit on it, and {lacks} Remedy: leave it to the owner of the environment, {})",
        tag(Rule::Delegation),
        granted(ENVIRONMENTS, "permit")
    );
    let many = format!(
        "[{} + {artifact} + 'more than {AT_ONCE} environments at once, which takes the verb permit on all WeightEnvironments, and {lacks} Remedy: list {AT_ONCE} at a time.']",
        tag(Rule::Delegation)
    );
    let each_of_them = format!("(size(variables.opened) <= {AT_ONCE} && {})", each_of_them.join(" && "));
    delegated(
        "permits",
        ARTIFACTS,
        &["CREATE", "UPDATE"],
        variables,
        format!("size(variables.opened) > {AT_ONCE} ? {many} : {each}"),
        format!("variables.everywhere || {each_of_them}"),
    )
}

/// Storage stays protected unless somebody may lower that: a WeightArtifact is not deleted, and none of its locations and
/// aliases is taken away or changed.
fn unregistered() -> Policy {
    let gone = "oldObject.spec.locations.exists(l, !object.spec.locations.exists(n, n.name == l.name && ['persistentVolumeClaim', 'csi', 'nfs', 'hostPath', 'image'].all(f, !(f in l) || (f in n && n[f] == l[f])) && (!has(l.aliases) || l.aliases.all(a, has(n.aliases) && a in n.aliases))))";
    let variables = vec![("lowers", format!("request.operation == 'DELETE' || {gone}"))];
    delegated(
        "unregistered",
        ARTIFACTS,
        &["UPDATE", "DELETE"],
        variables,
        format!(
            "!variables.lowers ? [] : [{} + 'storage of WeightArtifact \"' + {NAME} + '\" would no longer be protected, {} Remedy: add new storage beside the old; once the bytes are deleted, leave this to who has the verb, {}]",
            tag(Rule::Delegation),
            lacks("lower"),
            granted(ARTIFACTS, "lower")
        ),
        may(ARTIFACTS, Some(NAME), "lower"),
    )
}

/// An artifact is enforced while one of its environments is: the last of those is not taken from it.
fn unenforced() -> Policy {
    let enforced = "params.spec.members.exists(m, params.spec.members[m].environment == n && params.spec.members[m].admission == 'Enforce')";
    let variables = vec![
        ("left", places("object")),
        (
            "lowers",
            format!(
                "size(variables.left) > 0 && ({}).exists(n, !(n in variables.left)) && !variables.left.exists(n, {enforced})",
                places("oldObject")
            ),
        ),
    ];
    let policy = delegated(
        "unenforced",
        ARTIFACTS,
        &["UPDATE"],
        variables,
        format!(
            "!variables.lowers ? [] : [{} + 'WeightArtifact \"' + {NAME} + '\" would be left with no environment whose admission is enforced, and so without protection, {} Remedy: keep one of them, or leave this to who has the verb, {}]",
            tag(Rule::Delegation),
            lacks("lower"),
            granted(ARTIFACTS, "lower")
        ),
        may(ARTIFACTS, Some(NAME), "lower"),
    );
    Policy { parameter: Parameter::FirstShard, ..policy }
}

/// A mode of an environment is no longer Enforce only by who may lower it.
fn modes() -> Policy {
    let variables = vec![
        (
            "lowered",
            "!has(oldObject.spec.modes) ? [] : ['admission', 'network', 'verification', 'egress'].filter(m, m in oldObject.spec.modes && oldObject.spec.modes[m] == 'Enforce' && (request.operation == 'DELETE' || !has(object.spec.modes) || !(m in object.spec.modes) || object.spec.modes[m] != 'Enforce'))".to_owned(),
        ),
    ];
    delegated(
        "modes",
        ENVIRONMENTS,
        &["UPDATE", "DELETE"],
        variables,
        format!(
            "size(variables.lowered) == 0 ? [] : [{} + 'WeightEnvironment \"' + {NAME} + '\" enforces ' + variables.lowered.join(', ') + ' and would no longer, {} Remedy: leave it at Enforce, {}]",
            tag(Rule::Delegation),
            lacks("lower"),
            granted(ENVIRONMENTS, "lower")
        ),
        may(ENVIRONMENTS, Some(NAME), "lower"),
    )
}

/// A namespace that was made again is accepted as a member only by who may pin it.
fn namespaces() -> Policy {
    let variables = vec![
        (
            "pinned",
            "object.spec.members.filter(m, has(m.uid) && !oldObject.spec.members.exists(o, o.namespace == m.namespace && has(o.uid) && o.uid == m.uid)).map(m, m.namespace)".to_owned(),
        ),
    ];
    delegated(
        "pins",
        ENVIRONMENTS,
        &["UPDATE"],
        variables,
        format!(
            "variables.pinned.map(n, {} + 'namespace \"' + n + '\" is accepted under another UID in WeightEnvironment \"' + {NAME} + '\", {} Remedy: find out who made the namespace again, and leave this to who has the verb, {})",
            tag(Rule::Delegation),
            lacks("pin"),
            granted(ENVIRONMENTS, "pin")
        ),
        may(ENVIRONMENTS, Some(NAME), "pin"),
    )
}

/// What the controller pinned in a status is replaced by nobody else, but for who may pin.
fn pinned(
    settings: &Settings,
    name: &'static str,
    resource: &'static str,
    list: &'static str,
    [key, value]: &[&str; 2],
) -> Policy {
    let controller = settings.controller();
    let of = |object: &str| {
        format!(
            "(has({object}.status) && has({object}.status.{list}) ? {object}.status.{list} : []).filter(p, has(p.{value}))"
        )
    };
    let variables = vec![
        ("left", of("object")),
        (
            "replaced",
            format!(
                "request.userInfo.username == {} ? [] : {}.filter(p, !variables.left.exists(n, n.{key} == p.{key} && n.{value} == p.{value}))",
                cel::literal(&controller),
                of("oldObject")
            ),
        ),
    ];
    let policy = delegated(
        name,
        resource,
        &["UPDATE"],
        variables,
        format!(
            "variables.replaced.map(p, {} + 'status.{list} of \"' + {NAME} + '\" has ' + p.{key} + ' pinned to ' + p.{value} + ', and would be replaced, {} Remedy: leave the status to the controller, {})",
            tag(Rule::Delegation),
            lacks("pin"),
            granted(resource, "pin")
        ),
        may(resource, Some(NAME), "pin"),
    );
    Policy { rules: vec![rule(GROUP, &["*"], &[&format!("{resource}/status")], &["UPDATE"])], ..policy }
}

fn delegated(
    name: &'static str,
    resource: &'static str,
    operations: &[&str],
    variables: Vec<(&'static str, String)>,
    violations: String,
    unless: String,
) -> Policy {
    Policy {
        name,
        parameter: Parameter::None,
        actions: &["Deny"],
        rules: vec![rule(GROUP, &["*"], &[resource], operations)],
        scope: Namespaces::Except(vec![]),
        variables,
        gate: None,
        checks: vec![Check {
            violations,
            unless: Some(unless),
            fallback: fallback(Rule::Delegation, "this change opens what its author may not open"),
        }],
    }
}

/// CEL of the name of an object that is there. The request has none where a whole collection is deleted.
const NAME: &str = "oldObject.metadata.name";

/// CEL of the environments in which an artifact may be: those that are permitted, and those that produce it.
fn places(object: &str) -> String {
    let named =
        |list: &str, field: &str| format!("(has({object}.spec.{list}) ? {object}.spec.{list}.map(e, e.{field}) : [])");
    format!("{} + {}", named("permittedEnvironments", "name"), named("producers", "environment"))
}

/// CEL of whether the author of the request has a verb on objects of ours, one by name or all of them.
fn may(resource: &str, name: Option<&str>, verb: &str) -> String {
    let name = name.map(|name| format!(".name({name})")).unwrap_or_default();
    format!("authorizer.group('{GROUP}').resource('{resource}'){name}.check('{verb}').allowed()")
}

/// `which takes the verb … on it, and "somebody" has it not.`, within a literal that is still open.
fn lacks(verb: &str) -> String {
    format!("which takes the verb {verb} on it, and \"' + request.userInfo.username + '\" has it not.")
}

/// `or have a ClusterRole grant it …`, and the end of the literal.
fn granted(resource: &str, verb: &str) -> String {
    format!("or have a ClusterRole grant the verb {verb} on {resource}.{GROUP} of that name (docs/delegation.md).'")
}
