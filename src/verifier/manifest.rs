//! The list of files of an artifact: path, size and digest of each. Its own digest pins names as well as bytes.

mod bounds;
mod document;

use std::io::{self, Write};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::algorithm::{Digest, Hashing, write_hex};

pub use bounds::{Bounds, MAX_BYTES, MAX_FILES, MAX_PATHS_BYTES, check_path, check_shard_size};
pub use document::Entry;

/// Version of the manifest format whose files have a SHA-256 each.
pub const VERSION: u32 = 1;
/// Version of the manifest format for other hashes and for shards.
pub const VERSION_HASHING: u32 = 2;
/// Where a manifest is in a volume unless something else is said, relative to the directory of the artifact.
pub const DEFAULT_PATH: &str = ".weightlock/manifest.json";

/// A SHA-256, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Parses 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (target, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *target = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(hash))
    }

    /// Parses `sha256:` and 64 lower-case hex digits.
    pub fn parse_digest(text: &str) -> Option<Self> {
        Self::parse(text.strip_prefix("sha256:")?)
    }

    /// `sha256:` and 64 lower-case hex digits.
    pub fn digest(&self) -> String {
        format!("sha256:{self}")
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_hex(&self.0, f)
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("sha256 {text:?} is not 64 lower-case hex digits")))
    }
}

/// One file. Its digests are kept apart, since files with one of 32 bytes and with thousands of 64 bytes shall take no more
/// memory than they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path relative to the directory of the artifact, with `/` between its steps.
    pub path: Box<str>,
    /// Length in bytes.
    pub size: u64,
}

/// A list of files that was found to be sound: sorted by the bytes of their paths, each path once, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    hashing: Hashing,
    files: Vec<File>,
    /// Of each file in order, of each shard in order.
    digests: Vec<u8>,
    /// Where in `digests` those of each file begin; empty where each file has one.
    starts: Vec<u32>,
    total: u64,
}

/// Why a list of files is not a manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Not the JSON that is expected.
    #[error("it is not a manifest: {0}")]
    Json(String),
    /// Another version.
    #[error(
        "version is {0}; this verifier knows versions {VERSION} and {VERSION_HASHING}: use the verifier that belongs to the manifest"
    )]
    Version(u32),
    /// A hash or a shard size that is not one, or that does not fit the version.
    #[error("{0}")]
    Hashing(String),
    /// There are not as many digests, or not of the length, that the sizes of the files and the hash ask for.
    #[error("the digests have {found} bytes, and {expected} are expected")]
    Digests {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// No file at all.
    #[error("files is empty: nothing would be verified")]
    Empty,
    /// Too many files.
    #[error(
        "files has more than {MAX_FILES} entries or digests: pack the files, use larger shards, or split the artifact"
    )]
    TooManyFiles,
    /// Longer paths than a manifest may have.
    #[error("the paths of {files} files have {bytes} bytes in all, more than {} and {} for each file: shorten them, or split the artifact", MAX_PATHS_BYTES.0, MAX_PATHS_BYTES.1)]
    LongPaths {
        /// Number of files.
        files: usize,
        /// Bytes of their paths.
        bytes: u64,
    },
    /// More bytes than a manifest may have.
    #[error("it has more than {MAX_BYTES} bytes: pack the files, use larger shards, or split the artifact")]
    TooLarge,
    /// A path that is not one.
    #[error("path {path:?} {problem}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same path twice.
    #[error("path {0:?} is listed twice")]
    Duplicate(String),
    /// A path is a file and a directory at once.
    #[error("path {file:?} is a file, and the directory of {inner:?}")]
    FileAndDirectory {
        /// The shorter path.
        file: String,
        /// The longer one.
        inner: String,
    },
    /// Sizes that cannot be.
    #[error("the sizes of the files add up to more than 2^63-1 bytes")]
    Size,
}

impl Manifest {
    /// Makes a manifest of files in any order, each with its path, its SHA-256 and its size.
    pub fn of_sha256<P: Into<Box<str>>>(
        listed: impl IntoIterator<Item = (P, Hash, u64)>,
    ) -> Result<Self, ManifestError> {
        let mut digests = Vec::new();
        let files = listed.into_iter().map(|(path, sha256, size)| {
            digests.extend_from_slice(&sha256.0);
            File { path: path.into(), size }
        });
        let files = files.collect();
        Self::new(Hashing::default(), files, digests)
    }

