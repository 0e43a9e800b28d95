//! `verify`: the verifier on a directory, against a digest, a signature or both.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde_json::{Value, json};

use super::digest::{absolute, style};
use super::error::CliError;
use crate::verifier::args::{
    Layout, ManifestArg, ReportFormat, SignatureArg, Target, UsageError, allowances, authority, formats, parse_pinned,
    parse_revision,
};
use crate::verifier::manifest::{DEFAULT_PATH, check_path};
use crate::verifier::oms::Policy;
use crate::verifier::report::Report;
use crate::verifier::{Surroundings, finish, signed, verify};

/// What is verified.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The directory, as it is mounted here.
    pub directory: PathBuf,
    /// Digest of the manifest, `sha256:…`: spec.manifestDigest of the WeightArtifact. May be left out where there is a signature.
    #[arg(long, required_unless_present = "signature")]
    pub digest: Option<String>,
    /// Directory of the weights in it.
    #[arg(long, value_name = "DIR")]
    pub path: Option<String>,
    /// The manifest in the directory.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, conflicts_with = "manifest_inline")]
    pub manifest: String,
    /// The manifest itself.
    #[arg(long, value_name = "JSON", requires = "digest")]
    pub manifest_inline: Option<String>,
    /// The signature in the directory (OMS v1.0), such as model.sig.
    #[arg(long, value_name = "FILE", requires = "signer")]
    pub signature: Option<String>,
    /// Who must have signed.
    #[command(flatten)]
    pub signer: SignerArgs,
    /// How it may have been signed besides: of IgnorePaths,Symlinks,StatementV01.
    #[arg(long, value_name = "NAMES", requires = "signature")]
    pub allow_signed: Option<String>,
    /// The commit, where the directory is a repository of Hugging Face's cache.
    #[arg(long, value_name = "COMMIT")]
    pub revision: Option<String>,
    /// What the content may be: formats separated by commas.
    #[arg(long, value_name = "FORMATS")]
    pub formats: Option<String>,
    /// How to print.
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub report: String,
}

/// Who must have signed: one of these.
#[derive(Args, Clone, Debug)]
pub struct SignerArgs {
    /// The signer's public key, PEM.
    #[arg(long, value_name = "FILE", group = "signer", requires = "signature")]
    pub public_key: Option<PathBuf>,
    /// Roots of the signer's certificate, PEM; with --identity.
    #[arg(long, value_name = "FILE", group = "signer", requires_all = ["signature", "identity"])]
    pub certificate_roots: Option<PathBuf>,
    /// The e-mail address, URI or DNS name that the certificate must have.
    #[arg(long, value_name = "NAME", requires = "certificate_roots")]
    pub identity: Option<String>,
    /// When the certificate must be valid (RFC 3339); now unless given.
    #[arg(long, value_name = "TIME", requires = "certificate_roots")]
    pub valid_at: Option<String>,
    /// The e-mail address or URI of a keyless signer; with --issuer.
    #[arg(long, value_name = "NAME", group = "signer", requires_all = ["signature", "issuer"])]
    pub sigstore_identity: Option<String>,
    /// The issuer that vouches for that identity.
    #[arg(long, value_name = "URL", requires = "sigstore_identity")]
    pub issuer: Option<String>,
    /// Trusted root of the sigstore instance, JSON; that of the public instance unless given.
    #[arg(long, value_name = "FILE", requires = "sigstore_identity")]
    pub trusted_root: Option<PathBuf>,
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.display().to_string(), source })
}

