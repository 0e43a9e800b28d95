//! An instance of Sigstore that exists in a test only: a certificate authority (Fulcio), a certificate log and a transparency
//! log (Rekor v1), each with a key of its own. It asks nobody who he is, and makes wrong evidence when it is told to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SigningKey as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use weightlock::verifier::oms::bundle::{MEDIA_TYPE, PAYLOAD_TYPE};
use weightlock::verifier::oms::payload::pre_authentication_encoding;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub const IDENTITY: &str = "weights-release@example.com";
pub const ISSUER: &str = "https://accounts.example.com";

/// When the certificate was made. Fixed, since the evidence holds for ever.
const ISSUED: OffsetDateTime = datetime!(2025-03-01 12:00:00 UTC);
/// When the transparency log took the entry in.
const INTEGRATED: OffsetDateTime = datetime!(2025-03-01 12:00:30 UTC);

/// OIDs of Fulcio's issuer extension and of embedded certificate timestamps (RFC 6962).
const ISSUER_EXTENSION: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 8];
const TIMESTAMPS_EXTENSION: &[u64] = &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];

pub struct Instance {
    authority: Issuer<'static, KeyPair>,
    authority_der: Vec<u8>,
    certificate_log: KeyPair,
    log: KeyPair,
}

/// What is special about a bundle.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// How long the certificate is valid.
    pub lifetime: Duration,
    /// Whether a certificate log has the certificate.
    pub certificate_is_logged: bool,
    /// The payload that the transparency log was told of, if it is another than the one of the bundle.
    pub logged: Option<&'a [u8]>,
}

impl Default for Making<'_> {
    fn default() -> Self {
        Self { lifetime: Duration::minutes(10), certificate_is_logged: true, logged: None }
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The identifier of a log: the digest of its key.
fn log_id(log: &KeyPair) -> [u8; 32] {
    sha256(&log.subject_public_key_info())
}

/// DER of a type with a content of less than 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut encoded = vec![tag];
    match length {
        0..0x80 => encoded.push(length as u8),
        0x80..0x100 => encoded.extend([0x81, length as u8]),
        _ => encoded.extend([[0x82].as_slice(), &length.to_be_bytes()].concat()),
    }
    encoded.extend(content);
    encoded
}

