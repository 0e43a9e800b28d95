//! The digest of one resource: a file, or a range of one.

use std::ops::Range;
use std::os::fd::OwnedFd;

use blake3::hazmat::ChainingValue;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::algorithm::{Algorithm, Digest, Hashing, State};
use super::beneath::{Beneath, OpenError};
use super::inode::{Fingerprint, Fingerprints, Inode};
use super::read::{Cache, Pace, ReadError, Reader};
use super::subtree::Subtree;

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The file, beneath the root.
    pub path: &'a str,
    /// Bytes the file has.
    pub size: u64,
    /// Which of them; all where there is none.
    pub range: Option<Range<u64>>,
    /// The hash.
    pub algorithm: Algorithm,
    /// What the file was like when it was listed, if it was: it has to be the same still.
    pub listed: Option<Fingerprint>,
}

impl Hashing {
    /// The resource that the digest of a file at this index covers.
    pub fn resource<'a>(&self, path: &'a str, size: u64, index: u64, listed: Option<Fingerprint>) -> Resource<'a> {
        let range = self.shard_size.map(|_| self.range(size, index));
        Resource { path, size, range, algorithm: self.algorithm, listed }
    }
}

impl Resource<'_> {
    /// The bytes that are hashed.
    pub fn bytes(&self) -> Range<u64> {
        self.range.clone().unwrap_or(0..self.size)
    }
}

/// Why a resource has no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It could not be opened.
    #[error("cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Read(Errno),
    /// It is no regular file any more.
    #[error("is no longer a regular file")]
    NotRegular,
    /// It is not the size that it should be.
    #[error("has {found} bytes, not {expected}")]
    Size {
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// The range is not within the file.
    #[error("has {size} bytes, and byte {end} was to be hashed")]
    Range {
        /// Bytes it has.
        size: u64,
        /// Where the range ends.
        end: u64,
    },
    /// It is another file than the one that was listed, or was changed since.
    #[error("is not the file any more that was listed before")]
    Replaced,
    /// It became shorter while it was read.
    #[error("became shorter while it was read")]
    Truncated,
    /// It became longer while it was read.
    #[error("became longer while it was read")]
    Grew,
    /// It changed while it was read.
    #[error("changed while it was read: {0}")]
    Changed(&'static str),
}

impl From<ReadError> for HashError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Failed(errno) => Self::Read(errno),
            ReadError::Truncated => Self::Truncated,
            ReadError::Grew => Self::Grew,
        }
    }
}

/// Called with the number of bytes that were read.
pub type Meter<'a> = dyn Fn(u64) + 'a;

/// Hashes resources one after the other, with one buffer.
pub struct Hasher<'a> {
    root: &'a Beneath,
    prints: &'a Fingerprints,
    reader: Reader<'a>,
}

impl<'a> Hasher<'a> {
    /// A hasher of files beneath `root`.
    pub fn new(root: &'a Beneath, prints: &'a Fingerprints, cache: Cache, pace: Option<&'a Pace>) -> Self {
        Self { root, prints, reader: Reader::new(cache, pace) }
    }

    /// The digest of the resource.
    pub fn digest(&mut self, resource: &Resource<'_>, meter: &Meter<'_>) -> Result<Digest, HashError> {
        let mut state = State::new(resource.algorithm);
        self.each(resource, resource.bytes(), meter, &mut |bytes| state.update(bytes))?;
        Ok(state.finish())
    }

    /// The value of a part of a resource as a subtree of its BLAKE3.
    pub fn subtree(
        &mut self,
        resource: &Resource<'_>,
        part: Range<u64>,
        meter: &Meter<'_>,
    ) -> Result<ChainingValue, HashError> {
        let mut subtree = Subtree::new(part.start - resource.bytes().start);
        self.each(resource, part, meter, &mut |bytes| subtree.update(bytes))?;
        Ok(subtree.finish())
    }

    fn each(
        &mut self,
        resource: &Resource<'_>,
        range: Range<u64>,
        meter: &Meter<'_>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), HashError> {
        let (file, before) = self.open(resource)?;
        if range.end > before.size || range.start > range.end {
            return Err(HashError::Range { size: before.size, end: range.end });
        }
        self.reader.read(&file, range, before.size, &mut |bytes| {
            sink(bytes);
            meter(bytes.len() as u64);
        })?;
        unchanged(&before, &Inode::of(&file).map_err(HashError::Read)?)
    }

    fn open(&self, resource: &Resource<'_>) -> Result<(OwnedFd, Inode), HashError> {
        let file = self.root.open_file(resource.path)?;
        let inode = Inode::of(&file).map_err(HashError::Read)?;
        if inode.file_type() != FileType::RegularFile {
            return Err(HashError::NotRegular);
        }
        if inode.size != resource.size {
            return Err(HashError::Size { found: inode.size, expected: resource.size });
        }
        match resource.listed {
            Some(listed) if listed != self.prints.of(&inode) => Err(HashError::Replaced),
            _ => Ok((file, inode)),
        }
    }
}

