//! The command line of `weightlock-verify`. Arguments are its only input: no environment variable and no file changes what it checks.

mod target;
mod values;

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;

use super::again::Again;
use super::algorithm::{Algorithm, Hashing};
use super::formats::Format;
use super::manifest::{DEFAULT_PATH, Hash};
use super::oms::authority::Authority;
use super::oms::{Allowance, Policy};
use values::{absolute, layout, number, once, parse_layout, relative, text, value};

pub use target::{DigestArgs, Layout, ManifestArg, SignatureArg, Target};
pub use values::{allowances, authority, formats, parse_pinned, parse_revision, parse_shard_size};

/// The text of `--help`.
pub const HELP: &str = "\
weightlock-verify: checks that a directory holds exactly the files of a manifest, and that the manifest is the pinned one

Usage:
  weightlock-verify [--report text|json] [--threads N] GROUP...
      GROUP: --artifact NAME --digest sha256:HEX --root DIR [--path DIR]
             (--manifest FILE | --manifest-inline JSON | --manifest-dir DIR)
             [--layout HuggingFaceCache --revision COMMIT] [--formats NAME,…]
             [--signature FILE --authority JSON... [--allow-signed NAMES]]
      A group begins with --artifact; each is verified.
  weightlock-verify [--report text|json] --every SECONDS --max-bytes-per-second N GROUP...
      Waits, verifies in the background, and begins anew, until something is not as it was.
  weightlock-verify digest --root DIR [--path DIR] [--manifest FILE] [--layout HuggingFaceCache --revision COMMIT]
                           [--hash NAME] [--shard-size SIZE] [--max-files N] [--threads N] [--write-manifest]
      Hashes a directory and prints its manifest, a line for each file; with --write-manifest it is written to FILE instead.

  --root DIR               the volume, as it is mounted
  --path DIR               directory of the artifact in the volume
  --manifest FILE          the manifest, relative to that directory: a file that is not part of the artifact
                           (digest --write-manifest: .weightlock/manifest.json unless given)
  --manifest-inline JSON   the manifest itself: {\"files\":[{\"path\":…,\"sha256\":…,\"size\":…}],\"version\":1}
  --manifest-dir DIR       a directory with the manifest in shards, files 0, 1, 2 and so on: a volume of ConfigMaps
  --signature FILE         an OMS v1.0 signature, relative to that directory: it must hold besides the digest
  --authority JSON         who may have signed: an entry of the artifact's spec.signature.authorities; any will do
  --allow-signed NAMES     of IgnorePaths,Symlinks,StatementV01: how it may have been signed besides
  --hash NAME              sha256 (default), blake2b or blake3
  --threads N              as many threads; the CPU limit of the container decides unless given
  --shard-size SIZE        hash files in parts of this size, such as 1Gi; each file whole unless given
  --layout HuggingFaceCache --revision COMMIT
                           the directory is one repository of Hugging Face's cache: the artifact is snapshots/COMMIT with its
                           links followed into blobs/, and nothing else may be in the directory
  --formats NAME,…         what the content of the files may be, recognised by its bytes: Safetensors, GGUF, ONNX, Pickle,
                           NumPy, HDF5, TensorFlow, Other; text, images and tokenizers always may be there

Exit codes:
  0 verified
  10 wrong arguments            11 manifest missing or unreadable   12 manifest invalid
  13 manifest not the pinned    14 signature missing or unreadable  15 signature invalid
  16 signer not trusted         17 signed in a way not allowed      20 content or size differs
  21 file that is not listed    22 listed file missing              23 link, device or the like
  24 format not allowed         25 changed since it was verified    26 layout broken
  30 something cannot be read
  31 too many files (digest)    32 result cannot be written         130, 143 ended by a signal
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Verify artifacts.
    Verify {
        /// The artifacts, in the order given; at least one.
        targets: Vec<Target>,
        /// How to report.
        report: ReportFormat,
        /// On how many threads; as many as the container has cores unless given.
        threads: Option<NonZeroUsize>,
        /// Whether to verify again and again, and how.
        again: Option<Again>,
    },
    /// Make a manifest.
    Digest(DigestArgs),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Why the arguments are wrong, and what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UsageError {
    /// Nothing to verify.
    #[error("no artifact given: begin with --artifact NAME (see --help)")]
    Nothing,
    /// Not an option of this command, or a malformed one.
    #[error("{0} (see --help)")]
    Unknown(String),
    /// An option before the first group.
    #[error("--{0} is given before --artifact: each group begins with --artifact NAME")]
    BeforeGroup(&'static str),
    /// An option twice.
    #[error("--{option} is given twice{place}: give it once")]
    Repeated {
        /// The option.
        option: &'static str,
        /// In which group.
        place: String,
    },
    /// An option too few.
    #[error("--{option} is missing{place}: add it")]
    Absent {
        /// The option.
        option: &'static str,
        /// In which group.
        place: String,
    },
    /// More than one source of a manifest.
    #[error(
        "more than one of --manifest, --manifest-inline and --manifest-dir is given for artifact {0:?}: give one of them"
    )]
    TwoManifests(String),
    /// A value that cannot be.
    #[error("--{option} {value:?} {problem}")]
    Value {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self::Unknown(error.to_string())
    }
}

