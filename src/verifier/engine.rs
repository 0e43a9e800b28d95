//! Verifies artifacts, and makes manifests. The same for the init container and the command line.

use std::fs::File as StdFile;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::args::{DigestArgs, ManifestArg, Target};
use super::beneath::{Beneath, OpenError, file_type};
use super::finding::{Finding, Findings, Reason};
use super::hash::{HashError, Hasher};
use super::manifest::{File, Manifest, ManifestError};
use super::progress::Progress;
use super::walk::walk;

/// What became of a verification.
#[derive(Debug, Default)]
pub struct Verification {
    /// One for each artifact whose manifest was accepted.
    pub artifacts: Vec<Examined>,
    /// What is wrong. Only without any is the verification a success.
    pub findings: Findings,
    /// Whether the content was read. It is not where names, sizes or types alone are reason to refuse.
    pub content_read: bool,
}

/// An artifact whose manifest is the pinned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Name.
    pub artifact: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Number of files in the manifest.
    pub files: usize,
    /// Sum of their sizes.
    pub bytes: u64,
}

struct Opened {
    artifact: String,
    directory: Beneath,
    manifest: Manifest,
}

/// Verifies each target: first all manifests, names, types and sizes, then, if there is nothing wrong with them, the content.
pub fn verify(targets: &[Target], progress: &mut Progress<'_>) -> Verification {
    let mut result = Verification::default();
    let mut opened = Vec::new();
    for target in targets {
        let Some((directory, manifest)) = open_target(target, &mut result.findings) else { continue };
        result.artifacts.push(Examined {
            artifact: target.artifact.clone(),
            digest: target.digest.digest(),
            files: manifest.files().len(),
            bytes: manifest.total_bytes(),
        });
        compare_names(target, &directory, &manifest, &mut result.findings);
        opened.push(Opened { artifact: target.artifact.clone(), directory, manifest });
    }
    if !result.findings.is_empty() {
        return result;
    }
    result.content_read = true;
    let mut hasher = Hasher::default();
    for artifact in &opened {
        progress.begin(&artifact.artifact, artifact.manifest.total_bytes());
        for file in artifact.manifest.files() {
            match hasher.hash(&artifact.directory, &file.path, file.size, progress) {
                Ok(hash) if hash == file.sha256 => {}
                Ok(hash) => {
                    let detail = format!("sha256 is {hash}, the manifest says {}", file.sha256);
                    result.findings.add(finding(Reason::HashMismatch, &artifact.artifact, &file.path, detail));
                }
                Err(error) => result.findings.add(unhashed(&artifact.artifact, &file.path, error)),
            }
        }
        progress.end();
    }
    result
}