/// Compares what the kernel says of a file before and after it was read.
fn unchanged(before: &Inode, after: &Inode) -> Result<(), HashError> {
    if after.size < before.size {
        return Err(HashError::Truncated);
    }
    if after.size > before.size {
        return Err(HashError::Grew);
    }
    if before.modified != after.modified {
        return Err(HashError::Changed("it was written to"));
    }
    if (before.changed, before.born) != (after.changed, after.born) {
        return Err(HashError::Changed("its inode was changed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::read::BUFFER_BYTES;
    use super::*;
    use std::cell::Cell;
    use std::io::Write as _;

    fn file(bytes: usize) -> (tempfile::TempDir, Beneath) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), vec![7; bytes]).unwrap();
        let root = Beneath::open(dir.path()).unwrap();
        (dir, root)
    }

    fn whole(size: usize, algorithm: Algorithm) -> Resource<'static> {
        Resource { path: "f", size: size as u64, range: None, algorithm, listed: None }
    }

    /// Hashes; `during` is called once, when the first bytes were read.
    fn hash(root: &Beneath, resource: &Resource<'_>, during: impl Fn()) -> Result<Digest, HashError> {
        let prints = Fingerprints::new(root.fd());
        let called = Cell::new(false);
        Hasher::new(root, &prints, Cache::Keep, None).digest(resource, &|_| {
            if !called.replace(true) {
                during();
            }
        })
    }

    #[test]
    fn digests_are_those_of_the_bytes_in_the_range() {
        for algorithm in Algorithm::ALL {
            for bytes in [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES] {
                let (_dir, root) = file(bytes);
                let mut expected = State::new(algorithm);
                expected.update(&vec![7; bytes]);
                assert_eq!(hash(&root, &whole(bytes, algorithm), || {}), Ok(expected.finish()));
            }
            let (_dir, root) = file(100);
            let mut expected = State::new(algorithm);
            expected.update(&[7; 50]);
            let part = Resource { range: Some(20..70), ..whole(100, algorithm) };
            assert_eq!(hash(&root, &part, || {}), Ok(expected.finish()));
            let beyond = Resource { range: Some(20..101), ..part };
            assert_eq!(hash(&root, &beyond, || {}), Err(HashError::Range { size: 100, end: 101 }));
        }
    }

    #[test]
    fn a_file_of_another_size_is_not_read() {
        let (_dir, root) = file(5);
        let result = hash(&root, &whole(4, Algorithm::Sha256), || panic!("read"));
        assert_eq!(result, Err(HashError::Size { found: 5, expected: 4 }));
    }

    #[test]
    fn changes_while_reading_are_noticed() {
        let size = 3 * BUFFER_BYTES;
        let open =
            |dir: &tempfile::TempDir| std::fs::OpenOptions::new().write(true).open(dir.path().join("f")).unwrap();
        let resource = whole(size, Algorithm::Sha256);

        let (dir, root) = file(size);
        let grow = || open(&dir).set_len(size as u64 + 1).unwrap();
        assert_eq!(hash(&root, &resource, grow), Err(HashError::Grew));

        let (dir, root) = file(size);
        let shrink = || open(&dir).set_len(size as u64 - 1).unwrap();
        assert_eq!(hash(&root, &resource, shrink), Err(HashError::Truncated));

        // The part that was already read is written again: only the second look at the inode can tell.
        let (dir, root) = file(size);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let rewrite = || open(&dir).write_all(b"x").unwrap();
        assert_eq!(hash(&root, &resource, rewrite), Err(HashError::Changed("it was written to")));

        let (dir, root) = file(size);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let link = || std::fs::hard_link(dir.path().join("f"), dir.path().join("g")).unwrap();
        assert_eq!(hash(&root, &resource, link), Err(HashError::Changed("its inode was changed")));
    }

    #[test]
    fn another_file_than_the_listed_one_is_not_read() {
        let (dir, root) = file(5);
        let prints = Fingerprints::new(root.fd());
        let listed = Some(prints.of(&Inode::at(root.fd(), "f").unwrap()));
        let resource = Resource { listed, ..whole(5, Algorithm::Sha256) };
        let mut hasher = Hasher::new(&root, &prints, Cache::Keep, None);
        assert!(hasher.digest(&resource, &|_| {}).is_ok());
        std::fs::write(dir.path().join("g"), [7; 5]).unwrap();
        std::fs::rename(dir.path().join("g"), dir.path().join("f")).unwrap();
        assert_eq!(hasher.digest(&resource, &|_| panic!("read")), Err(HashError::Replaced));
    }

    #[test]
    fn a_fifo_does_not_make_it_wait() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("f"), FileType::Fifo, 0o600.into(), 0).unwrap();
        let root = Beneath::open(dir.path()).unwrap();
        assert_eq!(hash(&root, &whole(0, Algorithm::Sha256), || {}), Err(HashError::NotRegular));
    }
}
