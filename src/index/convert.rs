//! Kubernetes objects as the rules see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{duration, quantity};
use crate::api::{
    CsiLocation, HostPathLocation, ImageLocation, Layout, MAX_MANIFEST_SHARDS, Mode, Modes, NfsLocation,
    WeightArtifact, WeightEnvironment, WeightIncident, Writes,
};
use crate::domain::PackedPod;
use crate::domain::access::Grant;
use crate::domain::backend::{self, BackendKey};
use crate::domain::world::{
    Artifact, ArtifactLocation, Claim, ClaimName, ContentRules, DataSource, Effort, Environment, EnvironmentMember,
    IncidentSubject, LocationSource, Manifest, Producer, Reverify, Signature, SnapshotContent, SnapshotName, Volume,
};
use crate::verifier::oms::authority as verifier;

/// The feature of a kubelet that ends all containers of a pod where a rule of one of them says so.
const RESTART_ALL_CONTAINERS: &str = "RestartAllContainersOnContainerExits";

/// Roles, ClusterRoles or their bindings.
pub fn grants<'a>(objects: impl IntoIterator<Item = &'a DynamicObject>) -> Vec<Grant<'a>> {
    let grants = objects.into_iter().map(|object| Grant {
        namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
        name: object.metadata.name.as_deref().unwrap_or_default(),
        content: &object.data,
    });
    grants.collect()
}

/// A WeightArtifact.
///
/// # Errors
/// Where the object does not have the shape of its type, or names storage that has no canonical key.
pub fn artifact(object: &DynamicObject) -> Result<Artifact, String> {
    let parsed: WeightArtifact = typed(object)?;
    let spec = parsed.spec;
    let known = parsed.status.as_ref().and_then(|s| Some((s.size_bytes?, s.estimated_verification_seconds?)));
    let pinned = parsed.status.map(|s| s.locations).unwrap_or_default();
    let manifest = match spec.manifest {
        Some(m) => match (m.path, m.inline, m.object) {
            (Some(path), None, None) => Manifest::Path(path),
            (None, Some(files), None) => Manifest::Inline(files),
            (None, None, Some(object)) => Manifest::Object {
                shards: u32::try_from(object.shards)
                    .ok()
                    .filter(|shards| (1..=MAX_MANIFEST_SHARDS).contains(shards))
                    .ok_or_else(|| {
                    format!("spec.manifest.object.shards is {}: it is 1 to {MAX_MANIFEST_SHARDS}", object.shards)
                })?,
                name: object.name,
            },
            _ => return Err("spec.manifest takes exactly one of: path, inline, object".into()),
        },
        None if spec.manifest_digest.is_some() => return Err("spec.manifest is required with manifestDigest".into()),
        None => Manifest::Inline(Vec::new()),
    };
    let content = ContentRules { revision: spec.revision, formats: spec.formats };
    if content.revision.is_some() != (spec.layout == Layout::HuggingFaceCache) {
        return Err("spec.revision is required with spec.layout: HuggingFaceCache, and only there".into());
    }
    let locations = spec
        .locations
        .into_iter()
        .map(|location| {
            let several = |what: String, kinds: &str| format!("{what} takes exactly one of: {kinds}");
            let found = keys(location.csi, location.nfs, location.host_path, location.image)?;
            let (source, mut aliases) = match (location.persistent_volume_claim, found) {
                (Some(claim), Keys::None) => {
                    (LocationSource::Claim(ClaimName::new(claim.namespace, claim.name)), Vec::new())
                }
                (None, Keys::Of(key, others)) => (LocationSource::Key(key), others),
                _ => {
                    let what = format!("spec.locations[{}]", location.name);
                    return Err(several(what, "persistentVolumeClaim, csi, nfs, hostPath, image"));
                }
            };
            let pinned =
                pinned.iter().find(|p| p.name == location.name).and_then(|p| p.backend_key.clone()).map(BackendKey);
            for alias in location.aliases {
                let Keys::Of(key, others) = keys(alias.csi, alias.nfs, alias.host_path, alias.image)? else {
                    let what = format!("an alias of spec.locations[{}]", location.name);
                    return Err(several(what, "csi, nfs, hostPath, image"));
                };
                aliases.extend([key].into_iter().chain(others));
            }
            Ok(ArtifactLocation { name: location.name, source, pinned, aliases, path: location.path })
        })
        .collect::<Result<_, _>>()?;
    let effort = match (known, &manifest) {
        (Some((bytes, seconds)), _) => {
            Some(Effort { bytes: u64::try_from(bytes).unwrap_or(0), seconds: u64::try_from(seconds).unwrap_or(0) })
        }
        // No controller has looked at it yet.
        (None, Manifest::Inline(files)) if !files.is_empty() => {
            let bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(u64::try_from(file.size).unwrap_or(0)));
            Some(Effort::at(bytes, Effort::ASSUMED_RATE))
        }
        _ => None,
    };
    Ok(Artifact {
        name: name_of(object),
        digest: spec.manifest_digest,
        manifest,
        content,
        signature: spec.signature.map(signature),
        locations,
        permitted: spec.permitted_environments.into_iter().map(|p| p.name).collect(),
        producers: spec
            .producers
            .into_iter()
            .map(|p| Producer {
                environment: p.environment,
                service_accounts: p.service_accounts.into_iter().collect(),
            })
            .collect(),
        frozen: spec.writes == Writes::Frozen,
        effort,
        contact: spec.contact,
    })
}

