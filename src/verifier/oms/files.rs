//! The files that a statement lists, whole or in shards (OMS v1.0, sections 6.1.2 and 6.3).

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Deserializer, de};

use crate::verifier::algorithm::{Algorithm, Hashing};
use crate::verifier::manifest::{MAX_FILES, ManifestError, check_path};

/// Name that the Python reference gives to the file where a single file is signed.
pub const SINGLE_FILE: &str = ".";
/// Length of a shard in bytes unless something else is said.
pub const DEFAULT_SHARD_SIZE: u64 = 1_000_000_000;

/// A digest of any algorithm, written in lower-case hex.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest(Box<[u8]>);

impl Digest {
    /// A digest of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl de::Visitor<'_> for Hex {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest in lower-case hex digits")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                parse_hex(text).map(Digest).ok_or_else(|| E::custom(format!("digest {text:?} is not lower-case hex")))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

fn parse_hex(text: &str) -> Option<Box<[u8]>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

/// A file that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// Path relative to the directory that is signed; [`SINGLE_FILE`] may stand for the only one.
    pub path: Box<str>,
    /// One digest of the whole file, or one of each shard in order.
    pub digests: Vec<Digest>,
    /// Length in bytes, which shards tell.
    pub size: Option<u64>,
}

/// Why a list of resources cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilesError {
    /// Nothing is signed.
    #[error("no file is listed")]
    Empty,
    /// Too many files.
    #[error("more than {MAX_FILES} files are listed")]
    TooManyFiles,
    /// A name that leads elsewhere, or is none.
    #[error("{0}")]
    Name(ManifestError),
    /// Twice the same.
    #[error("{0:?} is listed twice")]
    Duplicate(String),
    /// Another hash than the serialization says.
    #[error("{name:?} has algorithm {algorithm:?}, and hash_type is {expected}")]
    Algorithm {
        /// Name of the resource.
        name: String,
        /// Its algorithm.
        algorithm: String,
        /// What it should be.
        expected: Algorithm,
    },
    /// A digest of the wrong length.
    #[error("{name:?} has a digest of {found} bytes, and {algorithm} has {}", algorithm.digest_bytes())]
    Length {
        /// Name of the resource.
        name: String,
        /// Length of its digest.
        found: usize,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// A name without a range.
    #[error("{0:?} is not PATH:START:END, as the method is shards")]
    Range(String),
    /// Shards that do not follow each other.
    #[error("shards of {path:?}: {problem}")]
    Shards {
        /// Path of the file.
        path: String,
        /// What is wrong with them.
        problem: &'static str,
    },
}

fn check_name(path: &str) -> Result<(), FilesError> {
    if path == SINGLE_FILE { Ok(()) } else { check_path(path).map_err(FilesError::Name) }
}

/// An entry of the list: a file, or a shard of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Path of the file, in shards with the range.
    pub name: String,
    /// The hash, as the signer calls it.
    pub algorithm: String,
    /// Its digest.
    pub digest: Digest,
}

/// A resource that can be, by itself.
#[derive(Debug)]
pub struct Item<'a> {
    /// Path of the file; [`SINGLE_FILE`] may stand for the only one.
    pub path: &'a str,
    /// The bytes that are covered, where the file is hashed in shards: no more than a shard, from the beginning of one.
    pub range: Option<Range<u64>>,
    /// Digest, of the right length.
    pub digest: &'a Digest,
}

