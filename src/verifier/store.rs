//! Writes a manifest into the directory it describes. The only code of the verifier that writes to a volume, and only when asked to.

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::beneath::{Beneath, OpenError};
use super::manifest::Manifest;

/// Why the manifest was not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be opened.
    #[error("the directory cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// A call failed.
    #[error("{0}: mount the volume writable, and run as a user that may write to it")]
    Write(#[from] Errno),
    /// The content could not be written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

struct Place {
    directory: OwnedFd,
    name: String,
    temporary: String,
}

fn place(root: &Path, path: Option<&str>, manifest: &str, create: bool) -> Result<Place, StoreError> {
    let root = Beneath::open(root)?;
    let base = match path {
        Some(path) => root.subdirectory(path)?,
        None => root,
    };
    let (parents, name) = manifest.rsplit_once('/').unwrap_or(("", manifest));
    if create {
        for (at, _) in manifest.match_indices('/') {
            let (above, step) = manifest[..at].rsplit_once('/').unwrap_or(("", &manifest[..at]));
            match mkdirat(base.open_directory(above)?, step, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Place { directory: base.open_directory(parents)?, name: name.into(), temporary: format!("{name}.new") })
}

/// Removes what an earlier attempt that was killed may have left, so that it is not taken for a file of the artifact.
pub fn remove_leftover(root: &Path, path: Option<&str>, manifest: &str) {
    if let Ok(place) = place(root, path, manifest, false) {
        // If it is there and cannot be removed, it is listed, and so it is noticed.
        let _ = unlinkat(&place.directory, &place.temporary, AtFlags::empty());
    }
}

/// Writes the canonical form to its place, all at once or not at all.
pub fn write(root: &Path, path: Option<&str>, at: &str, manifest: &Manifest) -> Result<(), StoreError> {
    let place = place(root, path, at, true)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(&place.directory, &place.temporary, flags, Mode::from_raw_mode(0o644))?;
    let written = write_and_rename(&place, fd, manifest);
    if written.is_err() {
        let _ = unlinkat(&place.directory, &place.temporary, AtFlags::empty());
    }
    written
}

fn write_and_rename(place: &Place, fd: OwnedFd, manifest: &Manifest) -> Result<(), StoreError> {
    let mut file = std::io::BufWriter::new(std::fs::File::from(fd));
    manifest.write_canonical(&mut file)?;
    file.flush()?;
    fsync(file.get_ref().as_fd())?;
    renameat(&place.directory, &place.temporary, &place.directory, &place.name)?;
    fsync(&place.directory)?;
    Ok(())
}
