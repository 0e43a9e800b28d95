//! The JSON of a manifest.

use std::cell::Cell;
use std::io::{self, Write};

use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::algorithm::{Algorithm, Hashing, write_hex};
use super::{File, Files, Hash, Manifest, ManifestError, VERSION, VERSION_HASHING};

/// Which member of an entry holds its digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Sha256,
    Digest,
    Digests,
}

impl Member {
    fn of(hashing: Hashing) -> Self {
        match (hashing.algorithm, hashing.shard_size) {
            (_, Some(_)) => Self::Digests,
            (Algorithm::Sha256, None) => Self::Sha256,
            (_, None) => Self::Digest,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Digest => "digest",
            Self::Digests => "digests",
        }
    }
}

/// One entry of `files`, with its members in alphabetical order.
pub struct Entry<'a> {
    manifest: &'a Manifest,
    index: usize,
}

impl<'a> Entry<'a> {
    /// The entry of the file at this index.
    pub fn new(manifest: &'a Manifest, index: usize) -> Self {
        Self { manifest, index }
    }

    /// Parses entries one by one, and makes a manifest of them; `None` if there is none.
    pub fn parse_all<'t>(
        hashing: Hashing,
        lines: impl Iterator<Item = &'t str>,
    ) -> Result<Option<Manifest>, ManifestError> {
        let mut files = Entries::default();
        for line in lines {
            let entry = serde_json::from_str(line).map_err(|error| ManifestError::Json(error.to_string()))?;
            files.add(entry).map_err(ManifestError::Json)?;
        }
        if files.files.is_empty() {
            return Ok(None);
        }
        let (files, digests) = files.checked(hashing)?;
        Manifest::new(hashing, files, digests).map(Some)
    }
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hashing = self.manifest.hashing();
        let File { path, size } = self.manifest.files.at(self.index);
        let digests = self.manifest.digests(self.index);
        let mut map = serializer.serialize_map(Some(3))?;
        match Member::of(hashing) {
            Member::Sha256 => {
                map.serialize_entry("path", path)?;
                map.serialize_entry("sha256", &Hex(digests))?;
            }
            Member::Digest => {
                map.serialize_entry("digest", &Hex(digests))?;
                map.serialize_entry("path", path)?;
            }
            Member::Digests => {
                let each: Vec<_> = digests.chunks_exact(hashing.algorithm.digest_bytes()).map(Hex).collect();
                map.serialize_entry("digests", &each)?;
                map.serialize_entry("path", path)?;
            }
        }
        map.serialize_entry("size", &size)?;
        map.end()
    }
}

struct Hex<'a>(&'a [u8]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * self.0.len());
        write_hex(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

/// Writes the canonical form.
pub fn write(manifest: &Manifest, target: impl Write) -> io::Result<()> {
    struct Each<'a>(&'a Manifest);
    impl Serialize for Each<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((0..self.0.files.len()).map(|index| Entry::new(self.0, index)))
        }
    }
    let mut serializer = serde_json::Serializer::new(target);
    let hashing = manifest.hashing();
    let written = (|| {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("files", &Each(manifest))?;
        if Member::of(hashing) == Member::Sha256 {
            map.serialize_entry("version", &VERSION)?;
        } else {
            map.serialize_entry("hash", hashing.algorithm.name())?;
            if let Some(size) = hashing.shard_size {
                map.serialize_entry("shardSize", &size)?;
            }
            map.serialize_entry("version", &VERSION_HASHING)?;
        }
        map.end()
    })();
    written.map_err(io::Error::from)
}

/// The hashing, the files and their digests that a text lists.
pub fn parse(json: impl io::Read) -> Result<(Hashing, Files, Vec<u8>), ManifestError> {
    let document: Document = serde_json::from_reader(json).map_err(|error| ManifestError::Json(error.to_string()))?;
    let hashing = hashing(&document)?;
    let (files, digests) = document.files.checked(hashing)?;
    Ok((hashing, files, digests))
}

