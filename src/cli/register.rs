//! `register`: hashes a claim from within the cluster and declares what is in it.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};

use super::cluster::{Connection, ConnectionArgs};
use super::declare::{DeclarationArgs, claim_location, fits_inline, in_volume, inline, object_name};
use super::digest::HashingArgs;
use super::error::CliError;
use super::register_job::{CONTAINER, JobRequest, Stage, remedy, stage};
use super::shards;
use crate::api::{WeightArtifact, WeightManifest};
use crate::verifier::manifest::{DEFAULT_PATH, Manifest, check_path};
use crate::verifier::progress::{duration, size};
use crate::verifier::transcript::{self, Summary};

const POLL: Duration = Duration::from_secs(1);
/// As whom the command writes.
pub(super) const FIELD_MANAGER: &str = "kubectl-weightlock";

/// What is registered.
#[derive(Args, Clone, Debug)]
pub struct RegisterArgs {
    /// The claim that holds the weights, as pvc/NAME.
    pub claim: String,
    /// Directory of the weights in the volume.
    #[arg(long, value_name = "DIR")]
    pub path: Option<String>,
    /// What the WeightArtifact says besides its content and where it is.
    #[command(flatten)]
    pub declaration: DeclarationArgs,
    /// Write the manifest into the volume, which mounts the claim writable. Needed for more than 256 files, for other hashes than
    /// SHA-256, and for shards.
    #[arg(long)]
    pub write_manifest: bool,
    /// Keep the manifest in WeightManifest objects: for storage that cannot hold it, and more than 256 files.
    #[arg(long, conflicts_with = "write_manifest")]
    pub manifest_object: bool,
    /// How the files are hashed.
    #[command(flatten)]
    pub hashing: HashingArgs,
    /// Image of weightlock-verify; that of the installation unless given.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Service account of the Job's pod.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub service_account: String,
    /// User (and group) that the Job's pod runs as: one that can read the files.
    #[arg(long, value_name = "UID", default_value_t = 65532)]
    pub run_as_user: i64,
    /// Minutes after which it gives up.
    #[arg(long, value_name = "MINUTES", default_value_t = 360)]
    pub timeout_minutes: u32,
}

/// An error with what to do about it.
pub(super) fn failed(fact: impl Into<String>, remedy: impl Into<String>) -> CliError {
    let fact = fact.into();
    CliError::Register { fact: fact.trim_end_matches(['.', '\n']).into(), remedy: remedy.into() }
}

/// Registers the claim. Whatever it made besides the WeightArtifact is removed again, also when it fails or is interrupted.
///
/// # Errors
/// Where the claim cannot be hashed or declared; the text says what to do.
pub async fn run(
    args: &RegisterArgs,
    connection: &ConnectionArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    let claim = args.claim.strip_prefix("pvc/").or_else(|| args.claim.strip_prefix("persistentvolumeclaim/"));
    let claim = claim.filter(|name| !name.is_empty() && !name.contains('/')).ok_or_else(|| CliError::Value {
        option: "claim",
        value: args.claim.clone(),
        problem: "is not pvc/NAME".into(),
    })?;
    if let Some(path) = &args.path {
        check_path(path).map_err(|error| CliError::Value {
            option: "--path",
            value: path.clone(),
            problem: error.to_string(),
        })?;
    }
    if args.declaration.environments.is_empty() {
        return Err(CliError::Value {
            option: "--environment",
            value: String::new(),
            problem: "is missing: name a WeightEnvironment in which the weights may be mounted".into(),
        });
    }
    args.declaration.engine_layout()?;
    let connected = connection.connect().await?;
    let image = match &args.image {
        Some(image) => image.clone(),
        None => connection.settings(&connected.client).await?.verifier_image,
    };
    let name = match &args.declaration.name {
        Some(name) => name.clone(),
        None => object_name(claim).unwrap_or_else(|| "weights".into()),
    };
    precheck(&connected, claim, &name).await?;
    let request = JobRequest {
        claim,
        path: args.path.as_deref(),
        revision: args.declaration.revision.as_deref(),
        image: &image,
        service_account: &args.service_account,
        user: args.run_as_user,
        write_manifest: args.write_manifest,
        hashing: args.hashing.into(),
        deadline: i64::from(args.timeout_minutes) * 60,
    };
    let (summary, manifest) = hash_in_cluster(&connected, &request, err).await?;
    writeln!(err, "{} files, {}, manifest digest {}", summary.files, size(summary.bytes), summary.digest)?;
    let source = match &manifest {
        None => in_volume(DEFAULT_PATH),
        Some(manifest) if args.manifest_object => {
            let (objects, source) = shards::objects(&name, manifest)?;
            let manifests: Api<WeightManifest> = Api::all(connected.client.clone());
            for object in &objects {
                apply(&manifests, object).await?;
            }
            source
        }
        Some(manifest) => {
            fits_inline(manifest).map_err(|why| {
                failed(why, "Run the command again with --write-manifest, or with --manifest-object.")
            })?;
            inline(manifest)
        }
    };
    let location = claim_location(&connected.namespace, claim, args.path.as_deref());
    let artifact = args.declaration.artifact(&name, &summary.digest, source, location);
    declare(&connected, &artifact, err).await?;
    writeln!(out, "weightartifact.weightlock.dev/{name} registered, {}", summary.digest)?;
    Ok(out.flush()?)
}

