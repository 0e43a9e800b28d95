//! The signature file: a Sigstore bundle, version 0.3, as JSON (OMS v1.0, section 4).

use std::io::{BufReader, Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use super::payload::{Cut, Payload};
use super::strict::{Bounded, Ignored};

/// The usual name of a bundle, beside the files that it signs.
pub const DEFAULT_NAME: &str = "model.sig";
/// The media type that is written.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// An older spelling of the same version.
const MEDIA_TYPE_PARAMETER: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
/// Type of the signed payload: an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Most bytes that a bundle may have.
pub const MAX_BYTES: u64 = 512 << 20;
/// Most bytes that it may have besides the payload, which is all of it that is ever in memory at once.
pub const MAX_BESIDE: u64 = 2 << 20;
/// Most bytes that a keyless bundle may have: the library that verifies it holds all of it in memory, more than once.
pub const MAX_KEYLESS_BYTES: u64 = 16 << 20;
/// Most certificates in a chain.
const MAX_CERTIFICATES: usize = 16;

/// Why a file is no bundle that can be looked at.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// More bytes than a bundle may have.
    #[error("it has more than {MAX_BYTES} bytes: pack the files, use larger shards, or split the artifact")]
    TooLarge,
    /// More bytes than there is a use for.
    #[error("it has more than {MAX_BESIDE} bytes besides the payload")]
    TooMuchBeside,
    /// Somebody writes to it.
    #[error("it was changed while it was read")]
    Changed,
    /// Not the JSON that is expected.
    #[error("it is not a Sigstore bundle: {0}")]
    Json(String),
    /// Another version.
    #[error("mediaType is {0:?}, not {MEDIA_TYPE:?}: sign again with a signer of OMS v1.0")]
    MediaType(String),
    /// Not exactly one of the forms.
    #[error(
        "verificationMaterial has {0} of publicKey, x509CertificateChain and certificate: it must have exactly one"
    )]
    Material(usize),
    /// A value that is not Base64.
    #[error("{0} is not Base64")]
    Base64(&'static str),
    /// Another payload.
    #[error("payloadType is {0:?}, not {PAYLOAD_TYPE:?}")]
    PayloadType(String),
    /// Not exactly one signature.
    #[error("dsseEnvelope has {0} signatures: it must have exactly one")]
    Signatures(usize),
    /// A chain without a leaf.
    #[error("x509CertificateChain has no certificate")]
    NoCertificate,
    /// Log entries are required.
    #[error("tlogEntries is empty: a keyless signature needs the entry of the transparency log")]
    NoLogEntry,
    /// Log entries are not expected.
    #[error("tlogEntries is not empty, and the bundle is not keyless")]
    LogEntry,
}

/// How the signer is known.
#[derive(Debug, PartialEq, Eq)]
pub enum Material {
    /// By a key that the verifier has.
    PublicKey {
        /// Lower-case hex SHA-256 of the key's PEM text, if it is given.
        hint: Option<String>,
        /// The key as bundles of signers before 1.1.0 have it.
        raw: Option<Vec<u8>>,
    },
    /// By a chain of certificates (DER), the leaf first.
    CertificateChain(Vec<Vec<u8>>),
    /// By a short-lived certificate (DER) and a transparency log.
    Keyless(Vec<u8>),
}

impl Material {
    /// The signing method by the name that OMS gives it.
    pub fn method(&self) -> &'static str {
        match self {
            Self::PublicKey { .. } => "key",
            Self::CertificateChain(_) => "certificate",
            Self::Keyless(_) => "sigstore",
        }
    }
}

