//! Verifies artifacts, and makes manifests. The same for the init container and the command line.

use std::fs::File as StdFile;
use std::marker::PhantomData;

use rustix::fs::{FileType, SeekFrom, fstat, seek};

use super::algorithm::{Digest, Hashing};
use super::args::{DigestArgs, ManifestArg, Target};
use super::beneath::{Beneath, OpenError, file_type};
use super::content;
use super::finding::{Finding, Findings, Reason};
use super::hash::{HashError, Resource};
use super::inode::{Fingerprint, Fingerprints, Inode};
use super::look::{Looked, Place};
use super::manifest::{Bounds, File, MAX_FILES, Manifest, ManifestError, starts};
use super::pool::{How, Resources, hash_all};
use super::progress::Progress;
use super::shards;
use super::signed;
use super::walk::unread;

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
    /// How its files are hashed.
    pub hashing: Hashing,
    /// Number of files in the manifest.
    pub files: usize,
    /// Sum of their sizes.
    pub bytes: u64,
    /// The authority that vouches for them, where a signature was asked for.
    pub authority: Option<String>,
}

/// An artifact of which all but the content is right.
struct Opened<'a> {
    target: &'a Target,
    how: &'a How,
    directory: Beneath,
    manifest: Manifest,
    /// What is signed, where it is hashed in another way than the manifest.
    signed: Option<Manifest>,
    except: Vec<&'a str>,
    prints: Fingerprints,
    looked: Looked,
}

impl Opened<'_> {
    fn place(&self) -> Place<'_> {
        Place {
            artifact: &self.target.artifact,
            directory: &self.directory,
            except: &self.except,
            layout: &self.target.layout,
            prints: &self.prints,
            how: self.how,
        }
    }
}

/// Verifies each target as fast as it can be done.
pub fn verify(targets: &[Target], progress: &mut Progress<'_>) -> Verification {
    verify_as(targets, &How::default(), progress)
}

/// Verifies each target: first all manifests, names, types and sizes; then, if there is nothing wrong with them, the content;
/// then that nothing changed meanwhile.
pub fn verify_as(targets: &[Target], how: &How, progress: &mut Progress<'_>) -> Verification {
    let mut result = Verification::default();
    let mut opened = Vec::new();
    for target in targets {
        let Some((directory, manifest)) = open_target(target, &mut result.findings) else { continue };
        let signed = match &target.signature {
            None => None,
            Some(signature) => {
                match signed::check(&target.artifact, signature, &directory, &manifest, &mut result.findings) {
                    Some(signed) => Some(signed),
                    None => continue,
                }
            }
        };
        let (authority, signed) = signed.map_or((None, None), |signed| (Some(signed.authority), signed.manifest));
        result.artifacts.push(Examined {
            authority,
            artifact: target.artifact.clone(),
            digest: target.digest.digest(),
            hashing: manifest.hashing(),
            files: manifest.files().len(),
            bytes: manifest.total_bytes(),
        });
        let prints = Fingerprints::new(directory.fd());
        let except = target.except(&manifest);
        let looked = Looked::default();
        let mut artifact = Opened { target, how, directory, manifest, signed, except, prints, looked };
        artifact.looked = artifact.place().first(&artifact.manifest, &mut result.findings);
        opened.push(artifact);
    }
    if !result.findings.is_empty() {
        return result;
    }
    for artifact in &opened {
        content::check(
            &artifact.place(),
            &artifact.manifest,
            &artifact.looked,
            &artifact.target.formats,
            &mut result.findings,
        );
    }
    if !result.findings.is_empty() {
        return result;
    }
    result.content_read = true;
    for artifact in &opened {
        hash(artifact, &artifact.manifest, &|index| Some(index), progress, &mut result.findings);
        if let Some(signed) = &artifact.signed {
            let files = signed.files();
            let index = |at: usize| artifact.manifest.find(&files[at].path);
            hash(artifact, signed, &index, progress, &mut result.findings);
        }
    }
    for artifact in &opened {
        let Opened { manifest, looked, .. } = artifact;
        let find = |path: &str| manifest.find(path).map(|index| (index, looked.prints[index]));
        let path = |index: usize| &*manifest.files()[index].path;
        artifact.place().second(looked.prints.len(), &find, &path, &mut result.findings);
    }
    result
}

