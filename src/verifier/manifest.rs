//! The list of files of an artifact: path, size and SHA-256 of each. Its digest pins names as well as bytes.

use std::io::{self, Write};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Version of the manifest format.
pub const VERSION: u32 = 1;
/// Most bytes a manifest may have.
pub const MAX_BYTES: u64 = 256 << 20;
/// Most files a manifest may list.
pub const MAX_FILES: usize = 1_000_000;
/// Most bytes a path may have, as in Linux.
pub const MAX_PATH_BYTES: usize = 4095;
/// Most bytes one step of a path may have, as in Linux.
pub const MAX_STEP_BYTES: usize = 255;
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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
// The canonical form has its members in this, the alphabetical order.
pub struct File {
    /// Path relative to the directory of the artifact, with `/` between its steps.
    pub path: Box<str>,
    /// SHA-256 of the content.
    pub sha256: Hash,
    /// Length in bytes.
    pub size: u64,
}

/// A list of files that was found to be sound: sorted by the bytes of their paths, each path once, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<File>,
    total: u64,
}

/// Why a list of files is not a manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Not the JSON that is expected.
    #[error("it is not a manifest: {0}")]
    Json(String),
    /// Another version.
    #[error("version is {0}; this verifier knows version {VERSION}: use the verifier that belongs to the manifest")]
    Version(u32),
    /// No file at all.
    #[error("files is empty: nothing would be verified")]
    Empty,
    /// Too many files.
    #[error("files has more than {MAX_FILES} entries: pack the files, or split the artifact")]
    TooManyFiles,
    /// More bytes than a manifest may have.
    #[error("it has more than {MAX_BYTES} bytes")]
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

#[derive(Serialize)]
struct Canonical<'a> {
    files: &'a [File],
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "bounded_files")]
    files: Vec<File>,
    version: u32,
}

/// Stops at the first entry too many, rather than after all were kept.
fn bounded_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<File>, D::Error> {
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = Vec<File>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of files")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<File>, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = seq.next_element()? {
                if files.len() == MAX_FILES {
                    return Err(A::Error::custom(ManifestError::TooManyFiles));
                }
                files.push(file);
            }
            Ok(files)
        }
    }
    deserializer.deserialize_seq(Files)
}

impl Manifest {
    /// Makes a manifest of files in any order.
    pub fn new(mut files: Vec<File>) -> Result<Self, ManifestError> {
        if files.is_empty() {
            return Err(ManifestError::Empty);
        }
        if files.len() > MAX_FILES {
            return Err(ManifestError::TooManyFiles);
        }
        let mut total: u64 = 0;
        for file in &files {
            check_path(&file.path)?;
            total = total.checked_add(file.size).filter(|sum| *sum <= i64::MAX as u64).ok_or(ManifestError::Size)?;
        }
        files.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
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
        Ok(Self { files, total })
    }

    /// Parses JSON. Unknown and repeated members are errors; white space and order are free, as the digest is taken of the canonical form.
    pub fn parse(json: impl io::Read) -> Result<Self, ManifestError> {
        Self::parse_within(json, MAX_BYTES)
    }

    fn parse_within(json: impl io::Read, bytes: u64) -> Result<Self, ManifestError> {
        let mut limited = json.take(bytes + 1);
        let parsed: Result<Document, _> = serde_json::from_reader(io::BufReader::new(&mut limited));
        if limited.limit() == 0 {
            return Err(ManifestError::TooLarge);
        }
        let document = parsed.map_err(|error| ManifestError::Json(error.to_string()))?;
        if document.version != VERSION {
            return Err(ManifestError::Version(document.version));
        }
        Self::new(document.files)
    }

    /// The files, sorted by the bytes of their paths.
    pub fn files(&self) -> &[File] {
        &self.files
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
        serde_json::to_writer(target, &Canonical { files: &self.files, version: VERSION }).map_err(io::Error::from)
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

fn find(files: &[File], path: &str) -> Option<usize> {
    files.binary_search_by(|file| file.path.as_bytes().cmp(path.as_bytes())).ok()
}

/// Checks that a path stays where it is put: relative, with no empty, `.` or `..` step, no NUL, and no longer than Linux takes.
pub fn check_path(path: &str) -> Result<(), ManifestError> {
    let problem = if path.is_empty() {
        "is empty"
    } else if path.starts_with('/') {
        "is absolute: it must be relative to the directory of the artifact"
    } else if path.contains('\0') {
        "has a NUL in it"
    } else if path.len() > MAX_PATH_BYTES {
        "is longer than 4095 bytes"
    } else if path.split('/').any(|step| step.is_empty()) {
        "has an empty step"
    } else if path.split('/').any(|step| matches!(step, "." | "..")) {
        "has a '.' or '..' step"
    } else if path.split('/').any(|step| step.len() > MAX_STEP_BYTES) {
        "has a step longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(ManifestError::Path { path: path.into(), problem })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
