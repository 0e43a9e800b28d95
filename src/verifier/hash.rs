//! SHA-256 of one file, read from its beginning to its end.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Advice, FileType, Stat, fadvise, fstat};
use rustix::io::{Errno, read, retry_on_intr};
use sha2::{Digest as _, Sha256};

use super::beneath::{Beneath, OpenError, file_type};
use super::manifest::Hash;
use super::progress::Progress;

/// Size of the read buffer in bytes: large enough that the calls cost nothing beside the hash, small enough to stay in the cache of a core.
pub const BUFFER_BYTES: usize = 1 << 20;

/// Why a file has no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It could not be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// It could not be read.
    #[error("{0}")]
    Read(Errno),
    /// It is no regular file any more.
    #[error("it is no longer a regular file")]
    NotRegular,
    /// It is not the size that it should be.
    #[error("it has {found} bytes, not {expected}")]
    Size {
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// It changed while it was read.
    #[error("it changed while it was read: {0}")]
    Changed(&'static str),
}

/// Hashes files with one buffer.
pub struct Hasher {
    buffer: Vec<u8>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES] }
    }
}

impl Hasher {
    /// Hashes the file at `path`, which must have `expected` bytes before and after it is read.
    pub fn hash(
        &mut self,
        root: &Beneath,
        path: &str,
        expected: u64,
        progress: &mut Progress<'_>,
    ) -> Result<Hash, HashError> {
        let file = root.open_file(path)?;
        let before = fstat(&file).map_err(HashError::Read)?;
        if file_type(&before) != FileType::RegularFile {
            return Err(HashError::NotRegular);
        }
        let found = u64::try_from(before.st_size).unwrap_or(0);
        if found != expected {
            return Err(HashError::Size { found, expected });
        }
        let hash = self.read_all(&file, expected, progress)?;
        unchanged(&before, &fstat(&file).map_err(HashError::Read)?)?;
        Ok(hash)
    }

    fn read_all(&mut self, file: &OwnedFd, expected: u64, progress: &mut Progress<'_>) -> Result<Hash, HashError> {
        // Advice only: where it is not known, reading is as right, and slower.
        let _ = fadvise(file.as_fd(), 0, None, Advice::Sequential);
        let mut hasher = Sha256::new();
        let mut done: u64 = 0;
        loop {
            let count = retry_on_intr(|| read(file, &mut self.buffer[..])).map_err(HashError::Read)?;
            if count == 0 {
                break;
            }
            done += count as u64;
            if done > expected {
                return Err(HashError::Changed("it grew"));
            }
            hasher.update(&self.buffer[..count]);
            progress.advance(count as u64);
        }
        if done < expected {
            return Err(HashError::Changed("it was truncated"));
        }
        Ok(Hash(hasher.finalize().into()))
    }
}

/// Compares what the kernel says of a file before and after it was read.
fn unchanged(before: &Stat, after: &Stat) -> Result<(), HashError> {
    if before.st_size != after.st_size {
        return Err(HashError::Changed("its size is another"));
    }
    if (before.st_mtime, before.st_mtime_nsec) != (after.st_mtime, after.st_mtime_nsec) {
        return Err(HashError::Changed("it was written to"));
    }
    if (before.st_ctime, before.st_ctime_nsec) != (after.st_ctime, after.st_ctime_nsec) {
        return Err(HashError::Changed("its inode was changed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn hash(root: &Beneath, expected: u64, mut during: impl FnMut()) -> Result<Hash, HashError> {
        let mut progress = Progress::observed(&mut during);
        Hasher::default().hash(root, "f", expected, &mut progress)
    }

    fn file(bytes: usize) -> (tempfile::TempDir, Beneath) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), vec![7; bytes]).unwrap();
        let root = Beneath::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn hashes_as_sha256_does() {
        for bytes in [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES] {
            let (_dir, root) = file(bytes);
            let expected: [u8; 32] = Sha256::digest(vec![7; bytes]).into();
            assert_eq!(hash(&root, bytes as u64, || {}), Ok(Hash(expected)));
        }
    }

    #[test]
    fn a_file_of_another_size_is_not_read() {
        let (_dir, root) = file(5);
        assert_eq!(hash(&root, 4, || panic!("read")), Err(HashError::Size { found: 5, expected: 4 }));
    }

    #[test]
    fn changes_while_reading_are_noticed() {
        let size = 3 * BUFFER_BYTES;
        let open =
            |dir: &tempfile::TempDir| std::fs::OpenOptions::new().write(true).open(dir.path().join("f")).unwrap();

        let (dir, root) = file(size);
        let grow = || open(&dir).set_len(size as u64 + 1).unwrap();
        assert_eq!(hash(&root, size as u64, grow), Err(HashError::Changed("it grew")));

        let (dir, root) = file(size);
        let shrink = || open(&dir).set_len(size as u64 - 1).unwrap();
        assert_eq!(hash(&root, size as u64, shrink), Err(HashError::Changed("it was truncated")));

        // The part that was already read is written again: only the second look at the inode can tell.
        let (dir, root) = file(size);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let rewrite = || open(&dir).write_all(b"x").unwrap();
        assert_eq!(hash(&root, size as u64, rewrite), Err(HashError::Changed("it was written to")));
    }

    #[test]
    fn a_fifo_does_not_make_it_wait() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("f"), FileType::Fifo, 0o600.into(), 0).unwrap();
        let root = Beneath::open(dir.path()).unwrap();
        assert_eq!(hash(&root, 0, || {}), Err(HashError::NotRegular));
    }
}