/// Hashes the content as `manifest` says, which is that of the artifact or what is signed; `listed` tells where a file of it
/// is in that of the artifact.
fn hash(
    opened: &Opened<'_>,
    manifest: &Manifest,
    listed: &(dyn Fn(usize) -> Option<usize> + Sync),
    progress: &mut Progress<'_>,
    findings: &mut Findings,
) {
    let Opened { target, how, directory, prints, looked, .. } = opened;
    let signed = !std::ptr::eq(manifest, &opened.manifest);
    let artifact = &target.artifact;
    let hashing = manifest.hashing();
    let files = Listed::new(hashing, manifest.files().len(), |index| {
        let file = &manifest.files()[index];
        match listed(index) {
            Some(at) => (looked.place(at, &file.path), file.size, Some(looked.prints[at])),
            None => (&*file.path, file.size, None),
        }
    });
    progress.begin(artifact, manifest.total_bytes());
    let mut on_result = |index: usize, result: Result<Digest, HashError>| {
        let (at, shard) = files.place(index);
        let path = &manifest.files()[at].path;
        let expected = manifest.digest_of(at, shard);
        match result {
            Ok(found) if Some(found) == expected => {}
            Ok(found) => {
                let expected = expected.map(|digest| digest.to_string()).unwrap_or_default();
                if signed {
                    let algorithm = hashing.algorithm;
                    let detail = format!("{algorithm} is {found}, the signature says {expected}");
                    return findings.add(finding(Reason::SignedOtherFiles, artifact, path, detail));
                }
                findings.add(mismatch(artifact, path, directory, &files.get(index), &found, &expected));
            }
            Err(error) => findings.add(unhashed(artifact, path, &error)),
        }
    };
    let results = hash_all(directory, prints, &files, how, progress, &mut on_result);
    progress.end();
    if results != files.count() {
        let detail = format!("{results} of {} digests were computed", files.count());
        findings.add(finding(Reason::UnreadableFile, artifact, "", detail));
    }
}

/// Another digest than the manifest says, and why, where that can be told.
fn mismatch(
    artifact: &str,
    path: &str,
    directory: &Beneath,
    resource: &Resource<'_>,
    found: &Digest,
    expected: &str,
) -> Finding {
    let Resource { range, algorithm, .. } = resource;
    let of = match range {
        None => String::new(),
        Some(range) => format!(" of bytes {} to {}", range.start, range.end),
    };
    let mut detail = format!("{algorithm}{of} is {found}, the manifest says {expected}");
    let reason = match holes(directory, resource) {
        None => Reason::HashMismatch,
        Some((start, end)) => {
            detail += &format!("; nothing was ever written to bytes {start} to {end}");
            Reason::SparseFile
        }
    };
    finding(reason, artifact, path, detail)
}

/// The first hole in a resource, where the file system tells.
fn holes(directory: &Beneath, resource: &Resource<'_>) -> Option<(u64, u64)> {
    let range = resource.bytes();
    let file = directory.open_file(resource.path).ok()?;
    let start = seek(&file, SeekFrom::Hole(range.start)).ok()?;
    if start >= range.end {
        return None;
    }
    // There is no data after the last hole.
    let end = seek(&file, SeekFrom::Data(start)).unwrap_or(range.end);
    Some((start, end.min(range.end)))
}

