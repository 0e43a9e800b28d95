//! Which pods hold which weights.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    World,
    backend::{self, BackendKey},
    lookup::ClaimStorage,
    packed::PackedPod,
    world::ClaimName,
};

/// Annotations of pods that begin with this say which artifact the volume named after it receives by download.
pub const DOWNLOAD: &str = "weights.weightlock.dev/";
/// Volumes that hold neither weights nor anything else from outside the pod's own declaration.
const WITHOUT_WEIGHTS: [&str; 6] = ["configMap", "secret", "projected", "downwardAPI", "emptyDir", "image"];

/// What a pod holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Names of the artifacts that its volumes are.
    pub artifacts: BTreeSet<String>,
    /// Volumes of which it cannot be told what they are, with the reason. They may be weights.
    pub undecided: Vec<String>,
}

impl Holdings {
    /// Whether the pod holds no weights for certain.
    pub fn none(&self) -> bool {
        self.artifacts.is_empty() && self.undecided.is_empty()
    }
}

/// A volume of a pod that may be weights, as far as the pod itself tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A claim in the namespace of the pod.
    Claim(Box<str>),
    /// An emptyDir that receives an artifact, as the author of the pod says, with its service account.
    Download(Box<(String, String)>),
    /// Storage that the pod names itself.
    Key(BackendKey),
    /// It cannot be told what it is, and why.
    Unknown(Box<str>),
}

/// What of the volumes of a pod may be weights. Every volume counts, mounted or not.
pub(super) fn sources(pod: &Value) -> Box<[Source]> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    volumes.into_iter().flatten().filter_map(|volume| source(pod, volume)).collect()
}

fn source(pod: &Value, volume: &Value) -> Option<Source> {
    let claim = volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str).map(String::from).or_else(
        // A generic ephemeral volume has a claim named after pod and volume.
        || volume.get("ephemeral").map(|_| format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"))),
    );
    match claim {
        Some(name) => Some(Source::Claim(name.into())),
        None if volume.get("emptyDir").is_some() => download(pod, volume),
        None if WITHOUT_WEIGHTS.iter().any(|source| volume.get(source).is_some()) => None,
        None => Some(match backend::of_volume_source(volume) {
            Ok(key) => Source::Key(key),
            Err(reason) => Source::Unknown(format!("volume {:?}: {reason}", text(volume, "/name")).into()),
        }),
    }
}

fn download(pod: &Value, volume: &Value) -> Option<Source> {
    let key = format!("{DOWNLOAD}{}", text(volume, "/name"));
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let name = annotations.and_then(|annotations| annotations.get(&key)).and_then(Value::as_str)?;
    Some(Source::Download(Box::new((name.into(), service_account(pod).into()))))
}

/// The images of a pod, each once: those that it names, and those that its node says its containers run.
pub(super) fn images(pod: &Value) -> Box<[Box<str>]> {
    let named = ["containers", "initContainers", "ephemeralContainers"].map(|list| (format!("/spec/{list}"), "/image"));
    let run = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
        .map(|list| (format!("/status/{list}"), "/imageID"));
    let volumes = [("/spec/volumes".to_owned(), "/image/reference")];
    let images = named.into_iter().chain(run).chain(volumes).flat_map(|(list, field)| {
        let items = pod.pointer(&list).and_then(Value::as_array).into_iter().flatten();
        items.map(move |item| text(item, field)).filter(|image| !image.is_empty())
    });
    images.collect::<BTreeSet<&str>>().into_iter().map(Into::into).collect()
}

/// What a pod of a namespace holds.
pub fn holdings(world: &World, namespace: &str, pod: &PackedPod) -> Holdings {
    let mut holdings = Holdings::default();
    for source in pod.sources() {
        match source {
            Source::Claim(name) => {
                let name = ClaimName::new(namespace, &**name);
                add_claim(world, name, &mut holdings);
            }
            Source::Download(download) => {
                let (artifact, account) = &**download;
                add_download(world, namespace, account, artifact, &mut holdings);
            }
            Source::Key(key) => add_key(world, key, &mut holdings),
            Source::Unknown(reason) => holdings.undecided.push(String::from(&**reason)),
        }
    }
    if world.registers_images() {
        let images = pod.images().filter_map(|image| world.artifacts_of_image(image));
        holdings.artifacts.extend(images.flat_map(|(_, found)| found).map(|artifact| artifact.name.clone()));
    }
    holdings
}

/// An emptyDir that receives weights. The annotation is a claim of the pod's author: it counts where it would be admitted,
/// so that nobody holds up the deletion of an artifact that he may not have.
fn add_download(world: &World, namespace: &str, account: &str, artifact: &str, holdings: &mut Holdings) {
    let Some(artifact) = world.artifacts.get(artifact) else { return };
    if world.refusal(artifact, namespace, Some(account)).is_none() {
        holdings.artifacts.insert(artifact.name.clone());
    }
}

fn add_claim(world: &World, name: ClaimName, holdings: &mut Holdings) {
    match world.storage_of_claim(&name) {
        ClaimStorage::Volume { key: Ok(key), .. } => add_key(world, key, holdings),
        ClaimStorage::Volume { key: Err(reason), .. } => {
            holdings.undecided.push(format!("claim {:?}: {reason}", name.name));
        }
        // There is no storage behind it, so no bytes; the pod does not start before there is.
        ClaimStorage::Absent | ClaimStorage::Unbound => {}
    }
    holdings.artifacts.extend(world.artifacts_behind(&name).into_iter().map(|artifact| artifact.name.clone()));
}

