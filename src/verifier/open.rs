//! Opens what an artifact is made of: its directory, its manifest, and what is beside its files.

use std::fs::File as StdFile;
use std::path::Path;

use rustix::fs::{FileType, fstat};

use super::args::{ManifestArg, Target};
use super::beneath::{Beneath, OpenError, file_type};
use super::finding::{Finding, Findings, Reason};
use super::manifest::{Manifest, ManifestError};
use super::shards;

/// The directory of an artifact.
pub(super) fn open_directory(
    artifact: &str,
    root: &Path,
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
            findings.add(Finding::new(reason, artifact, &path, detail));
            None
        }
    }
}

/// The directory of an artifact, and its manifest if it is the pinned one.
pub(super) fn open_target(target: &Target, findings: &mut Findings) -> Option<(Beneath, Manifest)> {
    let artifact = &target.artifact;
    let directory = open_directory(artifact, &target.root, target.path.as_deref(), findings)?;
    let manifest = match &target.manifest {
        ManifestArg::Inline(json) => pinned(target, "--manifest-inline", Manifest::parse(json.as_bytes()), findings)?,
        ManifestArg::Shards(shards) => brought(target, shards, findings)?,
        ManifestArg::Path(path) => match open_beside(&directory, path, "manifest", Reason::ManifestMissing) {
            Ok(file) => pinned(target, path, Manifest::parse(file), findings)?,
            Err((reason, detail)) => {
                findings.add(Finding::new(reason, artifact, path, detail));
                return None;
            }
        },
    };
    if let ManifestArg::Path(path) = &target.manifest
        && manifest.find(path).is_some()
    {
        findings.add(Finding::new(Reason::ManifestInvalid, artifact, path, "it lists itself, which cannot be"));
        return None;
    }
    Some((directory, manifest))
}

/// The manifest that was brought to the pod in shards, if it is the pinned one.
pub(super) fn brought(target: &Target, directory: &Path, findings: &mut Findings) -> Option<Manifest> {
    match shards::open(directory) {
        Ok(text) => pinned(target, "--manifest-dir", Manifest::parse(text), findings),
        Err(error) => {
            findings.add(Finding::new(error.reason(), &target.artifact, "--manifest-dir", error.to_string()));
            None
        }
    }
}

/// What was read as the manifest of an artifact, if it is the one that its digest pins.
fn pinned(
    target: &Target,
    place: &str,
    parsed: Result<Manifest, ManifestError>,
    findings: &mut Findings,
) -> Option<Manifest> {
    let manifest = match parsed {
        Ok(manifest) => manifest,
        Err(error) => {
            findings.add(Finding::new(Reason::ManifestInvalid, &target.artifact, place, error.to_string()));
            return None;
        }
    };
    let digest = manifest.digest();
    if digest != target.digest {
        let detail = format!("its digest is {}, the artifact is {}", digest.digest(), target.digest.digest());
        findings.add(Finding::new(Reason::DigestMismatch, &target.artifact, place, detail));
        return None;
    }
    Some(manifest)
}

/// Opens a file that is no part of the artifact: its manifest or its signature.
pub(super) fn open_beside(
    directory: &Beneath,
    path: &str,
    what: &str,
    missing: Reason,
) -> Result<StdFile, (Reason, String)> {
    let fd = directory.open_file(path).map_err(|error| match error {
        OpenError::Symlink => (Reason::Symlink, format!("the {what} is, or is behind, a symbolic link")),
        OpenError::MountPoint => (Reason::MountPoint, "another file system is mounted on the way".into()),
        OpenError::Missing => (missing, format!("the {what} is not there")),
        OpenError::Other(error) => (missing, format!("the {what} cannot be opened: {error}")),
    })?;
    let stat = fstat(&fd).map_err(|error| (missing, format!("the {what} cannot be read: {error}")))?;
    if file_type(&stat) != FileType::RegularFile {
        return Err((missing, format!("the {what} is no regular file")));
    }
    Ok(StdFile::from(fd))
}
