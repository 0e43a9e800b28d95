//! `seal`: hashes an open artifact from within the cluster and sets its digest, once nobody writes it any more.
//!
//! The order closes the race between a check and the digest. First `spec.writes: Frozen` is set, after which admission
//! refuses every new writer (WL-306). A request that was decided before is stored within the time limit of the webhooks;
//! that long is waited, and until the controller has seen the freeze. Then the pods are listed from etcd, the volume is
//! hashed, and they are listed again; only then is the digest set, on the very version of the artifact that was frozen.
//! A writer that slips through all of this (a webhook that is cut off from the API server) changes bytes that the digest
//! does not cover: they fail their verification, and the condition Sealed names the pod.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cluster::{Connection, ConnectionArgs};
use super::declare::{fits_inline, in_volume, inline};
use super::digest::HashingArgs;
use super::error::CliError;
use super::register::{FIELD_MANAGER, failed, hash_in_cluster};
use super::register_job::JobRequest;
use crate::api::{ClaimLocation, Location, WeightArtifact, Writes};
use crate::domain::world::Settings;
use crate::domain::{World, admission, consumers};
use crate::index;
use crate::verifier::manifest::DEFAULT_PATH;
use crate::verifier::progress::size;

/// Longer than a request can be between the decision of a webhook (at most 5 s) and its place in etcd.
const SETTLE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(500);
/// How long the controller may take to see the freeze.
const PATIENCE: Duration = Duration::from_secs(30);
/// More pods than this are counted, not named.
const NAMED: usize = 10;

/// What is sealed.
#[derive(Args, Clone, Debug)]
pub struct SealArgs {
    /// Name of the WeightArtifact.
    pub name: String,
    /// The location that is hashed; it leads to a claim. The only one that does, unless given.
    #[arg(long, value_name = "NAME")]
    pub location: Option<String>,
    /// How files are hashed.
    #[command(flatten)]
    pub hashing: HashingArgs,
    /// Write the manifest into the volume. Needed for more than 256 files, and for hashes other than sha256.
    #[arg(long)]
    pub write_manifest: bool,
    /// Image of weightlock-verify; that of the installation unless given.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Service account of the Job's pod: a producer. The first one of the environment unless given.
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// User (and group) that the Job's pod runs as: one that can read the files.
    #[arg(long, value_name = "UID", default_value_t = 65532)]
    pub run_as_user: i64,
    /// Minutes after which it gives up.
    #[arg(long, value_name = "MINUTES", default_value_t = 360)]
    pub timeout_minutes: u32,
}

/// Seals the artifact. If it fails or is interrupted, the producers may write again.
///
/// # Errors
/// Where the artifact cannot be sealed; the text says what to do.
pub async fn run(
    args: &SealArgs,
    connection: &ConnectionArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    let mut connected = connection.connect().await?;
    let settings = connection.settings(&connected.client).await?;
    let artifacts: Api<WeightArtifact> = Api::all(connected.client.clone());
    let found = open(&artifacts, &args.name).await?;
    let (claim, path) = {
        let location = location(&found, args.location.as_deref())?;
        (claim_of(location)?.clone(), location.path.clone())
    };
    connected.namespace.clone_from(&claim.namespace);
    let world = snapshot(&connected, &settings).await?;
    nobody_writes(&world, &args.name)?;
    let account = match &args.service_account {
        Some(account) => account.clone(),
        None => producer(&world, &args.name, &claim.namespace)?,
    };
    let thaws = found.spec.writes == Writes::Producers;
    let frozen = freeze(&artifacts, &found).await?;
    let hashed = async {
        // While it hashes, an interrupt is for the Job, which is then removed.
        tokio::select! {
            settled = settle(&artifacts, &frozen, err) => settled?,
            _ = tokio::signal::ctrl_c() => return Err(CliError::Interrupted),
        }
        nobody_writes(&snapshot(&connected, &settings).await?, &args.name)?;
        let request = JobRequest {
            claim: &claim.name,
            path: path.as_deref(),
            revision: found.spec.revision.as_deref(),
            image: args.image.as_deref().unwrap_or(&settings.verifier_image),
            service_account: &account,
            user: args.run_as_user,
            write_manifest: args.write_manifest,
            hashing: args.hashing.into(),
            deadline: i64::from(args.timeout_minutes) * 60,
        };
        let (summary, manifest) = hash_in_cluster(&connected, &request, err).await?;
        let source = match &manifest {
            None => in_volume(DEFAULT_PATH),
            Some(manifest) => {
                fits_inline(manifest).map_err(|why| failed(why, "Run the command again with --write-manifest."))?;
                inline(manifest)
            }
        };
        nobody_writes(&snapshot(&connected, &settings).await?, &args.name)?;
        let version = unchanged(&artifacts, &frozen).await?;
        let sealed = json!({
            "metadata": {"resourceVersion": version},
            "spec": {"manifestDigest": summary.digest, "manifest": source, "writes": Value::Null},
        });
        patch(&artifacts, &args.name, &sealed, "set the digest of").await?;
        Ok::<_, CliError>(summary)
    };
    match hashed.await {
        Ok(summary) => {
            writeln!(err, "{} files, {}", summary.files, size(summary.bytes))?;
            writeln!(out, "weightartifact.weightlock.dev/{} sealed, {}", args.name, summary.digest)?;
            Ok(out.flush()?)
        }
        Err(error) => {
            if thaws {
                thaw(&artifacts, &args.name, err).await;
            }
            Err(error)
        }
    }
}

