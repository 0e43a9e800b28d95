//! The list of files of an artifact: path, size and digest of each. Its own digest pins names as well as bytes.

mod bounds;
mod document;
mod files;
mod places;

use std::io::{self, Write};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::algorithm::{Digest, Hashing, write_hex};

pub use bounds::{Bounds, MAX_BYTES, MAX_FILES, MAX_PATHS_BYTES, check_path, check_shard_size};
pub use document::Entry;
pub use files::{File, Files, rearrange};
pub use places::Places;

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

/// A list of files that was found to be sound: sorted by the bytes of their paths, each path once, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    files: Files,
    /// Of each file in order, of each shard in order.
    digests: Vec<u8>,
    places: Places,
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
    pub fn of_sha256<P: AsRef<str>>(listed: impl IntoIterator<Item = (P, Hash, u64)>) -> Result<Self, ManifestError> {
        let (mut files, mut digests) = (Files::default(), Vec::new());
        for (path, sha256, size) in listed {
            files.push(path.as_ref(), size, 1)?;
            digests.extend_from_slice(&sha256.0);
        }
        Self::new(Hashing::default(), files, digests)
    }

    /// Makes a manifest of files in any order. `digests` has the digests of each file, one after the other, in the same order.
    pub fn new(hashing: Hashing, mut files: Files, mut digests: Vec<u8>) -> Result<Self, ManifestError> {
        check_shard_size(hashing.shard_size)?;
        if files.is_empty() {
            return Err(ManifestError::Empty);
        }
        let mut bounds = Bounds::default();
        let mut total: u64 = 0;
        let mut bytes: u64 = 0;
        for file in files.iter() {
            check_path(file.path)?;
            bounds.add(file.path.len(), hashing.digests(file.size))?;
            bytes += hashing.digests(file.size) * hashing.algorithm.digest_bytes() as u64;
            total = total.checked_add(file.size).filter(|sum| *sum <= i64::MAX as u64).ok_or(ManifestError::Size)?;
        }
        if bytes != digests.len() as u64 {
            return Err(ManifestError::Digests { found: digests.len() as u64, expected: bytes });
        }
        let places = sort(hashing, &mut files, &mut digests);
        if let Some((path, _)) = files.iter().zip(files.iter().skip(1)).find(|(one, next)| one.path == next.path) {
            return Err(ManifestError::Duplicate(path.path.into()));
        }
        for file in files.iter() {
            let mut ancestors = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
            if let Some(ancestor) = ancestors.find(|ancestor| files.find(ancestor).is_some()) {
                return Err(ManifestError::FileAndDirectory { file: ancestor.into(), inner: file.path.into() });
            }
        }
        Ok(Self { files, digests, places, total })
    }

    /// Where the digests would be if the files were hashed so.
    ///
    /// # Errors
    /// If a shard cannot have that size, or there are too many.
    pub fn places_as(&self, hashing: Hashing) -> Result<Places, ManifestError> {
        check_shard_size(hashing.shard_size)?;
        let mut bounds = Bounds::default();
        for file in self.files.iter() {
            bounds.add(file.path.len(), hashing.digests(file.size))?;
        }
        Ok(Places::of_files(hashing, &self.files))
    }

    /// Puts digests of zeros in the place of its own, to be set by [`Self::set_digest`].
    ///
    /// # Errors
    /// As [`Self::places_as`].
    pub fn rehash(&mut self, hashing: Hashing) -> Result<(), ManifestError> {
        self.places = self.places_as(hashing)?;
        // First the old ones go: there is no need for memory for both.
        self.digests = Vec::new();
        self.digests.resize(self.places.count() * hashing.algorithm.digest_bytes(), 0);
        Ok(())
    }

    /// Sets the digest of this number, counted through all files; one of another length, or beyond the last, is left out.
    pub fn set_digest(&mut self, number: usize, digest: &[u8]) {
        let bytes = self.hashing().algorithm.digest_bytes();
        let place = self.digests.chunks_exact_mut(bytes).nth(number);
        if let Some(place) = place.filter(|place| place.len() == digest.len()) {
            place.copy_from_slice(digest);
        }
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
        self.places.hashing
    }

    /// Which digests are those of which file.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The files, sorted by the bytes of their paths.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The digests of the file at this index, one after the other.
    pub fn digests(&self, index: usize) -> &[u8] {
        let (bytes, numbers) = (self.hashing().algorithm.digest_bytes(), self.places.of(index));
        self.digests.get(numbers.start * bytes..numbers.end * bytes).unwrap_or_default()
    }

    /// The digest of a shard of the file at this index; shard 0 where files are hashed whole.
    pub fn digest_of(&self, index: usize, shard: usize) -> Option<Digest> {
        self.digests(index).chunks_exact(self.hashing().algorithm.digest_bytes()).nth(shard).map(Digest::new)
    }

    /// SHA-256 of the file at this index, where files are hashed so.
    pub fn sha256_of(&self, index: usize) -> Option<Hash> {
        match self.hashing() == Hashing::default() {
            true => self.digests(index).try_into().ok().map(Hash),
            false => None,
        }
    }

    /// Index of the file with that path.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.files.find(path)
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

/// Sorts files by the bytes of their paths, their digests with them.
fn sort(hashing: Hashing, files: &mut Files, digests: &mut [u8]) -> Places {
    let before = Places::of_files(hashing, files);
    let Some(order) = files.sort() else { return before };
    let bytes = hashing.algorithm.digest_bytes();
    let numbers = order.into_iter().flat_map(|index| before.of(index as usize)).map(|number| number as u32);
    rearrange(numbers.collect(), &mut |one, other| {
        let (low, high) = digests.split_at_mut(one.max(other) * bytes);
        low[one.min(other) * bytes..][..bytes].swap_with_slice(&mut high[..bytes]);
    });
    Places::of_files(hashing, files)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