/// Makes the manifest of a directory, or says what is there that no manifest can list.
pub fn digest(name: &str, args: &DigestArgs, progress: &mut Progress<'_>) -> Result<Manifest, Findings> {
    let mut findings = Findings::default();
    let Some(directory) = open_directory(name, &args.root, args.path.as_deref(), &mut findings) else {
        return Err(findings);
    };
    let prints = Fingerprints::new(directory.fd());
    let how = How::on(args.threads);
    let except: Vec<&str> =
        args.manifest.as_deref().into_iter().chain(args.except.iter().map(String::as_str)).collect();
    let place = Place {
        artifact: name,
        directory: &directory,
        except: &except,
        layout: &args.layout,
        prints: &prints,
        how: &how,
    };
    let (files, looked) = list(&place, args, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    let hashing = args.hashing;
    let bytes = hashing.algorithm.digest_bytes();
    let listed = Listed::new(hashing, files.len(), |index| {
        let File { path, size } = &files[index];
        (looked.place(index, path), *size, Some(looked.prints[index]))
    });
    let mut digests = vec![0; listed.count() * bytes];
    progress.begin(name, files.iter().map(|file| file.size).sum());
    let mut on_result = |index: usize, result: Result<Digest, HashError>| match result {
        Ok(digest) => digests[index * bytes..(index + 1) * bytes].copy_from_slice(digest.as_bytes()),
        Err(error) => findings.add(unhashed(name, &files[listed.place(index).0].path, &error)),
    };
    let results = hash_all(&directory, &prints, &listed, &how, progress, &mut on_result);
    progress.end();
    if results != listed.count() {
        let detail = format!("{results} of {} digests were computed", listed.count());
        findings.add(finding(Reason::UnreadableFile, name, "", detail));
    }
    let find = |path: &str| {
        files.binary_search_by(|file| (*file.path).cmp(path)).ok().map(|index| (index, looked.prints[index]))
    };
    place.second(files.len(), &find, &|index: usize| &*files[index].path, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    Manifest::new(hashing, files, digests).map_err(|error| {
        findings.add(match error {
            ManifestError::Empty => finding(Reason::MissingFile, name, "", "there is no file at all"),
            error => finding(Reason::ManifestInvalid, name, "", error.to_string()),
        });
        findings
    })
}

/// The files of a directory, sorted by the bytes of their paths, and how each was seen.
fn list(place: &Place<'_>, args: &DigestArgs, findings: &mut Findings) -> (Vec<File>, Looked) {
    let name = place.artifact;
    let limit = args.max_files.unwrap_or(MAX_FILES as u64);
    let mut listed: Vec<(File, Fingerprint)> = Vec::new();
    let mut places: Vec<Box<str>> = Vec::new();
    let mut bounds = Bounds::default();
    let mut on_file = |path: &str, at: &str, inode: &Inode, findings: &mut Findings| {
        if listed.len() as u64 == limit {
            let detail = format!("this is one file more than the {limit} that are allowed");
            return findings.add(finding(Reason::TooManyFiles, name, path, detail));
        }
        match bounds.add(path.len(), args.hashing.digests(inode.size)) {
            Ok(()) => {
                listed.push((File { path: path.into(), size: inode.size }, place.prints.of(inode)));
                if place.moves() {
                    places.push(at.into());
                }
            }
            Err(error) => findings.add(finding(Reason::TooManyFiles, name, path, error.to_string())),
        }
    };
    place.walk(&mut on_file, findings);
    // Where files have places, they come in order.
    listed.sort_unstable_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let prints = listed.iter().map(|(_, print)| *print).collect();
    (listed.into_iter().map(|(file, _)| file).collect(), Looked::new(prints, places))
}

/// The files of a list as resources: one for each, or one for each of its shards.
struct Listed<'a, F> {
    hashing: Hashing,
    /// The number of the first shard of each file; empty where files are hashed whole.
    starts: Vec<u32>,
    count: usize,
    file: F,
    paths: PhantomData<&'a str>,
}

impl<'a, F: Fn(usize) -> (&'a str, u64, Option<Fingerprint>)> Listed<'a, F> {
    fn new(hashing: Hashing, files: usize, file: F) -> Self {
        let (starts, count) = match hashing.shard_size {
            None => (Vec::new(), files),
            Some(_) => starts(hashing, (0..files).map(|index| file(index).1)),
        };
        Self { hashing, starts, count, file, paths: PhantomData }
    }

    /// The file and the shard of the resource at this index.
    fn place(&self, index: usize) -> (usize, usize) {
        if self.starts.is_empty() {
            return (index, 0);
        }
        // Of files that begin at the same number, the last is the one that has a shard.
        let file = self.starts.partition_point(|start| *start as usize <= index).saturating_sub(1);
        (file, index - self.starts[file] as usize)
    }
}

impl<'a, F: Fn(usize) -> (&'a str, u64, Option<Fingerprint>) + Sync> Resources for Listed<'a, F> {
    fn count(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Resource<'_> {
        let (file, shard) = self.place(index);
        let (path, size, listed) = (self.file)(file);
        self.hashing.resource(path, size, shard as u64, listed)
    }
}

fn finding(reason: Reason, artifact: &str, path: &str, detail: impl Into<String>) -> Finding {
    Finding { reason, artifact: artifact.into(), path: path.into(), detail: detail.into() }
}

pub(super) fn open_directory(
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
        ManifestArg::Inline(json) => ("--manifest-inline", Manifest::parse(json.as_bytes())),
        ManifestArg::Shards(directory) => match shards::open(directory) {
            Ok(text) => ("--manifest-dir", Manifest::parse(text)),
            Err(error) => {
                findings.add(finding(error.reason(), artifact, "--manifest-dir", error.to_string()));
                return None;
            }
        },
        ManifestArg::Path(path) => match open_beside(&directory, path, "manifest", Reason::ManifestMissing) {
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

/// Why a file has no digest.
pub fn unhashed(artifact: &str, path: &str, error: &HashError) -> Finding {
    let reason = match error {
        HashError::Open(OpenError::Symlink) => Reason::Symlink,
        HashError::Open(OpenError::MountPoint) => Reason::MountPoint,
        HashError::Open(OpenError::Other(errno)) | HashError::Read(errno) => unread(*errno),
        HashError::Truncated => Reason::Truncated,
        HashError::Grew => Reason::Grew,
        HashError::Range { .. } => Reason::SizeMismatch,
        HashError::Open(OpenError::Missing)
        | HashError::NotRegular
        | HashError::Size { .. }
        | HashError::Replaced
        | HashError::Changed(_) => Reason::ChangedWhileRead,
    };
    finding(reason, artifact, path, error.to_string())
}