async fn open(artifacts: &Api<WeightArtifact>, name: &str) -> Result<WeightArtifact, CliError> {
    let found = read(artifacts, name).await?;
    match &found.spec.manifest_digest {
        Some(digest) => Err(failed(
            format!("WeightArtifact {name} is sealed already, with {digest}"),
            "Declare other bytes as a new WeightArtifact.",
        )),
        None => Ok(found),
    }
}

async fn read(artifacts: &Api<WeightArtifact>, name: &str) -> Result<WeightArtifact, CliError> {
    let found =
        artifacts.get_opt(name).await.map_err(|error| CliError::api(format!("read WeightArtifact {name}"), error))?;
    found.ok_or_else(|| failed(format!("there is no WeightArtifact {name}"), "List them: kubectl get weightartifacts"))
}

/// The location that is hashed.
fn location<'a>(artifact: &'a WeightArtifact, wanted: Option<&str>) -> Result<&'a Location, CliError> {
    let locations = &artifact.spec.locations;
    if let Some(wanted) = wanted {
        return locations.iter().find(|location| location.name == wanted).ok_or_else(|| CliError::Value {
            option: "--location",
            value: wanted.into(),
            problem: format!("is no location of the artifact; it has {}", names(locations)),
        });
    }
    let mut claims = locations.iter().filter(|location| location.persistent_volume_claim.is_some());
    match (claims.next(), claims.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => locations.first().ok_or_else(|| {
            failed("the artifact has no location", "Add the claim that holds the weights to spec.locations.")
        }),
        _ => Err(failed(
            format!("several locations of the artifact lead to claims: {}", names(locations)),
            "Say which one is hashed (--location). The others have to hold the same files: each is verified against the digest.",
        )),
    }
}

