//! What is signed, compared with the manifest that the digest pins: both must be of the same files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use time::OffsetDateTime;

use super::algorithm::Hashing;
use super::args::{Layout, SignatureArg};
use super::beneath::Beneath;
use super::finding::{Finding, Findings, Reason};
use super::inode::Fingerprints;
use super::inode::Inode;
use super::look::Place;
use super::manifest::{DEFAULT_PATH, File, Files, Manifest, ManifestError, Places};
use super::oms::files::{Collected, FilesError, Item, SINGLE_FILE};
use super::oms::refusal::Refusal;
use super::oms::statement::Statement;
use super::oms::{Allowance, Signed};
use super::open::{open_beside, open_directory};
use super::pool::How;

/// A signature that holds for the files of a manifest, their content left aside.
#[derive(Debug)]
pub struct Checked {
    /// Name of the authority that vouches for them.
    pub authority: String,
    /// What is signed, where it is hashed in another way than the manifest: the content has to be hashed so as well.
    pub otherwise: Option<Otherwise>,
}

/// The files of a manifest as the signer hashed them. Their digests stay in the bundle until they are needed: with a million
/// files, those of the manifest and these would take more memory than the verifier may.
#[derive(Debug)]
pub struct Otherwise {
    path: String,
    signed: Signed<fs::File>,
    unsigned: Vec<bool>,
}

impl Otherwise {
    /// Whether the file at this index is not signed and need not be.
    pub fn leaves_out(&self, index: usize) -> bool {
        self.unsigned.get(index).copied().unwrap_or_default()
    }

    /// Puts the digests that are signed in the place of those of the manifest.
    ///
    /// # Errors
    /// With what is wrong, if the bundle was changed since it was checked.
    pub fn replace_digests(&mut self, artifact: &str, manifest: &mut Manifest) -> Result<(), Finding> {
        let refused = |refusal: Refusal| Finding::new(refusal.cause, artifact, &self.path, refusal.detail);
        manifest.rehash(self.signed.statement.serialization.hashing).map_err(|error| refused(unverifiable(&error)))?;
        let listed = self.signed.list(&mut |item| {
            if let Some(index) = index_of(manifest, item)
                && let Some(number) = number_of(manifest.places(), index, manifest.files().at(index).size, item)
            {
                manifest.set_digest(number, item.digest.bytes());
            }
            Ok(())
        });
        listed.map_err(refused)
    }
}

fn unverifiable(error: &ManifestError) -> Refusal {
    Refusal::new(Reason::StatementInvalid, format!("what it lists cannot be verified: {error}"))
}

/// The file of a manifest that an item is of.
fn index_of(manifest: &Manifest, item: &Item<'_>) -> Option<usize> {
    if item.path == SINGLE_FILE && manifest.files().len() == 1 { Some(0) } else { manifest.find(item.path) }
}

/// The shard that an item is of, counted from the beginning of the file.
fn shard_of(hashing: Hashing, item: &Item<'_>) -> u64 {
    item.range.as_ref().zip(hashing.shard_size).map_or(0, |(range, shard_size)| range.start / shard_size)
}

/// The number of the digest of an item, of the file at this index and of this size; nothing if the file has no such shard.
fn number_of(places: &Places, index: usize, size: u64, item: &Item<'_>) -> Option<usize> {
    let shard = shard_of(places.hashing(), item);
    (shard < places.hashing().digests(size)).then(|| places.of(index).start + shard as usize)
}