/// The keys of what a declaration names.
enum Keys {
    None,
    /// The first, and others of the same storage.
    Of(BackendKey, Vec<BackendKey>),
    Several,
}

fn keys(
    csi: Option<CsiLocation>,
    nfs: Option<NfsLocation>,
    host: Option<HostPathLocation>,
    image: Option<ImageLocation>,
) -> Result<Keys, String> {
    Ok(match (csi, nfs, host, image) {
        (None, None, None, None) => Keys::None,
        (Some(csi), None, None, None) => Keys::Of(csi_key(&csi)?, Vec::new()),
        (None, Some(nfs), None, None) => Keys::Of(BackendKey::nfs(&nfs.server, &nfs.path), Vec::new()),
        (None, None, Some(host), None) => Keys::Of(BackendKey::host(&host.path), Vec::new()),
        (None, None, None, Some(image)) => Keys::Of(
            BackendKey::image(&image.digest),
            image.repositories.iter().map(|name| BackendKey::repository(name)).collect(),
        ),
        _ => Keys::Several,
    })
}

/// The key of a declared CSI volume. It has no attributes, so drivers that go by them have none.
fn csi_key(csi: &CsiLocation) -> Result<BackendKey, String> {
    backend::of_volume_source(&json!({"csi": {"driver": csi.driver, "volumeHandle": csi.volume_handle}}))
}

/// A signature, each of its authorities read as the verifier will read it.
fn signature(declared: crate::api::Signature) -> Signature {
    let problem = |authority: &crate::api::Authority| {
        let error = verifier::Authority::parse(&authority.json()).err()?;
        Some(format!("spec.signature.authorities[{}] {error}", authority.name))
    };
    let problems = declared.authorities.iter().filter_map(problem).collect();
    Signature { declared, problems }
}

