//! The hashes that content is known by, under the identifiers of OpenSSF Model Signing v1.0 (algorithm registry).

use blake2::Blake2b512;
use sha2::{Digest as _, Sha256};

/// Most bytes a digest has.
pub const MAX_DIGEST_BYTES: usize = 64;

/// A hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    #[default]
    Sha256,
    /// BLAKE2b, unkeyed, 64 bytes.
    Blake2b,
    /// BLAKE3, unkeyed, 32 bytes. The only one that is computed in parallel within a file.
    Blake3,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Blake2b, Self::Blake3];

    /// The identifier.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
            Self::Blake3 => "blake3",
        }
    }

    /// The hash with that identifier.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Bytes of a digest.
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Blake2b => 64,
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How content is hashed: with which hash, and whole or in shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashing {
    /// The hash.
    pub algorithm: Algorithm,
    /// Bytes of a shard, each hashed on its own (the last of a file is shorter, an empty file has none); a file is hashed
    /// whole where there are none.
    pub shard_size: Option<u64>,
}

impl Hashing {
    /// Number of digests that a file of so many bytes has.
    pub fn digests(&self, size: u64) -> u64 {
        self.shard_size.map_or(1, |shard| size.div_ceil(shard))
    }

    /// Bytes that the digest at this index covers.
    pub fn range(&self, size: u64, index: u64) -> std::ops::Range<u64> {
        match self.shard_size {
            None => 0..size,
            Some(shard) => index * shard..size.min(index.saturating_add(1).saturating_mul(shard)),
        }
    }
}

/// A digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    bytes: [u8; MAX_DIGEST_BYTES],
    length: u8,
}

impl Digest {
    /// A digest of these bytes; what is more than a digest has is left out.
    pub fn new(bytes: &[u8]) -> Self {
        let length = bytes.len().min(MAX_DIGEST_BYTES);
        let mut digest = Self { bytes: [0; MAX_DIGEST_BYTES], length: length as u8 };
        digest.bytes[..length].copy_from_slice(&bytes[..length]);
        digest
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_hex(self.as_bytes(), f)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Writes lower-case hex digits.
pub fn write_hex(bytes: &[u8], target: &mut dyn std::fmt::Write) -> std::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(target, "{byte:02x}"))
}

/// A hash that is being computed.
pub enum State {
    /// SHA-256.
    Sha256(Sha256),
    /// BLAKE2b.
    Blake2b(Box<Blake2b512>),
    /// BLAKE3.
    Blake3(Box<blake3::Hasher>),
}

impl State {
    /// A hash of nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Blake2b => Self::Blake2b(Box::default()),
            Algorithm::Blake3 => Self::Blake3(Box::default()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Blake2b(state) => state.update(bytes),
            Self::Blake3(state) => {
                state.update(bytes);
            }
        }
    }

    /// The digest.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(state) => Digest::new(&state.finalize()),
            Self::Blake2b(state) => Digest::new(&state.finalize()),
            Self::Blake3(state) => Digest::new(state.finalize().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_reference_implementations() {
        // printf abc | sha256sum; printf abc | b2sum; BLAKE3 test vector for "abc".
        for (algorithm, expected) in [
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Algorithm::Blake2b,
                "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
            ),
            (Algorithm::Blake3, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
        ] {
            let mut state = State::new(algorithm);
            state.update(b"a");
            state.update(b"bc");
            let digest = state.finish();
            assert_eq!(digest.to_string(), expected);
            assert_eq!(digest.as_bytes().len(), algorithm.digest_bytes());
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("SHA256"), None);
    }

    #[test]
    fn shards_cover_a_file_without_gap_or_overlap() {
        let shards = Hashing { algorithm: Algorithm::Sha256, shard_size: Some(10) };
        for size in [0, 1, 9, 10, 11, 20, 95] {
            let ranges: Vec<_> = (0..shards.digests(size)).map(|index| shards.range(size, index)).collect();
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
            assert!(ranges.iter().all(|range| !range.is_empty() && range.end - range.start <= 10), "{ranges:?}");
            assert_eq!(ranges.last().map_or(0, |range| range.end), size);
        }
        assert_eq!(Hashing::default().digests(0), 1);
        assert_eq!(Hashing::default().range(7, 0), 0..7);
    }
}