/// Makes the manifest of what is signed, where there is no other: names and digests as the statement has them, sizes as
/// they are. What the signer left out is added to `beside`, if that is allowed.
///
/// # Errors
/// With what is wrong, if the signature does not hold, or what it lists cannot be a manifest.
pub fn manifest_of(
    artifact: &str,
    signature: &SignatureArg,
    root: &Path,
    path: Option<&str>,
    layout: &Layout,
    beside: &mut Vec<String>,
) -> Result<Manifest, Findings> {
    let mut findings = Findings::default();
    let Some(directory) = open_directory(artifact, root, path, &mut findings) else { return Err(findings) };
    let refused = |reason: Reason, path: &str, detail: String| {
        let mut findings = Findings::default();
        findings.add(Finding::new(reason, artifact, path, detail));
        findings
    };
    let mut signed =
        read(signature, &directory).map_err(|(reason, detail)| refused(reason, &signature.path, detail))?;
    let mut collected = Collected::default();
    let listed = signed.list(&mut |item| {
        collected.add(item);
        Ok(())
    });
    let unlisted = |refusal: Refusal| refused(refusal.cause, &signature.path, refusal.detail);
    listed.map_err(unlisted)?;
    let signed_files = collected
        .files()
        .map_err(|error| unlisted(Refusal::new(Reason::StatementInvalid, format!("predicate.resources: {error}"))))?;
    let statement = &signed.statement;
    let listed = |path: &str| signed_files.binary_search_by(|f| f.path.as_bytes().cmp(path.as_bytes())).is_ok();
    let ignoring = signature.policy.allow.contains(&Allowance::IgnorePaths);
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    let mut unsigned = Vec::new();
    let mut on_file = |path: &str, _: &str, inode: &Inode, findings: &mut Findings| {
        let ignored = !listed(path) && statement.ignores(path);
        if (ignored && ignoring) || (path == DEFAULT_PATH && !listed(path)) {
            unsigned.push(path.to_owned());
        } else if ignored {
            let detail = "the signer left it out, and IgnorePaths is not allowed";
            let reason = Reason::SignedWithIgnoredPaths;
            findings.add(Finding::new(reason, artifact, path, detail));
        } else {
            sizes.insert(path.into(), inode.size);
        }
    };
    // Whatever else it finds is found again by the verification.
    let (prints, how) = (Fingerprints::new(directory.fd()), How::default());
    let except = [signature.path.as_str()];
    let place = Place { artifact, directory: &directory, except: &except, layout, prints: &prints, how: &how };
    place.walk(&mut on_file, &mut findings);
    if findings.counts().contains_key(&Reason::SignedWithIgnoredPaths) {
        return Err(findings);
    }
    let hashing = statement.serialization.hashing;
    let mut digests = Vec::new();
    let mut files = Files::default();
    let mut push = |path: &str, size| {
        let pushed = files.push(path, size, hashing.digests(size));
        pushed.map_err(|error| unlisted(unverifiable(&error)))
    };
    for file in &signed_files {
        let path = match (&*file.path, sizes.len()) {
            (SINGLE_FILE, 1) => sizes.keys().next().map_or(SINGLE_FILE, String::as_str),
            (path, _) => path,
        };
        file.digests.iter().for_each(|digest| digests.extend_from_slice(digest.bytes()));
        let size = file.size.or_else(|| sizes.get(path).copied()).unwrap_or(0);
        push(path, size)?;
    }
    if hashing.shard_size.is_some() {
        // Empty files have no shards, so that the statement does not list them.
        let mut empty = sizes.iter().filter(|(path, size)| **size == 0 && !listed(path));
        empty.try_for_each(|(path, _)| push(path, 0))?;
    }
    let manifest = Manifest::new(hashing, files, digests).map_err(|error| unlisted(unverifiable(&error)))?;
    beside.extend(unsigned);
    Ok(manifest)
}

struct Check<'a> {
    artifact: &'a str,
    path: &'a str,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn add(&mut self, reason: Reason, path: &str, detail: impl Into<String>) {
        self.findings.add(Finding::new(reason, self.artifact, path, detail));
    }

    fn refuse(&mut self, reason: Reason, detail: impl Into<String>) {
        let path = self.path;
        self.add(reason, path, detail);
    }
}

/// Reads the bundle beneath a directory and verifies it, what it lists left aside.
///
/// # Errors
/// With the reason and its particulars.
pub fn read(signature: &SignatureArg, directory: &Beneath) -> Result<Signed<fs::File>, (Reason, String)> {
    let file = open_beside(directory, &signature.path, "signature", Reason::SignatureMissing)?;
    signature.policy.verify(file, OffsetDateTime::now_utc()).map_err(|refusal| (refusal.cause, refusal.detail))
}

