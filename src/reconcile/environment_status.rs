//! How things stand with a WeightEnvironment, as conditions.

use std::collections::BTreeSet;

use super::{
    audit::{self, Refused},
    conditions::Wanted,
    error::ReconcileError,
    members::{Obstacle, name_some},
    network::{Admin, Policies, Used, Written},
    repair::Contest,
};
use crate::{
    api::Mode,
    domain::{Rule, access, index_plan::MAX_MEMBERS, world::Environment},
};

/// What a run of the recipe found.
pub(super) struct Findings<'a> {
    pub environment: &'a Environment,
    pub obstacles: &'a [(Obstacle, String)],
    /// Namespaces that are members now.
    pub accepted: &'a [&'a str],
    /// Those of them for whose pods the webhook is asked and fails closed; `None` if there is no configuration.
    pub enforced: Option<&'a BTreeSet<String>>,
    /// Whether the policies inside the API server know all of them as members.
    pub indexed: bool,
    /// Those that they cannot be told of, since there are too many.
    pub no_room: &'a [String],
    pub policies: &'a Policies,
    pub contests: Vec<Contest>,
    /// Who could reach the weights past admission.
    pub could: access::Could,
    /// Pods that run although they would be refused.
    pub refused: &'a [Refused],
    /// Pods for which the deletion of the environment waits.
    pub left: &'a [String],
}

/// All conditions, [`Ready`](self) last: it sums up the others.
pub(super) fn conditions(findings: &Findings<'_>) -> Vec<Wanted> {
    let mut conditions = vec![
        accepted(findings),
        admission(findings),
        network(findings),
        admin_tier(findings),
        contained(findings),
        audit::condition(findings.environment, findings.refused),
        egress(findings.environment),
        past_admission(&findings.could),
        contested(&findings.contests),
    ];
    conditions.push(ready(findings, &conditions));
    conditions
}

fn accepted(findings: &Findings<'_>) -> Wanted {
    let obstacle = findings.obstacles.iter().filter(|(obstacle, _)| *obstacle <= Obstacle::Recreated).min();
    match obstacle {
        Some((Obstacle::Conflict, text)) => Wanted::no("Accepted", "NamespaceConflict", text),
        Some((_, text)) => Wanted::no("Accepted", "NamespaceRecreated", text),
        None => Wanted::yes("Accepted", "Accepted", "The declaration is in force."),
    }
}

fn admission(findings: &Findings<'_>) -> Wanted {
    const KIND: &str = "AdmissionEnforced";
    if !findings.no_room.is_empty() {
        return Wanted::no(KIND, TOO_MANY, too_many(findings.no_room));
    }
    if findings.environment.modes.admission == Mode::Audit {
        return Wanted::no(KIND, "Audit", "spec.modes.admission is Audit: what would be refused is only said.");
    }
    let Some(enforced) = findings.enforced else {
        return Wanted::no(
            KIND,
            "WebhookMissing",
            "There is no ValidatingWebhookConfiguration \"weightlock\", so the webhook is not asked.",
        );
    };
    let missing: Vec<&str> =
        findings.accepted.iter().copied().filter(|namespace| !enforced.contains(*namespace)).collect();
    if !missing.is_empty() {
        let text = format!("The webhook is not yet asked for pods of: {}.", missing.join(", "));
        return Wanted::no(KIND, "WebhookMissing", text);
    }
    if !findings.indexed {
        let text = "The policies inside the API server do not know all member namespaces yet.";
        return Wanted::no(KIND, "IndexBehind", text);
    }
    if findings.accepted.is_empty() {
        return Wanted::no(KIND, "NoNamespace", "No namespace is a member now.");
    }
    Wanted::yes(KIND, "Enforced", "No pod of a member namespace starts unless the webhook allowed it.")
}

/// Reason of a condition and of an event.
pub(super) const TOO_MANY: &str = "TooManyMembers";

/// What is said of member namespaces that the policies inside the API server cannot be told of.
pub(super) fn too_many(namespaces: &[String]) -> String {
    format!(
        "The index of the policies inside the API server has no room for more member namespaces (at most {MAX_MEMBERS}, fewer where names are long), so no weights are permitted in: {}. \
         Remedy: take namespaces that need no weights out of spec.members, here or in other WeightEnvironments.",
        name_some(namespaces)
    )
}

