//! Which pods hold which weights, and what their verifiers said.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    World, backend,
    lookup::ClaimStorage,
    world::{ClaimName, LocationSource},
};

/// Name of the init container that verifies weights.
pub const VERIFIER: &str = "weightlock-verify";
/// Name of the sidecar that verifies them again while the pod runs.
pub const REVERIFIER: &str = "weightlock-reverify";
/// Exit code of the sidecar where weights are no longer what they were when they were verified.
pub const DRIFT: i64 = 25;
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

/// What the volumes of a pod are. Every volume counts, mounted or not.
pub fn holdings(world: &World, pod: &Value) -> Holdings {
    let mut holdings = Holdings::default();
    let namespace = text(pod, "/metadata/namespace");
    for volume in pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten() {
        let claim =
            volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str).map(String::from).or_else(
                // A generic ephemeral volume has a claim named after pod and volume.
                || {
                    volume
                        .get("ephemeral")
                        .map(|_| format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")))
                },
            );
        match claim {
            Some(name) => add_claim(world, ClaimName { namespace: namespace.into(), name }, &mut holdings),
            None if volume.get("emptyDir").is_some() => add_download(world, pod, volume, &mut holdings),
            None if WITHOUT_WEIGHTS.iter().any(|source| volume.get(source).is_some()) => {}
            None => match backend::of_volume_source(volume) {
                Ok(key) => add_key(world, &key, &mut holdings),
                Err(reason) => holdings.undecided.push(format!("volume {:?}: {reason}", text(volume, "/name"))),
            },
        }
    }
    holdings
}

/// An emptyDir that receives weights. The annotation is a claim of the pod's author: it counts where it would be admitted,
/// so that nobody holds up the deletion of an artifact that he may not have.
fn add_download(world: &World, pod: &Value, volume: &Value, holdings: &mut Holdings) {
    let key = format!("{DOWNLOAD}{}", text(volume, "/name"));
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let name = annotations.and_then(|annotations| annotations.get(&key)).and_then(Value::as_str);
    let Some(artifact) = name.and_then(|name| world.artifacts.get(name)) else { return };
    let account = match text(pod, "/spec/serviceAccountName") {
        "" => "default",
        named => named,
    };
    if world.refusal(artifact, text(pod, "/metadata/namespace"), Some(account)).is_none() {
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
    let source = LocationSource::Claim(name);
    let declared = world.artifacts.values().filter(|a| a.locations.iter().any(|location| location.source == source));
    holdings.artifacts.extend(declared.map(|artifact| artifact.name.clone()));
}

fn add_key(world: &World, key: &backend::BackendKey, holdings: &mut Holdings) {
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

/// How a verifier ended, as the kubelet reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It exited with 0.
    pub succeeded: bool,
    /// Exit code.
    pub exit_code: i64,
    /// Its termination message.
    pub message: String,
    /// Size of the artifact and of all that was verified with it, in bytes, where it succeeded.
    pub bytes: Option<(u64, u64)>,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended, RFC 3339; with the pod's UID it tells one run from another.
    pub finished: String,
}

/// How the verifier of a pod last ended for an artifact with this digest. `None`: it has not ended, or it is not the
/// verifier that Weightlock injects for these very bytes.
pub fn verdict(world: &World, pod: &Value, artifact: &str, digest: &str) -> Option<Verdict> {
    let verifier = init_container(pod, VERIFIER)?;
    if text(verifier, "/image") != world.settings.verifier_image || !checks(verifier, artifact, digest) {
        return None;
    }
    let (exit_code, ended) = ends(pod, VERIFIER).next()?;
    of_end(exit_code, ended, artifact)
}

/// How the sidecar of a pod ended that found an artifact with this digest changed, if it did. Whether the sidecar is the
/// one that Weightlock injects is for [`super::admission::reverifies`] to say.
pub fn drift(pod: &Value, artifact: &str, digest: &str) -> Option<Verdict> {
    if !checks(init_container(pod, REVERIFIER)?, artifact, digest) {
        return None;
    }
    let (exit_code, ended) = ends(pod, REVERIFIER).find(|(exit_code, _)| *exit_code == DRIFT)?;
    of_end(exit_code, ended, artifact)
}

fn init_container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let containers = pod.pointer("/spec/initContainers").and_then(Value::as_array)?;
    containers.iter().find(|container| text(container, "/name") == name)
}

