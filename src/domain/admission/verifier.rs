//! The init container `weightlock-verify`: how it is rendered, and whether the one in a pod is as rendered.
//!
//! Protected is all that could make it pass without reading the bytes that the pod reads: image, command, args, mounts,
//! security context, restart policy, hooks and probes. What others add later passes: a mounted token, resources, resize
//! and pull policies, and variables that a static program does not look at.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::assessment::Assessment;
use super::pod::{Container, Object, Pod, object, strings, text};
use crate::api::{Signature, SignatureAllowance};
use crate::domain::world::{Manifest, Reverify};
use crate::domain::{backend, carrier, verdict};

pub use crate::domain::verdict::{REVERIFIER, VERIFIER};

/// User and group of the verifier where it cannot be told as whom the consumer runs.
const NOBODY: i64 = 65532;

/// Tokens and credentials are mounted beneath this directory.
const SECRETS: &str = "/var/run/secrets/";

/// Variables that a loader or the Rust runtime reads before `main`.
const LOADER_VARIABLES: &[&str] = &["LD_", "GLIBC_", "MALLOC_", "RUST_"];

/// Fields of the verifier's container that others may set.
const FREE_FIELDS: &[&str] = &["imagePullPolicy", "resources", "resizePolicy", "terminationMessagePolicy"];

/// What the verifier of a pod has to check.
#[derive(Default)]
pub(super) struct Plan<'a> {
    /// Volume and the directory it is mounted at, in the order of the pod's volumes.
    pub mounts: Vec<(&'a str, String)>,
    /// Its arguments: one group per artifact and directory.
    pub args: Vec<String>,
    /// Volumes of which only a part of an artifact is mounted: volume, artifact, key of the artifact's location, contact.
    pub partial: Vec<Partial<'a>>,
    /// Manifests that are brought to the pod: artifact, digest, number of shards.
    pub carried: BTreeMap<&'a str, (&'a str, u32)>,
}

/// A volume that holds a part of an artifact.
pub(super) struct Partial<'a> {
    pub volume: &'a str,
    pub artifact: &'a str,
    pub whole: String,
    pub mounted: String,
    pub contact: &'a str,
}

/// What the verifier of this pod has to check. Open artifacts have nothing to be checked against, and are left out.
pub(super) fn plan<'a>(assessment: &Assessment<'a>) -> Plan<'a> {
    let mut plan = Plan::default();
    for weights in assessment.weights() {
        let artifact = weights.artifact;
        let Some(digest) = &artifact.digest else { continue };
        // A download is the artifact itself, from the root of the volume on.
        let mut directories = vec![String::new()];
        if let Some(key) = weights.key {
            let locations = assessment.world.locations_at(artifact, key);
            directories = locations
                .iter()
                .filter_map(|(location, own)| {
                    Some(join(&key.relative(own)?, location.path.as_deref().unwrap_or_default()))
                })
                .collect();
            directories.sort();
            directories.dedup();
            if directories.is_empty() {
                plan.partial.push(Partial {
                    volume: weights.volume,
                    artifact: &artifact.name,
                    whole: locations.first().map(|(_, own)| own.to_string()).unwrap_or_default(),
                    mounted: key.to_string(),
                    contact: &artifact.contact,
                });
                continue;
            }
        }
        let root = plan.root(weights.volume);
        for directory in directories {
            plan.args.extend(["--artifact", &artifact.name, "--digest", digest, "--root", &root].map(str::to_owned));
            if !directory.is_empty() {
                plan.args.extend(["--path".to_owned(), directory]);
            }
            match &artifact.manifest {
                Manifest::Path(path) => plan.args.extend(["--manifest".to_owned(), path.clone()]),
                Manifest::Object { shards, .. } => {
                    plan.args
                        .extend(["--manifest-dir".to_owned(), format!("{}/{}", carrier::DIRECTORY, artifact.name)]);
                    plan.carried.insert(&artifact.name, (digest, *shards));
                }
                Manifest::Inline(files) => {
                    plan.args.extend(["--manifest-inline".to_owned(), canonical_manifest(files)])
                }
            }
            if let Some(revision) = &artifact.content.revision {
                plan.args.extend(["--layout", "HuggingFaceCache", "--revision", revision].map(str::to_owned));
            }
            if !artifact.content.formats.is_empty() {
                let names: Vec<&str> = artifact.content.formats.iter().map(|format| format.name()).collect();
                plan.args.extend(["--formats".to_owned(), names.join(",")]);
            }
            if let Some(signature) = &artifact.signature {
                plan.args.extend(signature_args(&signature.declared));
            }
        }
    }
    plan
}