fn network(findings: &Findings<'_>) -> Wanted {
    const KIND: &str = "NetworkPoliciesApplied";
    if let Some(error) = &findings.policies.namespaced.error {
        return failed(KIND, error);
    }
    if findings.environment.modes.network == Mode::Audit {
        return Wanted::no(KIND, "Audit", "spec.modes.network is Audit: no policy is written.");
    }
    if let Some(contested) = put_back_later(KIND, &findings.policies.namespaced) {
        return contested;
    }
    let Some(plan) = &findings.policies.plan else {
        return Wanted::no(KIND, "CannotPlan", "There is no plan.");
    };
    if plan.namespaces.is_empty() {
        return Wanted::no(KIND, "NoNamespace", "No namespace is a member now.");
    }
    let written = format!(
        "Policies are written in: {}. Whether the network plugin enforces them is not tested",
        plan.namespaces.keys().cloned().collect::<Vec<_>>().join(", ")
    );
    if plan.gaps.is_empty() {
        return Wanted::yes(KIND, "Applied", format!("{written}."));
    }
    let gaps: Vec<String> =
        plan.gaps.iter().map(|gap| format!("{} rule {:?}: {}", gap.direction.as_str(), gap.rule, gap.reason)).collect();
    Wanted::yes(KIND, "PeerMissing", format!("{written}. Rules that allow nothing now: {}.", gaps.join("; ")))
}

fn failed(kind: &'static str, error: &ReconcileError) -> Wanted {
    let reason = match error {
        ReconcileError::NotOurs { .. } => "ForeignObject",
        ReconcileError::Plan { .. } => "CannotPlan",
        _ => "ApplyFailed",
    };
    Wanted::no(kind, reason, error.to_string())
}

fn put_back_later(kind: &'static str, written: &Written) -> Option<Wanted> {
    let deferred = written.deferred.first()?;
    let text = format!("{deferred} was changed again and is put back with growing pauses; see Contested.");
    Some(Wanted::no(kind, "Contested", text))
}

/// Nothing waits for it: NetworkPolicies hold by themselves, and most clusters have no such tier.
fn admin_tier(findings: &Findings<'_>) -> Wanted {
    const KIND: &str = "AdminTierApplied";
    let Admin { used, tier, written } = &findings.policies.admin;
    if let Some(error) = &written.error {
        return failed(KIND, error);
    }
    if findings.environment.modes.network == Mode::Audit {
        return Wanted::no(KIND, "Audit", "spec.modes.network is Audit: no policy is written.");
    }
    if findings.policies.plan.is_none() {
        return Wanted::no(KIND, "CannotPlan", "There is no plan; see NetworkPoliciesApplied.");
    }
    const OPENS: &str =
        "a NetworkPolicy that gets past admission opens what it allows, until it is deleted; see NetworkContained";
    let unused = match used {
        Used::Yes => None,
        Used::NotServed => Some((
            "NotServed",
            "This cluster has no ClusterNetworkPolicies (policy.networking.k8s.io/v1alpha2), or the controller may not read them",
            "a network plugin that enforces ClusterNetworkPolicies, and their definition",
        )),
        Used::Cilium => Some((
            "CiliumMayRefuse",
            "The network plugin is Cilium, of which versions up to 1.20.2 at least may refuse what is declared where it is passed on",
            "see docs/network-policies.md, and set adminTier: Always in the chart with a version that does not",
        )),
        Used::Never => Some(("Never", "The chart says adminTier: Never", "set Auto or Always")),
    };
    if let Some((reason, fact, remedy)) = unused {
        return Wanted::no(KIND, reason, format!("{fact}: {OPENS}. Remedy: {remedy}."));
    }
    if let Some(contested) = put_back_later(KIND, written) {
        return contested;
    }
    let Some(tier) = tier else {
        return Wanted::no(KIND, "NoNamespace", "No namespace is a member now.");
    };
    let text = "What is not declared is denied before NetworkPolicies are asked: connections from pods, and to pods and addresses. \
                Connections from outside the cluster cannot be named there. Whether the network plugin enforces it is not tested";
    if tier.left_out.is_empty() {
        return Wanted::yes(KIND, "Applied", format!("{text}."));
    }
    let rules = name_some(&tier.left_out);
    let text = format!(
        "{text}. Addresses as a source cannot be named either: on the ports of these ingress rules NetworkPolicies alone decide: {rules}."
    );
    Wanted::yes(KIND, "InPart", text)
}

