//! Ring 1 as functions: what the ValidatingAdmissionPolicies of `src/render/policies` say in CEL, said in Rust.
//!
//! The real ones are texts that only an API server can evaluate, so this is a second wording, and it can be wrong: the
//! tests against a real API server (`tests/apiserver/policies`) hold for the CEL, this model for the design behind it. What
//! is real here are the parameters (`domain::index_plan`), the keys (`domain::backend`), and which requests a policy is
//! asked about (resources, operations and namespace selector of the rendered objects). Left out are the messages, sources
//! that cannot be brought into a canonical form (`unclear`), and the policies that no step of the model meets.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{NamedRuleWithOperations, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use weightlock::api::{IndexEntry, IndexMember, Mode, WeightIndexSpec};
use weightlock::domain::backend;

use crate::cluster::PROTECTION;

/// A request that is put to the policies.
pub struct Asked<'a> {
    pub resource: &'static str,
    pub create: bool,
    /// Namespace and UID, of objects that are in one.
    pub namespace: Option<(&'a str, &'a str)>,
    pub user: &'a str,
    pub object: &'a Value,
    pub old: Option<&'a Value>,
}

/// A policy: its name, without what all names begin with, and whether it refuses.
pub type Policy = (&'static str, fn(&WeightIndexSpec, &Asked<'_>) -> bool);

/// Those that have a part in where storage may be. Some are taken apart, so that each part can be left out.
pub const POLICIES: [Policy; 8] = [
    ("volumes", |params, asked| asked.resource == "persistentvolumes" && volumes(params, asked)),
    ("volumes/uid", |params, asked| asked.resource == "persistentvolumes" && pointed(params, asked)),
    ("claims", |params, asked| asked.resource == "persistentvolumeclaims" && names_volume(params, asked)),
    ("claims/copies", |params, asked| asked.resource == "persistentvolumeclaims" && claims_copy(params, asked)),
    ("snapshots", |params, asked| asked.resource == "volumesnapshots" && snapshots(params, asked)),
    ("snapshot-contents", |params, asked| {
        asked.resource == "volumesnapshotcontents" && snapshot_contents(params, asked)
    }),
    ("pods", |params, asked| asked.resource == "pods" && pods(params, asked)),
    ("claims-in-use", |_, asked| asked.resource == "persistentvolumeclaims" && unprotected(asked)),
];

/// Resources and operations of one rule of a rendered policy or webhook.
pub type Matched<'a> = (&'a Option<Vec<String>>, &'a Option<Vec<String>>);

/// Which requests a rendered policy or webhook is asked about.
pub struct Scope {
    pub resources: BTreeSet<String>,
    pub operations: BTreeSet<String>,
    pub selector: LabelSelector,
}

impl Scope {
    pub fn new<'a>(rules: impl IntoIterator<Item = Matched<'a>>, selector: Option<&LabelSelector>) -> Self {
        let (mut resources, mut operations) = (BTreeSet::new(), BTreeSet::new());
        for (named, done) in rules {
            resources.extend(named.iter().flatten().cloned());
            operations.extend(done.iter().flatten().cloned());
        }
        Self { resources, operations, selector: selector.cloned().unwrap_or_default() }
    }

    pub fn holds(&self, resource: &str, create: bool, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.resources.contains(resource)
            && self.operations.contains(if create { "CREATE" } else { "UPDATE" })
            && labels.is_none_or(|labels| selected(&self.selector, labels))
    }
}

pub fn of_policy(rules: &[NamedRuleWithOperations]) -> Vec<Matched<'_>> {
    rules.iter().map(|rule| (&rule.resources, &rule.operations)).collect()
}

pub fn of_webhook(rules: &[RuleWithOperations]) -> Vec<Matched<'_>> {
    rules.iter().map(|rule| (&rule.resources, &rule.operations)).collect()
}

fn selected(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let listed = || {
                let values = expression.values.iter().flatten();
                labels.get(&expression.key).is_some_and(|label| values.into_iter().any(|value| value == label))
            };
            match expression.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                other => panic!("no policy is rendered with operator {other}"),
            }
        })
}

/// `variables.environment` and `variables.audit`.
struct Place<'a> {
    environment: &'a str,
    audit: bool,
}

impl<'a> Place<'a> {
    fn of(member: Option<&'a IndexMember>) -> Self {
        match member {
            Some(member) => Self { environment: &member.environment, audit: member.admission == Mode::Audit },
            None => Self { environment: "", audit: false },
        }
    }

    /// `cel::membership`: the namespace of the request, by UID.
    fn here(params: &'a WeightIndexSpec, asked: &Asked<'_>) -> Self {
        let member = asked.namespace.and_then(|(name, uid)| params.members.get(name).filter(|m| m.uid == uid));
        Self::of(member)
    }

    /// `cel::permitted`.
    fn permits(&self, params: &WeightIndexSpec, entry: &IndexEntry) -> bool {
        let terms = params.terms_of(entry);
        self.audit || terms.is_some_and(|terms| terms.environments.iter().any(|name| name == self.environment))
    }
}

fn text<'a>(of: &'a Value, pointer: &str) -> Option<&'a str> {
    of.pointer(pointer).and_then(Value::as_str)
}