/// A WeightEnvironment.
///
/// # Errors
/// Where the object does not have the shape of its type; [`environment_in_doubt`] then still tells its members.
pub fn environment(object: &DynamicObject) -> Result<Environment, String> {
    let parsed: WeightEnvironment = typed(object)?;
    let spec = parsed.spec;
    let pinned = parsed.status.map(|s| s.members).unwrap_or_default();
    let members = spec
        .members
        .into_iter()
        .map(|member| {
            let found = pinned.iter().find(|p| p.namespace == member.namespace);
            let uid = member.uid.or_else(|| found?.uid.clone());
            // What was found of a namespace of this name that is gone says nothing of the one that was confirmed since.
            let since =
                found.filter(|found| found.uid == uid).and_then(|found| found.pod_status_protected_since.as_ref());
            EnvironmentMember {
                pod_status_protected_since: since.map(|since| since.0.to_string()),
                uid,
                namespace: member.namespace,
                service_accounts: member.service_accounts.into_iter().collect(),
            }
        })
        .collect();
    let mut egress_rate = None;
    if let Some(limits) = spec.egress_limits {
        for (field, limit) in [("initiated", limits.initiated), ("replies", limits.replies)] {
            let Some(limit) = limit else { continue };
            let rate = quantity::parse(&limit.rate).map_err(|e| format!("spec.egressLimits.{field}.rate: {e}"))?;
            egress_rate = Some(egress_rate.unwrap_or(0u64).saturating_add(rate));
        }
    }
    let reverify = match spec.verification {
        None => None,
        Some(again) => Some(Reverify {
            every_seconds: duration::seconds(&again.reverify_interval)
                .map_err(|e| format!("spec.verification.reverifyInterval: {e}"))?,
            max_bytes_per_second: quantity::parse(&again.max_bytes_per_second)
                .map_err(|e| format!("spec.verification.maxBytesPerSecond: {e}"))?,
            cpu: again.resources.cpu,
            memory: again.resources.memory,
        }),
    };
    Ok(Environment {
        name: name_of(object),
        created: created(object),
        members,
        modes: spec.modes,
        volumes: spec.workloads.volumes,
        trusted_init: spec.workloads.trusted_init,
        reverify,
        downloaders: spec.delivery.map(|delivery| delivery.download.images).unwrap_or_default(),
        network: spec.network,
        egress_rate,
        deleting: object.metadata.deletion_timestamp.is_some(),
    })
}

/// What can be told of a WeightEnvironment that could not be read: its members, so that they stay members, and for all
/// else the strictest.
pub fn environment_in_doubt(object: &DynamicObject) -> Environment {
    let pinned = array(&object.data, "/status/members");
    let members = array(&object.data, "/spec/members")
        .iter()
        .filter_map(|member| {
            let namespace = text(member, "/namespace")?;
            let pin = pinned.iter().find(|p| text(p, "/namespace").as_deref() == Some(&namespace));
            Some(EnvironmentMember {
                uid: text(member, "/uid").or_else(|| pin.and_then(|p| text(p, "/uid"))),
                namespace,
                service_accounts: BTreeSet::new(),
                pod_status_protected_since: None,
            })
        })
        .collect();
    Environment {
        name: name_of(object),
        created: created(object),
        members,
        modes: Modes {
            admission: Mode::Enforce,
            network: Mode::Enforce,
            verification: Mode::Enforce,
            egress: Mode::Enforce,
        },
        volumes: Default::default(),
        trusted_init: Vec::new(),
        reverify: None,
        downloaders: vec![],
        network: Default::default(),
        egress_rate: None,
        deleting: object.metadata.deletion_timestamp.is_some(),
    }
}

/// What a WeightIncident concerns.
///
/// # Errors
/// Where the object does not have the shape of its type.
pub fn incident(object: &DynamicObject) -> Result<IncidentSubject, String> {
    let spec = typed::<WeightIncident>(object)?.spec;
    Ok(IncidentSubject {
        artifact: spec.artifact,
        digest: spec.manifest_digest,
        keys: spec.backend_keys.into_iter().map(BackendKey).collect(),
        found: spec.message.lines().take(2).collect::<Vec<_>>().join(" "),
    })
}

