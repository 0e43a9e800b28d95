//! Enumerates everything beneath a directory. Nothing is skipped but what the caller says is no part of it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::beneath::{Beneath, OpenError};
use super::finding::{Finding, Findings, Reason};
use super::inode::Inode;
use super::manifest::check_path;

/// What is called for each regular file, with its path and what the kernel says of it.
pub type OnFile<'a> = dyn FnMut(&str, &Inode, &mut Findings) + 'a;

/// Inodes that have several names: how many they have, how many were met, and the first of those.
type Links = BTreeMap<(u64, u64), (u64, u64, String)>;

/// A directory and those above it, by device and number.
struct Level {
    inode: (u64, u64),
    above: Option<Rc<Level>>,
}

impl Level {
    /// One level further down; `None` if the directory is above itself.
    fn below(above: Option<&Rc<Self>>, inode: (u64, u64)) -> Option<Rc<Self>> {
        let mut level = above;
        while let Some(at) = level {
            if at.inode == inode {
                return None;
            }
            level = at.above.as_ref();
        }
        Some(Rc::new(Self { inode, above: above.cloned() }))
    }
}

struct Walk<'a, 'b> {
    root: &'a Beneath,
    artifact: &'a str,
    except: &'a [&'a str],
    on_file: &'a mut OnFile<'b>,
    findings: &'a mut Findings,
    pending: Vec<(String, Option<Rc<Level>>)>,
    links: Links,
    complete: bool,
}

/// Walks the directory and calls `on_file` for each regular file but those at `except` (what is beneath
/// such a directory is skipped too). Whatever else is there is a
/// finding; directories are not, even empty ones. Returns whether it saw everything: it did not where a directory could not
/// be read, or where it ended because more was found than anyone would read.
pub fn walk(
    root: &Beneath,
    artifact: &str,
    except: &[&str],
    on_file: &mut OnFile<'_>,
    findings: &mut Findings,
) -> bool {
    let mut walk = Walk {
        root,
        artifact,
        except,
        on_file,
        findings,
        pending: vec![(String::new(), None)],
        links: Links::new(),
        complete: true,
    };
    while let Some((directory, above)) = walk.pending.pop() {
        walk.directory(&directory, above.as_ref());
        if walk.findings.are_enough() {
            return false;
        }
    }
    if walk.complete {
        walk.links_outside();
    }
    walk.complete
}

/// An entry of a directory of which it cannot be told what it is, and why.
pub(super) struct Unexamined {
    pub path: String,
    pub reason: Reason,
    pub detail: String,
}

/// The path of an entry of the directory `parent`, and what the entry is.
pub(super) fn examine(directory: &OwnedFd, parent: &str, name: &[u8]) -> Result<(String, Inode), Unexamined> {
    let join = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
    let Ok(text) = std::str::from_utf8(name) else {
        let detail = format!("its name is the bytes {}", name.escape_ascii());
        return Err(Unexamined { path: join(&String::from_utf8_lossy(name)), reason: Reason::NonUtf8Name, detail });
    };
    let path = join(text);
    match Inode::at(directory.as_fd(), text) {
        Ok(inode) => Ok((path, inode)),
        Err(Errno::NOENT) => {
            let detail = "went away while its directory was read".into();
            Err(Unexamined { path, reason: Reason::ChangedWhileRead, detail })
        }
        Err(error) => Err(Unexamined { path, reason: unread(error), detail: format!("cannot be examined: {error}") }),
    }
}

impl Walk<'_, '_> {
    fn add(&mut self, reason: Reason, path: &str, detail: impl Into<String>) {
        self.findings.add(Finding::new(reason, self.artifact, path, detail));
    }