/// Verifies a signature and that it is of the files of the manifest. Returns nothing where it is not; then there is a finding.
pub fn check(
    artifact: &str,
    signature: &SignatureArg,
    directory: &Beneath,
    manifest: &Manifest,
    findings: &mut Findings,
) -> Option<Checked> {
    let mut check = Check { artifact, path: &signature.path, findings };
    let mut signed = match read(signature, directory) {
        Ok(signed) => signed,
        Err((reason, detail)) => {
            check.refuse(reason, detail);
            return None;
        }
    };
    let ignoring = signature.policy.allow.contains(&Allowance::IgnorePaths);
    let before = check.findings.total();
    let hashing = signed.statement.serialization.hashing;
    let mut comparison = match Comparison::new(manifest, hashing) {
        Ok(comparison) => comparison,
        Err(error) => {
            let refusal = unverifiable(&error);
            check.refuse(refusal.cause, refusal.detail);
            return None;
        }
    };
    let listed = signed.list(&mut |item| comparison.add(item, &mut check));
    if let Err(refusal) = listed {
        check.refuse(refusal.cause, refusal.detail);
        return None;
    }
    let unsigned = comparison.unsigned(&signed.statement, ignoring, &mut check);
    if check.findings.total() > before {
        return None;
    }
    let authority = signed.authority.clone();
    let otherwise = Otherwise { path: signature.path.clone(), signed, unsigned };
    Some(Checked { authority, otherwise: (hashing != manifest.hashing()).then_some(otherwise) })
}

/// What is signed, compared with the manifest while it is read: a second list of all files would take too much memory.
struct Comparison<'m> {
    manifest: &'m Manifest,
    /// Where the digests are as the signer hashed the files.
    places: Cow<'m, Places>,
    /// For each digest, whether it is signed.
    is_signed: Vec<bool>,
}

impl<'m> Comparison<'m> {
    fn new(manifest: &'m Manifest, hashing: Hashing) -> Result<Self, ManifestError> {
        let places = match hashing == manifest.hashing() {
            true => Cow::Borrowed(manifest.places()),
            false => Cow::Owned(manifest.places_as(hashing)?),
        };
        let is_signed = vec![false; places.count()];
        Ok(Self { manifest, places, is_signed })
    }

    fn add(&mut self, item: &Item<'_>, check: &mut Check<'_>) -> Result<(), FilesError> {
        let Item { path, range, digest } = item;
        let Some(index) = index_of(self.manifest, item) else {
            check.add(Reason::SignedOtherFiles, path, "it is signed, and the manifest does not list it");
            return Ok(());
        };
        let (hashing, size) = (self.places.hashing(), self.manifest.files().at(index).size);
        let (shard, number) = (shard_of(hashing, item), number_of(&self.places, index, size, item));
        if let Some(is_signed) = number.and_then(|number| self.is_signed.get_mut(number))
            && std::mem::replace(is_signed, true)
        {
            return Err(item.twice());
        }
        if let Some(range) = range.as_ref().filter(|range| number.is_none() || **range != hashing.range(size, shard)) {
            let detail =
                format!("bytes {} to {} of it are signed, and the manifest says {size}", range.start, range.end);
            check.add(Reason::SignedOtherFiles, path, detail);
            return Ok(());
        }
        let known = self.manifest.digest_of(index, shard as usize);
        if hashing == self.manifest.hashing() && known.is_none_or(|known| known.as_bytes() != digest.bytes()) {
            let detail = format!("another {} of it is signed than the manifest says", hashing.algorithm);
            check.add(Reason::SignedOtherFiles, path, detail);
        }
        Ok(())
    }

    /// For each file, whether it is not signed and need not be; those that have to be are reported.
    fn unsigned(&self, statement: &Statement, ignoring: bool, check: &mut Check<'_>) -> Vec<bool> {
        let files = self.manifest.files().iter().enumerate();
        files.map(|(index, file)| self.is_unsigned(index, file, statement, ignoring, check)).collect()
    }

    fn is_unsigned(
        &self,
        index: usize,
        file: File<'_>,
        statement: &Statement,
        ignoring: bool,
        check: &mut Check<'_>,
    ) -> bool {
        let digests = &self.is_signed[self.places.of(index)];
        // Of an empty file there are no shards; and no signature can be of itself.
        if digests.iter().all(|is_signed| *is_signed) {
            return false;
        }
        let (reason, detail) = if digests.contains(&true) {
            (Reason::SignedOtherFiles, "the manifest lists it, and not all of it is signed")
        } else if file.path == check.path {
            return true;
        } else if !statement.ignores(file.path) {
            (Reason::SignedOtherFiles, "the manifest lists it, and it is not signed")
        } else if ignoring {
            return true;
        } else {
            (Reason::SignedWithIgnoredPaths, "the signer left it out, and the artifact does not allow IgnorePaths")
        };
        check.add(reason, file.path, detail);
        false
    }
}