#[derive(Default)]
struct Group {
    artifact: String,
    digest: Option<Hash>,
    root: Option<PathBuf>,
    path: Option<String>,
    manifest: Option<ManifestArg>,
    layout: Option<()>,
    revision: Option<String>,
    formats: Option<Vec<Format>>,
    signature: Option<String>,
    authorities: Vec<Authority>,
    allow: Option<Vec<Allowance>>,
}

impl Group {
    fn place(&self) -> String {
        format!(" for artifact {:?}", self.artifact)
    }

    fn finish(self) -> Result<Target, UsageError> {
        let place = self.place();
        let absent = |option| UsageError::Absent { option, place: place.clone() };
        let signature = match (self.signature, self.authorities) {
            (Some(_), none) if none.is_empty() => return Err(absent("authority")),
            (Some(path), authorities) => {
                let policy = Policy { authorities, allow: self.allow.unwrap_or_default() };
                Some(SignatureArg { path, policy })
            }
            (None, none) if none.is_empty() && self.allow.is_none() => None,
            (None, _) => return Err(absent("signature")),
        };
        Ok(Target {
            signature,
            beside: Vec::new(),
            digest: self.digest.ok_or_else(|| absent("digest"))?,
            root: self.root.ok_or_else(|| absent("root"))?,
            manifest: self.manifest.ok_or_else(|| absent("manifest"))?,
            path: self.path,
            layout: layout(self.layout, self.revision, &place)?,
            formats: self.formats.unwrap_or_default(),
            artifact: self.artifact,
        })
    }
}

/// Parses the arguments, the name of the program left out.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("digest") => parse_digest(&args[1..]),
        _ => parse_verify(&args),
    }
}

fn parse_verify(args: &[OsString]) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut report, mut threads, mut every, mut rate) = (None, None, None, None);
    let mut targets = Vec::new();
    let mut current: Option<Group> = None;
    while let Some(option) = parser.next()? {
        let name = match option {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("version") => return Ok(Command::Version),
            Arg::Long("artifact") => {
                let artifact = text("artifact", &mut parser)?;
                if artifact.is_empty() {
                    return Err(value("artifact", &artifact, "is empty: give the name of the WeightArtifact"));
                }
                if let Some(group) = current.replace(Group { artifact, ..Group::default() }) {
                    targets.push(group.finish()?);
                }
                continue;
            }
            Arg::Long("report") => {
                let format = text("report", &mut parser)?;
                let format = match format.as_str() {
                    "text" => ReportFormat::Text,
                    "json" => ReportFormat::Json,
                    _ => return Err(value("report", &format, "is neither text nor json")),
                };
                once("report", &mut report, format, String::new())?;
                continue;
            }
            Arg::Long("threads") => {
                once("threads", &mut threads, number("threads", &text("threads", &mut parser)?)?, String::new())?;
                continue;
            }
            Arg::Long("every") => {
                once("every", &mut every, number("every", &text("every", &mut parser)?)?, String::new())?;
                continue;
            }
            Arg::Long("max-bytes-per-second") => {
                let given = text("max-bytes-per-second", &mut parser)?;
                once("max-bytes-per-second", &mut rate, number("max-bytes-per-second", &given)?, String::new())?;
                continue;
            }
            Arg::Long("digest") => "digest",
            Arg::Long("root") => "root",
            Arg::Long("path") => "path",
            Arg::Long("manifest") => "manifest",
            Arg::Long("manifest-inline") => "manifest-inline",
            Arg::Long("manifest-dir") => "manifest-dir",
            Arg::Long("formats") => "formats",
            Arg::Long("layout") => "layout",
            Arg::Long("revision") => "revision",
            Arg::Long("signature") => "signature",
            Arg::Long("authority") => "authority",
            Arg::Long("allow-signed") => "allow-signed",
            other => return Err(other.unexpected().into()),
        };
        let group = current.as_mut().ok_or(UsageError::BeforeGroup(name))?;
        let place = group.place();
        let given = text(name, &mut parser)?;
        match name {
            "digest" => once(name, &mut group.digest, parse_pinned(&given)?, place)?,
            "root" => once(name, &mut group.root, absolute(name, &given)?, place)?,
            "path" => once(name, &mut group.path, relative(name, given)?, place)?,
            "layout" => once(name, &mut group.layout, parse_layout(&given)?, place)?,
            "revision" => once(name, &mut group.revision, parse_revision(given)?, place)?,
            "formats" => once(name, &mut group.formats, formats(&given)?, place)?,
            "signature" => once(name, &mut group.signature, relative(name, given)?, place)?,
            "authority" => group.authorities.push(authority(&given)?),
            "allow-signed" => once(name, &mut group.allow, allowances(&given)?, place)?,
            _ => {
                let manifest = match name {
                    "manifest" => ManifestArg::Path(relative("manifest", given)?),
                    "manifest-dir" => ManifestArg::Shards(absolute(name, &given)?),
                    _ => ManifestArg::Inline(given),
                };
                let same = |held: &ManifestArg| std::mem::discriminant(held) == std::mem::discriminant(&manifest);
                if group.manifest.as_ref().is_some_and(|held| !same(held)) {
                    return Err(UsageError::TwoManifests(group.artifact.clone()));
                }
                once(name, &mut group.manifest, manifest, place)?;
            }
        }
    }
    targets.push(current.ok_or(UsageError::Nothing)?.finish()?);
    let again = again(every, rate)?;
    if again.is_some() && threads.is_some() {
        return Err(UsageError::Unknown("--threads and --every are both given: re-verification has one thread".into()));
    }
    Ok(Command::Verify { targets, report: report.unwrap_or_default(), threads, again })
}