fn names(locations: &[Location]) -> String {
    locations.iter().map(|location| location.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn claim_of(location: &Location) -> Result<&ClaimLocation, CliError> {
    location.persistent_volume_claim.as_ref().ok_or_else(|| {
        failed(
            format!("location {:?} is no claim, and a Job mounts claims only", location.name),
            "Declare a claim of the same storage as a location and name it (--location); or hash the directory yourself (kubectl weightlock digest) and set spec.manifest and spec.manifestDigest.",
        )
    })
}

async fn snapshot(connected: &Connection, settings: &Settings) -> Result<World, CliError> {
    Ok(index::snapshot(&connected.client, settings.clone()).await?)
}

/// The service account of the first producer in the environment of a namespace.
fn producer(world: &World, artifact: &str, namespace: &str) -> Result<String, CliError> {
    let accounts = world.artifacts.get(artifact).into_iter().flat_map(|artifact| {
        let environment = world.membership(namespace).environment().map(|environment| environment.name.clone());
        let producers = artifact.producers.iter().filter(move |p| Some(&p.environment) == environment.as_ref());
        producers.flat_map(|producer| &producer.service_accounts)
    });
    let first = accounts.filter(|account| *account != "*").min();
    first.cloned().ok_or_else(|| {
        failed(
            format!("no service account of namespace {namespace} is known to produce WeightArtifact {artifact}"),
            "Name one that may mount it (--service-account), or list the environment of the namespace in spec.producers.",
        )
    })
}

/// Whether no pod in any namespace can write the artifact.
fn nobody_writes(world: &World, artifact: &str) -> Result<(), CliError> {
    let writers = writers(world, artifact);
    if writers.is_empty() {
        return Ok(());
    }
    let more = writers.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!("\n  … and {more} more") };
    let listed: Vec<&str> = writers.iter().take(NAMED).map(String::as_str).collect();
    Err(failed(
        format!(
            "WeightArtifact {artifact} is written to; pods that mount it writable:\n  {}{more}",
            listed.join("\n  ")
        ),
        "Wait until they have ended, or delete them, then run the command again.",
    ))
}

fn writers(world: &World, artifact: &str) -> Vec<String> {
    let running = world.pods.iter().map(|(key, pod)| (key, pod.unpack())).filter(|(_, pod)| !consumers::stopped(pod));
    let written = |(key, pod): (&(String, String), Value)| {
        let how = admission::writes(world, &key.0, &pod, artifact)?;
        Some(format!("pod {}/{}: {how}", key.0, key.1))
    };
    running.filter_map(written).collect()
}

async fn freeze(artifacts: &Api<WeightArtifact>, found: &WeightArtifact) -> Result<WeightArtifact, CliError> {
    let frozen = json!({"metadata": {"resourceVersion": found.resource_version()}, "spec": {"writes": Writes::Frozen}});
    patch(artifacts, &found.name_any(), &frozen, "freeze").await
}

/// Waits until the freeze is seen, and until what was decided before it is stored.
async fn settle(artifacts: &Api<WeightArtifact>, frozen: &WeightArtifact, err: &mut dyn Write) -> Result<(), CliError> {
    let name = frozen.name_any();
    writeln!(err, "WeightArtifact {name} is frozen: no new pod writes it")?;
    let started = Instant::now();
    loop {
        let seen = read(artifacts, &name).await?.status.and_then(|status| status.observed_generation);
        if seen >= frozen.metadata.generation {
            break;
        }
        if started.elapsed() > PATIENCE {
            return Err(failed(
                "the controller of Weightlock has not seen the freeze",
                "Look at its pods and log: kubectl -n weightlock-system get pods",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    tokio::time::sleep(SETTLE.saturating_sub(started.elapsed())).await;
    Ok(())
}

/// The resource version to seal, if the declaration is still the one that was frozen.
async fn unchanged(artifacts: &Api<WeightArtifact>, frozen: &WeightArtifact) -> Result<Option<String>, CliError> {
    let now = read(artifacts, &frozen.name_any()).await?;
    // The status changes meanwhile, and with it the resource version; the generation is that of the spec.
    if now.metadata.generation != frozen.metadata.generation || now.metadata.uid != frozen.metadata.uid {
        return Err(failed("the WeightArtifact was changed while it was hashed", "Run the command again."));
    }
    Ok(now.resource_version())
}

async fn thaw(artifacts: &Api<WeightArtifact>, name: &str, err: &mut dyn Write) {
    let thawed = json!({"spec": {"writes": Value::Null}});
    let told = match patch(artifacts, name, &thawed, "let the producers write").await {
        Ok(_) => format!("WeightArtifact {name} is not sealed; its producers may write again"),
        Err(error) => format!("WeightArtifact {name} stays frozen ({error}): set spec.writes: Producers"),
    };
    let _ = writeln!(err, "{told}");
}

async fn patch(
    artifacts: &Api<WeightArtifact>,
    name: &str,
    change: &Value,
    action: &str,
) -> Result<WeightArtifact, CliError> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    artifacts
        .patch(name, &params, &Patch::Merge(change))
        .await
        .map_err(|error| CliError::api(format!("{action} WeightArtifact {name}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(locations: Value) -> WeightArtifact {
        serde_json::from_value(json!({"metadata": {"name": "run"}, "spec": {
            "type": "Checkpoint", "model": {"name": "m"}, "locations": locations,
            "producers": [{"environment": "training", "serviceAccounts": ["trainer", "*"]}],
            "permittedEnvironments": [{"name": "serving"}], "contact": "c"}}))
        .unwrap()
    }

    fn claim(name: &str) -> Value {
        json!({"name": name, "role": "Primary", "persistentVolumeClaim": {"namespace": "lab", "name": name}})
    }

    #[test]
    fn the_location_is_the_only_claim_or_the_one_named() {
        let share = json!({"name": "share", "role": "Backup", "nfs": {"server": "s", "path": "/p"}});
        let one = artifact(json!([share, claim("a")]));
        assert_eq!(location(&one, None).unwrap().name, "a");
        let two = artifact(json!([claim("a"), claim("b")]));
        assert_eq!(location(&two, Some("b")).unwrap().name, "b");
        let said = location(&two, None).unwrap_err().to_string();
        assert!(said.contains("several locations") && said.contains("a, b"), "{said}");
        let said = location(&two, Some("c")).unwrap_err().to_string();
        assert!(said.contains("is no location of the artifact; it has a, b"), "{said}");
        let none = artifact(json!([share]));
        let said = claim_of(location(&none, None).unwrap()).unwrap_err().to_string();
        assert!(said.contains("location \"share\" is no claim"), "{said}");
    }

    fn world(pods: Vec<Value>) -> World {
        let mut objects = vec![
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": "training"}, "spec": {
                "purpose": "Training", "members": [{"namespace": "lab", "serviceAccounts": ["trainer"]}],
                "modes": {"admission": "Enforce", "network": "Audit", "verification": "Enforce", "egress": "Audit"}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a", "namespace": "lab"}, "spec": {"volumeName": "pv"}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {
                "claimRef": {"namespace": "lab", "name": "a"}, "csi": {"driver": "d", "volumeHandle": "h"}}}),
        ];
        let mut declared = serde_json::to_value(artifact(json!([claim("a")]))).unwrap();
        declared["apiVersion"] = "weightlock.dev/v1alpha1".into();
        declared["kind"] = "WeightArtifact".into();
        objects.push(declared);
        objects.extend(pods);
        index::from_objects(objects, Settings::default()).unwrap()
    }

    fn pod(name: &str, read_only: bool, status: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "lab"}, "spec": {
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "w", "mountPath": "/w", "readOnly": read_only}]}],
            "volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "a"}}]}, "status": status})
    }

    #[test]
    fn pods_that_could_write_are_named_until_their_containers_have_stopped() {
        let running = json!([{"name": "c", "state": {"running": {}}}]);
        let world = world(vec![
            pod("reader", true, json!({"phase": "Running"})),
            pod("writer", false, json!({"phase": "Running"})),
            pod("pending", false, json!({})),
            pod("ended", false, json!({"phase": "Succeeded"})),
            // Somebody says that it has ended, its node does not.
            pod("claimed", false, json!({"phase": "Succeeded", "containerStatuses": running})),
        ]);
        let said = nobody_writes(&world, "run").unwrap_err().to_string();
        for name in ["claimed", "pending", "writer"] {
            assert!(said.contains(&format!("pod lab/{name}: container \"c\" (volume \"w\")")), "{said}");
        }
        assert!(!said.contains("reader") && !said.contains("ended:"), "{said}");
        assert!(said.contains("Wait until they have ended"), "{said}");
    }

    #[test]
    fn the_controller_and_the_verifier_mean_the_same_exit_codes() {
        use crate::domain::verdict;
        use crate::verifier::finding::exit;
        assert_eq!(verdict::DRIFT, i64::from(exit::DRIFT));
        let content = [
            exit::CONTENT_MISMATCH,
            exit::EXTRA_FILE,
            exit::MISSING_FILE,
            exit::REFUSED_TYPE,
            exit::FORMAT,
            exit::LAYOUT,
        ];
        assert_eq!(verdict::REFUSED, content.map(i64::from));
    }

    #[test]
    fn the_job_runs_as_a_producer() {
        assert_eq!(producer(&world(vec![]), "run", "lab").unwrap(), "trainer");
        let said = producer(&world(vec![]), "run", "elsewhere").unwrap_err().to_string();
        assert!(said.contains("--service-account"), "{said}");
    }
}