/// The ends of an init container that its node reports, the last one first.
fn ends<'a>(pod: &'a Value, name: &'a str) -> impl Iterator<Item = (i64, &'a Value)> {
    let statuses = pod.pointer("/status/initContainerStatuses").and_then(Value::as_array);
    let status = statuses.into_iter().flatten().find(move |status| text(status, "/name") == name);
    ["/state/terminated", "/lastState/terminated"]
        .into_iter()
        .filter_map(move |pointer| status?.pointer(pointer))
        .filter_map(|ended| Some((ended.get("exitCode").and_then(Value::as_i64)?, ended)))
}

fn of_end(exit_code: i64, ended: &Value, artifact: &str) -> Option<Verdict> {
    let message = text(ended, "/message").trim();
    // One verifier checks all weights of the pod. What it says of others says nothing of this artifact.
    if exit_code != 0 && message.contains("WeightArtifact ") && !message.contains(&format!("{artifact:?}")) {
        return None;
    }
    Some(Verdict {
        succeeded: exit_code == 0,
        exit_code,
        bytes: verified_bytes(message, artifact),
        message: message.into(),
        started: text(ended, "/startedAt").into(),
        finished: text(ended, "/finishedAt").into(),
    })
}

/// What a verifier that succeeded says it read: of one artifact, and in all.
fn verified_bytes(message: &str, artifact: &str) -> Option<(u64, u64)> {
    let sizes = message.lines().filter_map(|line| {
        let line = line.strip_prefix("Verified: WeightArtifact ")?;
        let size = line.split(" bytes").next()?.rsplit(' ').next()?.parse::<u64>().ok()?;
        Some((line.starts_with(&format!("{artifact:?} ")), size))
    });
    let sizes: Vec<(bool, u64)> = sizes.collect();
    let own = sizes.iter().find(|(own, _)| *own)?.1;
    Some((own, sizes.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size))))
}

