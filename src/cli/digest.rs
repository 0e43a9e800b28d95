//! `digest`: manifest, digest and a ready resource for a directory.

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::declare::{DeclarationArgs, claim_location, fits_inline, in_volume, inline, object_name, yaml};
use super::error::CliError;
use super::shards;
use crate::api::ManifestSource;
use crate::verifier::algorithm::{Algorithm, Hashing};
use crate::verifier::args::{DigestArgs as EngineArgs, parse_shard_size};
use crate::verifier::engine;
use crate::verifier::manifest::{DEFAULT_PATH, Manifest, check_path};
use crate::verifier::progress::{Progress, Style, size};
use crate::verifier::report::Report;
use crate::verifier::store;

/// What is hashed.
#[derive(Args, Clone, Debug)]
pub struct DigestArgs {
    /// The directory, as it is mounted here.
    pub directory: PathBuf,
    /// Directory of the weights in it.
    #[arg(long, value_name = "DIR")]
    pub path: Option<String>,
    /// What the WeightArtifact says besides its content and where it is.
    #[command(flatten)]
    pub declaration: DeclarationArgs,
    /// The claim that holds the directory in the cluster, as NAMESPACE/NAME.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub claim: Option<String>,
    /// Write the manifest into the directory and refer to it there. Needed for more than 256 files, for other hashes than SHA-256,
    /// and for shards.
    #[arg(long)]
    pub write_manifest: bool,
    /// How the files are hashed.
    #[command(flatten)]
    pub hashing: HashingArgs,
    /// What to print.
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub output: DigestOutput,
}

/// How files are hashed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct HashingArgs {
    /// The hash: BLAKE3 uses all cores for one file.
    #[arg(long, value_enum, default_value = "sha256")]
    pub hash: HashArg,
    /// Hash files in parts of this many bytes (such as 1Gi), so that all cores work on one file; each file whole unless given.
    #[arg(long, value_name = "SIZE", value_parser = shard_size)]
    pub shard_size: Option<u64>,
}

/// A hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HashArg {
    /// SHA-256.
    #[default]
    Sha256,
    /// BLAKE2b with 512 bits.
    Blake2b,
    /// BLAKE3 with 256 bits.
    Blake3,
}

fn shard_size(given: &str) -> Result<u64, String> {
    parse_shard_size(given).map_err(|error| error.to_string())
}

impl From<HashingArgs> for Hashing {
    fn from(args: HashingArgs) -> Self {
        let algorithm = match args.hash {
            HashArg::Sha256 => Algorithm::Sha256,
            HashArg::Blake2b => Algorithm::Blake2b,
            HashArg::Blake3 => Algorithm::Blake3,
        };
        Self { algorithm, shard_size: args.shard_size }
    }
}

/// What `digest` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DigestOutput {
    /// A WeightArtifact, ready to be applied, that holds manifest and digest.
    Yaml,
    /// WeightManifests that hold the manifest, and the WeightArtifact that refers to them: for storage that cannot hold it.
    #[value(name = "weightmanifest")]
    WeightManifest,
    /// The canonical manifest, whose SHA-256 is the digest.
    Manifest,
    /// The digest.
    Digest,
}

/// Progress on standard error.
pub fn style() -> Style {
    if std::io::stderr().is_terminal() { Style::Bar } else { Style::Lines }
}

/// A directory as the engine takes it: absolute, with no link in it.
///
/// # Errors
/// If it is not there.
pub fn absolute(directory: &Path) -> Result<PathBuf, CliError> {
    std::fs::canonicalize(directory).map_err(|source| CliError::File { path: directory.display().to_string(), source })
}

