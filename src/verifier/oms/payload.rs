//! What is signed, left where it lies: with a million files it is larger than the memory that the verifier may take.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use sha2::{Digest as _, Sha256};

use super::bundle::{BundleError, MAX_BESIDE, PAYLOAD_TYPE};
use super::keys::Hasher;

const BUFFER: usize = 64 << 10;
const BAD: BundleError = BundleError::Base64("dsseEnvelope.payload");

/// The pre-authentication encoding (DSSE v1) of a payload: the bytes that are signed.
pub fn pre_authentication_encoding(statement: &[u8]) -> Vec<u8> {
    [header(statement.len() as u64).as_bytes(), statement].concat()
}

fn header(length: u64) -> String {
    format!("DSSEv1 {} {PAYLOAD_TYPE} {length} ", PAYLOAD_TYPE.len())
}

/// The payload of a bundle. Whoever reads it gets the same bytes each time, or an error.
#[derive(Debug)]
pub struct Payload<S> {
    source: S,
    /// Where its Base64 is.
    place: Range<u64>,
    length: u64,
    sha256: [u8; 32],
}

impl<S: Read + Seek> Payload<S> {
    pub(super) fn at(source: S, place: Range<u64>) -> Result<Self, BundleError> {
        let mut payload = Self { source, place, length: 0, sha256: [0; 32] };
        let (_, length, sha256) = payload.pass(|_| ())?;
        Ok(Self { length, sha256, ..payload })
    }

    /// SHA-256 of the payload.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Gives the payload to a function.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it was when the bundle was parsed; then what the function made of it is void.
    pub fn read<T>(&mut self, read: impl FnOnce(&mut dyn Read) -> T) -> Result<T, BundleError> {
        let (result, _, sha256) = self.pass(read)?;
        if sha256 == self.sha256 { Ok(result) } else { Err(BundleError::Changed) }
    }

    fn pass<T>(&mut self, read: impl FnOnce(&mut dyn Read) -> T) -> Result<(T, u64, [u8; 32]), BundleError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => BAD,
            _ => BundleError::Read(error.to_string()),
        };
        self.source.seek(SeekFrom::Start(self.place.start)).map_err(failed)?;
        let encoded = (&mut self.source).take(self.place.end - self.place.start);
        let decoder = DecoderReader::new(BufReader::with_capacity(BUFFER, encoded), &STANDARD);
        let mut hashing = Hashing { inner: decoder, hasher: Sha256::new(), length: 0, error: None };
        let result = read(&mut BufReader::with_capacity(BUFFER, &mut hashing));
        // Whoever parses may stop early, and hides why reading failed.
        let rest = io::copy(&mut hashing, &mut io::sink());
        match (hashing.error, rest) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(failed(error)),
            (None, Ok(_)) => Ok((result, hashing.length, hashing.hasher.finalize().into())),
        }
    }

    /// Hashes the pre-authentication encoding.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn hashed(&mut self, mut hasher: Hasher) -> Result<Hasher, BundleError> {
        hasher.update(header(self.length).as_bytes());
        self.each_chunk(&mut |bytes| hasher.update(bytes))?;
        Ok(hasher)
    }

    /// Hashes what signers before 1.0 signed: the payload in the notation that Python has for bytes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn hashed_as_before(&mut self, mut hasher: Hasher) -> Result<Hasher, BundleError> {
        // A statement has double quotes in it, so that Python puts single ones around it.
        hasher.update(format!("DSSEV1 {} {PAYLOAD_TYPE} {} b'", PAYLOAD_TYPE.len(), self.length).as_bytes());
        let mut text = Vec::new();
        self.each_chunk(&mut |bytes| {
            text.clear();
            bytes.iter().for_each(|byte| push_as_python(*byte, &mut text));
            hasher.update(&text);
        })?;
        hasher.update(b"'");
        Ok(hasher)
    }

    fn each_chunk(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<(), BundleError> {
        self.read(|payload| {
            let mut buffer = vec![0; BUFFER];
            loop {
                match payload.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(length) => each(&buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(BundleError::Read(error.to_string())),
                }
            }
        })?
    }

    /// The text of the whole bundle, if it has no more than so many bytes.
    pub(super) fn text_of_bundle(&mut self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.source.rewind()?;
        let mut text = Vec::new();
        (&mut self.source).take(limit + 1).read_to_end(&mut text)?;
        Ok((text.len() as u64 <= limit).then_some(text))
    }
}

