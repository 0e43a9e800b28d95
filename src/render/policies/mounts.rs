//! Registered storage is mounted only where it is permitted: WL-101.

use super::pods::{Concern, PodAt, PodRule};
use super::{Check, cel, fallback, source, tag};
use crate::domain::Rule;

/// Types of volumes that are no storage, the commonest first, or are asked about elsewhere: claims when they are made, images by their own rule.
const HARMLESS: [&str; 7] = ["projected", "configMap", "emptyDir", "secret", "downwardAPI", "ephemeral", "image"];

/// Registered storage is not mounted in a namespace where it is not permitted, by a claim or inline. A claim that the pod makes
/// for itself is asked about when it is made (WL-112).
pub fn pods(at: PodAt) -> PodRule {
    let spec = at.spec();
    let mut variables = cel::membership();
    variables.extend([
        ("volumes", format!("has({spec}.volumes) ? {spec}.volumes : []")),
        (
            "sources",
            format!(
                "variables.volumes.map(v, {{'name': string(v.name), 'exact': {}, 'path': {}, 'unclear': {}}}).filter(v, v.exact != '' || v.path != '' || v.unclear != '')",
                source::exact("v"),
                source::path("v"),
                source::unclear("v")
            ),
        ),
        (
            "stored",
            format!(
                "variables.sources.map(v, {{'name': dyn(v.name), 'unclear': dyn(v.unclear), 'keys': dyn({}), 'paths': dyn({}), 'parents': dyn({})}})",
                source::forbidden_keys("v.exact"),
                source::forbidden_paths("v.path"),
                source::forbidden_parents("v.path", "v.unclear")
            ),
        ),
    ]);
    let claim = "request.namespace + '/' + v.persistentVolumeClaim.claimName";
    let entry = format!("params.spec.misplaced[{claim}]");
    let mut lists = vec![format!(
        "variables.volumes.filter(v, has(v.persistentVolumeClaim) && ({claim}) in params.spec.misplaced && !{}).map(v, {})",
        cel::permitted(&entry),
        text("'is '", &entry, "' (PVC \"' + v.persistentVolumeClaim.claimName + '\")'")
    )];
    for table in ["keys", "paths", "parents"] {
        let entry = format!("params.spec.{table}[v.{table}[0]]");
        lists.push(format!(
            "variables.stored.filter(v, size(v.{table}) > 0).map(v, {})",
            text(
                &source::relation(table, &format!("v.{table}[0]"), "v.unclear"),
                &entry,
                &format!("' (' + v.{table}[0] + ')'")
            )
        ));
    }
    let fallback = fallback(
        Rule::NotPermittedHere,
        "a volume of this pod is registered storage, which is not permitted in its namespace",
    );
    let harmless = HARMLESS.map(|kind| format!("has(v.{kind})")).join(" || ");
    let volume = format!("(has(v.persistentVolumeClaim) ? ({claim}) in params.spec.misplaced : !({harmless}))");
    let concerned = Concern { volume: Some(volume), ..Concern::default() };
    PodRule {
        sharded: true,
        concerned,
        variables,
        check: Check { violations: lists.join(" + "), unless: None, fallback },
    }
}

/// The beginning of the text of a violation by volume `v`.
fn subject() -> String {
    format!("{} + 'volume \"' + v.name + '\" '", tag(Rule::NotPermittedHere))
}

/// The text of a violation by volume `v`.
fn text(what: &str, entry: &str, detail: &str) -> String {
    format!(
        "{} + {what} + {} + {detail} + {}",
        subject(),
        cel::artifact(entry),
        cel::not_permitted(entry, "request.namespace", "run in")
    )
}
