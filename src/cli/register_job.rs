//! The Job that hashes a claim from within the cluster, and what its state means.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::json;

use super::declare::MAX_INLINE_FILES;
use crate::verifier::algorithm::{Algorithm, Hashing};
use crate::verifier::finding::exit;

/// Name of the container. Not the verifier's: that name is reserved.
pub const CONTAINER: &str = "digest";
/// Where the claim is mounted.
const ROOT: &str = "/weights";

/// What the Job is to do.
#[derive(Clone, Debug)]
pub struct JobRequest<'a> {
    /// Name of the claim.
    pub claim: &'a str,
    /// Directory of the weights in the volume.
    pub path: Option<&'a str>,
    /// The commit, where that directory is a repository of Hugging Face's cache.
    pub revision: Option<&'a str>,
    /// Image of `weightlock-verify`.
    pub image: &'a str,
    /// Service account of the pod.
    pub service_account: &'a str,
    /// User that the pod runs as.
    pub user: i64,
    /// Whether the manifest is written into the volume.
    pub write_manifest: bool,
    /// How the files are hashed.
    pub hashing: Hashing,
    /// Seconds after which the Job is ended.
    pub deadline: i64,
}

impl JobRequest<'_> {
    /// The Job. Its pod keeps to the restricted level of Pod Security and asks for no token, no network and no GPU; it
    /// removes itself some time after it ended, should nobody else do it.
    ///
    /// # Errors
    /// Where the request cannot be put into a Job.
    pub fn job(&self) -> Result<Job, serde_json::Error> {
        let mut args = vec!["digest".to_owned(), "--root".into(), ROOT.into()];
        if let Some(path) = self.path {
            args.extend(["--path".into(), path.to_owned()]);
        }
        if self.hashing.algorithm != Algorithm::default() {
            args.extend(["--hash".into(), self.hashing.algorithm.name().to_owned()]);
        }
        if let Some(size) = self.hashing.shard_size {
            args.extend(["--shard-size".into(), size.to_string()]);
        }
        if let Some(revision) = self.revision {
            args.extend(["--layout", "HuggingFaceCache", "--revision", revision].map(str::to_owned));
        }
        if self.write_manifest {
            args.push("--write-manifest".into());
        } else {
            args.extend(["--max-files".into(), MAX_INLINE_FILES.to_string()]);
        }
        let read_only = !self.write_manifest;
        let labels = json!({"app.kubernetes.io/managed-by": "kubectl-weightlock", "app.kubernetes.io/name": "weightlock-register"});
        serde_json::from_value(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"generateName": "weightlock-register-", "labels": labels},
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": self.deadline,
                "ttlSecondsAfterFinished": 600,
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "restartPolicy": "Never",
                        "serviceAccountName": self.service_account,
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "terminationGracePeriodSeconds": 5,
                        "securityContext": {
                            "runAsNonRoot": self.user != 0,
                            "runAsUser": self.user,
                            "runAsGroup": self.user,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [{
                            "name": CONTAINER,
                            "image": self.image,
                            "args": args,
                            "securityContext": {
                                "allowPrivilegeEscalation": false,
                                "capabilities": {"drop": ["ALL"]},
                                "readOnlyRootFilesystem": true,
                            },
                            "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                            "volumeMounts": [{"name": "weights", "mountPath": ROOT, "readOnly": read_only}],
                        }],
                        "volumes": [{
                            "name": "weights",
                            "persistentVolumeClaim": {"claimName": self.claim, "readOnly": read_only},
                        }],
                    },
                },
            },
        }))
    }
}

/// Where the pod of the Job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It does not run yet, for this reason.
    Waiting(String),
    /// It will not run without help: fact and remedy.
    Stuck(String, String),
    /// It runs.
    Running,
    /// It ended, with this exit code and message.
    Ended(i32, String),
}

/// What the state of the pod means.
pub fn stage(pod: &Pod) -> Stage {
    let Some(status) = &pod.status else { return Stage::Waiting("the pod was made".into()) };
    let container: Option<&ContainerStatus> =
        status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER);
    if let Some(state) = container.and_then(|container| container.state.as_ref()) {
        if let Some(ended) = &state.terminated {
            let message = ended.message.clone().or_else(|| ended.reason.clone()).unwrap_or_default();
            return Stage::Ended(ended.exit_code, message);
        }
        if state.running.is_some() {
            return Stage::Running;
        }
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.clone().unwrap_or_default();
            let message = waiting.message.clone().unwrap_or_default();
            return match reason.as_str() {
                "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => Stage::Stuck(
                    format!("the image cannot be pulled: {message}"),
                    "Name an image of weightlock-verify that the nodes can pull (--image), or a service account that has its pull secret (--service-account).".into(),
                ),
                "CreateContainerConfigError" | "CreateContainerError" => Stage::Stuck(
                    format!("the container cannot be made: {message}"),
                    "Correct what is named; a user that the pod may run as is given with --run-as-user.".into(),
                ),
                _ => Stage::Waiting(join(&reason, &message)),
            };
        }
    }
    if status.phase.as_deref() == Some("Failed") {
        let why = join(status.reason.as_deref().unwrap_or("Failed"), status.message.as_deref().unwrap_or_default());
        return Stage::Stuck(
            format!("the pod failed: {why}"),
            "Look at the node and its events, then run the command again.".into(),
        );
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .and_then(|condition| condition.message.clone());
    Stage::Waiting(unscheduled.unwrap_or_else(|| "the pod is being prepared".into()))
}