async fn precheck(connected: &Connection, claim: &str, name: &str) -> Result<(), CliError> {
    let namespace = &connected.namespace;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(connected.client.clone(), namespace);
    let found =
        claims.get_opt(claim).await.map_err(|error| CliError::api(format!("read claim {namespace}/{claim}"), error))?;
    let Some(found) = found else {
        return Err(failed(
            format!("there is no PersistentVolumeClaim {namespace}/{claim}"),
            format!("Check name and namespace (-n): kubectl -n {namespace} get pvc"),
        ));
    };
    if found.metadata.deletion_timestamp.is_some() {
        return Err(failed(
            format!("PersistentVolumeClaim {namespace}/{claim} is being deleted"),
            "Register a claim that stays.",
        ));
    }
    if found.status.and_then(|status| status.phase).as_deref() == Some("Lost") {
        return Err(failed(
            format!("PersistentVolumeClaim {namespace}/{claim} has lost its volume"),
            "Bind a claim to the volume again, and register that.",
        ));
    }
    let artifacts: Api<WeightArtifact> = Api::all(connected.client.clone());
    let existing =
        artifacts.get_opt(name).await.map_err(|error| CliError::api(format!("read WeightArtifact {name}"), error))?;
    match existing {
        None => Ok(()),
        Some(_) => Err(failed(
            format!("WeightArtifact {name} exists, and what is declared once is not declared anew"),
            "Give the new weights another name (--name), or delete the old declaration first if it was a mistake.",
        )),
    }
}

/// Runs the Job to its end and removes it, whatever happens.
pub(super) async fn hash_in_cluster(
    connected: &Connection,
    request: &JobRequest<'_>,
    err: &mut dyn Write,
) -> Result<(Summary, Option<Manifest>), CliError> {
    let jobs: Api<Job> = Api::namespaced(connected.client.clone(), &connected.namespace);
    let job = request.job().map_err(|error| CliError::Encode { format: "JSON", problem: error.to_string() })?;
    let job = jobs
        .create(&PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }, &job)
        .await
        .map_err(|error| CliError::api(format!("make a Job in namespace {}", connected.namespace), error))?;
    let name = job.name_any();
    let _ = writeln!(err, "Job {}/{name} hashes claim {}", connected.namespace, request.claim);
    let result = tokio::select! {
        result = follow(connected, &name, err) => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    };
    let removed = remove(connected, &jobs, &name).await;
    if let Err(error) = &removed {
        let _ = writeln!(
            err,
            "Job {}/{name} could not be removed ({error}); it removes itself ten minutes after it ended.",
            connected.namespace
        );
    }
    result
}

