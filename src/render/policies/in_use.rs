//! A claim that a placed pod uses stays what it was when the pod was decided: WL-118.

use super::{Check, Namespaces, Parameter, Policy, cel, fallback, rule, tag};
use crate::domain::Rule;

/// By this the cluster keeps a claim from being deleted while a placed pod uses it.
const FINALIZER: &str = "'kubernetes.io/pvc-protection'";

/// Nobody but the cluster itself takes the protection of a claim away, nor its controller: by that the cluster, and the
/// kubelet, know which pod the claim of a generic ephemeral volume is for. Where admission is enforced, by name: a parameter
/// that is lost must not stop the cluster from deleting claims.
pub fn claims(enforced: Vec<String>) -> Option<Policy> {
    let rule_text = Rule::ProtectionRemoved.describe();
    let of = |object: &str, field: &str| format!("(has({object}.metadata.{field}) ? {object}.metadata.{field} : [])");
    let changes = |field: &str| format!("{} != {}", of("object", field), of("oldObject", field));
    let controls = |owner: &str| format!("has({owner}.controller) && {owner}.controller");
    let said = |what: &str| {
        format!(
            "{} + 'PersistentVolumeClaim \"' + object.metadata.name + '\" loses {what} by \"' + request.userInfo.username + '\", and with it what keeps it from being made again under a pod that was placed. Remedy: ' + {}",
            tag(Rule::ProtectionRemoved),
            cel::literal(rule_text.remedy)
        )
    };
    let variables = vec![
        (
            "bare",
            format!(
                "{FINALIZER} in {} && !({FINALIZER} in {})",
                of("oldObject", "finalizers"),
                of("object", "finalizers")
            ),
        ),
        (
            "disowned",
            format!(
                "{}.exists(o, {} && !{}.exists(n, {} && n.uid == o.uid))",
                of("oldObject", "ownerReferences"),
                controls("o"),
                of("object", "ownerReferences"),
                controls("n")
            ),
        ),
    ];
    (!enforced.is_empty()).then(|| Policy {
        name: "claims-in-use",
        parameter: Parameter::None,
        actions: &["Deny"],
        // Metadata can be written with the status, too.
        rules: vec![rule("", &["v1"], &["persistentvolumeclaims", "persistentvolumeclaims/status"], &["UPDATE"])],
        scope: Namespaces::Only(enforced),
        variables,
        gate: Some(format!("{} || {}", changes("finalizers"), changes("ownerReferences"))),
        checks: vec![Check {
            violations: format!(
                "{} ? [] : (variables.bare ? [{}] : []) + (variables.disowned ? [{}] : [])",
                cel::cluster(),
                said("the finalizer kubernetes.io/pvc-protection"),
                said("its controller")
            ),
            unless: None,
            fallback: fallback(Rule::ProtectionRemoved, "the protection of a claim in use is taken away"),
        }],
    })
}