fn join(reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", message) => message.into(),
        (reason, "") => reason.into(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// What to do about an exit code of the verifier.
pub fn remedy(code: i32) -> &'static str {
    match u8::try_from(code).unwrap_or(0) {
        exit::TOO_MANY_FILES => {
            "A WeightArtifact lists at most 256 files itself. Run the command again with --write-manifest: the Job then mounts the claim writable and writes .weightlock/manifest.json into it."
        }
        exit::UNREADABLE => {
            "Run the command again as a user that can read the files (--run-as-user UID), and look at the storage if it is an I/O error."
        }
        exit::OUTPUT => {
            "Run the command again as a user that can write to the volume (--run-as-user UID), or on a claim that can be mounted writable."
        }
        exit::MISSING_FILE => {
            "Name the directory of the weights in the volume (--path), and check that they are there."
        }
        exit::REFUSED_TYPE => {
            "Weights are regular files: replace links by what they point to, remove what is none, or name a directory that holds only weights (--path)."
        }
        137 => {
            "It was killed, most often for using more memory than its limit, or because its node went away: run the command again."
        }
        143 => "It was stopped from outside: run the command again.",
        _ => "Correct what is named, then run the command again.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(write_manifest: bool) -> JobRequest<'static> {
        JobRequest {
            claim: "orion",
            path: Some("v3"),
            revision: None,
            image: "r/verify",
            service_account: "default",
            user: 65532,
            write_manifest,
            hashing: Hashing::default(),
            deadline: 60,
        }
    }

    fn container(job: &Job) -> &k8s_openapi::api::core::v1::Container {
        &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0]
    }

    #[test]
    fn the_claim_is_read_only_unless_the_manifest_is_written() {
        for write in [false, true] {
            let job = request(write).job().unwrap();
            let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
            let claim = spec.volumes.as_ref().unwrap()[0].persistent_volume_claim.as_ref().unwrap();
            assert_eq!(claim.read_only, Some(!write));
            assert_eq!(container(&job).volume_mounts.as_ref().unwrap()[0].read_only, Some(!write));
        }
        let args = container(&request(false).job().unwrap()).args.clone().unwrap();
        assert_eq!(args, ["digest", "--root", "/weights", "--path", "v3", "--max-files", "256"]);
        let args = container(&request(true).job().unwrap()).args.clone().unwrap();
        assert_eq!(args, ["digest", "--root", "/weights", "--path", "v3", "--write-manifest"]);
        let hashing = Hashing { algorithm: Algorithm::Blake3, shard_size: Some(1 << 30) };
        let args = container(&JobRequest { hashing, ..request(true) }.job().unwrap()).args.clone().unwrap();
        let hashed = ["--hash", "blake3", "--shard-size", "1073741824", "--write-manifest"];
        assert_eq!(args[5..], hashed);
        let parsed = crate::verifier::args::parse(args.into_iter().map(Into::into));
        assert!(matches!(parsed, Ok(crate::verifier::args::Command::Digest(digest)) if digest.hashing == hashing));
    }

    #[test]
    fn the_verifier_understands_its_arguments() {
        for write in [false, true] {
            let args = container(&request(write).job().unwrap()).args.clone().unwrap();
            let parsed = crate::verifier::args::parse(args.into_iter().map(Into::into));
            assert!(matches!(parsed, Ok(crate::verifier::args::Command::Digest(_))), "{parsed:?}");
        }
    }

    #[test]
    fn a_pod_that_will_not_start_is_told_from_one_that_waits() {
        let pod = |status: serde_json::Value| -> Pod { serde_json::from_value(json!({"status": status})).unwrap() };
        let state = |state: serde_json::Value| {
            pod(
                json!({"containerStatuses": [{"name": "digest", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}),
            )
        };
        assert_eq!(
            stage(&pod(json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]}))),
            Stage::Waiting("0/2 nodes".into())
        );
        assert!(matches!(
            stage(&state(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}))),
            Stage::Stuck(fact, remedy) if fact.contains("no such image") && remedy.contains("--image")
        ));
        assert_eq!(
            stage(&state(json!({"waiting": {"reason": "ContainerCreating"}}))),
            Stage::Waiting("ContainerCreating".into())
        );
        assert_eq!(stage(&state(json!({"running": {}}))), Stage::Running);
        assert_eq!(
            stage(&state(json!({"terminated": {"exitCode": 31, "message": "m"}}))),
            Stage::Ended(31, "m".into())
        );
        assert!(remedy(31).contains("--write-manifest"));
    }
}
