//! Opening files beneath a directory, so that no name, link or mount leads out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2, statat};
use rustix::io::Errno;

/// Why something could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is a symbolic link on the way.
    #[error("there is a symbolic link on the way")]
    Symlink,
    /// There is a mount on the way, or the way leads out.
    #[error("another file system is mounted on the way")]
    MountPoint,
    /// It is not there.
    #[error("no such file or directory")]
    Missing,
    /// Anything else.
    #[error("{0}")]
    Other(Errno),
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::LOOP => Self::Symlink,
            Errno::XDEV => Self::MountPoint,
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            other => Self::Other(other),
        }
    }
}

/// A directory that nothing opened through it can leave.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    device: u64,
    openat2: bool,
}

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY);

impl Beneath {
    /// Opens the root. Its last step may not be a symbolic link.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let root = open(root, DIRECTORY, Mode::empty())?;
        // gVisor and seccomp profiles older than Linux 5.6 do not have openat2.
        let openat2 = !matches!(
            openat2(&root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), RESOLVE),
            Err(Errno::NOSYS | Errno::PERM)
        );
        Self::new(root, openat2)
    }

    /// As [`Self::open`], with one step at a time even where the kernel can do it in one call.
    #[cfg(test)]
    pub fn open_stepwise(root: &Path) -> Result<Self, OpenError> {
        Self::new(open(root, DIRECTORY, Mode::empty())?, false)
    }

    fn new(root: OwnedFd, openat2: bool) -> Result<Self, OpenError> {
        let device = fstat(&root)?.st_dev;
        Ok(Self { root, device, openat2 })
    }

    /// A directory beneath this one as a root of its own.
    pub fn subdirectory(&self, path: &str) -> Result<Self, OpenError> {
        Self::new(self.open_directory(path)?, self.openat2)
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory; the empty path is the root itself.
    pub fn open_directory(&self, path: &str) -> Result<OwnedFd, OpenError> {
        let directory = self.resolve(if path.is_empty() { "." } else { path }, DIRECTORY)?;
        if !self.openat2 && fstat(&directory)?.st_dev != self.device {
            return Err(OpenError::MountPoint);
        }
        Ok(directory)
    }

    /// Opens a file for reading, without waiting for a writer should it be a FIFO. The caller checks what was opened.
    pub fn open_file(&self, path: &str) -> Result<OwnedFd, OpenError> {
        self.resolve(path, READ)
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, OpenError> {
        if !self.openat2 {
            return self.resolve_stepwise(path, flags);
        }
        // RESOLVE_NO_SYMLINKS covers the last step too, and tells a link from what is no directory.
        let flags = flags.difference(OFlags::NOFOLLOW);
        // EAGAIN: a rename elsewhere crossed the resolution.
        for _ in 0..64 {
            match openat2(&self.root, path, flags, Mode::empty(), RESOLVE) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(fd) => return Ok(fd),
            }
        }
        Err(OpenError::Other(Errno::AGAIN))
    }

    fn resolve_stepwise(&self, path: &str, flags: OFlags) -> Result<OwnedFd, OpenError> {
        let mut directory: Option<OwnedFd> = None;
        let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
        for step in parents.split('/').filter(|step| !step.is_empty()) {
            let at = directory.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let next = open_step(at, step, DIRECTORY)?;
            if fstat(&next)?.st_dev != self.device {
                return Err(OpenError::MountPoint);
            }
            directory = Some(next);
        }
        open_step(directory.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd()), last, flags)
    }
}

fn open_step(at: BorrowedFd<'_>, step: &str, flags: OFlags) -> Result<OwnedFd, OpenError> {
    if step == ".." {
        return Err(OpenError::MountPoint);
    }
    openat(at, step, flags, Mode::empty()).map_err(|error| match error {
        // With O_DIRECTORY a link is "not a directory": look what it is.
        Errno::NOTDIR if is_symlink(at, step) => OpenError::Symlink,
        other => other.into(),
    })
}

fn is_symlink(at: BorrowedFd<'_>, step: &str) -> bool {
    statat(at, step, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| file_type(&stat) == FileType::Symlink)
}

/// The type of a file.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        std::fs::write(dir.path().join("root/a/b/file"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        symlink("../secret", dir.path().join("root/out")).unwrap();
        symlink("a", dir.path().join("root/alias")).unwrap();
        dir
    }

    #[test]
    fn nothing_leads_out_in_one_call_or_by_steps() {
        let dir = tree();
        for beneath in [
            Beneath::open(&dir.path().join("root")).unwrap(),
            Beneath::open_stepwise(&dir.path().join("root")).unwrap(),
        ] {
            assert!(beneath.open_file("a/b/file").is_ok());
            assert!(beneath.open_directory("a/b").is_ok());
            assert!(beneath.open_directory("").is_ok());
            assert_eq!(beneath.open_file("out").unwrap_err(), OpenError::Symlink);
            assert_eq!(beneath.open_file("alias/b/file").unwrap_err(), OpenError::Symlink);
            assert_eq!(beneath.open_directory("alias").unwrap_err(), OpenError::Symlink);
            assert_eq!(beneath.open_file("../secret").unwrap_err(), OpenError::MountPoint);
            assert_eq!(beneath.open_file("a/b/none").unwrap_err(), OpenError::Missing);
            assert_eq!(beneath.subdirectory("a").unwrap().open_file("../out").unwrap_err(), OpenError::MountPoint);
        }
    }

    #[test]
    fn a_mount_is_not_entered_in_one_call_or_by_steps() {
        for beneath in [Beneath::open(Path::new("/")).unwrap(), Beneath::open_stepwise(Path::new("/")).unwrap()] {
            assert_eq!(beneath.open_file("proc/version").unwrap_err(), OpenError::MountPoint);
            assert_eq!(beneath.open_directory("proc").unwrap_err(), OpenError::MountPoint);
            assert!(beneath.open_directory("usr").is_ok());
        }
    }
}