fn push_as_python(byte: u8, text: &mut Vec<u8>) {
    match byte {
        b'\\' | b'\'' => text.extend([b'\\', byte]),
        b'\t' => text.extend(b"\\t"),
        b'\n' => text.extend(b"\\n"),
        b'\r' => text.extend(b"\\r"),
        b' '..=b'~' => text.push(byte),
        other => text.extend(format!("\\x{other:02x}").bytes()),
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    length: u64,
    error: Option<BundleError>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).inspect_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::InvalidData => self.error = Some(BAD),
            _ => self.error = Some(BundleError::Read(error.to_string())),
        })?;
        self.hasher.update(&buffer[..read]);
        self.length += read as u64;
        Ok(read)
    }
}

/// The text of a bundle with an empty string for the payload, the value of `payload` in an object within the outermost one.
pub(super) struct Cut<R> {
    inner: R,
    /// Number of bytes read from `inner`.
    read: u64,
    /// Number of bytes that were not cut.
    passed: u64,
    depth: u32,
    state: State,
    place: Option<Range<u64>>,
}

/// Where in the JSON the next byte is.
#[derive(Clone, Copy)]
enum State {
    /// Between strings.
    Between,
    /// In a string; so many bytes of it are those of the name, and `None` if it is another.
    Text { name: Option<usize>, escaped: bool },
    /// Behind the name.
    Named,
    /// Behind the name and a colon.
    Value,
    /// In the payload.
    Payload { start: u64 },
}

const NAME: &[u8] = b"payload";

impl<R: Read> Cut<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, read: 0, passed: 0, depth: 0, state: State::Between, place: None }
    }

    /// Where the payload is, without its quotes.
    pub fn place(&self) -> Option<Range<u64>> {
        self.place.clone()
    }

    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether the byte at this place stays.
    fn stays(&mut self, byte: u8, at: u64) -> bool {
        self.state = match (self.state, byte) {
            (State::Payload { start }, b'"') => {
                self.place = Some(start..at);
                State::Between
            }
            (State::Payload { .. }, _) => return false,
            (State::Text { escaped: true, .. }, _) => State::Text { name: None, escaped: false },
            (State::Text { .. }, b'\\') => State::Text { name: None, escaped: true },
            (State::Text { name, .. }, b'"') => match name {
                Some(length) if length == NAME.len() && self.depth == 2 => State::Named,
                _ => State::Between,
            },
            (State::Text { name, .. }, _) => {
                let name = name.filter(|length| NAME.get(*length) == Some(&byte)).map(|length| length + 1);
                State::Text { name, escaped: false }
            }
            (state, b' ' | b'\t' | b'\n' | b'\r') => state,
            (State::Named, b':') => State::Value,
            (State::Value, b'"') => State::Payload { start: at + 1 },
            (_, b'"') => State::Text { name: Some(0), escaped: false },
            (_, b'{' | b'[') => {
                self.depth = self.depth.saturating_add(1);
                State::Between
            }
            (_, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                State::Between
            }
            _ => State::Between,
        };
        true
    }
}

impl<R: Read> Read for Cut<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.passed > MAX_BESIDE {
                return Ok(0);
            }
            let read = self.inner.read(buffer)?;
            let mut kept = 0;
            for index in 0..read {
                let byte = buffer[index];
                if self.stays(byte, self.read + index as u64) {
                    buffer[kept] = byte;
                    kept += 1;
                }
            }
            self.read += read as u64;
            self.passed += kept as u64;
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}