fn contained(findings: &Findings<'_>) -> Wanted {
    const KIND: &str = "NetworkContained";
    if findings.environment.modes.network == Mode::Audit {
        return Wanted::no(
            KIND,
            "Audit",
            "spec.modes.network is Audit: what policies of others allow is not compared.",
        );
    }
    if findings.policies.plan.is_none() {
        return Wanted::no(KIND, "CannotPlan", "There is no plan to compare policies of others with.");
    }
    let undeclared = &findings.policies.undeclared;
    if undeclared.is_empty() {
        return Wanted::yes(KIND, "Contained", "No NetworkPolicy of others allows more than is declared.");
    }
    let rule = Rule::UndeclaredOpening.id();
    let remedy = "Remedy: declare it in spec.network, or delete these policies";
    let text =
        format!("[{rule}] NetworkPolicies of others allow more than is declared: {}. {remedy}.", name_some(undeclared));
    Wanted::no(KIND, "UndeclaredOpening", text)
}

fn egress(environment: &Environment) -> Wanted {
    const KIND: &str = "EgressLimited";
    match (environment.egress_rate, environment.modes.egress) {
        (None, _) => Wanted::no(KIND, "NotDeclared", "spec.egressLimits declares no rate."),
        (Some(_), Mode::Audit) => Wanted::no(KIND, "Audit", "spec.modes.egress is Audit: no limit is set."),
        (Some(_), Mode::Enforce) => Wanted::no(
            KIND,
            "AnnotationIsNotProof",
            "Pods get the standard bandwidth annotation. It limits only where the network plugin heeds it, which is not tested, and it caps the rate, not the bytes.",
        ),
    }
}

/// For a person to look at; nothing waits for it, since every cluster has somebody who could.
fn past_admission(could: &access::Could) -> Wanted {
    const KIND: &str = "RightsPastAdmission";
    if could.is_empty() {
        return Wanted::no(KIND, "None", "No role lets anybody past admission, the cluster's own controllers apart.");
    }
    let ways: Vec<String> = could
        .iter()
        .map(|(way, who)| {
            let who: Vec<String> = who.iter().cloned().collect();
            format!("{}: {}", way.means(), name_some(&who))
        })
        .collect();
    let text = format!("Who could {}. All of them: kubectl weightlock access.", ways.join("; who could "));
    Wanted::yes(KIND, "Granted", text)
}

fn contested(contests: &[Contest]) -> Wanted {
    if contests.is_empty() {
        return Wanted::no("Contested", "Undisturbed", "Nobody else changes what Weightlock wrote.");
    }
    let texts: Vec<String> = contests
        .iter()
        .map(|contest| match &contest.manager {
            Some(manager) => format!("{} is changed again and again by field manager {manager:?}", contest.object),
            None => format!("{} is deleted again and again", contest.object),
        })
        .collect();
    let remedy = "Remedy: stop the other writer; policies of an environment are declared in spec.network";
    Wanted::yes("Contested", "RivalWriter", format!("{}. {remedy}.", texts.join("; ")))
}