fn add_key(world: &World, key: &BackendKey, holdings: &mut Holdings) {
    holdings.artifacts.extend(world.artifacts_at(key).into_iter().map(|artifact| artifact.name.clone()));
    if let Some(reason) = world.unreadable() {
        holdings.undecided.push(reason);
    }
}

/// Whether a pod has ended, so that it holds nothing any more.
pub fn ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether no container of a pod runs any more: its phase says so, and no container's status says otherwise. A phase can
/// be written before the containers have stopped.
pub fn stopped(pod: &Value) -> bool {
    let runs = |field: &str| {
        let statuses = pod.pointer(field).and_then(Value::as_array);
        statuses.into_iter().flatten().any(|status| status.pointer("/state/running").is_some())
    };
    ended(pod) && !runs("/status/containerStatuses") && !runs("/status/initContainerStatuses")
}

/// The service account that a pod of a cluster runs as.
pub fn service_account(pod: &Value) -> &str {
    match text(pod, "/spec/serviceAccountName") {
        "" => "default",
        named => named,
    }
}

/// A text within an object; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::world::{Artifact, ArtifactLocation, Claim, LocationSource, Manifest, Volume};

    const DIGEST: &str = "sha256:5c1e";

    fn world() -> World {
        let claim = ClaimName::new("serving", "orion");
        let key = BackendKey::csi("ebs.csi.aws.com", "vol-1");
        let artifact = Artifact {
            name: "orion-70b".into(),
            digest: Some(DIGEST.into()),
            manifest: Manifest::Path("m.json".into()),
            content: Default::default(),
            signature: None,
            locations: vec![ArtifactLocation {
                name: "serving".into(),
                source: LocationSource::Key(key.clone()),
                pinned: None,
                aliases: vec![],
                path: None,
            }],
            permitted: BTreeSet::new(),
            producers: vec![],
            frozen: false,
            effort: None,
            contact: String::new(),
        };
        let mut world = World::default();
        world.artifacts.insert(artifact.name.clone(), artifact);
        world.volumes.insert("pv".into(), Volume { key: Ok(key), claim: Some(claim.clone()) });
        world.claims.insert(claim, Claim { volume: Some("pv".into()), bound: true, ..Claim::default() });
        world
    }

    /// What a pod of namespace `serving` holds.
    fn held(world: &World, pod: &Value) -> Holdings {
        holdings(world, "serving", &PackedPod::new(pod.clone()))
    }

    fn pod(volume: Value) -> Value {
        json!({"metadata": {"namespace": "serving", "name": "llm-0"}, "spec": {"volumes": [volume]}})
    }

    #[test]
    fn weights_are_found_behind_claims_and_inline_volumes() {
        for volume in [
            json!({"name": "w", "persistentVolumeClaim": {"claimName": "orion"}}),
            json!({"name": "w", "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"}}),
        ] {
            let holdings = held(&world(), &pod(volume.clone()));
            assert_eq!(holdings.artifacts, BTreeSet::from(["orion-70b".to_string()]), "{volume}");
        }
    }

    #[test]
    fn a_volume_of_unknown_type_may_be_weights() {
        let holdings = held(&world(), &pod(json!({"name": "w", "quantumDisk": {}})));
        assert!(holdings.undecided[0].starts_with("volume \"w\": "), "{holdings:?}");
        assert!(!holdings.none());
    }

    #[test]
    fn configuration_and_scratch_space_are_no_weights() {
        for volume in [json!({"name": "a", "configMap": {}}), json!({"name": "a", "emptyDir": {}})] {
            assert!(held(&world(), &pod(volume)).none());
        }
    }

    #[test]
    fn an_image_counts_as_it_is_named_and_as_it_runs() {
        let mut world = world();
        let pod = |image: &str, id: &str| {
            let mut pod = pod(json!({"name": "a", "emptyDir": {}}));
            pod["spec"]["containers"] = json!([{"name": "c", "image": image}]);
            pod["status"]["containerStatuses"] = json!([{"name": "c", "imageID": id}]);
            pod
        };
        let weights =
            [pod("models/orion:v3", ""), pod("mirror/x:1", "r.example.com/x@sha256:1"), pod("mirror/x:1", "sha256:1")];
        assert!(weights.iter().all(|pod| held(&world, pod).none()));
        let location = &mut world.artifacts.get_mut("orion-70b").unwrap().locations[0];
        location.aliases = vec![BackendKey::image("sha256:1"), BackendKey::repository("models/orion")];
        for pod in weights {
            assert_eq!(held(&world, &pod).artifacts, BTreeSet::from(["orion-70b".to_string()]), "{pod}");
        }
        assert!(held(&world, &pod("mirror/x:1", "r.example.com/x@sha256:2")).none());
    }

    #[test]
    fn a_download_counts_where_it_is_permitted() {
        let mut world = world();
        let declared = |artifact: &str| {
            let mut pod = pod(json!({"name": "w", "emptyDir": {}}));
            pod["metadata"]["annotations"] = json!({format!("{DOWNLOAD}w"): artifact});
            pod["spec"]["serviceAccountName"] = json!("vllm");
            pod
        };
        // Who may not have the weights does not hold them by saying so.
        assert!(held(&world, &declared("orion-70b")).none());
        let environment = crate::domain::admission::test_environment("inference", "serving", "vllm");
        world.namespaces.insert("serving".into(), "uid-serving".into());
        world.artifacts.get_mut("orion-70b").unwrap().permitted.insert("inference".into());
        world.environments.insert("inference".into(), environment);
        assert_eq!(held(&world, &declared("orion-70b")).artifacts, BTreeSet::from(["orion-70b".to_string()]));
        assert!(held(&world, &declared("other")).none());
    }
}
