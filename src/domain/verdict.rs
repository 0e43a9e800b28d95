//! What the verifiers of a pod said, as its node reports it.

use serde_json::Value;

use super::{
    World,
    consumers::{DOWNLOAD, text},
};

/// Name of the init container that verifies weights.
pub const VERIFIER: &str = "weightlock-verify";
/// Name of the sidecar that verifies them again while the pod runs.
pub const REVERIFIER: &str = "weightlock-reverify";
/// Exit code of the sidecar where weights are no longer what they were when they were verified.
pub const DRIFT: i64 = 25;
/// Exit codes of the verifier that say of files that they are not those that the digest pins. Others say that it could not
/// tell, or concern the signature, which is looked at once, or the manifest, which may have been brought to the pod through
/// an object of its namespace.
pub const REFUSED: [i64; 6] = [20, 21, 22, 23, 24, 26];
/// The reason that the kubelet gives to containers which it took down to start all of the pod anew.
const RESTARTED: &str = "RestartingAllContainers";

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

/// How a pod found an artifact with this digest changed that was right when it started, if it did: by its sidecar, or by
/// its verifier after the kubelet restarted all its containers. Whether these are the ones that Weightlock injects is for [`super::admission::reverifies`] to say.
pub fn drift(pod: &Value, artifact: &str, digest: &str) -> Option<Verdict> {
    if !checks(init_container(pod, REVERIFIER)?, artifact, digest) {
        return None;
    }
    let by_sidecar = ends(pod, REVERIFIER).find(|(exit_code, _)| *exit_code == DRIFT);
    let (exit_code, ended) = by_sidecar.or_else(|| refused_after_restart(pod, artifact))?;
    of_end(exit_code, ended, artifact)
}

/// How the verifier refused what it had passed, in a pod that the kubelet began anew.
///
/// A restart of all containers takes the sidecar's exit code away, and often nobody saw it. What stays is that all were
/// restarted, which they are only after the verifier had passed, and what the verifier says now. Of weights that the pod
/// downloads that says nothing: its own containers write them anew at each start.
fn refused_after_restart<'a>(pod: &'a Value, artifact: &str) -> Option<(i64, &'a Value)> {
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    if annotations.into_iter().flatten().any(|(key, name)| key.starts_with(DOWNLOAD) && name == artifact) {
        return None;
    }
    ends(pod, REVERIFIER).find(|(_, ended)| text(ended, "/reason") == RESTARTED)?;
    ends(pod, VERIFIER).find(|(exit_code, _)| REFUSED.contains(exit_code))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:5c1e";

    fn verified(image: &str, digest: &str, state: Value) -> Value {
        json!({
            "spec": {"initContainers": [{"name": VERIFIER, "image": image,
                "args": ["--artifact", "orion-70b", "--digest", digest, "--root", "/weightlock/0"]}]},
            "status": {"initContainerStatuses": [{"name": VERIFIER, "state": state}]},
        })
    }

    #[test]
    fn a_verdict_counts_for_our_verifier_and_this_digest_only() {
        let world = World::default();
        let image = world.settings.verifier_image.clone();
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
        let world = World::default();
        let image = world.settings.verifier_image.clone();
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
        let world = World::default();
        let image = world.settings.verifier_image.clone();
        let mut pod = verified(&image, DIGEST, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        pod["status"]["initContainerStatuses"][0]["lastState"] =
            json!({"terminated": {"exitCode": 20, "message": "m"}});
        let verdict = verdict(&world, &pod, "orion-70b", DIGEST).unwrap();
        assert_eq!((verdict.succeeded, verdict.exit_code), (false, 20));
    }

    #[test]
    fn after_a_restart_of_all_containers_the_verifier_tells_of_drift() {
        let mut pod = verified("r/verify", DIGEST, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let mut sidecar = pod["spec"]["initContainers"][0].clone();
        sidecar["name"] = json!(REVERIFIER);
        pod["spec"]["initContainers"].as_array_mut().unwrap().push(sidecar);
        let taken_down = json!({"terminated": {"exitCode": 137, "reason": "RestartingAllContainers"}});
        pod["status"]["initContainerStatuses"] = json!([
            {"name": VERIFIER, "state": {"terminated": {"exitCode": 20, "message": "Refused (exit code 20): 1 finding in WeightArtifact \"orion-70b\""}}, "lastState": taken_down},
            {"name": REVERIFIER, "state": {"waiting": {"reason": "PodInitializing"}}, "lastState": taken_down},
        ]);
        let found = |pod: &Value| drift(pod, "orion-70b", DIGEST).map(|drift| drift.exit_code);
        assert_eq!(found(&pod), Some(20));
        assert_eq!(drift(&pod, "lora", DIGEST), None);
        // The verifier has not ended anew, could not read, or passes: nothing is known of a change.
        for state in
            [json!({"running": {}}), json!({"terminated": {"exitCode": 30}}), json!({"terminated": {"exitCode": 0}})]
        {
            let mut other = pod.clone();
            other["status"]["initContainerStatuses"][0]["state"] = state.clone();
            assert_eq!(found(&other), None, "{state}");
        }
        let mut downloads = pod.clone();
        downloads["metadata"]["annotations"] = json!({format!("{DOWNLOAD}w"): "orion-70b"});
        assert_eq!(found(&downloads), None, "its downloader brings what it likes at each start");
        // A pod that was never restarted has not passed before.
        pod["status"]["initContainerStatuses"][1]["lastState"]["terminated"]["reason"] = json!("Error");
        assert_eq!(found(&pod), None);
    }
}