/// Makes the manifest of a directory, or says what is there that no manifest can list.
pub fn digest(name: &str, args: &DigestArgs, progress: &mut Progress<'_>) -> Result<Manifest, Findings> {
    let mut findings = Findings::default();
    let Some(directory) = open_directory(name, &args.root, args.path.as_deref(), &mut findings) else {
        return Err(findings);
    };
    let limit = args.max_files.unwrap_or(super::manifest::MAX_FILES as u64);
    let mut sizes: Vec<(String, u64)> = Vec::new();
    let mut on_file = |path: &str, stat: &rustix::fs::Stat, findings: &mut Findings| {
        if sizes.len() as u64 == limit {
            let detail = format!("this is one file more than the {limit} that are allowed");
            findings.add(finding(Reason::TooManyFiles, name, path, detail));
        } else {
            sizes.push((path.to_owned(), u64::try_from(stat.st_size).unwrap_or(0)));
        }
    };
    walk(&directory, name, args.manifest.as_deref(), &mut on_file, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    sizes.sort_unstable();
    progress.begin(name, sizes.iter().map(|(_, size)| size).sum());
    let mut hasher = Hasher::default();
    let mut files = Vec::with_capacity(sizes.len());
    for (path, size) in sizes {
        match hasher.hash(&directory, &path, size, progress) {
            Ok(sha256) => files.push(File { path: path.into(), sha256, size }),
            Err(error) => findings.add(unhashed(name, &path, error)),
        }
    }
    progress.end();
    if !findings.is_empty() {
        return Err(findings);
    }
    Manifest::new(files).map_err(|error| {
        findings.add(match error {
            ManifestError::Empty => finding(Reason::MissingFile, name, "", "there is no file at all"),
            error => finding(Reason::ManifestInvalid, name, "", error.to_string()),
        });
        findings
    })
}

fn finding(reason: Reason, artifact: &str, path: &str, detail: impl Into<String>) -> Finding {
    Finding { reason, artifact: artifact.into(), path: path.into(), detail: detail.into() }
}

fn open_directory(
    artifact: &str,
    root: &std::path::Path,
    path: Option<&str>,
    findings: &mut Findings,
) -> Option<Beneath> {
    let opened = Beneath::open(root).map_err(|error| (root.display().to_string(), error)).and_then(|root| match path {
        None => Ok(root),
        Some(path) => root.subdirectory(path).map_err(|error| (path.to_owned(), error)),
    });
    match opened {
        Ok(directory) => Some(directory),
        Err((path, error)) => {
            let (reason, detail) = match error {
                OpenError::Missing => (Reason::MissingFile, "there is no such directory".to_string()),
                OpenError::Symlink => (Reason::Symlink, "there is a symbolic link on the way".into()),
                OpenError::MountPoint => (Reason::MountPoint, "another file system is mounted on the way".into()),
                OpenError::Other(error) => (Reason::UnreadableDirectory, format!("cannot be opened: {error}")),
            };
            findings.add(finding(reason, artifact, &path, detail));
            None
        }
    }
}

fn open_target(target: &Target, findings: &mut Findings) -> Option<(Beneath, Manifest)> {
    let artifact = &target.artifact;
    let directory = open_directory(artifact, &target.root, target.path.as_deref(), findings)?;
    let (place, parsed) = match &target.manifest {
        ManifestArg::Inline(_) => ("--manifest-inline", target.inline()?),
        ManifestArg::Path(path) => match open_manifest(&directory, path) {
            Ok(file) => (path.as_str(), Manifest::parse(file)),
            Err((reason, detail)) => {
                findings.add(finding(reason, artifact, path, detail));
                return None;
            }
        },
    };
    let manifest = match parsed {
        Ok(manifest) => manifest,
        Err(error) => {
            findings.add(finding(Reason::ManifestInvalid, artifact, place, error.to_string()));
            return None;
        }
    };
    let digest = manifest.digest();
    if digest != target.digest {
        let detail = format!("its digest is {}, the artifact is {}", digest.digest(), target.digest.digest());
        findings.add(finding(Reason::DigestMismatch, artifact, place, detail));
        return None;
    }
    if let ManifestArg::Path(path) = &target.manifest
        && manifest.find(path).is_some()
    {
        findings.add(finding(Reason::ManifestInvalid, artifact, path, "it lists itself, which cannot be"));
        return None;
    }
    Some((directory, manifest))
}

fn open_manifest(directory: &Beneath, path: &str) -> Result<StdFile, (Reason, String)> {
    let fd = directory.open_file(path).map_err(|error| match error {
        OpenError::Symlink => (Reason::Symlink, "the manifest is, or is behind, a symbolic link".to_string()),
        OpenError::MountPoint => (Reason::MountPoint, "another file system is mounted on the way".into()),
        OpenError::Missing => (Reason::ManifestMissing, "the manifest is not there".into()),
        OpenError::Other(error) => (Reason::ManifestMissing, format!("the manifest cannot be opened: {error}")),
    })?;
    let stat =
        fstat(&fd).map_err(|error| (Reason::ManifestMissing, format!("the manifest cannot be read: {error}")))?;
    if file_type(&stat) != FileType::RegularFile {
        return Err((Reason::ManifestMissing, "the manifest is no regular file".into()));
    }
    Ok(StdFile::from(fd))
}

fn compare_names(target: &Target, directory: &Beneath, manifest: &Manifest, findings: &mut Findings) {
    let artifact = &target.artifact;
    let mut seen = vec![false; manifest.files().len()];
    let mut on_file = |path: &str, stat: &rustix::fs::Stat, findings: &mut Findings| {
        let Some(index) = manifest.find(path) else {
            return findings.add(finding(Reason::ExtraFile, artifact, path, "the manifest does not list it"));
        };
        seen[index] = true;
        let (size, expected) = (u64::try_from(stat.st_size).unwrap_or(0), manifest.files()[index].size);
        if size != expected {
            let detail = format!("it has {size} bytes, the manifest says {expected}");
            findings.add(finding(Reason::SizeMismatch, artifact, path, detail));
        }
    };
    let at = match &target.manifest {
        ManifestArg::Path(path) => Some(path.as_str()),
        ManifestArg::Inline(_) => None,
    };
    let complete = walk(directory, artifact, at, &mut on_file, findings);
    if complete {
        for (file, _) in manifest.files().iter().zip(seen).filter(|(_, seen)| !seen) {
            findings.add(finding(
                Reason::MissingFile,
                artifact,
                &file.path,
                "the manifest lists it, and it is not there",
            ));
        }
    }
}

fn unhashed(artifact: &str, path: &str, error: HashError) -> Finding {
    let reason = match &error {
        HashError::Open(OpenError::Symlink) => Reason::Symlink,
        HashError::Open(OpenError::MountPoint) => Reason::MountPoint,
        HashError::Open(OpenError::Missing) | HashError::Read(Errno::STALE) => Reason::ChangedWhileRead,
        HashError::Open(OpenError::Other(_)) | HashError::Read(_) => Reason::UnreadableFile,
        HashError::NotRegular | HashError::Size { .. } | HashError::Changed(_) => Reason::ChangedWhileRead,
    };
    let detail = match error {
        HashError::Open(error) => format!("cannot be opened: {error}"),
        HashError::Read(error) => format!("cannot be read: {error}"),
        error => error.to_string(),
    };
    finding(reason, artifact, path, detail)
}