impl<'a> Plan<'a> {
    /// Whether there is anything to check.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    fn root(&mut self, volume: &'a str) -> String {
        if let Some((_, root)) = self.mounts.iter().find(|(name, _)| *name == volume) {
            return root.clone();
        }
        let root = format!("/weightlock/{}", self.mounts.len());
        self.mounts.push((volume, root.clone()));
        root
    }
}

fn join(outer: &str, inner: &str) -> String {
    // Declared paths are checked when they are declared; one that climbs all the same stays beneath the root.
    backend::canonical_path(&format!("{outer}/{inner}")).trim_start_matches('/').to_owned()
}

/// What the verifier is told of a signature. It derives from the artifact alone: trust comes from nowhere else.
fn signature_args(signature: &Signature) -> Vec<String> {
    let mut args = vec!["--signature".to_owned(), signature.bundle_path.clone()];
    for authority in &signature.authorities {
        args.extend(["--authority".to_owned(), authority.json()]);
    }
    let mut allowed = signature.allow.clone();
    allowed.sort();
    allowed.dedup();
    let names: Vec<&str> = allowed
        .into_iter()
        .map(|allowance| match allowance {
            SignatureAllowance::IgnorePaths => "IgnorePaths",
            SignatureAllowance::Symlinks => "Symlinks",
            SignatureAllowance::StatementV01 => "StatementV01",
        })
        .collect();
    if !names.is_empty() {
        args.extend(["--allow-signed".to_owned(), names.join(",")]);
    }
    args
}

/// The manifest as the digest covers it: no white space, files in the order of their paths' bytes, keys in order.
fn canonical_manifest(files: &[crate::api::ManifestFile]) -> String {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let quoted = |text: &str| Value::from(text).to_string();
    let listed: Vec<String> = files
        .iter()
        .map(|f| format!(r#"{{"path":{},"sha256":{},"size":{}}}"#, quoted(&f.path), quoted(&f.sha256), f.size))
        .collect();
    format!(r#"{{"files":[{}],"version":1}}"#, listed.join(","))
}

/// The container that the consumer's view is taken from: the first that uses the first planned volume.
fn consumer<'p, 'a>(pod: &'p Pod<'a>, plan: &Plan<'a>) -> Option<&'p Container<'a>> {
    let (volume, _) = plan.mounts.first()?;
    pod.containers.iter().find(|c| c.uses(volume) && !is_ours(c))
}

/// Whether a container has the name and place of one that Weightlock injects.
pub(super) fn is_ours(container: &Container<'_>) -> bool {
    container.kind.is_init() && [VERIFIER, REVERIFIER].contains(&container.name)
}

/// The volume with the manifests that are brought to the pod. All that the API server would default is written out, so
/// that it can be compared as a whole.
pub(super) fn render_volume(plan: &Plan<'_>) -> Option<Value> {
    let sources: Vec<Value> = plan
        .carried
        .iter()
        .flat_map(|(artifact, (digest, shards))| {
            (0..*shards).map(move |shard| {
                let items = json!([{"key": carrier::KEY, "path": format!("{artifact}/{shard}")}]);
                json!({"configMap": {"name": carrier::config_map(digest, shard), "items": items}})
            })
        })
        .collect();
    let projected = json!({"defaultMode": 0o444, "sources": sources});
    (!plan.carried.is_empty()).then(|| json!({"name": carrier::VOLUME, "projected": projected}))
}

/// Whether a volume may have been injected, for this pod or another: it holds nothing but shards of manifests.
pub(super) fn is_carrier(volume: &Value) -> bool {
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
    sources.is_some_and(|sources| {
        sources.iter().all(|source| {
            let name = source.pointer("/configMap/name").and_then(Value::as_str);
            name.is_some_and(|name| name.starts_with(&format!("{}-", carrier::VOLUME)))
        })
    })
}

/// The sidecar that verifies again while the pod runs: the verifier with an interval. Its requests are its limits and
/// its own, small ones, so that a Guaranteed pod stays Guaranteed and the ratios of a LimitRange hold.
pub(super) fn render_again(assessment: &Assessment<'_>, plan: &Plan<'_>, how: &Reverify) -> Object {
    let mut container = render(assessment, plan);
    let mut args = vec!["--every".to_owned(), how.every_seconds.to_string()];
    args.extend(["--max-bytes-per-second".to_owned(), how.max_bytes_per_second.to_string()]);
    args.extend(plan.args.iter().cloned());
    let amounts = json!({"cpu": how.cpu, "memory": how.memory});
    container.insert("name".into(), REVERIFIER.into());
    container.insert("args".into(), args.into());
    container.insert("restartPolicy".into(), "Always".into());
    container.insert("resources".into(), json!({"requests": amounts, "limits": amounts}));
    if assessment.world.restarts_all_containers() {
        container.insert("restartPolicyRules".into(), restart_rules());
    }
    container
}

/// The rule of the sidecar by which the kubelet ends all containers of the pod and begins anew with the verifier, whether
/// or not a controller is there to see it.
fn restart_rules() -> Value {
    json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [verdict::DRIFT]}}])
}

