//! `sign`: an OpenSSF Model Signing (OMS) v1.0 signature of a directory.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;

use super::digest::{absolute, style};
use super::error::CliError;
use super::keys::{PASSWORD_VARIABLE, PrivateKey};
use crate::verifier::algorithm::{Algorithm, Hashing};
use crate::verifier::args::{DigestArgs as EngineArgs, Layout};
use crate::verifier::engine;
use crate::verifier::manifest::{DEFAULT_PATH, Manifest, check_path};
use crate::verifier::oms::bundle::{DEFAULT_NAME, MEDIA_TYPE, PAYLOAD_TYPE};
use crate::verifier::oms::files::{DEFAULT_SHARD_SIZE, Digest};
use crate::verifier::oms::keys::PublicKey;
use crate::verifier::oms::payload::pre_authentication_encoding;
use crate::verifier::oms::statement::{GIT_PATHS, PREDICATE_TYPE, STATEMENT_TYPE};
use crate::verifier::progress::Progress;
use crate::verifier::report::Report;

/// What is signed, and how.
#[derive(Args, Clone, Debug)]
pub struct SignArgs {
    /// The directory.
    pub directory: PathBuf,
    /// The private key, PEM: ECDSA on P-256, P-384 or P-521. The password of an encrypted key is read from --password-file,
    /// else from the variable WEIGHTLOCK_KEY_PASSWORD.
    #[arg(long, value_name = "FILE")]
    pub private_key: PathBuf,
    /// File that holds the password of the private key.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Certificate of the key, PEM: the signature then carries it, rather than the fingerprint of the key.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Certificates between that one and the root, PEM. May be repeated.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub certificate_chain: Vec<PathBuf>,
    /// Whether files are hashed whole or in shards.
    #[arg(long, value_enum, default_value = "files")]
    pub method: MethodArg,
    /// Length of a shard in bytes; 1000000000 unless given.
    #[arg(long, value_name = "BYTES")]
    pub shard_size: Option<u64>,
    /// The hash.
    #[arg(long, value_name = "sha256|blake2b|blake3", default_value = "sha256")]
    pub hash: String,
    /// Path to leave out, with all beneath it. May be repeated. An artifact has to allow it (IgnorePaths) if it is there.
    #[arg(long = "ignore-path", value_name = "PATH")]
    pub ignore_paths: Vec<String>,
    /// Where the signature goes; DIRECTORY/model.sig unless given.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// Whether files are hashed whole or in shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// Each file whole.
    Files,
    /// Each file in shards.
    Shards,
}

fn value(option: &'static str, value: impl std::fmt::Display, problem: impl std::fmt::Display) -> CliError {
    CliError::Value { option, value: value.to_string(), problem: problem.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::File { path: path.display().to_string(), source })
}

/// Signs, writes the signature, and says what was signed.
///
/// # Errors
/// If the key or a certificate cannot be used, the directory holds what cannot be signed, or the signature cannot be written.
pub fn run(args: &SignArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let key = PrivateKey::read(&args.private_key, || password(args))?;
    let spki = key.public()?;
    let public =
        PublicKey::from_spki(&spki).map_err(|error| value("--private-key", args.private_key.display(), error))?;
    let certificates = certificates(args, &spki)?;
    let root = absolute(&args.directory)?;
    if !root.is_dir() {
        return Err(value(
            "DIRECTORY",
            args.directory.display(),
            "is no directory: sign the directory that holds the file",
        ));
    }
    let target = args.signature.clone().unwrap_or_else(|| root.join(DEFAULT_NAME));
    let ignored = ignored(args, &root, &target)?;
    let manifest = hash(args, &root, &ignored, err)?;
    let name = root.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let payload = statement(&name, &manifest, &ignored).to_string();
    let message = pre_authentication_encoding(payload.as_bytes());
    let signature = key.sign(&message);
    let mut hasher = public.hasher();
    hasher.update(&message);
    if !public.verifies(hasher, &signature) {
        return Err(value("--private-key", args.private_key.display(), "made a signature that does not verify"));
    }
    let material = match certificates {
        None => json!({"publicKey": {"hint": public.fingerprint()}, "tlogEntries": []}),
        Some(certificates) => {
            let listed: Vec<_> = certificates.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
            json!({"x509CertificateChain": {"certificates": listed}, "tlogEntries": []})
        }
    };
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
        },
    });
    write(&target, bundle.to_string().as_bytes())?;
    let files = manifest.files().len();
    writeln!(out, "Signed: {files} {}, {}", if files == 1 { "file" } else { "files" }, target.display())?;
    writeln!(out, "Key: {}", public.fingerprint())?;
    Ok(out.flush()?)
}

fn password(args: &SignArgs) -> Result<String, CliError> {
    if let Some(file) = &args.password_file {
        let text =
            String::from_utf8(read(file)?).map_err(|_| value("--password-file", file.display(), "is not UTF-8"))?;
        return Ok(text.trim_end_matches(['\r', '\n']).into());
    }
    std::env::var(PASSWORD_VARIABLE).map_err(|_| {
        let problem = format!("is encrypted: give --password-file, or set {PASSWORD_VARIABLE}");
        value("--private-key", args.private_key.display(), problem)
    })
}

