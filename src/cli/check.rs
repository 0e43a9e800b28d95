//! `check`: the verdicts of admission, before anything is applied.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::cluster::ConnectionArgs;
use super::error::CliError;
use super::judge::{Verdict, judge};
use super::manifests::{self, Document};
use crate::domain::World;
use crate::domain::workload::{Subject, subjects};
use crate::domain::world::Settings;
use crate::index;

/// What is checked, and against what.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// File or directory of manifests; `-` is standard input. May be repeated.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub filenames: Vec<PathBuf>,
    /// Decide as the cluster would now. This is what happens unless --manifests is given.
    #[arg(long, conflicts_with = "manifests")]
    pub cluster: bool,
    /// Decide as a cluster would that holds the objects of this file or directory. Needs no cluster.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: OutputFormat,
}

/// How verdicts are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Checks, prints, and returns whether everything is allowed.
///
/// # Errors
/// Where a file cannot be read, or there is no world to decide in. Nothing is then allowed.
pub async fn run(
    args: &CheckArgs,
    connection: &ConnectionArgs,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<bool, CliError> {
    let mut documents = Vec::new();
    for file in &args.filenames {
        documents.extend(manifests::read(file, input)?);
    }
    let (mut world, subjects, to_come) = match &args.manifests {
        Some(directory) => {
            let held = manifests::read(directory, &mut std::io::empty())?;
            let namespace = connection.namespace.as_deref().unwrap_or("default");
            let subjects = all_subjects(&documents, namespace)?;
            let objects = held.into_iter().map(|document| document.object).collect();
            let world = index::from_objects(objects, Settings::default())?;
            (world, subjects, to_come(&documents, namespace))
        }
        None => {
            let connected = connection.connect().await?;
            let settings = connection.settings(&connected.client).await?;
            let subjects = all_subjects(&documents, &connected.namespace)?;
            let world = index::snapshot(&connected.client, settings).await?;
            (world, subjects, to_come(&documents, &connected.namespace))
        }
    };
    let claims = subjects.iter().flat_map(|(_, subject)| subject.claims.iter().cloned());
    add_absent(&mut world, index::from_objects(to_come.into_iter().chain(claims).collect(), Settings::default())?);
    for note in unresolved(&world) {
        writeln!(err, "Note: {note}")?;
    }
    let verdicts: Vec<_> = subjects.iter().map(|(origin, subject)| judge(&world, subject, origin)).collect();
    print(&verdicts, args.output, out)?;
    Ok(verdicts.iter().all(|verdict| verdict.allowed))
}

/// Storage of artifacts that cannot be told from what is known: nobody could recognise a mount of it.
fn unresolved(world: &World) -> Vec<String> {
    let mut notes = Vec::new();
    for artifact in world.artifacts.values() {
        for (location, key) in world.keys_of(artifact) {
            if let Err(why) = key {
                notes.push(format!(
                    "location {:?} of WeightArtifact {:?} cannot be told ({why}), so that a mount of it is not recognised.",
                    location.name, artifact.name
                ));
            }
        }
    }
    notes
}

/// What the documents would make, each with where it came from.
fn all_subjects<'a>(documents: &'a [Document], namespace: &str) -> Result<Vec<(&'a str, Subject)>, CliError> {
    let mut all = Vec::new();
    for Document { origin, object } in documents {
        let found =
            subjects(object, namespace).map_err(|problem| CliError::Manifest { origin: origin.clone(), problem })?;
        all.extend(found.into_iter().map(|subject| (origin.as_str(), subject)));
    }
    Ok(all)
}

/// Claims and volumes that are applied together with the pods.
fn to_come(documents: &[Document], namespace: &str) -> Vec<Value> {
    documents
        .iter()
        .map(|document| &document.object)
        .filter(|object| {
            object.get("apiVersion").and_then(Value::as_str) == Some("v1")
                && matches!(
                    object.get("kind").and_then(Value::as_str),
                    Some("PersistentVolume" | "PersistentVolumeClaim")
                )
        })
        .map(|object| {
            let mut object = object.clone();
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.entry("namespace").or_insert_with(|| namespace.into());
            }
            object
        })
        .collect()
}

/// Adds storage that is not there yet. What is there stays as it is: applying a file does not rebind a claim.
fn add_absent(world: &mut World, to_come: World) {
    for (name, claim) in to_come.claims {
        world.claims.entry(name).or_insert(claim);
    }
    for (name, volume) in to_come.volumes {
        world.volumes.entry(name).or_insert(volume);
    }
}

fn print(verdicts: &[Verdict], format: OutputFormat, out: &mut dyn Write) -> Result<(), CliError> {
    match format {
        OutputFormat::Json => {
            let allowed = verdicts.iter().all(|verdict| verdict.allowed);
            let json = serde_json::json!({"allowed": allowed, "verdicts": verdicts});
            writeln!(out, "{json:#}")?;
        }
        OutputFormat::Text => {
            for verdict in verdicts {
                out.write_all(verdict.text().as_bytes())?;
            }
            if verdicts.is_empty() {
                writeln!(
                    out,
                    "There is nothing in what was given that a rule decides on: no pod, no template of one, no claim, no volume."
                )?;
            }
        }
    }
    Ok(out.flush()?)
}