/// The verifier's container for a plan.
///
/// It runs as the user and group of the consumer, so that it reads what the consumer can read, and as nobody where that
/// is left to the consumer's image. It takes the consumer's CPU and memory, requests and limits alike: a Guaranteed pod
/// stays Guaranteed, limits and ratios of a LimitRange that fit the consumer fit the verifier, and since it ends before
/// the consumer starts, the pod asks for no more than it did.
pub(super) fn render(assessment: &Assessment<'_>, plan: &Plan<'_>) -> Object {
    let consumer = consumer(&assessment.pod, plan);
    let mut mounts: Vec<Value> =
        plan.mounts.iter().map(|(volume, root)| json!({"name": volume, "mountPath": root, "readOnly": true})).collect();
    if !plan.carried.is_empty() {
        mounts.push(json!({"name": carrier::VOLUME, "mountPath": carrier::DIRECTORY, "readOnly": true}));
    }
    let mut container = Object::new();
    container.insert("name".into(), VERIFIER.into());
    container.insert("image".into(), assessment.world.settings.verifier_image.as_str().into());
    container.insert("args".into(), plan.args.clone().into());
    container.insert("volumeMounts".into(), mounts.into());
    container.insert("securityContext".into(), Value::Object(security(&assessment.pod, consumer)));
    container.insert("terminationMessagePath".into(), "/dev/termination-log".into());
    container.insert("terminationMessagePolicy".into(), "File".into());
    if let Some(resources) = consumer.and_then(resources) {
        container.insert("resources".into(), resources);
    }
    container
}

fn resources(consumer: &Container<'_>) -> Option<Value> {
    let given = object(consumer.raw, "resources")?;
    let mut resources = Map::new();
    for list in ["requests", "limits"] {
        let Some(amounts) = object(given, list) else { continue };
        let kept: Object = amounts
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"))
            .map(|(name, amount)| (name.clone(), amount.clone()))
            .collect();
        if !kept.is_empty() {
            resources.insert(list.into(), kept.into());
        }
    }
    (!resources.is_empty()).then_some(Value::Object(resources))
}

/// The restricted level of Pod Security, as far as the consumer itself keeps to it.
fn security(pod: &Pod<'_>, consumer: Option<&Container<'_>>) -> Object {
    let own = consumer.and_then(Container::security);
    let setting = |field: &str| {
        let from = |context: Option<&Object>| context?.get(field).filter(|v| !v.is_null()).cloned();
        from(own).or_else(|| from(pod.security()))
    };
    let user = setting("runAsUser").unwrap_or_else(|| NOBODY.into());
    let root = user.as_i64() == Some(0);
    let mut capabilities = json!({"drop": ["ALL"]});
    // A consumer that is root reads files of any owner; dropping ALL would take that from the verifier.
    if root && !drops(own, "DAC_OVERRIDE") {
        capabilities["add"] = json!(["DAC_OVERRIDE"]);
    }
    let mut context = Object::new();
    context.insert("allowPrivilegeEscalation".into(), false.into());
    context.insert("capabilities".into(), capabilities);
    context.insert("readOnlyRootFilesystem".into(), true.into());
    context.insert("runAsNonRoot".into(), (!root).into());
    context.insert("runAsUser".into(), user);
    if let Some(group) = setting("runAsGroup") {
        context.insert("runAsGroup".into(), group);
    }
    if let Some(options) = setting("seLinuxOptions") {
        context.insert("seLinuxOptions".into(), options);
    }
    context.insert("seccompProfile".into(), json!({"type": "RuntimeDefault"}));
    context
}