/// The certificates that the signature carries, the one of the key first.
fn certificates(args: &SignArgs, spki: &[u8]) -> Result<Option<Vec<Vec<u8>>>, CliError> {
    let Some(leaf) = &args.certificate else { return Ok(None) };
    let mut all = parse_certificates("--certificate", leaf)?;
    if all.len() > 1 {
        return Err(value("--certificate", leaf.display(), "holds several: give the others with --certificate-chain"));
    }
    let parsed = x509_parser::certificate::X509Certificate::from_der(&all[0]);
    let same = parsed.is_ok_and(|(_, certificate)| certificate.public_key().raw == spki);
    if !same {
        return Err(value("--certificate", leaf.display(), "is not of the private key"));
    }
    for path in &args.certificate_chain {
        all.extend(parse_certificates("--certificate-chain", path)?);
    }
    Ok(Some(all))
}

fn parse_certificates(option: &'static str, path: &Path) -> Result<Vec<Vec<u8>>, CliError> {
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| value(option, path.display(), format!("is no certificate in PEM: {error}")))?;
    if found.is_empty() {
        return Err(value(option, path.display(), "has no PEM block \"CERTIFICATE\""));
    }
    Ok(found)
}

/// What is left out: git's files, the signature, Weightlock's manifest, and what the user says.
fn ignored(args: &SignArgs, root: &Path, target: &Path) -> Result<Vec<String>, CliError> {
    let mut ignored: Vec<String> = GIT_PATHS.map(str::to_owned).to_vec();
    for path in &args.ignore_paths {
        let path = path.trim_end_matches('/');
        check_path(path).map_err(|error| value("--ignore-path", path, error))?;
        if path.contains(['*', '?', '[']) {
            return Err(value("--ignore-path", path, "has one of * ? [: it is a path, not a pattern"));
        }
        ignored.push(path.into());
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(parent), Some(name)) = (absolute(parent), target.file_name())
        && let Ok(relative) = parent.join(name).strip_prefix(root)
        && let Some(relative) = relative.to_str()
    {
        ignored.push(relative.into());
    }
    if root.join(DEFAULT_PATH).exists() {
        ignored.push(DEFAULT_PATH.into());
    }
    ignored.sort();
    ignored.dedup();
    Ok(ignored)
}

fn hash(args: &SignArgs, root: &Path, ignored: &[String], err: &mut dyn Write) -> Result<Manifest, CliError> {
    let algorithm = Algorithm::parse(&args.hash)
        .ok_or_else(|| value("--hash", &args.hash, "is none of: sha256, blake2b, blake3"))?;
    let shard_size = match (args.method, args.shard_size) {
        (MethodArg::Files, None) => None,
        (MethodArg::Files, Some(size)) => return Err(value("--shard-size", size, "needs --method shards")),
        (MethodArg::Shards, size) => Some(size.unwrap_or(DEFAULT_SHARD_SIZE)),
    };
    crate::verifier::manifest::check_shard_size(shard_size)
        .map_err(|error| value("--shard-size", shard_size.unwrap_or_default(), error))?;
    let engine_args = EngineArgs {
        root: root.into(),
        path: None,
        manifest: None,
        except: ignored.to_vec(),
        hashing: Hashing { algorithm, shard_size },
        layout: Layout::Directory,
        threads: None,
        max_files: None,
        write_manifest: false,
    };
    let mut progress = Progress::new(style(), err);
    engine::digest("(new)", &engine_args, &mut progress).map_err(|findings| {
        let report = Report::without_manifest(findings, progress.elapsed());
        CliError::Digest { code: report.exit_code(), report: report.text().trim_end().into() }
    })
}

/// The statement, resources in the order of the code points of their names (OMS v1.0, section 5.2.1).
fn statement(name: &str, manifest: &Manifest, ignored: &[String]) -> serde_json::Value {
    let Hashing { algorithm, shard_size } = manifest.hashing();
    let mut resources: Vec<(String, Vec<u8>)> = Vec::new();
    for (index, file) in manifest.files().iter().enumerate() {
        for (shard, digest) in (0..).zip(manifest.digests(index).chunks_exact(algorithm.digest_bytes())) {
            let range = manifest.hashing().range(file.size, shard);
            let name = match shard_size {
                None => file.path.to_string(),
                Some(_) => format!("{}:{}:{}", file.path, range.start, range.end),
            };
            resources.push((name, digest.to_vec()));
        }
    }
    resources.sort_unstable();
    let mut root = Sha256::new();
    resources.iter().for_each(|(_, digest)| root.update(digest));
    let root: [u8; 32] = root.finalize().into();
    let listed: Vec<_> = resources
        .iter()
        .map(|(name, digest)| {
            json!({"name": name, "algorithm": algorithm.name(), "digest": Digest::new(digest).to_string()})
        })
        .collect();
    let mut serialization = json!({
        "method": if shard_size.is_some() { "shards" } else { "files" },
        "hash_type": algorithm.name(),
        "allow_symlinks": false,
        "ignore_paths": ignored,
    });
    if let Some(size) = shard_size {
        serialization["shard_size"] = size.into();
    }
    json!({
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": Digest::new(&root).to_string()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": listed},
    })
}

/// Writes a file all at once or not at all.
fn write(target: &Path, content: &[u8]) -> Result<(), CliError> {
    let failed = |source| CliError::Write { path: target.display().to_string(), source };
    let mut temporary = target.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    std::fs::write(&temporary, content).and_then(|()| std::fs::rename(&temporary, target)).map_err(failed)
}
