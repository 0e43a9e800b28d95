//! Admission: what must be true of a pod that could read weights.
//!
//! [`shape`] is the mutation, [`decide`] the validation of the final object, and [`denial_text`] what its author reads.
//! All are pure and total: objects come as raw JSON, and what cannot be read or told is a violation. [`decide`] takes a
//! pod as it is after [`shape`]: whoever starts from a manifest shapes it first.

mod assessment;
mod devices;
mod download;
mod earlier;
mod foresight;
mod gpu;
mod hardening;
mod identity;
mod images;
mod node_access;
mod opening;
mod placement;
mod pod;
mod running;
mod sealing;
mod shape;
mod storage;
mod text;
mod verification;
mod verifier;
mod volumes;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{environment as test_environment, small as test_world};

use serde_json::Value;

use super::decision::Decision;
use super::lookup::Membership;
use super::network::Kind;
use super::request::{Operation, Request};
use super::rules::Rule;
use super::world::{Environment, World};
use crate::api::Mode;
use assessment::Assessment;
use shape::Aspects;
use text::Findings;

pub use earlier::reverifies;
pub use foresight::{foresee, foretell};
pub use placement::{BINDING, claims, placed, places};
pub use sealing::{keys_mounted, writes};
pub use text::denial_text;
pub use verifier::{REVERIFIER, VERIFIER};

/// What [`shape`] makes of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shaped {
    /// The object as it should be; `None`: unchanged.
    pub object: Option<Value>,
    /// What the author should know.
    pub warnings: Vec<String>,
}

/// Decides on a request. Never panics; what cannot be decided is not allowed.
///
/// Decided are pods (creation, placement, update, connections), connections to services, what claims and volumes bind,
/// claims of devices, and policies that open the network. Requests about anything else concern no rule. The object of a
/// request to place a pod (`pods/binding`) is the pod, as [`placed`] makes it.
pub fn decide(world: &World, request: &Request<'_>) -> Decision {
    let mut findings = Findings::default();
    if request.operation == Operation::Delete {
        return findings.decision();
    }
    if let Some(kind) = Kind::of(request.group, request.resource) {
        if !request.object.is_some_and(running::is_going) {
            synced(world, &mut findings, |f| {
                in_environment(world, request, f, |request, environment, f| {
                    opening::policy(world, kind, request, environment, f);
                });
            });
        }
        return findings.decision();
    }
    if request.group == devices::GROUP {
        let is_claim = matches!(request.resource, "resourceclaims" | "resourceclaimtemplates");
        // What a claim asks for is never changed.
        if is_claim && request.operation == Operation::Create && request.subresource.is_none() {
            synced(world, &mut findings, |f| devices::claim(world, request, f));
        }
        return findings.decision();
    }
    if !request.group.is_empty() {
        return findings.decision();
    }
    match (request.resource, request.operation) {
        ("pods", Operation::Create) if request.subresource.is_none() => {
            synced(world, &mut findings, |f| create(world, request, false, f))
        }
        ("pods", Operation::Create) if request.subresource == Some(BINDING) => {
            synced(world, &mut findings, |f| create(world, request, true, f))
        }
        ("pods", Operation::Update) => {
            synced(world, &mut findings, |f| in_environment(world, request, f, running::update))
        }
        ("pods" | "services", Operation::Connect) => {
            synced(world, &mut findings, |f| in_environment(world, request, f, running::connect))
        }
        ("persistentvolumeclaims" | "persistentvolumes", Operation::Create | Operation::Update)
            if request.subresource.is_none() && !request.object.is_some_and(running::is_going) =>
        {
            let rule = if request.resource == "persistentvolumes" { storage::volume } else { storage::claim };
            synced(world, &mut findings, |f| {
                let namespace = rule(world, request, f);
                if world.membership(namespace).environment().is_some_and(|e| !e.enforces_admission()) {
                    f.audit(|rule| matches!(rule, Rule::Malformed | Rule::NodeAccess));
                }
            });
        }
        _ => {}
    }
    findings.decision()
}

/// Makes of a new pod what the rules ask for where nothing contradicts them: the verifier, read-only mounts of weights,
/// seccomp, no NET_RAW, the bandwidth annotation. Aspects in Audit change nothing. Idempotent.
///
/// What cannot be read or told is left as it is, for [`decide`] to refuse.
pub fn shape(world: &World, request: &Request<'_>) -> Shaped {
    let is_new_pod = request.operation == Operation::Create
        && request.group.is_empty()
        && request.resource == "pods"
        && request.subresource.is_none();
    let (true, Some(object), None) = (is_new_pod, request.object, world.undecidable()) else {
        return Shaped::default();
    };
    // Also where the namespace is not pinned: weights are refused there, and the refusal says nothing beside the point.
    let Some(environment) = world.membership(request.namespace).environment() else { return Shaped::default() };
    let Ok(assessment) = Assessment::new(world, request.namespace, object) else { return Shaped::default() };
    let shaped = shape::apply(&assessment, object, Aspects::of(environment));
    Shaped { object: (shaped != *object).then_some(shaped), warnings: Vec::new() }
}