/// A PersistentVolumeClaim.
pub fn claim(object: &DynamicObject) -> (ClaimName, Claim) {
    let name = ClaimName::new(namespace_of(object), name_of(object));
    let data = &object.data;
    // dataSourceRef holds whatever dataSource holds and more, so it is looked at first.
    let data_source = ["/spec/dataSourceRef", "/spec/dataSource"].iter().find_map(|pointer| {
        let source = data.pointer(pointer)?;
        Some(Box::new(DataSource {
            kind: text(source, "/kind").unwrap_or_default(),
            namespace: text(source, "/namespace").unwrap_or_else(|| name.namespace.to_string()),
            name: text(source, "/name").unwrap_or_default(),
        }))
    });
    let claim = Claim {
        volume: text(data, "/spec/volumeName"),
        bound: text(data, "/status/phase").as_deref() == Some("Bound"),
        data_source,
        controller: object
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true))
            .map(|o| o.uid.clone()),
        deleting: object.metadata.deletion_timestamp.is_some(),
    };
    (name, claim)
}

/// A PersistentVolume.
pub fn volume(object: &DynamicObject) -> (String, Volume) {
    let spec = object.data.get("spec").unwrap_or(&Value::Null);
    let claim = spec
        .get("claimRef")
        .and_then(|reference| Some(ClaimName::new(text(reference, "/namespace")?, text(reference, "/name")?)));
    (name_of(object), Volume { key: backend::of_volume_source(spec), claim })
}

/// A VolumeSnapshotContent.
pub fn snapshot(object: &DynamicObject) -> (String, SnapshotContent) {
    let data = &object.data;
    let snapshot = SnapshotName {
        namespace: text(data, "/spec/volumeSnapshotRef/namespace").unwrap_or_default(),
        name: text(data, "/spec/volumeSnapshotRef/name").unwrap_or_default(),
    };
    let driver = text(data, "/spec/driver").unwrap_or_default();
    let key = |pointer: &str| Some(BackendKey::csi(&driver, &text(data, pointer)?));
    let handles = ["/spec/source/snapshotHandle", "/status/snapshotHandle"].into_iter().filter_map(key).collect();
    (name_of(object), SnapshotContent { snapshot, volume: key("/spec/source/volumeHandle"), handles })
}

/// Whether the kubelet of a node declares that it restarts all containers of a pod where a rule of one says so. Only
/// clusters whose scheduler looks at such declarations have them.
pub fn restarts_all_containers(node: &DynamicObject) -> bool {
    array(&node.data, "/status/declaredFeatures").iter().any(|feature| feature == RESTART_ALL_CONTAINERS)
}

/// A pod as the world keeps it, by namespace and name.
pub fn pod(object: DynamicObject) -> ((String, String), Arc<PackedPod>) {
    let key = (namespace_of(&object), name_of(&object));
    (key, Arc::new(PackedPod::new(pod_object(object))))
}

/// A pod as raw JSON, without what no rule reads and what changes often.
pub fn pod_object(mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    object.metadata.resource_version = None;
    if let Some(annotations) = object.metadata.annotations.as_mut() {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let mut value = object.data;
    if !value.is_object() {
        value = Value::Object(Default::default());
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), "v1".into());
        map.insert("kind".into(), "Pod".into());
        // Serialising metadata that was just parsed cannot fail; were it to, a pod without metadata is a malformed one.
        map.insert("metadata".into(), serde_json::to_value(&object.metadata).unwrap_or_default());
    }
    value
}

/// Name of an object; empty where it has none.
pub fn name_of(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

/// Namespace of an object; `default` where it has none, as kubectl would have it.
pub fn namespace_of(object: &DynamicObject) -> String {
    object.metadata.namespace.clone().unwrap_or_else(|| "default".into())
}

fn created(object: &DynamicObject) -> String {
    object.metadata.creation_timestamp.as_ref().map(|t| t.0.to_string()).unwrap_or_default()
}

fn typed<K: serde::de::DeserializeOwned>(object: &DynamicObject) -> Result<K, String> {
    let value = serde_json::to_value(object).map_err(|e| e.to_string())?;
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned)
}

fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