/// A bundle whose form was found to be sound. Nothing in it is trusted yet.
#[derive(Debug)]
pub struct Bundle<S> {
    /// How the signer is known.
    pub material: Material,
    /// The signature: ECDSA, ASN.1 DER.
    pub signature: Vec<u8>,
    /// What is signed.
    pub payload: Payload<S>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    media_type: String,
    verification_material: MaterialDocument,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MaterialDocument {
    public_key: Option<KeyDocument>,
    #[serde(rename = "x509CertificateChain")]
    chain: Option<ChainDocument>,
    certificate: Option<CertificateDocument>,
    tlog_entries: Option<Vec<Ignored>>,
    #[serde(rename = "timestampVerificationData")]
    _timestamps: Option<Ignored>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct KeyDocument {
    hint: Option<String>,
    raw_bytes: Option<String>,
    #[serde(rename = "keyDetails")]
    _details: Option<Ignored>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainDocument {
    #[serde(deserialize_with = "certificates")]
    certificates: Vec<CertificateDocument>,
}

fn certificates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CertificateDocument>, D::Error> {
    Bounded { limit: MAX_CERTIFICATES, what: "certificates" }.all(deserializer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CertificateDocument {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    /// Nothing: the payload is cut out before the text is parsed.
    payload: String,
    payload_type: String,
    signatures: Vec<SignatureDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureDocument {
    sig: String,
    /// Never used to choose a key.
    #[serde(rename = "keyid")]
    _keyid: Option<String>,
}

impl<S: Read + Seek> Bundle<S> {
    /// Parses the JSON of a source, and leaves the payload there. Unknown and repeated members are errors, outside of what
    /// the transparency log says of itself.
    ///
    /// # Errors
    /// If it cannot be read, is too large, or is not of the form of OMS v1.0.
    pub fn parse(mut source: S) -> Result<Self, BundleError> {
        let read = |error: std::io::Error| BundleError::Read(error.to_string());
        if source.seek(SeekFrom::End(0)).map_err(read)? > MAX_BYTES {
            return Err(BundleError::TooLarge);
        }
        source.rewind().map_err(read)?;
        let mut cut = Cut::new(&mut source);
        let parsed = serde_json::from_reader(BufReader::new(&mut cut));
        let (place, beside) = (cut.place(), cut.passed());
        if beside > MAX_BESIDE {
            return Err(BundleError::TooMuchBeside);
        }
        let document: Document = parsed.map_err(|error| BundleError::Json(error.to_string()))?;
        if ![MEDIA_TYPE, MEDIA_TYPE_PARAMETER].contains(&document.media_type.as_str()) {
            return Err(BundleError::MediaType(document.media_type));
        }
        let envelope = document.dsse_envelope;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(BundleError::PayloadType(envelope.payload_type));
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(BundleError::Signatures(envelope.signatures.len()));
        };
        // Spelled with escapes, it would be a member for others and not for the cut.
        let place = place.filter(|_| envelope.payload.is_empty());
        let place = place.ok_or_else(|| BundleError::Json("dsseEnvelope.payload is not plain".into()))?;
        Ok(Self {
            signature: decode("dsseEnvelope.signatures[0].sig", &signature.sig)?,
            material: document.verification_material.check()?,
            payload: Payload::at(source, place)?,
        })
    }
}

impl MaterialDocument {
    fn check(self) -> Result<Material, BundleError> {
        let entries = self.tlog_entries.map_or(0, |entries| entries.len());
        let material = match (self.public_key, self.chain, self.certificate) {
            (Some(key), None, None) => Material::PublicKey {
                hint: key.hint.filter(|hint| !hint.is_empty()),
                raw: key.raw_bytes.map(|raw| decode("publicKey.rawBytes", &raw)).transpose()?,
            },
            (None, Some(chain), None) if chain.certificates.is_empty() => return Err(BundleError::NoCertificate),
            (None, Some(chain), None) => Material::CertificateChain(
                chain
                    .certificates
                    .iter()
                    .map(|certificate| decode("x509CertificateChain.certificates[].rawBytes", &certificate.raw_bytes))
                    .collect::<Result<_, _>>()?,
            ),
            (None, None, Some(leaf)) => Material::Keyless(decode("certificate.rawBytes", &leaf.raw_bytes)?),
            (key, chain, leaf) => {
                let given = [key.is_some(), chain.is_some(), leaf.is_some()];
                return Err(BundleError::Material(given.into_iter().filter(|given| *given).count()));
            }
        };
        match (&material, entries) {
            (Material::Keyless(_), 0) => Err(BundleError::NoLogEntry),
            (Material::Keyless(_), _) | (_, 0) => Ok(material),
            _ => Err(BundleError::LogEntry),
        }
    }
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, BundleError> {
    STANDARD.decode(text).map_err(|_| BundleError::Base64(field))
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
