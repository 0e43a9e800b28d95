//! What is there, compared with what the manifest lists; and, after all was read, with what was there before.

use super::beneath::Beneath;
use super::finding::{Finding, Findings, KEPT, Reason};
use super::inode::{Fingerprint, Fingerprints, Inode};
use super::manifest::Manifest;
use super::pool::How;
use super::walk::walk;

/// A directory that is looked at.
pub struct Place<'a> {
    /// Name of the artifact.
    pub artifact: &'a str,
    /// Its directory.
    pub directory: &'a Beneath,
    /// Path of a file in it that is no part of it: its manifest.
    pub except: Option<&'a str>,
    /// Makes the fingerprints.
    pub prints: &'a Fingerprints,
    /// How files are read, where one has to be.
    pub how: &'a How,
}

impl Place<'_> {
    fn finding(&self, reason: Reason, path: &str, detail: impl Into<String>) -> Finding {
        Finding { reason, artifact: self.artifact.into(), path: path.into(), detail: detail.into() }
    }

    /// Compares names and sizes with the manifest. Returns the fingerprint of each file, in the order of the manifest.
    pub fn first(&self, manifest: &Manifest, findings: &mut Findings) -> Vec<Fingerprint> {
        let files = manifest.files();
        let mut seen = vec![None; files.len()];
        // Some files too many are kept back: each may be a missing one under another name.
        let mut extra: Vec<(String, u64)> = Vec::new();
        let mut on_file = |path: &str, inode: &Inode, findings: &mut Findings| {
            let Some(index) = manifest.find(path) else {
                if extra.len() < KEPT {
                    return extra.push((path.to_owned(), inode.size));
                }
                return findings.add(self.extra(path));
            };
            seen[index] = Some(self.prints.of(inode));
            let (size, expected) = (inode.size, files[index].size);
            if size != expected {
                let detail = format!("it has {size} bytes, the manifest says {expected}");
                findings.add(self.finding(Reason::SizeMismatch, path, detail));
            }
        };
        let complete = walk(self.directory, self.artifact, self.except, &mut on_file, findings);
        let missing = files.iter().enumerate().filter(|(index, _)| complete && seen[*index].is_none());
        for (index, file) in missing {
            match extra.iter().position(|(path, size)| *size == file.size && self.holds(path, manifest, index)) {
                Some(at) => findings.add(self.renamed(&file.path, &extra.remove(at).0)),
                None => {
                    let detail = "the manifest lists it, and it is not there";
                    findings.add(self.finding(Reason::MissingFile, &file.path, detail));
                }
            }
        }
        extra.iter().for_each(|(path, _)| findings.add(self.extra(path)));
        seen.into_iter().map(Option::unwrap_or_default).collect()
    }

    fn extra(&self, path: &str) -> Finding {
        self.finding(Reason::ExtraFile, path, "the manifest does not list it")
    }

    fn renamed(&self, listed: &str, found: &str) -> Finding {
        let reason = match listed.to_lowercase() == found.to_lowercase() {
            true => Reason::CaseChanged,
            false => Reason::Renamed,
        };
        self.finding(reason, found, format!("the manifest lists this content as {listed:?}"))
    }

    /// Whether the file at `path` has the content that the manifest says of the file at this index.
    fn holds(&self, path: &str, manifest: &Manifest, index: usize) -> bool {
        let (hashing, size) = (manifest.hashing(), manifest.files()[index].size);
        let mut hasher = self.how.hasher(self.directory, self.prints);
        manifest.digests(index).chunks_exact(hashing.algorithm.digest_bytes()).zip(0..).all(|(expected, shard)| {
            let resource = hashing.resource(path, size, shard, None);
            hasher.digest(&resource, &|_| {}).is_ok_and(|found| found.as_bytes() == expected)
        })
    }

    /// Looks again: each file has to be what it was, and none may be there that was not. `find` gives the index and the
    /// fingerprint of a path, `paths` the path at an index.
    pub fn second<'p>(
        &self,
        count: usize,
        find: &dyn Fn(&str) -> Option<(usize, Fingerprint)>,
        paths: &dyn Fn(usize) -> &'p str,
        findings: &mut Findings,
    ) {
        let mut seen = vec![false; count];
        let changed = |path: &str, detail: &str| self.finding(Reason::ChangedWhileRead, path, detail);
        let mut on_file = |path: &str, inode: &Inode, findings: &mut Findings| match find(path) {
            None => findings.add(changed(path, "was added while the artifact was read")),
            Some((index, before)) => {
                seen[index] = true;
                if before != self.prints.of(inode) {
                    findings.add(changed(path, "was written to or replaced while the artifact was read"));
                }
            }
        };
        if walk(self.directory, self.artifact, self.except, &mut on_file, findings) {
            for (index, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
                findings.add(changed(paths(index), "was removed while the artifact was read"));
            }
        }
    }
}