fn again(every: Option<NonZeroU64>, rate: Option<NonZeroU64>) -> Result<Option<Again>, UsageError> {
    let absent = |option| UsageError::Absent { option, place: " for re-verification".into() };
    match (every, rate) {
        (None, None) => Ok(None),
        (Some(every), Some(max_bytes_per_second)) => {
            Ok(Some(Again { every: Duration::from_secs(every.get()), max_bytes_per_second }))
        }
        (None, Some(_)) => Err(absent("every")),
        (Some(_), None) => Err(absent("max-bytes-per-second")),
    }
}

fn parse_digest(args: &[OsString]) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut root_dir, mut path, mut manifest, mut max_files, mut write) = (None, None, None, None, None);
    let (mut algorithm, mut shard_size, mut threads) = (None, None, None);
    let (mut given_layout, mut revision) = (None, None);
    while let Some(option) = parser.next()? {
        match option {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("root") => {
                once("root", &mut root_dir, absolute("root", &text("root", &mut parser)?)?, String::new())?
            }
            Arg::Long("path") => {
                once("path", &mut path, relative("path", text("path", &mut parser)?)?, String::new())?;
            }
            Arg::Long("manifest") => {
                once("manifest", &mut manifest, relative("manifest", text("manifest", &mut parser)?)?, String::new())?;
            }
            Arg::Long("hash") => {
                let given = text("hash", &mut parser)?;
                let hash = Algorithm::parse(&given)
                    .ok_or_else(|| value("hash", &given, "is none of sha256, blake2b and blake3"))?;
                once("hash", &mut algorithm, hash, String::new())?;
            }
            Arg::Long("shard-size") => {
                let given = text("shard-size", &mut parser)?;
                once("shard-size", &mut shard_size, parse_shard_size(&given)?, String::new())?;
            }
            Arg::Long("threads") => {
                once("threads", &mut threads, number("threads", &text("threads", &mut parser)?)?, String::new())?;
            }
            Arg::Long("layout") => {
                once("layout", &mut given_layout, parse_layout(&text("layout", &mut parser)?)?, String::new())?;
            }
            Arg::Long("revision") => {
                once("revision", &mut revision, parse_revision(text("revision", &mut parser)?)?, String::new())?;
            }
            Arg::Long("max-files") => {
                let given = text("max-files", &mut parser)?;
                let number = given.parse().map_err(|_| value("max-files", &given, "is not a number of files"))?;
                once("max-files", &mut max_files, number, String::new())?;
            }
            Arg::Long("write-manifest") => once("write-manifest", &mut write, true, String::new())?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Digest(DigestArgs {
        except: Vec::new(),
        root: root_dir.ok_or(UsageError::Absent { option: "root", place: String::new() })?,
        path,
        manifest: manifest.or_else(|| write.map(|_| DEFAULT_PATH.into())),
        hashing: Hashing { algorithm: algorithm.unwrap_or_default(), shard_size },
        threads,
        layout: layout(given_layout, revision, "")?,
        max_files,
        write_manifest: write.unwrap_or(false),
    }))
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