/// Hashes and prints.
///
/// # Errors
/// Where the directory holds something that no artifact may hold, or that cannot be read.
pub fn run(args: &DigestArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    if let Some(path) = &args.path {
        check_path(path).map_err(|error| CliError::Value {
            option: "--path",
            value: path.clone(),
            problem: error.to_string(),
        })?;
    }
    let claim = args.claim.as_deref().map(parse_claim).transpose()?;
    let root = absolute(&args.directory)?;
    let name = match &args.declaration.name {
        Some(name) => name.clone(),
        None => args
            .path
            .as_deref()
            .or_else(|| root.file_name()?.to_str())
            .and_then(object_name)
            .unwrap_or_else(|| "weights".into()),
    };
    let manifest = hash(args, &root, &name, err)?;
    let digest = manifest.digest().digest();
    match args.output {
        DigestOutput::Digest => writeln!(out, "{digest}")?,
        DigestOutput::Manifest => {
            manifest.write_canonical(&mut *out)?;
            // On a terminal only: redirected into a file, its SHA-256 is the digest.
            if std::io::stdout().is_terminal() {
                writeln!(out)?;
            }
        }
        DigestOutput::WeightManifest => {
            let (objects, source) = shards::objects(&name, &manifest)?;
            out.write_all(shards::documents(&objects)?.as_bytes())?;
            out.write_all(resource(args, &name, &manifest, claim, Some(source))?.as_bytes())?;
        }
        DigestOutput::Yaml => out.write_all(resource(args, &name, &manifest, claim, None)?.as_bytes())?,
    }
    Ok(out.flush()?)
}

fn hash(args: &DigestArgs, root: &Path, name: &str, err: &mut dyn Write) -> Result<Manifest, CliError> {
    let engine_args = EngineArgs {
        except: Vec::new(),
        root: root.into(),
        path: args.path.clone(),
        manifest: args.write_manifest.then(|| DEFAULT_PATH.into()),
        hashing: args.hashing.into(),
        threads: None,
        layout: args.declaration.engine_layout()?,
        max_files: None,
        write_manifest: args.write_manifest,
    };
    if args.write_manifest {
        store::remove_leftover(root, args.path.as_deref(), DEFAULT_PATH);
    }
    let mut progress = Progress::new(style(), err);
    let manifest = engine::digest(name, &engine_args, &mut progress).map_err(|findings| {
        let report = Report::without_manifest(findings, progress.elapsed());
        CliError::Digest { code: report.exit_code(), report: report.text().trim_end().into() }
    })?;
    if args.write_manifest {
        store::write(root, args.path.as_deref(), DEFAULT_PATH, &manifest)?;
    }
    Ok(manifest)
}

fn parse_claim(claim: &str) -> Result<(&str, &str), CliError> {
    claim
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| CliError::Value {
            option: "--claim",
            value: claim.into(),
            problem: "is not NAMESPACE/NAME of a PersistentVolumeClaim".into(),
        })
}

fn resource(
    args: &DigestArgs,
    name: &str,
    manifest: &Manifest,
    claim: Option<(&str, &str)>,
    source: Option<ManifestSource>,
) -> Result<String, CliError> {
    let digest = manifest.digest().digest();
    let mut comments =
        vec![format!("{} files, {}, manifest digest {digest}", manifest.files().len(), size(manifest.total_bytes()))];
    let source = match (source, args.write_manifest, fits_inline(manifest)) {
        (Some(source), ..) => source,
        (None, true, _) => in_volume(DEFAULT_PATH),
        (None, false, Ok(())) => inline(manifest),
        (None, false, Err(why)) => {
            comments
                .push(format!("NOT READY: {why}. Run this again with --write-manifest, which writes {DEFAULT_PATH}, or with -o weightmanifest."));
            in_volume(DEFAULT_PATH)
        }
    };
    let mut declaration = args.declaration.clone();
    if declaration.environments.is_empty() {
        comments.push(
            "EDIT permittedEnvironments: the WeightEnvironments in which the weights may be mounted (--environment)."
                .into(),
        );
        declaration.environments.push("my-environment".into());
    }
    let (namespace, claim_name) = claim.unwrap_or_else(|| {
        comments.push("EDIT locations: where the bytes live in the cluster (--claim NAMESPACE/NAME).".into());
        ("my-namespace", name)
    });
    let location = claim_location(namespace, claim_name, args.path.as_deref());
    let artifact = declaration.artifact(name, &digest, source, location);
    let comments: String = comments.iter().map(|comment| format!("# {comment}\n")).collect();
    Ok(comments + &yaml(&artifact)?)
}
