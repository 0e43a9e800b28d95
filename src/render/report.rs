//! What was found of one of our objects, for tools that gather the results of policies: ClusterReports of OpenReports
//! (`openreports.io/v1alpha1`). Their definition is somebody else's, so only what we write of it is here.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::{Deserialize, Serialize};

use super::{labels, owner, policies::PREFIX};

/// Most results in one report: it has to fit into etcd. The summary counts all.
const MOST: usize = 500;

/// A pod that is against a rule.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The pod.
    pub pod: ObjectReference,
    /// Id of the rule.
    pub rule: String,
    /// What is wrong, and the remedy.
    pub text: String,
    /// Whether the rule is enforced there; else it would be.
    pub enforced: bool,
}

/// A report on a WeightArtifact or WeightEnvironment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClusterReport {
    metadata: ObjectMeta,
    source: String,
    scope: ObjectReference,
    summary: Summary,
    results: Vec<ReportResult>,
}

/// How many results there are of each outcome. Reports list nothing that conforms.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Summary {
    pass: usize,
    fail: usize,
    warn: usize,
    error: usize,
    skip: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct ReportResult {
    source: String,
    policy: String,
    category: String,
    severity: String,
    result: String,
    message: String,
    resources: Vec<ObjectReference>,
}

impl Resource for ClusterReport {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "ClusterReport".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "openreports.io".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "clusterreports".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Name of the report on an object: its kind and name.
pub fn name(scope: &ObjectReference) -> String {
    let [kind, name] = [&scope.kind, &scope.name].map(|part| part.as_deref().unwrap_or_default().to_ascii_lowercase());
    format!("{PREFIX}{}-{name}", kind.trim_start_matches("weight"))
}

/// The report on an object. It goes with the object.
pub fn report(scope: ObjectReference, findings: &[Finding]) -> ClusterReport {
    let of = |reference: &Option<String>| reference.clone().unwrap_or_default();
    let enforced = findings.iter().filter(|finding| finding.enforced).count();
    ClusterReport {
        metadata: ObjectMeta {
            name: Some(name(&scope)),
            labels: Some(labels(None)),
            annotations: Some(owner(None)),
            owner_references: Some(vec![OwnerReference {
                api_version: of(&scope.api_version),
                kind: of(&scope.kind),
                name: of(&scope.name),
                uid: of(&scope.uid),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        source: "weightlock".into(),
        // Which version of it was looked at is nobody's business, and changes at each turn.
        scope: ObjectReference { resource_version: None, ..scope },
        summary: Summary { fail: enforced, warn: findings.len() - enforced, ..Summary::default() },
        results: findings.iter().take(MOST).map(result).collect(),
    }
}

fn result(finding: &Finding) -> ReportResult {
    ReportResult {
        source: "weightlock".into(),
        policy: finding.rule.clone(),
        category: "Model weights".into(),
        severity: "high".into(),
        result: if finding.enforced { "fail" } else { "warn" }.into(),
        message: finding.text.clone(),
        resources: vec![finding.pod.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_all_and_lists_what_fits() {
        let reference = |kind: &str, name: &str| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some(kind.into()),
            name: Some(name.into()),
            uid: Some("u".into()),
            ..ObjectReference::default()
        };
        let finding = |number: usize| Finding {
            pod: reference("Pod", &format!("p{number}")),
            rule: "WL-101".into(),
            text: "[WL-101] x".into(),
            enforced: number > 0,
        };
        let findings: Vec<Finding> = (0..MOST + 2).map(finding).collect();
        let report = report(reference("WeightEnvironment", "prod"), &findings);
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["metadata"]["name"], "weightlock-environment-prod");
        assert_eq!(value["metadata"]["ownerReferences"][0]["kind"], "WeightEnvironment");
        assert_eq!((&value["summary"]["fail"], &value["summary"]["warn"]), (&(MOST + 1).into(), &1.into()));
        assert_eq!(value["results"].as_array().unwrap().len(), MOST);
        assert_eq!((&value["results"][0]["result"], &value["results"][1]["result"]), (&"warn".into(), &"fail".into()));
        assert_eq!(value["results"][0]["resources"][0]["name"], "p0");
    }
}