fn synced(world: &World, findings: &mut Findings, rules: impl FnOnce(&mut Findings)) {
    match world.undecidable() {
        Some(why) => findings.add(
            Rule::NotSynced,
            format!("it cannot be decided yet: {why}."),
            "retry in a few seconds; if it stays, look at the log of weightlock-webhook.".into(),
        ),
        None => rules(findings),
    }
}

fn in_environment(
    world: &World,
    request: &Request<'_>,
    findings: &mut Findings,
    rule: impl FnOnce(&Request<'_>, &Environment, &mut Findings),
) {
    if let Some(environment) = world.membership(request.namespace).environment() {
        rule(request, environment, findings);
        if environment.modes.admission == Mode::Audit {
            findings.audit(|rule| rule == Rule::Malformed);
        }
    }
}

/// A pod that is created, or that waited since it was and is placed on a node.
fn create(world: &World, request: &Request<'_>, waited: bool, findings: &mut Findings) {
    let Some(object) = request.object else {
        malformed(vec!["the request to create a pod lacks the object".into()], findings);
        return;
    };
    let assess = |pod| Assessment::new(world, request.namespace, pod).map(|found| Assessment { waited, ..found });
    let assessment = match assess(object) {
        Ok(assessment) => assessment,
        Err(problems) => {
            malformed(problems, findings);
            return;
        }
    };
    let Some(environment) = assessment.environment() else {
        outside(&assessment, findings);
        node_access::pod(&assessment, findings);
        return;
    };
    if environment.modes.admission == Mode::Enforce {
        inside(&assessment, findings);
        if waited {
            // Its author read them when it was created; a scheduler does not.
            findings.forget_warnings();
        }
        return;
    }
    // Audit changes nothing, so what is judged is the pod that Enforce would have made of it.
    let aspects = Aspects { hardening: true, ..Aspects::of(environment) };
    let shaped = shape::apply(&assessment, object, aspects);
    match assess(&shaped) {
        Ok(assessment) => inside(&assessment, findings),
        Err(problems) => malformed(problems, findings),
    }
    // A namespace that was made again is not the one that the environment is to be lenient with.
    let recreated = matches!(assessment.membership, Membership::Recreated { .. });
    findings.audit(|rule| rule == Rule::Malformed || (recreated && rule == Rule::NamespaceNotPinned));
    // From there weights of any pod of the node are reached, whatever the mode of this environment is. Where it is
    // enforced, its own rules say as much.
    node_access::pod(&assessment, findings);
}

fn inside(assessment: &Assessment<'_>, findings: &mut Findings) {
    identity::artifacts(assessment, findings);
    images::containers(assessment, findings);
    images::ids(assessment, findings);
    identity::incidents(assessment, findings);
    identity::volumes(assessment, findings);
    placement::bound(assessment, findings);
    let weights = assessment.holds_weights();
    if weights || assessment.gpu.is_some() || gpu::may_bring_one(&assessment.pod) {
        identity::neighbours(assessment, findings);
    }
    if weights {
        hardening::rules(assessment, true, findings);
        verification::mounts(assessment, findings);
    } else {
        hardening::reach(assessment, findings);
    }
    download::rules(assessment, findings);
    verification::verifier(assessment, findings);
    verification::duration(assessment, findings);
    verification::signatures(assessment, findings);
    verification::names(assessment, findings);
}

/// Outside every environment registered storage is refused, and GPU pods as the installation has it.
fn outside(assessment: &Assessment<'_>, findings: &mut Findings) {
    identity::artifacts(assessment, findings);
    images::containers(assessment, findings);
    images::ids(assessment, findings);
    identity::incidents(assessment, findings);
    if assessment.holds_weights() {
        hardening::rules(assessment, false, findings);
    }
    let Some(asked) = &assessment.gpu else { return };
    // Operators of GPUs run there.
    if assessment.world.settings.is_node_agent(assessment.namespace, assessment.pod.service_account()) {
        return;
    }
    let fact = format!("{asked} in namespace {:?}, which belongs to no environment.", assessment.namespace);
    let remedy = "run it in a namespace of a WeightEnvironment, or add the namespace to one.";
    gpu::outside(assessment.world, fact, remedy, findings);
}

fn malformed(problems: Vec<String>, findings: &mut Findings) {
    for problem in problems {
        let field = problem.split(' ').next().unwrap_or_default().to_owned();
        findings.add(Rule::Malformed, format!("{problem}."), format!("correct {field}."));
    }
}
