//! The layout of Hugging Face's cache: one repository in a directory, where a snapshot is a tree of links into `blobs/`.
//!
//! The artifact is one revision: the tree `snapshots/<revision>` with each link replaced by the file it leads to. A link may
//! lead to a blob or within its snapshot, and nowhere else. The server mounts the whole directory, so all that is in it is
//! looked at: what belongs to another revision, or to none, is refused. What the library itself keeps beside snapshots is
//! known and checked: `refs` that name this revision, and empty files (`.no_exist`, locks).

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType, readlinkat};

use super::beneath::{Beneath, OpenError};
use super::finding::{Finding, Findings, Reason};
use super::inode::Inode;
use super::look::OnFile;
use super::manifest::check_path;
use super::walk::{Unexamined, examine, special, unread};

/// How many links in a row are followed.
const MAX_LINKS: usize = 8;
/// Longest content of a ref: a commit and a line's end.
const MAX_REF: u64 = 128;
/// Where the content of files is.
const BLOBS: &str = "blobs";

/// Whether a text is a commit, as snapshots are named.
pub fn is_revision(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

struct Search<'a, 'f> {
    root: &'a Beneath,
    artifact: &'a str,
    revision: &'a str,
    except: &'a [&'a str],
    on_file: &'a mut OnFile<'f>,
    findings: &'a mut Findings,
    pending: Vec<String>,
    /// Whether there is a directory of blobs. It is looked at last, when it is known which of them belong to the snapshot.
    has_blobs: bool,
    /// Names of each inode that has several: how many there are, how many were met, the first.
    links: BTreeMap<(u64, u64), (u64, u64, String)>,
    /// The blobs that files of the snapshot lead to, in eight bytes each: nobody who could choose a name knows the key.
    used: Vec<u64>,
    key: RandomState,
    complete: bool,
    sound: bool,
}

/// Calls `on_file` for each file of one revision: with its name within the snapshot, and where its bytes are, relative to the
/// repository directory, without a link on the way. What is wrong with that directory is a finding; returns whether nothing is
/// and everything was seen. A file at `except`, which describes the snapshot, may be beside it.
pub fn snapshot(
    root: &Beneath,
    artifact: &str,
    revision: &str,
    except: &[&str],
    on_file: &mut OnFile<'_>,
    findings: &mut Findings,
) -> bool {
    let directory = format!("snapshots/{revision}");
    if let Err(OpenError::Missing) = root.open_directory(&directory) {
        let detail = "there is no such snapshot in the repository directory";
        findings.add(Finding::new(Reason::RevisionMissing, artifact, &directory, detail));
        return false;
    }
    let mut search = Search {
        root,
        artifact,
        revision,
        except,
        on_file,
        findings,
        pending: vec![String::new()],
        has_blobs: false,
        links: BTreeMap::new(),
        used: Vec::new(),
        key: RandomState::new(),
        complete: true,
        sound: true,
    };
    search.directories();
    if search.has_blobs && !search.findings.are_enough() {
        search.used.sort_unstable();
        search.pending.push(BLOBS.into());
        search.directories();
    }
    if search.complete {
        search.links_outside();
    }
    search.complete && search.sound
}

impl Search<'_, '_> {
    /// Looks at all directories that are pending, and at those within them.
    fn directories(&mut self) {
        while let Some(directory) = self.pending.pop() {
            self.directory(&directory);
            if self.findings.are_enough() {
                self.complete = false;
                return self.pending.clear();
            }
        }
    }

    fn add(&mut self, reason: Reason, path: &str, detail: impl Into<String>) {
        self.sound = false;
        self.findings.add(Finding::new(reason, self.artifact, path, detail));
    }