impl<'a> Item<'a> {
    /// Checks a resource.
    ///
    /// # Errors
    /// If its name, its algorithm, its digest or its range cannot be.
    pub fn check(resource: &'a Resource, hashing: Hashing) -> Result<Self, FilesError> {
        let Resource { name, algorithm, digest } = resource;
        let (path, range) = match hashing.shard_size {
            None => (name.as_str(), None),
            Some(_) => {
                let (path, range) = parse_range(name).ok_or_else(|| FilesError::Range(name.clone()))?;
                (path, Some(range))
            }
        };
        check_name(path)?;
        // The reference's own spelling for shards; the specification has the plain identifier.
        let known = algorithm == hashing.algorithm.name()
            || hashing.shard_size.is_some_and(|size| *algorithm == format!("{}-sharded-{size}", hashing.algorithm));
        if !known {
            let (name, algorithm) = (name.clone(), algorithm.clone());
            return Err(FilesError::Algorithm { name, algorithm, expected: hashing.algorithm });
        }
        let found = digest.bytes().len();
        if found != hashing.algorithm.digest_bytes() {
            return Err(FilesError::Length { name: name.clone(), found, algorithm: hashing.algorithm });
        }
        if let (Some(range), Some(shard_size)) = (&range, hashing.shard_size) {
            let problem = |problem| Err(FilesError::Shards { path: path.into(), problem });
            if range.is_empty() {
                return problem("one of them ends before it begins, or is empty");
            }
            if range.end - range.start > shard_size {
                return problem("one of them is longer than shard_size");
            }
            if range.start % shard_size != 0 {
                return problem("one of them does not begin at a multiple of shard_size");
            }
        }
        Ok(Self { path, range, digest })
    }

    /// That it is in the list once more.
    pub fn twice(&self) -> FilesError {
        FilesError::Duplicate(match &self.range {
            None => self.path.into(),
            Some(range) => format!("{}:{}:{}", self.path, range.start, range.end),
        })
    }
}

/// Puts the items of a list in order, where there is no other list to compare them with.
#[derive(Default)]
pub struct Collected(Vec<(Box<str>, Option<Range<u64>>, Digest)>);

impl Collected {
    /// Adds one.
    pub fn add(&mut self, item: &Item<'_>) {
        self.0.push((item.path.into(), item.range.clone(), item.digest.clone()));
    }

    /// The files, sorted by the bytes of their paths. Empty files have no shards, so they are not among them.
    ///
    /// # Errors
    /// If a file is listed twice, or its shards do not follow each other from its beginning.
    pub fn files(mut self) -> Result<Vec<SignedFile>, FilesError> {
        let start = |range: &Option<Range<u64>>| range.as_ref().map_or(0, |range| range.start);
        self.0.sort_unstable_by(|a, b| (a.0.as_bytes(), start(&a.1)).cmp(&(b.0.as_bytes(), start(&b.1))));
        let mut files: Vec<SignedFile> = Vec::new();
        for (path, range, digest) in self.0 {
            let problem = |problem| Err(FilesError::Shards { path: path.to_string(), problem });
            match (files.last_mut().filter(|file| file.path == path), range) {
                (None, Some(range)) if range.start != 0 => return problem("they do not begin at 0"),
                (None, range) => {
                    files.push(SignedFile { path, digests: vec![digest], size: range.map(|range| range.end) });
                }
                (Some(_), None) => return Err(FilesError::Duplicate(path.into())),
                (Some(file), Some(range)) => {
                    let reached = file.size.unwrap_or_default();
                    if range.start < reached {
                        return Err(FilesError::Duplicate(format!("{path}:{}:{}", range.start, range.end)));
                    }
                    if range.start > reached {
                        return problem(
                            "there is a gap between them, or one before the last is shorter than shard_size",
                        );
                    }
                    file.size = Some(range.end);
                    file.digests.push(digest);
                }
            }
        }
        check_count(files)
    }
}

fn check_count(files: Vec<SignedFile>) -> Result<Vec<SignedFile>, FilesError> {
    match files.as_slice() {
        [] => Err(FilesError::Empty),
        all if all.len() > MAX_FILES => Err(FilesError::TooManyFiles),
        [_] => Ok(files),
        // Beside others it is no name.
        all => match all.iter().find(|file| &*file.path == SINGLE_FILE) {
            Some(_) => Err(FilesError::Name(ManifestError::Path {
                path: SINGLE_FILE.into(),
                problem: "stands for a single file, and there are others",
            })),
            None => Ok(files),
        },
    }
}

/// Splits `PATH:START:END` at its last two colons: a path may have colons of its own.
fn parse_range(name: &str) -> Option<(&str, Range<u64>)> {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u64>().ok().filter(|value| plain && *value <= i64::MAX as u64)
    };
    let (rest, end) = name.rsplit_once(':')?;
    let (path, start) = rest.rsplit_once(':')?;
    Some((path, number(start)?..number(end)?))
}