/// Whether a security context drops a capability.
pub(super) fn drops(context: Option<&Object>, capability: &str) -> bool {
    context.and_then(|c| object(c, "capabilities")).is_some_and(|c| {
        strings(c, "drop").iter().any(|d| d.eq_ignore_ascii_case("ALL") || d.eq_ignore_ascii_case(capability))
    })
}

/// Whether a mount that is not the verifier's own may be beside its own: a token or credential that an admission plugin
/// or a mesh adds to every container.
pub(super) fn is_added_mount(mount: &Object, weights: impl Fn(&str) -> bool) -> bool {
    let path = backend::canonical_path(text(mount, "mountPath").unwrap_or_default());
    path.starts_with(SECRETS) && !text(mount, "name").is_none_or(weights)
}

/// Whether a variable may be in the verifier's environment.
pub(super) fn is_harmless_variable(variable: &Value) -> bool {
    let name = variable.get("name").and_then(Value::as_str).unwrap_or("LD_");
    !LOADER_VARIABLES.iter().any(|prefix| name.to_ascii_uppercase().starts_with(prefix))
}

/// In which protected fields a container differs from the rendered one. Empty: in none.
pub(super) fn differences(assessment: &Assessment<'_>, actual: &Container<'_>, expected: &Object) -> Vec<String> {
    let mut differing = Vec::new();
    for (field, value) in actual.raw {
        let same = match field.as_str() {
            free if FREE_FIELDS.contains(&free) => true,
            "volumeMounts" => same_mounts(assessment, actual, expected),
            "securityContext" => Some(&normal_security(value)) == expected.get("securityContext"),
            "env" => value.as_array().is_none_or(|variables| variables.iter().all(is_harmless_variable)),
            // Two replicas may differ for a moment in what they know of the nodes: with the rule and without it are both right.
            "restartPolicyRules" => is_empty(value) || (actual.name == REVERIFIER && *value == restart_rules()),
            "args" | "name" | "image" | "terminationMessagePath" => Some(value) == expected.get(field),
            other => expected.get(other).map_or_else(|| is_empty(value), |expected| expected == value),
        };
        if !same {
            differing.push(field.clone());
        }
    }
    for field in ["image", "args", "securityContext", "volumeMounts", "restartPolicy"] {
        if expected.contains_key(field) && !actual.raw.contains_key(field) {
            differing.push(field.to_owned());
        }
    }
    differing
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(_) => false,
    }
}

fn same_mounts(assessment: &Assessment<'_>, actual: &Container<'_>, expected: &Object) -> bool {
    let mut missing: Vec<&Value> =
        expected.get("volumeMounts").and_then(Value::as_array).into_iter().flatten().collect();
    actual.mounts.iter().all(|mount| {
        let own = Value::Object(
            mount.raw.iter().filter(|(k, v)| !is_default_of_mount(k, v)).map(|(k, v)| (k.clone(), v.clone())).collect(),
        );
        match missing.iter().position(|e| **e == own) {
            Some(index) => {
                missing.remove(index);
                true
            }
            None => is_added_mount(mount.raw, |volume| assessment.is_weights(volume)),
        }
    }) && missing.is_empty()
}

fn is_default_of_mount(field: &str, value: &Value) -> bool {
    match field {
        "mountPropagation" => value == "None" || value.is_null(),
        "recursiveReadOnly" => value == "Disabled" || value.is_null(),
        "subPath" | "subPathExpr" => is_empty(value),
        _ => false,
    }
}

fn normal_security(value: &Value) -> Value {
    let Some(fields) = value.as_object() else { return value.clone() };
    let kept = fields.iter().filter(|(field, value)| match field.as_str() {
        "privileged" => *value != &Value::Bool(false) && !value.is_null(),
        "procMount" => *value != "Default" && !value.is_null(),
        _ => !value.is_null(),
    });
    Value::Object(kept.map(|(k, v)| (k.clone(), v.clone())).collect())
}
