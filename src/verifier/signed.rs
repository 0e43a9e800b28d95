//! What is signed, compared with the manifest that the digest pins: both must be of the same files.

use std::collections::BTreeMap;
use std::path::Path;

use time::OffsetDateTime;

use super::args::{Layout, SignatureArg};
use super::beneath::Beneath;
use super::finding::{Finding, Findings, Reason};
use super::inode::Fingerprints;
use super::inode::Inode;
use super::look::Place;
use super::manifest::{DEFAULT_PATH, File, Manifest};
use super::oms::bundle::MAX_BYTES;
use super::oms::files::{SINGLE_FILE, SignedFile};
use super::oms::{Allowance, Signed};
use super::open::{open_beside, open_directory};
use super::pool::How;

/// A signature that holds for the files of a manifest, their content left aside.
#[derive(Debug)]
pub struct Checked {
    /// Name of the authority that vouches for them.
    pub authority: String,
    /// What is signed, where it is hashed in another way than the manifest: the content has to be hashed so as well.
    pub manifest: Option<Manifest>,
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
    let signed = read(signature, &directory).map_err(|(reason, detail)| refused(reason, &signature.path, detail))?;
    let statement = &signed.statement;
    let listed = |path: &str| statement.files.binary_search_by(|f| f.path.as_bytes().cmp(path.as_bytes())).is_ok();
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
    let mut files = Vec::with_capacity(statement.files.len());
    for file in &statement.files {
        let path = match (&*file.path, sizes.len()) {
            (SINGLE_FILE, 1) => sizes.keys().next().map_or(SINGLE_FILE, String::as_str),
            (path, _) => path,
        };
        file.digests.iter().for_each(|digest| digests.extend_from_slice(digest.bytes()));
        let size = file.size.or_else(|| sizes.get(path).copied()).unwrap_or(0);
        files.push(File { path: path.into(), size });
    }
    if hashing.shard_size.is_some() {
        // Empty files have no shards, so that the statement does not list them.
        let empty = sizes.iter().filter(|(path, size)| **size == 0 && !listed(path));
        files.extend(empty.map(|(path, _)| File { path: path.as_str().into(), size: 0 }));
    }
    let manifest = Manifest::new(hashing, files, digests).map_err(|error| {
        refused(Reason::StatementInvalid, &signature.path, format!("what it lists cannot be verified: {error}"))
    })?;
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
pub fn read(signature: &SignatureArg, directory: &Beneath) -> Result<Signed, (Reason, String)> {
    use std::io::Read as _;
    let file = open_beside(directory, &signature.path, "signature", Reason::SignatureMissing)?;
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| (Reason::SignatureMissing, format!("the signature cannot be read: {error}")))?;
    signature.policy.verify(text, OffsetDateTime::now_utc()).map_err(|refusal| (refusal.cause, refusal.detail))
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
    let signed = match read(signature, directory) {
        Ok(signed) => signed,
        Err((reason, detail)) => {
            check.refuse(reason, detail);
            return None;
        }
    };
    let ignoring = signature.policy.allow.contains(&Allowance::IgnorePaths);
    let before = check.findings.total();
    let listed = compare(&mut check, &signed, manifest, ignoring);
    if check.findings.total() > before {
        return None;
    }
    let hashing = signed.statement.serialization.hashing;
    if hashing == manifest.hashing() {
        return Some(Checked { authority: signed.authority, manifest: None });
    }
    let mut digests = Vec::new();
    let files = listed.into_iter().map(|(index, file)| {
        file.digests.iter().for_each(|digest| digests.extend_from_slice(digest.bytes()));
        manifest.files()[index].clone()
    });
    let files: Vec<File> = files.collect();
    match Manifest::new(hashing, files, digests) {
        Ok(other) => Some(Checked { authority: signed.authority, manifest: Some(other) }),
        Err(error) => {
            check.refuse(Reason::StatementInvalid, format!("what it lists cannot be verified: {error}"));
            None
        }
    }
}

/// Compares the lists, both sorted by the bytes of the paths; the digests too, where they are of the same kind. Returns
/// what is signed, with the index of each file in the manifest.
fn compare<'s>(
    check: &mut Check<'_>,
    signed: &'s Signed,
    manifest: &Manifest,
    ignoring: bool,
) -> Vec<(usize, &'s SignedFile)> {
    let statement = &signed.statement;
    let hashing = statement.serialization.hashing;
    let mut found = Vec::with_capacity(statement.files.len());
    let mut is_signed = vec![false; manifest.files().len()];
    for file in &statement.files {
        let index = match &*file.path {
            SINGLE_FILE if manifest.files().len() == 1 => Some(0),
            path => manifest.find(path),
        };
        let Some(index) = index else {
            check.add(Reason::SignedOtherFiles, &file.path, "it is signed, and the manifest does not list it");
            continue;
        };
        is_signed[index] = true;
        let size = manifest.files()[index].size;
        if let Some(stated) = file.size.filter(|stated| *stated != size) {
            let detail = format!("{stated} bytes of it are signed, and the manifest says {size}");
            check.add(Reason::SignedOtherFiles, &file.path, detail);
            continue;
        }
        let same = hashing != manifest.hashing()
            || file.digests.iter().map(|digest| digest.bytes()).collect::<Vec<_>>().concat() == manifest.digests(index);
        if !same {
            let detail = format!("another {} of it is signed than the manifest says", hashing.algorithm);
            check.add(Reason::SignedOtherFiles, &file.path, detail);
        }
        found.push((index, file));
    }
    for (file, _) in manifest.files().iter().zip(is_signed).filter(|(_, is_signed)| !is_signed) {
        // Shards of an empty file there are none, and no signature can be of itself.
        if (file.size == 0 && hashing.shard_size.is_some()) || &*file.path == check.path {
            continue;
        }
        match (statement.ignores(&file.path), ignoring) {
            (true, true) => {}
            (true, false) => {
                let detail = "the signer left it out, and the artifact does not allow IgnorePaths";
                check.add(Reason::SignedWithIgnoredPaths, &file.path, detail);
            }
            (false, _) => {
                check.add(Reason::SignedOtherFiles, &file.path, "the manifest lists it, and it is not signed");
            }
        }
    }
    found
}
