//! The files that a statement lists, whole or in shards (OMS v1.0, sections 6.1.2 and 6.3).

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::verifier::algorithm::Algorithm;
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

fn check_digest(name: &str, digest: &Digest, algorithm: Algorithm) -> Result<(), FilesError> {
    let found = digest.bytes().len();
    if found == algorithm.digest_bytes() {
        return Ok(());
    }
    Err(FilesError::Length { name: name.into(), found, algorithm })
}

/// Files that were hashed whole.
///
/// # Errors
/// If a name, an algorithm or a digest cannot be, or a file is listed twice.
pub fn whole(
    resources: impl Iterator<Item = (String, String, Digest)>,
    algorithm: Algorithm,
) -> Result<Vec<SignedFile>, FilesError> {
    let mut files = Vec::new();
    for (name, spelled, digest) in resources {
        check_name(&name)?;
        if spelled != algorithm.name() {
            return Err(FilesError::Algorithm { name, algorithm: spelled, expected: algorithm });
        }
        check_digest(&name, &digest, algorithm)?;
        files.push(SignedFile { path: name.into(), digests: vec![digest], size: None });
    }
    files.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(FilesError::Duplicate(pair[0].path.to_string()));
    }
    check_count(files)
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

struct Shard {
    path: Box<str>,
    start: u64,
    end: u64,
    digest: Digest,
}

/// Splits `PATH:START:END` at its last two colons: a path may have colons of its own.
fn parse_range(name: &str) -> Option<(&str, u64, u64)> {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u64>().ok().filter(|value| plain && *value <= i64::MAX as u64)
    };
    let (rest, end) = name.rsplit_once(':')?;
    let (path, start) = rest.rsplit_once(':')?;
    Some((path, number(start)?, number(end)?))
}

/// Files that were hashed in shards of a length in bytes. Empty files are not listed.
///
/// # Errors
/// If a name, an algorithm, a digest or a range cannot be, or the shards of a file do not follow each other from its
/// beginning.
pub fn sharded(
    resources: impl Iterator<Item = (String, String, Digest)>,
    algorithm: Algorithm,
    shard_size: u64,
) -> Result<Vec<SignedFile>, FilesError> {
    // The reference's own spelling; the specification has the plain identifier.
    let long = format!("{algorithm}-sharded-{shard_size}");
    let mut shards = Vec::new();
    for (name, spelled, digest) in resources {
        let Some((path, start, end)) = parse_range(&name) else { return Err(FilesError::Range(name)) };
        check_name(path)?;
        if spelled != algorithm.name() && spelled != long {
            return Err(FilesError::Algorithm { name, algorithm: spelled, expected: algorithm });
        }
        check_digest(&name, &digest, algorithm)?;
        shards.push(Shard { path: path.into(), start, end, digest });
    }
    shards.sort_unstable_by(|a, b| (a.path.as_bytes(), a.start).cmp(&(b.path.as_bytes(), b.start)));
    let mut files: Vec<SignedFile> = Vec::new();
    for shard in shards {
        let problem = |problem| Err(FilesError::Shards { path: shard.path.to_string(), problem });
        let length = match shard.end.checked_sub(shard.start) {
            None | Some(0) => return problem("one of them ends before it begins, or is empty"),
            Some(length) if length > shard_size => return problem("one of them is longer than shard_size"),
            Some(length) => length,
        };
        match files.last_mut().filter(|file| file.path == shard.path) {
            None if shard.start != 0 => return problem("they do not begin at 0"),
            None => {
                files.push(SignedFile { path: shard.path, digests: vec![shard.digest], size: Some(length) });
            }
            Some(file) => {
                let reached = file.size.unwrap_or_default();
                if shard.start < reached {
                    return Err(FilesError::Duplicate(format!("{}:{}:{}", shard.path, shard.start, shard.end)));
                }
                if shard.start > reached || reached % shard_size != 0 {
                    return problem("there is a gap between them, or one before the last is shorter than shard_size");
                }
                file.size = Some(shard.end);
                file.digests.push(shard.digest);
            }
        }
    }
    check_count(files)
}