    fn directory(&mut self, path: &str, above: Option<&Rc<Level>>) {
        let opened = self.root.open_directory(path).and_then(|fd| Ok((Dir::read_from(&fd)?, Inode::of(&fd)?, fd)));
        let (mut entries, inode, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.complete = false;
                return self.unopened(path, error);
            }
        };
        let Some(level) = Level::below(above, (inode.device, inode.number)) else {
            return self.add(Reason::DirectoryLoop, path, "is the directory of one of the directories above it");
        };
        while let Some(entry) = entries.read() {
            match entry {
                Ok(entry) => self.entry(&fd, path, &level, entry.file_name().to_bytes()),
                Err(error) => {
                    self.complete = false;
                    return self.add(unlisted(error), path, format!("cannot be listed: {error}"));
                }
            }
            if self.findings.are_enough() {
                return;
            }
        }
    }

    fn unopened(&mut self, path: &str, error: OpenError) {
        match error {
            OpenError::Symlink => self.add(Reason::Symlink, path, "is a symbolic link"),
            OpenError::MountPoint => self.add(Reason::MountPoint, path, "another file system is mounted here"),
            OpenError::Missing => self.add(Reason::ChangedWhileRead, path, "the directory went away while it was read"),
            OpenError::Other(Errno::ACCESS | Errno::PERM) if path == "lost+found" => self.add(
                Reason::UnreadableDirectory,
                path,
                "cannot be opened: the file system keeps it at the root of the volume; put the weights into a directory and name it in locations[].path",
            ),
            OpenError::Other(error) => self.add(unlisted(error), path, format!("cannot be opened: {error}")),
        }
    }

    fn entry(&mut self, directory: &OwnedFd, parent: &str, level: &Rc<Level>, name: &[u8]) {
        if matches!(name, b"." | b"..") {
            return;
        }
        let (path, inode) = match examine(directory, parent, name) {
            Ok(examined) => examined,
            Err(Unexamined { path, reason, detail }) => return self.add(reason, &path, detail),
        };
        match inode.file_type() {
            _ if check_path(&path).is_err() => self.add(Reason::TooDeep, &path, "has a path longer than 4095 bytes"),
            FileType::Directory | FileType::Symlink if self.except.contains(&path.as_str()) => {}
            FileType::Directory => self.pending.push((path, Some(level.clone()))),
            FileType::RegularFile => self.regular(&path, &inode),
            FileType::Symlink => self.add(Reason::Symlink, &path, "is a symbolic link"),
            other => {
                let (reason, what) = special(other);
                self.add(reason, &path, what);
            }
        }
    }

    fn regular(&mut self, path: &str, inode: &Inode) {
        if inode.links > 1 {
            let names = self.links.entry((inode.device, inode.number)).or_insert((inode.links, 0, path.into()));
            names.1 += 1;
        }
        if !self.except.contains(&path) {
            (self.on_file)(path, inode, self.findings);
        }
    }

    fn links_outside(&mut self) {
        for (names, met, path) in std::mem::take(&mut self.links).into_values() {
            if met < names {
                self.add(Reason::HardLinkOutside, &path, format!("{} of its {names} names are elsewhere", names - met));
            }
        }
    }
}

/// Why something that is neither file nor directory nor link is no part of an artifact, and what it is.
pub fn special(kind: FileType) -> (Reason, &'static str) {
    match kind {
        FileType::BlockDevice | FileType::CharacterDevice => (Reason::Device, "is a device"),
        FileType::Fifo => (Reason::Fifo, "is a FIFO"),
        FileType::Socket => (Reason::Socket, "is a socket"),
        _ => (Reason::UnknownType, "is of a type that is not known"),
    }
}

/// Why a file cannot be read.
pub fn unread(error: Errno) -> Reason {
    if error == Errno::STALE { Reason::StaleHandle } else { Reason::UnreadableFile }
}

/// Why a directory cannot be read.
fn unlisted(error: Errno) -> Reason {
    if error == Errno::STALE { Reason::StaleHandle } else { Reason::UnreadableDirectory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_above_itself_is_a_loop() {
        let root = Level::below(None, (1, 2)).unwrap();
        let one = Level::below(Some(&root), (1, 3)).unwrap();
        assert!(Level::below(Some(&one), (1, 4)).is_some());
        // The same number on another device is another directory.
        assert!(Level::below(Some(&one), (2, 2)).is_some());
        assert!(Level::below(Some(&one), (1, 3)).is_none());
        assert!(Level::below(Some(&one), (1, 2)).is_none());
        assert_eq!(Reason::DirectoryLoop.exit_code(), super::super::finding::exit::REFUSED_TYPE);
    }

    #[test]
    fn a_type_that_nobody_knows_is_refused() {
        let kind = FileType::from_raw_mode(0o160_000);
        assert_eq!(special(kind), (Reason::UnknownType, "is of a type that is not known"));
        assert_eq!(Reason::UnknownType.exit_code(), super::super::finding::exit::REFUSED_TYPE);
    }

    #[test]
    fn a_stale_handle_has_its_own_reason() {
        assert_eq!(unread(Errno::STALE), Reason::StaleHandle);
        assert_eq!(unlisted(Errno::STALE), Reason::StaleHandle);
        assert_eq!(unread(Errno::IO), Reason::UnreadableFile);
        assert_eq!(unlisted(Errno::ACCESS), Reason::UnreadableDirectory);
        assert_eq!(Reason::StaleHandle.exit_code(), super::super::finding::exit::UNREADABLE);
    }
}
