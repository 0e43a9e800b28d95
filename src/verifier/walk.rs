//! Enumerates everything beneath a directory. Nothing is skipped but the manifest itself.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;

use super::beneath::{Beneath, OpenError, file_type};
use super::finding::{ENOUGH, Finding, Findings, Reason};
use super::manifest::check_path;

/// What is called for each regular file, with its path and what the kernel says of it.
pub type OnFile<'a> = dyn FnMut(&str, &Stat, &mut Findings) + 'a;

/// Inodes that have several names: how many they have, how many were met, and the first of those.
type Links = BTreeMap<(u64, u64), (u64, u64, String)>;

struct Walk<'a, 'b> {
    root: &'a Beneath,
    artifact: &'a str,
    manifest: Option<&'a str>,
    on_file: &'a mut OnFile<'b>,
    findings: &'a mut Findings,
    pending: Vec<String>,
    links: Links,
    complete: bool,
}

/// Walks the directory and calls `on_file` for each regular file but the one at `manifest`. Whatever else is there is a
/// finding; directories are not, even empty ones. Returns whether it saw everything: it did not where a directory could not
/// be read, or where it ended because more was found than anyone would read.
pub fn walk(
    root: &Beneath,
    artifact: &str,
    manifest: Option<&str>,
    on_file: &mut OnFile<'_>,
    findings: &mut Findings,
) -> bool {
    let mut walk = Walk {
        root,
        artifact,
        manifest,
        on_file,
        findings,
        pending: vec![String::new()],
        links: Links::new(),
        complete: true,
    };
    while let Some(directory) = walk.pending.pop() {
        walk.directory(&directory);
        if walk.findings.total() >= ENOUGH {
            return false;
        }
    }
    if walk.complete {
        walk.links_outside();
    }
    walk.complete
}

impl Walk<'_, '_> {
    fn add(&mut self, reason: Reason, path: &str, detail: impl Into<String>) {
        self.findings.add(Finding { reason, artifact: self.artifact.into(), path: path.into(), detail: detail.into() });
    }

    fn directory(&mut self, path: &str) {
        let opened = self.root.open_directory(path).and_then(|fd| Ok((Dir::read_from(&fd)?, fd)));
        let (mut entries, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.complete = false;
                return self.unopened(path, error);
            }
        };
        while let Some(entry) = entries.read() {
            match entry {
                Ok(entry) => self.entry(&fd, path, entry.file_name().to_bytes()),
                Err(error) => {
                    self.complete = false;
                    return self.add(Reason::UnreadableDirectory, path, format!("cannot be listed: {error}"));
                }
            }
            if self.findings.total() >= ENOUGH {
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
            OpenError::Other(error) => self.add(Reason::UnreadableDirectory, path, format!("cannot be opened: {error}")),
        }
    }

    fn entry(&mut self, directory: &OwnedFd, parent: &str, name: &[u8]) {
        if matches!(name, b"." | b"..") {
            return;
        }
        let join = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        let Ok(text) = std::str::from_utf8(name) else {
            let path = join(&String::from_utf8_lossy(name));
            return self.add(Reason::NonUtf8Name, &path, format!("its name is the bytes {}", name.escape_ascii()));
        };
        let path = join(text);
        let stat = match statat(directory.as_fd(), text, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                return self.add(Reason::ChangedWhileRead, &path, "went away while its directory was read");
            }
            Err(error) => return self.add(Reason::UnreadableFile, &path, format!("cannot be examined: {error}")),
        };
        match file_type(&stat) {
            FileType::Directory if check_path(&path).is_ok() => self.pending.push(path),
            FileType::Directory => self.add(Reason::UnreadableDirectory, &path, "is nested deeper than 4095 bytes"),
            FileType::RegularFile => self.regular(&path, &stat),
            FileType::Symlink => self.add(Reason::Symlink, &path, "is a symbolic link"),
            FileType::BlockDevice | FileType::CharacterDevice => self.add(Reason::Device, &path, "is a device"),
            FileType::Fifo => self.add(Reason::Fifo, &path, "is a FIFO"),
            FileType::Socket => self.add(Reason::Socket, &path, "is a socket"),
            FileType::Unknown => self.add(Reason::UnknownType, &path, "is of a type that is not known"),
        }
    }

    fn regular(&mut self, path: &str, stat: &Stat) {
        if stat.st_nlink > 1 {
            let names = self.links.entry((stat.st_dev, stat.st_ino)).or_insert((stat.st_nlink, 0, path.into()));
            names.1 += 1;
        }
        if self.manifest != Some(path) {
            (self.on_file)(path, stat, self.findings);
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
