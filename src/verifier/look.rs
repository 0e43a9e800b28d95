//! What is there, compared with what the manifest lists; and, after all was read, with what was there before.

use super::args::Layout;
use super::beneath::Beneath;
use super::finding::{Finding, Findings, KEPT, Reason};
use super::huggingface;
use super::inode::{Fingerprint, Fingerprints, Inode};
use super::manifest::{Bounds, Manifest};
use super::pool::How;
use super::texts::Texts;
use super::walk::walk;

/// A directory that is looked at.
pub struct Place<'a> {
    /// Name of the artifact.
    pub artifact: &'a str,
    /// Its directory.
    pub directory: &'a Beneath,
    /// How the directory is laid out.
    pub layout: &'a Layout,
    /// Paths of files in it that are no part of it: its manifest and its signature.
    pub except: &'a [&'a str],
    /// Makes the fingerprints.
    pub prints: &'a Fingerprints,
    /// How files are read, where one has to be.
    pub how: &'a How,
}

/// What is called for each file: its name in the manifest, where it is in the directory, and what the kernel says of it.
pub type OnFile<'a> = dyn FnMut(&str, &str, &Inode, &mut Findings) + 'a;

/// How the files of a list were seen, in its order.
#[derive(Debug, Default)]
pub struct Looked {
    /// The fingerprint of each.
    pub prints: Vec<Fingerprint>,
    /// Where each is; empty where each is at its path.
    places: Texts,
}

impl Looked {
    /// How files were seen, and where they are unless each is at its path.
    pub fn new(prints: Vec<Fingerprint>, places: Texts) -> Self {
        Self { prints, places }
    }

    /// Where the file at this index is, of which this is the path.
    pub fn place<'a>(&'a self, index: usize, path: &'a str) -> &'a str {
        self.places.get(index).unwrap_or(path)
    }
}

impl Place<'_> {
    /// Whether files may be elsewhere than at their paths.
    pub fn moves(&self) -> bool {
        *self.layout != Layout::Directory
    }

    /// Calls `on_file` for each file of the artifact. Returns whether it saw everything.
    pub fn walk(&self, on_file: &mut OnFile<'_>, findings: &mut Findings) -> bool {
        match self.layout {
            Layout::Directory => {
                let mut on_file =
                    |path: &str, inode: &Inode, findings: &mut Findings| on_file(path, path, inode, findings);
                walk(self.directory, self.artifact, self.except, &mut on_file, findings)
            }
            Layout::HuggingFaceCache { revision } => {
                huggingface::snapshot(self.directory, self.artifact, revision, self.except, on_file, findings)
            }
        }
    }

    fn finding(&self, reason: Reason, path: &str, detail: impl Into<String>) -> Finding {
        Finding::new(reason, self.artifact, path, detail)
    }

    /// Compares names and sizes with the manifest. Returns how each file was seen, in the order of the manifest.
    pub fn first(&self, manifest: &Manifest, findings: &mut Findings) -> Looked {
        let files = manifest.files();
        let mut seen = vec![false; files.len()];
        let mut prints = vec![Fingerprint::default(); files.len()];
        let mut places = Texts::empty(if self.moves() { files.len() } else { 0 });
        let (mut bounds, mut fits) = (Bounds::default(), true);
        // Some files too many are kept back: each may be a missing one under another name.
        let mut extra: Vec<(String, String, u64)> = Vec::new();
        let mut on_file = |path: &str, place: &str, inode: &Inode, findings: &mut Findings| {
            let Some(index) = manifest.find(path) else {
                if extra.len() < KEPT {
                    return extra.push((path.to_owned(), place.to_owned(), inode.size));
                }
                return findings.add(self.extra(path));
            };
            if self.moves() {
                if let Err(error) = bounds.add(path.len() + place.len(), 1) {
                    if std::mem::replace(&mut fits, false) {
                        findings.add(self.finding(Reason::ManifestInvalid, path, error.to_string()));
                    }
                    return;
                }
                places.set(index, place);
            }
            seen[index] = true;
            prints[index] = self.prints.of(inode);
            let (size, expected) = (inode.size, files.at(index).size);
            if size != expected {
                let detail = format!("it has {size} bytes, the manifest says {expected}");
                findings.add(self.finding(Reason::SizeMismatch, path, detail));
            }
        };
        let complete = self.walk(&mut on_file, findings) && fits;
        let missing = files.iter().enumerate().filter(|(index, _)| complete && !seen[*index]);
        for (index, file) in missing {
            match extra.iter().position(|(_, place, size)| *size == file.size && self.holds(place, manifest, index)) {
                Some(at) => findings.add(self.renamed(file.path, &extra.remove(at).0)),
                None => {
                    let detail = "the manifest lists it, and it is not there";
                    findings.add(self.finding(Reason::MissingFile, file.path, detail));
                }
            }
        }
        extra.iter().for_each(|(path, ..)| findings.add(self.extra(path)));
        Looked::new(prints, places)
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
        let (hashing, size) = (manifest.hashing(), manifest.files().at(index).size);
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
        let mut on_file = |path: &str, _: &str, inode: &Inode, findings: &mut Findings| match find(path) {
            None => findings.add(changed(path, "was added while the artifact was read")),
            Some((index, before)) => {
                seen[index] = true;
                if before != self.prints.of(inode) {
                    findings.add(changed(path, "was written to or replaced while the artifact was read"));
                }
            }
        };
        if self.walk(&mut on_file, findings) {
            for (index, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
                findings.add(changed(paths(index), "was removed while the artifact was read"));
            }
        }
    }
}