/// The entries that a source is, holds, lies in or may be: `source::forbidden_keys`, `forbidden_paths`, `forbidden_parents`
/// and, with a place that permits nothing, `source::registered`.
fn found<'a>(params: &'a WeightIndexSpec, source: &Value) -> Vec<&'a IndexEntry> {
    let Ok(key) = backend::of_volume_source(source) else { return Vec::new() };
    let text = key.comparable().0;
    if !key.has_path() {
        return params.keys.get(&text).into_iter().collect();
    }
    // `cel::ancestors`: the root, then each directory down to the key itself.
    let mut ancestors: Vec<&str> = text
        .match_indices('/')
        .enumerate()
        .map(|(step, (at, _))| if step == 0 { &text[..=at] } else { &text[..at] })
        .collect();
    if !text.ends_with('/') {
        ancestors.push(&text);
    }
    let above = ancestors.iter().filter_map(|ancestor| params.paths.get(*ancestor));
    above.chain(params.parents.get(&text)).collect()
}

/// `cel::cluster`.
fn is_cluster(user: &str) -> bool {
    user.starts_with("system:serviceaccount:kube-system:")
        || ["system:kube-controller-manager", "system:kube-scheduler"].contains(&user)
}

/// For which namespace a volume is reserved, where the request says so anew.
fn destination<'a>(asked: &Asked<'a>) -> Option<&'a str> {
    let namespace = text(asked.object, "/spec/claimRef/namespace").filter(|namespace| !namespace.is_empty())?;
    let before = asked.old.and_then(|old| old.pointer("/spec/claimRef"));
    (asked.create || before.is_none() || before != asked.object.pointer("/spec/claimRef")).then_some(namespace)
}

fn volumes(params: &WeightIndexSpec, asked: &Asked<'_>) -> bool {
    let Some(destination) = destination(asked) else { return false };
    // `cel::membership_of`: of another namespace than that of the request only the name is known.
    let place = Place::of(params.members.get(destination));
    found(params, &asked.object["spec"]).into_iter().any(|entry| !place.permits(params, entry))
}

fn pointed(params: &WeightIndexSpec, asked: &Asked<'_>) -> bool {
    let Some(destination) = destination(asked) else { return false };
    let audit = Place::of(params.members.get(destination)).audit;
    let uid = text(asked.object, "/spec/claimRef/uid").is_some_and(|uid| !uid.is_empty());
    uid && !audit && !is_cluster(asked.user) && !found(params, &asked.object["spec"]).is_empty()
}

/// Whether a claim with this spec asks for a volume that is not permitted here.
fn asks_for_volume(params: &WeightIndexSpec, place: &Place<'_>, spec: &Value) -> bool {
    let entry = text(spec, "/volumeName").and_then(|volume| params.volumes.get(volume));
    entry.is_some_and(|entry| !place.permits(params, entry))
}

/// Whether a claim with this spec is a copy of what is registered.
fn is_copy(params: &WeightIndexSpec, place: &Place<'_>, spec: &Value, namespace: &str) -> bool {
    ["dataSource", "dataSourceRef"].iter().filter_map(|field| spec.get(field)).any(|source| {
        let of = text(source, "/namespace").filter(|of| !of.is_empty()).unwrap_or(namespace);
        let claim = format!("{of}/{}", text(source, "/name").unwrap_or_default());
        text(source, "/kind") == Some("PersistentVolumeClaim") && params.claims.contains_key(&claim) && !place.audit
    })
}

/// Whether the policy of claims is asked at all.
fn claim_asked(asked: &Asked<'_>) -> bool {
    let spec = &asked.object["spec"];
    asked.create
        || ["volumeName", "dataSource", "dataSourceRef"].iter().any(|field| {
            spec.get(field).is_some() && asked.old.is_none_or(|old| old["spec"].get(field) != spec.get(field))
        })
}

fn names_volume(params: &WeightIndexSpec, asked: &Asked<'_>) -> bool {
    claim_asked(asked) && asks_for_volume(params, &Place::here(params, asked), &asked.object["spec"])
}

fn claims_copy(params: &WeightIndexSpec, asked: &Asked<'_>) -> bool {
    let Some((namespace, _)) = asked.namespace else { return false };
    claim_asked(asked) && is_copy(params, &Place::here(params, asked), &asked.object["spec"], namespace)
}

fn snapshots(params: &WeightIndexSpec, asked: &Asked<'_>) -> bool {
    let Some((namespace, _)) = asked.namespace else { return false };
    let claim = text(asked.object, "/spec/source/persistentVolumeClaimName");
    claim.is_some_and(|claim| params.claims.contains_key(&format!("{namespace}/{claim}")))
        && !Place::here(params, asked).audit
}

fn snapshot_contents(params: &WeightIndexSpec, asked: &Asked<'_>) -> bool {
    let place =
        Place::of(text(asked.object, "/spec/volumeSnapshotRef/namespace").and_then(|name| params.members.get(name)));
    let driver = &asked.object["spec"]["driver"];
    let handle = ["volumeHandle", "snapshotHandle"].iter().find_map(|field| asked.object["spec"]["source"].get(field));
    let source = json!({"csi": {"driver": driver, "volumeHandle": handle}});
    let key = backend::of_volume_source(&source).map(|key| key.comparable().0);
    asked.create && key.is_ok_and(|key| params.keys.contains_key(&key)) && !place.audit
}

fn unprotected(asked: &Asked<'_>) -> bool {
    let protects = |object: &Value| {
        object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|f| f.iter().any(|f| f == PROTECTION))
    };
    asked.old.is_some_and(protects) && !protects(asked.object) && !is_cluster(asked.user)
}

fn pods(params: &WeightIndexSpec, asked: &Asked<'_>) -> bool {
    let Some((namespace, _)) = asked.namespace else { return false };
    let place = Place::here(params, asked);
    asked.object.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten().any(|volume| {
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        let claimed = claim.and_then(|claim| params.misplaced.get(&format!("{namespace}/{claim}")));
        claimed.is_some_and(|entry| !place.permits(params, entry))
            || found(params, volume).into_iter().any(|entry| !place.permits(params, entry))
    })
}