/// Whether the arguments of a verifier have a group `--artifact NAME --digest DIGEST`.
fn checks(verifier: &Value, artifact: &str, digest: &str) -> bool {
    let args: Vec<&str> =
        verifier.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    args.windows(4).any(|group| group == ["--artifact", artifact, "--digest", digest])
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{
        BackendKey,
        world::{Artifact, ArtifactLocation, Claim, Manifest, Volume},
    };

    const DIGEST: &str = "sha256:5c1e";

    fn world() -> World {
        let claim = ClaimName { namespace: "serving".into(), name: "orion".into() };
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
        world
            .claims
            .insert(claim, Claim { uid: "c".into(), volume: Some("pv".into()), bound: true, data_source: None });
        world
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
            let holdings = holdings(&world(), &pod(volume.clone()));
            assert_eq!(holdings.artifacts, BTreeSet::from(["orion-70b".to_string()]), "{volume}");
        }
    }

    #[test]
    fn a_volume_of_unknown_type_may_be_weights() {
        let holdings = holdings(&world(), &pod(json!({"name": "w", "quantumDisk": {}})));
        assert!(holdings.undecided[0].starts_with("volume \"w\": "), "{holdings:?}");
        assert!(!holdings.none());
    }

    #[test]
    fn configuration_and_scratch_space_are_no_weights() {
        for volume in [json!({"name": "a", "configMap": {}}), json!({"name": "a", "emptyDir": {}})] {
            assert!(holdings(&world(), &pod(volume)).none());
        }
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
        assert!(holdings(&world, &declared("orion-70b")).none());
        let environment = crate::domain::admission::test_environment("inference", "serving", "vllm");
        world.namespaces.insert("serving".into(), "uid-serving".into());
        world.artifacts.get_mut("orion-70b").unwrap().permitted.insert("inference".into());
        world.environments.insert("inference".into(), environment);
        assert_eq!(holdings(&world, &declared("orion-70b")).artifacts, BTreeSet::from(["orion-70b".to_string()]));
        assert!(holdings(&world, &declared("other")).none());
    }

    fn verified(image: &str, digest: &str, state: Value) -> Value {
        json!({
            "spec": {"initContainers": [{"name": VERIFIER, "image": image,
                "args": ["--artifact", "orion-70b", "--digest", digest, "--root", "/weightlock/0"]}]},
            "status": {"initContainerStatuses": [{"name": VERIFIER, "state": state}]},
        })
    }

    #[test]
    fn a_verdict_counts_for_our_verifier_and_this_digest_only() {
        let (world, image) = (world(), World::default().settings.verifier_image);
        let ended = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:00Z", "message": "ok\n"}});
        let verdict = |pod: Value| verdict(&world, &pod, "orion-70b", DIGEST);
        let good = verdict(verified(&image, DIGEST, ended.clone())).unwrap();
        assert_eq!((good.succeeded, good.message.as_str()), (true, "ok"));
        assert_eq!(verdict(verified("busybox", DIGEST, ended.clone())), None);
        assert_eq!(verdict(verified(&image, "sha256:0000", ended)), None);
        assert_eq!(verdict(verified(&image, DIGEST, json!({"running": {}}))), None);
    }

    #[test]
    fn a_success_says_how_much_was_read() {
        let message = "Verified: WeightArtifact \"orion-70b\" sha256:5c1e: 3 files, 3221225472 bytes (3.0 GiB)\n\
                       Verified: WeightArtifact \"lora\" sha256:00: 1 file, 28 bytes (28 B)\nTook 2.0s (1.5 GiB/s)\n";
        assert_eq!(verified_bytes(message, "orion-70b"), Some((3_221_225_472, 3_221_225_500)));
        assert_eq!(verified_bytes(message, "lora").map(|bytes| bytes.0), Some(28));
        assert_eq!(verified_bytes(message, "orion"), None);
        assert_eq!(verified_bytes("Verified: WeightArtifact \"a\" x: 3 files, 3.0 GiB", "a"), None);
    }

    #[test]
    fn a_failure_of_other_weights_in_the_pod_is_not_this_artifacts() {
        let (world, image) = (world(), World::default().settings.verifier_image);
        let failed = |name: &str| {
            let message = format!("Refused (exit code 20): 1 finding in WeightArtifact {name:?}");
            verdict(
                &world,
                &verified(&image, DIGEST, json!({"terminated": {"exitCode": 20, "message": message}})),
                "orion-70b",
                DIGEST,
            )
        };
        assert_eq!(failed("lora"), None);
        assert_eq!(failed("orion-70b").map(|verdict| verdict.succeeded), Some(false));
    }

    #[test]
    fn drift_is_what_the_sidecar_ended_with_now_or_before() {
        let mut pod = verified("r/verify", DIGEST, json!({"running": {}}));
        pod["spec"]["initContainers"][0]["name"] = json!(REVERIFIER);
        pod["status"]["initContainerStatuses"][0]["name"] = json!(REVERIFIER);
        assert_eq!(drift(&pod, "orion-70b", DIGEST), None);
        pod["status"]["initContainerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 25, "message": "Drifted (exit code 25): 1 finding in WeightArtifact \"orion-70b\""}});
        assert_eq!(drift(&pod, "orion-70b", DIGEST).map(|drift| drift.exit_code), Some(25));
        assert_eq!(drift(&pod, "orion-70b", "sha256:0000"), None);
        assert_eq!(drift(&pod, "lora", DIGEST), None);
        pod["status"]["initContainerStatuses"][0]["lastState"]["terminated"]["exitCode"] = json!(137);
        assert_eq!(drift(&pod, "orion-70b", DIGEST), None);
    }

    #[test]
    fn a_verifier_that_is_restarted_keeps_its_last_verdict() {
        let (world, image) = (world(), World::default().settings.verifier_image);
        let mut pod = verified(&image, DIGEST, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        pod["status"]["initContainerStatuses"][0]["lastState"] =
            json!({"terminated": {"exitCode": 20, "message": "m"}});
        let verdict = verdict(&world, &pod, "orion-70b", DIGEST).unwrap();
        assert_eq!((verdict.succeeded, verdict.exit_code), (false, 20));
    }
}