fn ready(findings: &Findings<'_>, others: &[Wanted]) -> Wanted {
    if !findings.left.is_empty() {
        let text = format!(
            "The deletion waits, and everything stays in force, until no pod that holds weights is left: {}. Remedy: delete these pods.",
            name_some(findings.left)
        );
        return Wanted::no("Ready", "WaitingForPods", text);
    }
    if let Some((obstacle, text)) = findings.obstacles.iter().min() {
        let reason = match obstacle {
            Obstacle::Conflict => "NamespaceConflict",
            Obstacle::Recreated => "NamespaceRecreated",
            Obstacle::Missing => "NamespaceMissing",
            Obstacle::Held => "WaitingForPods",
        };
        return Wanted::no("Ready", reason, text);
    }
    let holds =
        |kind: &str| others.iter().find(|condition| condition.kind == kind).filter(|condition| !condition.holds());
    let wanting = [
        (findings.environment.modes.admission, holds("AdmissionEnforced")),
        (findings.environment.modes.network, holds("NetworkPoliciesApplied")),
        (findings.environment.modes.network, holds("NetworkContained")),
    ]
    .into_iter()
    .find_map(|(mode, condition)| condition.filter(|condition| mode == Mode::Enforce || condition.reason != "Audit"));
    if let Some(condition) = wanting {
        return Wanted::no("Ready", condition.reason, condition.message.clone());
    }
    if findings.policies.plan.as_ref().is_some_and(|plan| !plan.gaps.is_empty()) {
        return Wanted::no(
            "Ready",
            "PeerMissing",
            "Rules allow nothing now, since their other end does not exist; see NetworkPoliciesApplied.",
        );
    }
    Wanted::yes("Ready", "Ready", "Everything that is declared is in place.")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{super::apply::ObjectId, *};
    use crate::{
        domain::network::{self, AdminTier, NetworkPlan},
        index::convert,
    };

    /// An environment with these modes and one member namespace.
    fn environment(admission: &str, network: &str) -> Environment {
        let object = json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": "serving"},
            "spec": {"purpose": "Inference", "members": [{"namespace": "llm", "serviceAccounts": ["*"]}],
                "modes": {"admission": admission, "network": network, "verification": "Audit", "egress": "Audit"}}});
        convert::environment(&serde_json::from_value(object).unwrap()).unwrap()
    }

    /// Status and reason of the conditions of these types.
    fn found<const N: usize>(
        environment: &Environment,
        policies: &Policies,
        no_room: &[String],
        kinds: [&str; N],
    ) -> [(&'static str, bool, String); N] {
        let conditions = conditions(&Findings {
            environment,
            obstacles: &[],
            accepted: &["llm"],
            enforced: Some(&BTreeSet::from(["llm".to_string()])),
            indexed: true,
            no_room,
            policies,
            contests: vec![],
            could: BTreeMap::new(),
            refused: &[],
            left: &[],
        });
        kinds.map(|kind| {
            let found = conditions.iter().find(|condition| condition.kind == kind).unwrap();
            (found.reason, found.holds(), found.message.clone())
        })
    }

    #[test]
    fn a_namespace_that_the_index_has_no_room_for_is_named_in_audit_too() {
        for admission in ["Enforce", "Audit"] {
            let environment = environment(admission, "Audit");
            let found = found(&environment, &Policies::default(), &["llm".to_string()], ["AdmissionEnforced", "Ready"]);
            for (reason, holds, message) in found {
                assert_eq!((reason, holds), (TOO_MANY, false));
                assert!(message.contains("no weights are permitted in: llm. Remedy: "), "{message}");
            }
        }
    }

    #[test]
    fn ready_does_not_wait_for_the_admin_tier() {
        let environment = environment("Enforce", "Enforce");
        let plan = NetworkPlan { namespaces: BTreeMap::from([("llm".into(), vec![])]), gaps: vec![] };
        let tier = network::admin_tier(&plan);
        let in_part = tier.clone().map(|tier| AdminTier { left_out: vec!["balancer".into()], ..tier });
        let failed = || {
            let object = ObjectId::new("ClusterNetworkPolicy", None, "weightlock-0-serving");
            let error = Some(ReconcileError::NotOurs { object, manager: "helm".into() });
            Written { error, ..Written::default() }
        };
        for (used, tier, written, expected) in [
            (Used::NotServed, None, Written::default(), ("NotServed", false)),
            (Used::Cilium, None, Written::default(), ("CiliumMayRefuse", false)),
            (Used::Never, None, Written::default(), ("Never", false)),
            (Used::Yes, tier.clone(), Written::default(), ("Applied", true)),
            (Used::Yes, in_part, Written::default(), ("InPart", true)),
            (Used::Yes, None, Written::default(), ("NoNamespace", false)),
            (Used::Yes, tier, failed(), ("ForeignObject", false)),
        ] {
            let admin = Admin { used, tier, written };
            let policies = Policies { plan: Some(plan.clone()), admin, ..Policies::default() };
            let [(reason, holds, message), (ready, ..)] =
                found(&environment, &policies, &[], ["AdminTierApplied", "Ready"]);
            assert_eq!(((reason, holds), ready), (expected, "Ready"), "{message}");
            assert_eq!(message.contains("balancer"), reason == "InPart", "{message}");
        }
    }
}