    /// Makes a manifest of files in any order. `digests` has the digests of each file, one after the other, in the same order.
    pub fn new(hashing: Hashing, files: Vec<File>, digests: Vec<u8>) -> Result<Self, ManifestError> {
        check_shard_size(hashing.shard_size)?;
        if files.is_empty() {
            return Err(ManifestError::Empty);
        }
        let mut bounds = Bounds::default();
        let mut total: u64 = 0;
        let mut bytes: u64 = 0;
        for file in &files {
            check_path(&file.path)?;
            bounds.add(file.path.len(), hashing.digests(file.size))?;
            bytes += hashing.digests(file.size) * hashing.algorithm.digest_bytes() as u64;
            total = total.checked_add(file.size).filter(|sum| *sum <= i64::MAX as u64).ok_or(ManifestError::Size)?;
        }
        if bytes != digests.len() as u64 {
            return Err(ManifestError::Digests { found: digests.len() as u64, expected: bytes });
        }
        let (files, digests) = sorted(hashing, files, digests);
        let starts = match hashing.shard_size {
            None => Vec::new(),
            Some(_) => starts(hashing, files.iter().map(|file| file.size)).0,
        };
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(ManifestError::Duplicate(pair[0].path.to_string()));
        }
        for file in &files {
            let ancestors = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
            for ancestor in ancestors {
                if find(&files, ancestor).is_some() {
                    return Err(ManifestError::FileAndDirectory {
                        file: ancestor.into(),
                        inner: file.path.to_string(),
                    });
                }
            }
        }
        Ok(Self { hashing, files, digests, starts, total })
    }

    /// Parses JSON. Unknown and repeated members are errors; white space and order are free, as the digest is taken of the canonical form.
    pub fn parse(json: impl io::Read) -> Result<Self, ManifestError> {
        Self::parse_within(json, MAX_BYTES)
    }

    fn parse_within(json: impl io::Read, bytes: u64) -> Result<Self, ManifestError> {
        let mut limited = json.take(bytes + 1);
        let parsed = document::parse(io::BufReader::new(&mut limited));
        if limited.limit() == 0 {
            return Err(ManifestError::TooLarge);
        }
        let (hashing, files, digests) = parsed?;
        Self::new(hashing, files, digests)
    }

    /// How the files are hashed.
    pub fn hashing(&self) -> Hashing {
        self.hashing
    }

    /// The files, sorted by the bytes of their paths.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The digests of the file at this index, one after the other.
    pub fn digests(&self, index: usize) -> &[u8] {
        let bytes = self.hashing.algorithm.digest_bytes();
        let place = match self.starts.as_slice() {
            [] => index * bytes..(index + 1) * bytes,
            starts => {
                let start =
                    |index: usize| starts.get(index).map_or(self.digests.len(), |start| *start as usize * bytes);
                start(index)..start(index + 1)
            }
        };
        self.digests.get(place).unwrap_or_default()
    }

    /// The digest of a shard of the file at this index; shard 0 where files are hashed whole.
    pub fn digest_of(&self, index: usize, shard: usize) -> Option<Digest> {
        self.digests(index).chunks_exact(self.hashing.algorithm.digest_bytes()).nth(shard).map(Digest::new)
    }

    /// SHA-256 of the file at this index, where files are hashed so.
    pub fn sha256_of(&self, index: usize) -> Option<Hash> {
        match self.hashing == Hashing::default() {
            true => self.digests(index).try_into().ok().map(Hash),
            false => None,
        }
    }

    /// Index of the file with that path.
    pub fn find(&self, path: &str) -> Option<usize> {
        find(&self.files, path)
    }

    /// Sum of the sizes in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// Writes the canonical form: UTF-8 JSON without white space, members in alphabetical order, files sorted by the bytes of their paths.
    pub fn write_canonical(&self, target: impl Write) -> io::Result<()> {
        document::write(self, target)
    }

    /// SHA-256 of the canonical form.
    pub fn digest(&self) -> Hash {
        struct Hashing(Sha256);
        impl Write for Hashing {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut hashing = io::BufWriter::with_capacity(64 << 10, Hashing(Sha256::new()));
        // Neither the hash nor the types of a manifest can fail to be written; were it otherwise, the digest would match nothing.
        let written = self.write_canonical(&mut hashing);
        match (written, hashing.into_inner()) {
            (Ok(()), Ok(Hashing(hasher))) => Hash(hasher.finalize().into()),
            _ => Hash([0; 32]),
        }
    }
}

/// Sorts by the bytes of the paths.
fn sorted(hashing: Hashing, mut files: Vec<File>, digests: Vec<u8>) -> (Vec<File>, Vec<u8>) {
    if files.is_sorted_by(|a, b| a.path <= b.path) {
        return (files, digests);
    }
    let (starts, _) = starts(hashing, files.iter().map(|file| file.size));
    let bytes = hashing.algorithm.digest_bytes();
    let mut order: Vec<u32> = (0..).take(files.len()).collect();
    order.sort_unstable_by(|a, b| files[*a as usize].path.cmp(&files[*b as usize].path));
    let mut moved = Vec::with_capacity(digests.len());
    for index in order {
        let start = starts[index as usize] as usize * bytes;
        let length = hashing.digests(files[index as usize].size) as usize * bytes;
        moved.extend_from_slice(&digests[start..start + length]);
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    (files, moved)
}

/// The number of the first digest of each file, by their sizes, and how many digests there are.
pub(super) fn starts(hashing: Hashing, sizes: impl Iterator<Item = u64>) -> (Vec<u32>, usize) {
    let mut next = 0;
    let starts = sizes.map(|size| {
        let start = next;
        // No manifest has more digests than fit: see MAX_FILES.
        next += hashing.digests(size) as u32;
        start
    });
    let starts = starts.collect();
    (starts, next as usize)
}

fn find(files: &[File], path: &str) -> Option<usize> {
    files.binary_search_by(|file| file.path.as_bytes().cmp(path.as_bytes())).ok()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