impl SignerArgs {
    /// The authority as an artifact would have it.
    fn authority(&self) -> Result<Value, CliError> {
        let mut authority = json!({"name": "command-line"});
        if let Some(path) = &self.public_key {
            authority["publicKey"] = json!({"pem": read(path)?});
        }
        if let Some(path) = &self.certificate_roots {
            authority["certificate"] = json!({"rootsPem": read(path)?, "identity": self.identity});
            if let Some(at) = &self.valid_at {
                authority["certificate"]["validAt"] = at.as_str().into();
            }
        }
        if let Some(identity) = &self.sigstore_identity {
            authority["sigstore"] = json!({"identity": identity, "issuer": self.issuer});
            if let Some(path) = &self.trusted_root {
                authority["sigstore"]["trustedRoot"] = read(path)?.into();
            }
        }
        Ok(authority)
    }
}

fn usage(error: &UsageError) -> CliError {
    CliError::Arguments(error.to_string())
}

fn relative(option: &'static str, path: &str) -> Result<String, CliError> {
    let checked = check_path(path);
    checked.map_err(|error| CliError::Value { option, value: path.into(), problem: error.to_string() })?;
    Ok(path.to_owned())
}

/// Verifies, prints, and returns the exit code of the verifier.
///
/// # Errors
/// If an argument cannot be, or a file that it names cannot be read.
pub fn run(args: &VerifyArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, CliError> {
    let root = absolute(&args.directory)?;
    let artifact = root.file_name().map_or_else(|| "weights".into(), |name| name.to_string_lossy().into_owned());
    let report = match args.report.as_str() {
        "text" => ReportFormat::Text,
        "json" => ReportFormat::Json,
        other => {
            let problem = "is neither text nor json".into();
            return Err(CliError::Value { option: "--report", value: other.into(), problem });
        }
    };
    let path = args.path.as_deref().map(|path| relative("--path", path)).transpose()?;
    let layout = match &args.revision {
        None => Layout::Directory,
        Some(commit) => {
            Layout::HuggingFaceCache { revision: parse_revision(commit.clone()).map_err(|error| usage(&error))? }
        }
    };
    let formats = args.formats.as_deref().map(formats).transpose().map_err(|error| usage(&error))?;
    let mut signature = None;
    if let Some(bundle) = &args.signature {
        let authorities = vec![authority(&args.signer.authority()?.to_string()).map_err(|error| usage(&error))?];
        let allow = args.allow_signed.as_deref().map(allowances).transpose().map_err(|error| usage(&error))?;
        let policy = Policy { authorities, allow: allow.unwrap_or_default() };
        signature = Some(SignatureArg { path: relative("--signature", bundle)?, policy });
    }
    // Outside a pod there is no termination message: a path that is a directory is never written to.
    let mut around = Surroundings {
        stdout: out,
        stderr: err,
        style: style(),
        termination_log: Path::new("/"),
        stoppable: &AtomicBool::new(false),
    };
    let mut beside = Vec::new();
    let (digest, manifest) = match (&args.digest, &signature) {
        (Some(digest), _) => {
            let manifest = match &args.manifest_inline {
                Some(json) => ManifestArg::Inline(json.clone()),
                None => ManifestArg::Path(relative("--manifest", &args.manifest)?),
            };
            (parse_pinned(digest).map_err(|error| usage(&error))?, manifest)
        }
        (None, Some(signature)) => {
            match signed::manifest_of(&artifact, signature, &root, path.as_deref(), &layout, &mut beside) {
                Ok(manifest) => {
                    let mut json = Vec::new();
                    manifest.write_canonical(&mut json)?;
                    (manifest.digest(), ManifestArg::Inline(String::from_utf8_lossy(&json).into_owned()))
                }
                Err(findings) => {
                    let refused =
                        Report { hashing: false, ..Report::without_manifest(findings, std::time::Duration::ZERO) };
                    return Ok(finish(&refused, report, &mut around));
                }
            }
        }
        (None, None) => return Err(CliError::Arguments("give --digest, --signature or both".into())),
    };
    let target = Target {
        artifact,
        digest,
        root,
        path,
        manifest,
        signature,
        beside,
        layout,
        formats: formats.unwrap_or_default(),
    };
    Ok(verify(&[target], report, None, &mut around))
}