    fn directory(&mut self, path: &str) {
        let opened = self.root.open_directory(path).and_then(|fd| Ok((Dir::read_from(&fd)?, fd)));
        let (mut entries, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.complete = false;
                return self.unopened(path, error, Reason::UnreadableDirectory);
            }
        };
        while let Some(entry) = entries.read() {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => self.entry(&fd, path, entry.file_name().to_bytes()),
                Err(error) => {
                    self.complete = false;
                    return self.add(Reason::UnreadableDirectory, path, format!("cannot be listed: {error}"));
                }
            }
        }
    }

    fn unopened(&mut self, path: &str, error: OpenError, other: Reason) {
        let reason = match error {
            OpenError::Symlink => Reason::Symlink,
            OpenError::MountPoint => Reason::MountPoint,
            OpenError::Missing => Reason::ChangedWhileRead,
            OpenError::Other(_) => other,
        };
        self.add(reason, path, format!("cannot be opened: {error}"));
    }

    fn entry(&mut self, directory: &OwnedFd, parent: &str, name: &[u8]) {
        let (path, inode) = match examine(directory, parent, name) {
            Ok(examined) => examined,
            Err(Unexamined { path, reason, detail }) => return self.add(reason, &path, detail),
        };
        match inode.file_type() {
            FileType::Directory if path == BLOBS => self.has_blobs = true,
            FileType::Directory if check_path(&path).is_ok() => self.pending.push(path),
            FileType::Directory => self.add(Reason::UnreadableDirectory, &path, "is nested deeper than 4095 bytes"),
            FileType::RegularFile => self.regular(path, inode),
            FileType::Symlink => self.link(path),
            other => {
                let (reason, what) = special(other);
                self.add(reason, &path, what);
            }
        }
    }

    fn regular(&mut self, path: String, inode: Inode) {
        if inode.links > 1 {
            let names = self.links.entry((inode.device, inode.number)).or_insert((inode.links, 0, path.clone()));
            names.1 += 1;
        }
        let size = inode.size;
        if let Some(name) = within_snapshot(self.revision, &path) {
            (self.on_file)(name, &path, &inode, self.findings);
        } else if self.except.contains(&&*path) {
            // It says what the snapshot is.
        } else if path.starts_with("refs/") {
            self.reference(&path, size);
        } else if size == 0 && is_housekeeping(&path) {
            // It holds nothing.
        } else if path.starts_with("blobs/") && self.used.binary_search(&self.key.hash_one(&path)).is_ok() {
            // A blob of the snapshot.
        } else {
            self.beside(&path);
        }
    }

    fn beside(&mut self, path: &str) {
        let detail = format!("it is no part of snapshots/{}, and the server could read it", self.revision);
        self.add(Reason::BesideSnapshot, path, detail);
    }

    /// A branch or tag: it may name this revision only, since there is no other.
    fn reference(&mut self, path: &str, size: u64) {
        let read = || -> Result<Vec<u8>, OpenError> {
            let file = self.root.open_file(path)?;
            let mut bytes = vec![0; MAX_REF as usize + 1];
            let count = rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut bytes[..], 0))?;
            bytes.truncate(count);
            Ok(bytes)
        };
        match read() {
            Ok(bytes) if size <= MAX_REF && bytes.trim_ascii() == self.revision.as_bytes() => {}
            Ok(_) => {
                let detail = format!("it does not name the revision {}", self.revision);
                self.add(Reason::BesideSnapshot, path, detail);
            }
            Err(error) => self.unopened(path, error, Reason::UnreadableFile),
        }
    }

    fn link(&mut self, path: String) {
        if within_snapshot(self.revision, &path).is_none() {
            return self.beside(&path);
        }
        match self.resolve(&path) {
            Ok((place, inode)) => {
                if place.starts_with("blobs/") {
                    self.used.push(self.key.hash_one(&place));
                }
                let name = within_snapshot(self.revision, &path).unwrap_or_default();
                (self.on_file)(name, &place, &inode, self.findings);
            }
            Err((reason, detail)) => self.add(reason, &path, detail),
        }
    }

    /// Where a link ends, one link after the other: each is read, never followed by the kernel.
    fn resolve(&self, link: &str) -> Result<(String, Inode), (Reason, String)> {
        let mut at = link.to_owned();
        for _ in 0..=MAX_LINKS {
            let (parent, name) = at.rsplit_once('/').unwrap_or(("", &at));
            let failed = |error: OpenError| match error {
                OpenError::Missing => (Reason::LinkDangling, format!("it leads to {at:?}, which is not there")),
                OpenError::Symlink => (Reason::LinkOutside, format!("it leads to {at:?}, through a linked directory")),
                OpenError::MountPoint => (Reason::MountPoint, format!("it leads to {at:?}, on another file system")),
                OpenError::Other(error) => (unread(error), format!("it leads to {at:?}: {error}")),
            };
            let directory = self.root.open_directory(parent).map_err(failed)?;
            let inode = Inode::at(directory.as_fd(), name).map_err(|error| failed(error.into()))?;
            match inode.file_type() {
                FileType::Symlink => {
                    let target = readlinkat(&directory, name, Vec::new()).map_err(|error| failed(error.into()))?;
                    at = step(parent, target.to_bytes())?;
                }
                FileType::RegularFile if at.starts_with("blobs/") || within_snapshot(self.revision, &at).is_some() => {
                    return Ok((at, inode));
                }
                FileType::RegularFile => {
                    let detail = format!("it leads to {at:?}, which is neither a blob nor in the snapshot");
                    return Err((Reason::LinkOutside, detail));
                }
                _ => return Err((Reason::Symlink, format!("it leads to {at:?}, which is no regular file"))),
            }
        }
        Err((Reason::LinkLoop, format!("it leads through more than {MAX_LINKS} links, or in a circle")))
    }

    fn links_outside(&mut self) {
        for (names, met, path) in std::mem::take(&mut self.links).into_values() {
            if met < names {
                let detail = format!("{} of its {names} names are elsewhere", names - met);
                self.add(Reason::HardLinkOutside, &path, detail);
            }
        }
    }
}

/// The name within the snapshot of a revision, if a path is in it.
fn within_snapshot<'p>(revision: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix("snapshots/")?.strip_prefix(revision)?.strip_prefix('/')
}

/// Where a link in a directory leads. `..` counts only at its beginning: there every directory is a real one.
fn step(directory: &str, target: &[u8]) -> Result<String, (Reason, String)> {
    let outside =
        |why: &str| (Reason::LinkOutside, format!("it leads to {:?}, {why}", target.escape_ascii().to_string()));
    let Ok(text) = std::str::from_utf8(target) else { return Err(outside("which is not UTF-8")) };
    if text.starts_with('/') {
        return Err(outside("which is an absolute path"));
    }
    let mut steps: Vec<&str> = directory.split('/').filter(|step| !step.is_empty()).collect();
    let mut descended = false;
    for step in text.split('/').filter(|step| !matches!(*step, "" | ".")) {
        if step != ".." {
            descended = true;
            steps.push(step);
        } else if descended || steps.pop().is_none() {
            return Err(outside("out of the repository directory"));
        }
    }
    let path = steps.join("/");
    if check_path(&path).is_err() { Err(outside("which is no file")) } else { Ok(path) }
}

/// Whether the library keeps an empty file there: marks of files that a revision does not have, and locks.
fn is_housekeeping(path: &str) -> bool {
    path.starts_with(".no_exist/")
        || path.starts_with(".locks/")
        || (path.starts_with("blobs/") && path.ends_with(".lock"))
}