fn hashing(document: &Document) -> Result<Hashing, ManifestError> {
    match (document.version, &document.hash, document.shard_size) {
        (VERSION, None, None) => Ok(Hashing::default()),
        (VERSION, ..) => {
            Err(ManifestError::Hashing(format!("hash and shardSize are members of version {VERSION_HASHING}")))
        }
        (VERSION_HASHING, None, _) => Err(ManifestError::Hashing("hash is missing: sha256, blake2b or blake3".into())),
        (VERSION_HASHING, Some(name), shard_size) => {
            let algorithm = Algorithm::parse(name)
                .ok_or_else(|| ManifestError::Hashing(format!("hash {name:?} is none of sha256, blake2b, blake3")))?;
            match (algorithm, shard_size) {
                // Each list of files has one canonical form, so one digest.
                (Algorithm::Sha256, None) => {
                    Err(ManifestError::Hashing(format!("hash is sha256 without shardSize: that is version {VERSION}")))
                }
                _ => Ok(Hashing { algorithm, shard_size }),
            }
        }
        (version, ..) => Err(ManifestError::Version(version)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    files: Entries,
    #[serde(default, deserialize_with = "present")]
    hash: Option<String>,
    #[serde(default, rename = "shardSize", deserialize_with = "present")]
    shard_size: Option<u64>,
    version: u32,
}

/// A member that may be absent, but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Default)]
struct Entries {
    files: Files,
    digests: Vec<u8>,
    /// Bytes of digests of each file; empty where each has the same.
    lengths: Vec<u32>,
    length: usize,
    member: Option<Member>,
}

impl Entries {
    fn add(&mut self, entry: Raw) -> Result<(), String> {
        let Raw { path, size, sha256, digest, digests } = entry;
        let (member, bytes) = match (&sha256, digest, digests) {
            (Some(hash), None, None) => (Member::Sha256, Bytes(hash.0.to_vec())),
            (None, Some(Bytes(bytes)), None) => (Member::Digest, Bytes(bytes)),
            (None, None, Some(Several(bytes))) => (Member::Digests, Bytes(bytes)),
            (None, None, None) => return Err(format!("path {path:?} has no sha256, digest or digests")),
            _ => return Err(format!("path {path:?} has more than one of sha256, digest and digests")),
        };
        if self.member.is_some_and(|first| first != member) {
            return Err(format!("path {path:?} has {}, unlike the files before it", member.name()));
        }
        if member == Member::Digests {
            self.lengths.push(u32::try_from(bytes.0.len()).map_err(|_| ManifestError::TooManyFiles.to_string())?);
        } else if self.member.is_some() && self.length != bytes.0.len() {
            return Err(format!("path {path:?} has a digest of {} bytes, unlike the files before it", bytes.0.len()));
        }
        self.member = Some(member);
        self.length = bytes.0.len();
        // A digest has up to 64 bytes: the exact number is checked once the hash is known.
        self.files.push(&path, size, (bytes.0.len() / 64) as u64).map_err(|error| error.to_string())?;
        self.digests.extend_from_slice(&bytes.0);
        Ok(())
    }

    /// The files and their digests, if these are such as the hashing asks for.
    fn checked(self, hashing: Hashing) -> Result<(Files, Vec<u8>), ManifestError> {
        let expected = Member::of(hashing);
        if let Some(found) = self.member.filter(|found| *found != expected) {
            let text = format!("files have {}, and {} is expected", found.name(), expected.name());
            return Err(ManifestError::Hashing(text));
        }
        super::check_shard_size(hashing.shard_size)?;
        for (file, found) in self.files.iter().zip(&self.lengths) {
            let expected = hashing.digests(file.size).saturating_mul(hashing.algorithm.digest_bytes() as u64);
            if u64::from(*found) != expected {
                let text = format!(
                    "path {:?} has {found} bytes of digests, and {expected} are expected of {} bytes in shards",
                    file.path, file.size
                );
                return Err(ManifestError::Hashing(text));
            }
        }
        Ok((self.files, self.digests))
    }
}

/// Stops at the first entry too many, rather than after all were kept.
impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of files")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries, A::Error> {
                let mut files = Entries::default();
                while let Some(entry) = seq.next_element()? {
                    files.add(entry).map_err(A::Error::custom)?;
                }
                Ok(files)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    path: Box<str>,
    size: u64,
    #[serde(default, deserialize_with = "present")]
    sha256: Option<Hash>,
    #[serde(default, deserialize_with = "present")]
    digest: Option<Bytes>,
    #[serde(default, deserialize_with = "present")]
    digests: Option<Several>,
}

/// One digest in hex digits.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = Vec::with_capacity(64);
        push_hex(&text, &mut bytes).map_err(D::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// The digests of the shards of a file.
struct Several(Vec<u8>);

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Several;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of digests")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Several, A::Error> {
                let mut bytes = Vec::new();
                let length = Cell::new(None);
                while seq.next_element_seed(Push { bytes: &mut bytes, length: &length })?.is_some() {
                    if bytes.len() / 64 > super::MAX_FILES {
                        return Err(A::Error::custom(ManifestError::TooManyFiles));
                    }
                }
                Ok(Several(bytes))
            }
        }
        deserializer.deserialize_seq(Texts)
    }
}

/// Adds one digest, of the same length as those before it.
struct Push<'a> {
    bytes: &'a mut Vec<u8>,
    length: &'a Cell<Option<usize>>,
}

impl<'de> DeserializeSeed<'de> for Push<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let text = String::deserialize(deserializer)?;
        if self.length.replace(Some(text.len())).is_some_and(|length| length != text.len()) {
            return Err(D::Error::custom("digests are of different lengths"));
        }
        push_hex(&text, self.bytes).map_err(D::Error::custom)
    }
}

fn push_hex(text: &str, target: &mut Vec<u8>) -> Result<(), String> {
    if !matches!(text.len(), 64 | 128) {
        return Err(not_hex(text));
    }
    for pair in text.as_bytes().chunks_exact(2) {
        let high = super::nibble(pair[0]).ok_or_else(|| not_hex(text))?;
        let low = super::nibble(pair[1]).ok_or_else(|| not_hex(text))?;
        target.push(high << 4 | low);
    }
    Ok(())
}

fn not_hex(text: &str) -> String {
    format!("digest {text:?} is not 64 or 128 lower-case hex digits")
}