/// Removes the Job and waits until its pod is gone: registered storage is then mounted by nobody that was not verified.
async fn remove(connected: &Connection, jobs: &Api<Job>, name: &str) -> Result<(), CliError> {
    jobs.delete(name, &DeleteParams::background())
        .await
        .map_err(|error| CliError::api(format!("delete Job {name}"), error))?;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        if pod_of(connected, name).await?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

async fn pod_of(connected: &Connection, job: &str) -> Result<Option<Pod>, CliError> {
    let pods: Api<Pod> = Api::namespaced(connected.client.clone(), &connected.namespace);
    let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let list =
        pods.list(&selector).await.map_err(|error| CliError::api(format!("list the pods of Job {job}"), error))?;
    Ok(list.items.into_iter().next())
}

async fn follow(
    connected: &Connection,
    job: &str,
    err: &mut dyn Write,
) -> Result<(Summary, Option<Manifest>), CliError> {
    let pods: Api<Pod> = Api::namespaced(connected.client.clone(), &connected.namespace);
    let started = Instant::now();
    let mut said = String::new();
    let mut say = |text: String, err: &mut dyn Write| {
        if text != said && !text.is_empty() {
            let _ = writeln!(err, "  [{}] {text}", duration(started.elapsed()));
            said = text;
        }
    };
    loop {
        match pod_of(connected, job).await? {
            None => no_pod_yet(connected, job).await?,
            Some(pod) => match stage(&pod) {
                Stage::Waiting(why) => say(why, err),
                Stage::Stuck(fact, remedy) => return Err(failed(fact, remedy)),
                Stage::Running => {
                    let last =
                        LogParams { container: Some(CONTAINER.into()), tail_lines: Some(1), ..LogParams::default() };
                    // Progress only: the log is read in full once the pod has ended.
                    if let Ok(line) = pods.logs(&pod.name_any(), &last).await
                        && is_progress(&line)
                    {
                        say(line.trim().to_owned(), err);
                    }
                }
                Stage::Ended(0, _) => return read_log(&pods, &pod.name_any()).await,
                Stage::Ended(code, message) => {
                    return Err(failed(
                        format!("the claim cannot be hashed: {}", without_remedy(&message)),
                        remedy(code),
                    ));
                }
            },
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The verifier's message without its remedy: here there is a better one.
fn without_remedy(message: &str) -> &str {
    message.split("\nRemedy: ").next().unwrap_or(message).trim()
}

/// Whether a line of the verifier's log says how far it is.
fn is_progress(line: &str) -> bool {
    line.contains("/s, ") && line.trim_end().ends_with("left")
}

/// Says why the Job has no pod, if it says so: a refusal by admission or a quota.
async fn no_pod_yet(connected: &Connection, job: &str) -> Result<(), CliError> {
    let jobs: Api<Job> = Api::namespaced(connected.client.clone(), &connected.namespace);
    let found = jobs.get_opt(job).await.map_err(|error| CliError::api(format!("read Job {job}"), error))?;
    let Some(found) = found else {
        return Err(failed(format!("Job {job} was deleted by somebody else"), "Run the command again."));
    };
    let ended = found
        .status
        .and_then(|status| status.conditions)
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Failed" && condition.status == "True");
    if let Some(condition) = ended {
        return Err(failed(
            format!("Job {job} failed: {}", condition.message.unwrap_or_default()),
            "Raise --timeout-minutes if the time was too short; else correct what is named.",
        ));
    }
    let events: Api<Event> = Api::namespaced(connected.client.clone(), &connected.namespace);
    let selector = ListParams::default().fields(&format!("involvedObject.name={job},reason=FailedCreate"));
    // Without the right to read events, the Job's own condition is all there is to go by.
    let Ok(list) = events.list(&selector).await else { return Ok(()) };
    // A webhook that does not answer passes; a refusal or a quota does not.
    let refusal = list
        .items
        .into_iter()
        .filter_map(|event| event.message)
        .find(|message| ["denied the request", "forbidden"].iter().any(|sign| message.contains(sign)));
    match refusal {
        None => Ok(()),
        Some(message) => Err(failed(
            format!("the pod of the Job is refused: {message}"),
            "Do what the refusal says. Storage of a WeightArtifact that exists needs no second one: add a location to it.",
        )),
    }
}

async fn read_log(pods: &Api<Pod>, pod: &str) -> Result<(Summary, Option<Manifest>), CliError> {
    let params = LogParams { container: Some(CONTAINER.into()), ..LogParams::default() };
    let log =
        pods.logs(pod, &params).await.map_err(|error| CliError::api(format!("read the log of pod {pod}"), error))?;
    transcript::read(&log).map_err(|error| {
        failed(
            format!("the log of pod {pod} holds no manifest: {error}"),
            "Run the command again; if the log of the node is cut short, use --write-manifest.",
        )
    })
}

async fn apply<K>(api: &Api<K>, object: &K) -> Result<(), CliError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let name = object.name_any();
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(object))
        .await
        .map_err(|error| CliError::api(format!("apply {} {name}", K::kind(&())), error))?;
    Ok(())
}

/// Declares the artifact, then watches what the controller makes of it.
async fn declare(connected: &Connection, artifact: &WeightArtifact, err: &mut dyn Write) -> Result<(), CliError> {
    let artifacts: Api<WeightArtifact> = Api::all(connected.client.clone());
    let name = artifact.name_any();
    apply(&artifacts, artifact).await?;
    let started = Instant::now();
    let mut last = String::from("the controller has not looked at it");
    while started.elapsed() < Duration::from_secs(30) {
        let seen = artifacts
            .get_opt(&name)
            .await
            .map_err(|error| CliError::api(format!("read WeightArtifact {name}"), error))?;
        let conditions = seen.and_then(|seen| seen.status).map(|status| status.conditions).unwrap_or_default();
        let resolved = conditions.iter().find(|condition| condition.type_ == "LocationsResolved");
        if let Some(condition) = resolved {
            last.clone_from(&condition.message);
            if condition.status == "True" {
                return Ok(());
            }
        }
        tokio::time::sleep(POLL).await;
    }
    writeln!(err, "It is declared, but not in force yet: {last}. Look at: kubectl describe weightartifact {name}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_progress_of_the_verifier_is_passed_on() {
        assert!(is_progress("(new): 12.0 GiB of 120.0 GiB (10%), 1.2 GiB/s, 1m30s left\n"));
        assert!(!is_progress("weightlock-manifest-end: {}"));
        assert!(!is_progress("Remedy: what is left"));
    }

    #[test]
    fn there_is_one_remedy_and_one_full_stop() {
        let message =
            "Not hashed (exit code 22): 1 finding\n[MissingFile] \"v4\": there is no such directory\nRemedy: x.\n";
        let error = failed(format!("the claim cannot be hashed: {}.", without_remedy(message)), "Name it (--path).");
        assert_eq!(
            error.to_string(),
            "the claim cannot be hashed: Not hashed (exit code 22): 1 finding\n[MissingFile] \"v4\": there is no such directory.\nName it (--path)."
        );
    }
}
