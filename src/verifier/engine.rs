//! Verifies artifacts, and makes manifests. The same for the init container and the command line.

use rustix::fs::{SeekFrom, seek};

use super::algorithm::{Digest, Hashing};
use super::args::{DigestArgs, Target};
use super::beneath::{Beneath, OpenError};
use super::content;
use super::finding::{Finding, Findings, Reason};
use super::hash::{HashError, Resource};
use super::inode::{Fingerprint, Fingerprints, Inode};
use super::listed::Listed;
use super::look::{Looked, Place};
use super::manifest::{Bounds, File, Files, MAX_FILES, Manifest, ManifestError, rearrange};
use super::open::{open_directory, open_target};
use super::pool::{How, Resources as _, hash_all};
use super::progress::Progress;
use super::signed::{self, Otherwise};
use super::texts::Texts;
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
    otherwise: Option<Otherwise>,
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
        let (authority, otherwise) = signed.map_or((None, None), |signed| (Some(signed.authority), signed.otherwise));
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
        let mut artifact = Opened { target, how, directory, manifest, otherwise, except, prints, looked };
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
    for artifact in &mut opened {
        hash(artifact, None, progress, &mut result.findings);
        let Some(mut otherwise) = artifact.otherwise.take() else { continue };
        match otherwise.replace_digests(&artifact.target.artifact, &mut artifact.manifest) {
            Ok(()) => hash(artifact, Some(&otherwise), progress, &mut result.findings),
            Err(finding) => result.findings.add(finding),
        }
    }
    for artifact in &opened {
        let Opened { manifest, looked, .. } = artifact;
        let find = |path: &str| manifest.find(path).map(|index| (index, looked.prints[index]));
        let path = |index: usize| manifest.files().at(index).path;
        artifact.place().second(looked.prints.len(), &find, &path, &mut result.findings);
    }
    result
}

/// Hashes the content, as the manifest says or, once its digests were replaced, as the signer did.
fn hash(opened: &Opened<'_>, otherwise: Option<&Otherwise>, progress: &mut Progress<'_>, findings: &mut Findings) {
    let Opened { target, how, directory, manifest, prints, looked, .. } = opened;
    let artifact = &target.artifact;
    let hashing = manifest.hashing();
    let files = Listed::new(hashing, manifest.files().len(), |index| {
        let file = manifest.files().at(index);
        (looked.place(index, file.path), file.size, Some(looked.prints[index]))
    });
    progress.begin(artifact, manifest.total_bytes());
    let mut on_result = |index: usize, result: Result<Digest, HashError>| {
        let (at, shard) = files.place(index);
        let path = manifest.files().at(at).path;
        let expected = manifest.digest_of(at, shard);
        match result {
            Ok(found) if Some(found) == expected => {}
            Ok(_) if otherwise.is_some_and(|otherwise| otherwise.leaves_out(at)) => {}
            Ok(found) => {
                let expected = expected.map(|digest| digest.to_string()).unwrap_or_default();
                if otherwise.is_some() {
                    let algorithm = hashing.algorithm;
                    let detail = format!("{algorithm} is {found}, the signature says {expected}");
                    return findings.add(Finding::new(Reason::SignedOtherFiles, artifact, path, detail));
                }
                findings.add(mismatch(artifact, path, directory, &files.get(index), &found, &expected));
            }
            Err(error) => findings.add(unhashed(artifact, path, &error)),
        }
    };
    let done = hash_all(directory, prints, &files, how, progress, &mut on_result);
    progress.end();
    if let Err(error) = done {
        findings.add(Finding::new(Reason::UnreadableFile, artifact, "", error.to_string()));
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
    Finding::new(reason, artifact, path, detail)
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
        let File { path, size } = files.at(index);
        (looked.place(index, path), size, Some(looked.prints[index]))
    });
    let mut digests = vec![0; listed.count() * bytes];
    progress.begin(name, files.iter().map(|file| file.size).sum());
    let mut on_result = |index: usize, result: Result<Digest, HashError>| match result {
        Ok(digest) => digests[index * bytes..(index + 1) * bytes].copy_from_slice(digest.as_bytes()),
        Err(error) => findings.add(unhashed(name, files.at(listed.place(index).0).path, &error)),
    };
    let done = hash_all(&directory, &prints, &listed, &how, progress, &mut on_result);
    progress.end();
    if let Err(error) = done {
        findings.add(Finding::new(Reason::UnreadableFile, name, "", error.to_string()));
    }
    let find = |path: &str| files.find(path).map(|index| (index, looked.prints[index]));
    place.second(files.len(), &find, &|index: usize| files.at(index).path, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    Manifest::new(hashing, files, digests).map_err(|error| {
        findings.add(match error {
            ManifestError::Empty => Finding::new(Reason::MissingFile, name, "", "there is no file at all"),
            error => Finding::new(Reason::ManifestInvalid, name, "", error.to_string()),
        });
        findings
    })
}

/// The files of a directory, sorted by the bytes of their paths, and how each was seen.
fn list(place: &Place<'_>, args: &DigestArgs, findings: &mut Findings) -> (Files, Looked) {
    let name = place.artifact;
    let limit = args.max_files.unwrap_or(MAX_FILES as u64);
    let (mut files, mut prints) = (Files::default(), Vec::<Fingerprint>::new());
    let (mut places, mut bounds) = (Texts::default(), Bounds::default());
    let mut on_file = |path: &str, at: &str, inode: &Inode, findings: &mut Findings| {
        if files.len() as u64 == limit {
            let detail = format!("this is one file more than the {limit} that are allowed");
            return findings.add(Finding::new(Reason::TooManyFiles, name, path, detail));
        }
        let digests = args.hashing.digests(inode.size);
        let placed = if place.moves() { bounds.add(path.len() + at.len(), digests) } else { Ok(()) };
        match placed.and_then(|()| files.push(path, inode.size, digests)) {
            Ok(()) => {
                prints.push(place.prints.of(inode));
                if place.moves() {
                    places.push(at);
                }
            }
            Err(error) => findings.add(Finding::new(Reason::TooManyFiles, name, path, error.to_string())),
        }
    };
    place.walk(&mut on_file, findings);
    if let Some(order) = files.sort() {
        rearrange(order, &mut |one, other| {
            prints.swap(one, other);
            if place.moves() {
                places.swap(one, other);
            }
        });
    }
    (files, Looked::new(prints, places))
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
    Finding::new(reason, artifact, path, error.to_string())
}