/// A vector of TLS with a length of two bytes.
fn vector(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

impl Instance {
    pub fn new() -> Self {
        let key_of_authority = key();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "certificates of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = ISSUED - Duration::days(30);
        params.not_after = ISSUED + Duration::days(3650);
        let certificate = params.self_signed(&key_of_authority).unwrap();
        Self {
            authority_der: certificate.der().to_vec(),
            authority: Issuer::new(params, key_of_authority),
            certificate_log: key(),
            log: key(),
        }
    }

    /// What trusts this instance.
    pub fn trusted_root(&self) -> Value {
        let from = json!({"start": "2025-02-01T00:00:00Z"});
        let log = |key: &KeyPair, name: &str| {
            json!({
                "baseUrl": format!("https://{name}.example.com"),
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(key.subject_public_key_info()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": from,
                },
                "logId": {"keyId": STANDARD.encode(log_id(key))},
            })
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.log, "log")],
            "certificateAuthorities": [{
                "subject": {"commonName": "certificates of a test"},
                "uri": "https://certificates.example.com",
                "certChain": {"certificates": [{"rawBytes": STANDARD.encode(&self.authority_der)}]},
                "validFor": from,
            }],
            "ctlogs": [log(&self.certificate_log, "certificate-log")],
            "timestampAuthorities": [],
        })
    }

    /// A bundle of a statement, signed by [`IDENTITY`], whom [`ISSUER`] vouches for.
    pub fn sign(&self, statement: &[u8], making: Making<'_>) -> Value {
        let key = key();
        let leaf = self.certificate(&key, making);
        let signature = key.sign(&pre_authentication_encoding(statement)).unwrap();
        let entry = self.entry(making.logged.unwrap_or(statement), &signature, &leaf.pem());
        json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"certificate": {"rawBytes": STANDARD.encode(leaf.der())}, "tlogEntries": [entry]},
            "dsseEnvelope": {
                "payload": STANDARD.encode(statement),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
            },
        })
    }

    fn certificate(&self, key: &KeyPair, making: Making<'_>) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::Rfc822Name(IDENTITY.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.use_authority_key_identifier_extension = true;
        params.not_before = ISSUED;
        params.not_after = ISSUED + making.lifetime;
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(ISSUER_EXTENSION, der(12, ISSUER.as_bytes()))];
        if making.certificate_is_logged {
            // What the log signs is the certificate without the log's own timestamp.
            let before = params.signed_by(key, &self.authority).unwrap();
            params.custom_extensions.push(self.timestamp(before.der()));
        }
        params.signed_by(key, &self.authority).unwrap()
    }

    /// The embedded timestamp (RFC 6962, sections 3.2 and 3.3).
    fn timestamp(&self, certificate: &[u8]) -> CustomExtension {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let tbs: &[u8] = parsed.tbs_certificate.as_ref();
        let at = u64::try_from(ISSUED.unix_timestamp() * 1000).unwrap().to_be_bytes();
        let authority = sha256(&self.authority.key().subject_public_key_info());
        let length = &u32::try_from(tbs.len()).unwrap().to_be_bytes()[1..];
        // Version 1, certificate_timestamp, precert_entry; no extensions.
        let signed = [&[0, 0], at.as_slice(), &[0, 1], &authority, length, tbs, &[0, 0]].concat();
        let signature = self.certificate_log.sign(&signed).unwrap();
        // SHA-256 and ECDSA.
        let timestamp =
            [&[0], log_id(&self.certificate_log).as_slice(), &at, &[0, 0], &[4, 3], &vector(&signature)].concat();
        CustomExtension::from_oid_content(TIMESTAMPS_EXTENSION, der(4, &vector(&vector(&timestamp))))
    }

    /// The entry of the transparency log, the second of three, with promise, proof and checkpoint.
    fn entry(&self, payload: &[u8], signature: &[u8], certificate: &str) -> Value {
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hex(&sha256(b"nobody can compute it again"))},
                "payloadHash": {"algorithm": "sha256", "value": hex(&sha256(payload))},
                "signatures": [{"signature": STANDARD.encode(signature), "verifier": STANDARD.encode(certificate)}],
            },
        })
        .to_string();
        let leaf = |content: &[u8]| sha256(&[&[0], content].concat());
        let node = |left: &[u8; 32], right: &[u8; 32]| sha256(&[[1].as_slice(), left, right].concat());
        let (first, third) = (leaf(b"the first"), leaf(b"the third"));
        let root = STANDARD.encode(node(&node(&first, &leaf(body.as_bytes())), &third));
        let id = log_id(&self.log);
        let note = format!("log.example.com - 1\n3\n{root}\n");
        let signed = [&id[..4], &self.log.sign(note.as_bytes()).unwrap()].concat();
        // Members in order, as RFC 8785 has them.
        let promised = json!({
            "body": STANDARD.encode(&body),
            "integratedTime": INTEGRATED.unix_timestamp(),
            "logID": hex(&id),
            "logIndex": 1,
        });
        let promise = self.log.sign(promised.to_string().as_bytes()).unwrap();
        json!({
            "logIndex": "1",
            "logId": {"keyId": STANDARD.encode(id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": INTEGRATED.unix_timestamp().to_string(),
            "inclusionPromise": {"signedEntryTimestamp": STANDARD.encode(promise)},
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": root,
                "treeSize": "3",
                "hashes": [STANDARD.encode(first), STANDARD.encode(third)],
                "checkpoint": {"envelope": format!("{note}\n\u{2014} log.example.com {}\n", STANDARD.encode(signed))},
            },
            "canonicalizedBody": STANDARD.encode(body),
        })
    }
}
