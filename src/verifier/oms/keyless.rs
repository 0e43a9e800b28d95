//! The method `sigstore`: a short-lived certificate of Fulcio, verified offline against a trusted root.
//!
//! The path, the timestamp of the certificate log, the transparency log's inclusion proof and checkpoint, and that the log
//! entry is of this very bundle are verified by the sigstore project's own library; its cryptography is ring's.

use std::io::{Read, Seek};
use std::sync::Once;

use ring::digest;
use ring::signature as ring_signature;
use sha2::{Digest as _, Sha256};
use sigstore_crypto::provider::HashContext;
use sigstore_crypto::{CryptoProvider, SigningScheme};
use sigstore_trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_types::{Artifact, ArtifactDigest, Bundle, HashAlgorithm, SignatureContent};
use sigstore_verify::{
    CertificateError, Error, IdentityMatcher, TransparencyLogError as LogError, VerificationPolicy, Verifier,
    bundle::Error as FormError,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::bundle::MAX_KEYLESS_BYTES;
use super::payload::Payload;
use super::refusal::{Cause, Refusal};

/// ring as the library's cryptography.
#[derive(Debug)]
struct Ring;

struct RingHash(digest::Context);

impl HashContext for RingHash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

fn unsupported(what: impl std::fmt::Debug) -> sigstore_crypto::Error {
    sigstore_crypto::Error::UnsupportedAlgorithm(format!("{what:?}"))
}

impl CryptoProvider for Ring {
    fn hash(&self, algorithm: HashAlgorithm) -> sigstore_crypto::Result<Box<dyn HashContext>> {
        let algorithm = match algorithm {
            HashAlgorithm::Sha2256 => &digest::SHA256,
            HashAlgorithm::Sha2384 => &digest::SHA384,
            HashAlgorithm::Sha2512 => &digest::SHA512,
            other => return Err(unsupported(other)),
        };
        Ok(Box::new(RingHash(digest::Context::new(algorithm))))
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        let algorithm: &dyn ring_signature::VerificationAlgorithm = match scheme {
            SigningScheme::EcdsaP256Sha256 => &ring_signature::ECDSA_P256_SHA256_ASN1,
            SigningScheme::EcdsaP256Sha384 => &ring_signature::ECDSA_P256_SHA384_ASN1,
            SigningScheme::EcdsaP384Sha256 => &ring_signature::ECDSA_P384_SHA256_ASN1,
            SigningScheme::EcdsaP384Sha384 => &ring_signature::ECDSA_P384_SHA384_ASN1,
            SigningScheme::Ed25519 => &ring_signature::ED25519,
            SigningScheme::RsaPkcs1Sha256 => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
            SigningScheme::RsaPkcs1Sha384 => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
            SigningScheme::RsaPkcs1Sha512 => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
            other => return Err(unsupported(other)),
        };
        ring_signature::UnparsedPublicKey::new(algorithm, key)
            .verify(data, signature)
            .map_err(|_| sigstore_crypto::Error::Verification("the signature is not by this key".into()))
    }

    /// Nothing that OMS signs is signed by its digest alone.
    fn verify_prehashed(&self, scheme: SigningScheme, _: &[u8], _: &[u8], _: &[u8]) -> sigstore_crypto::Result<()> {
        Err(unsupported(scheme))
    }
}

fn install_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails where a provider is there already, and then that one is used.
        let _ = sigstore_crypto::install_default_provider(&Ring);
    });
}

/// A trusted root that was found to be sound.
#[derive(Clone)]
pub struct Root(TrustedRoot);

impl Root {
    /// From JSON (`application/vnd.dev.sigstore.trustedroot+json`); the public instance's where none is given.
    ///
    /// # Errors
    /// If it cannot be read, or names what cannot be used.
    pub fn parse(json: Option<&str>) -> Result<Self, String> {
        install_cryptography();
        let root = TrustedRoot::from_json(json.unwrap_or(SIGSTORE_PRODUCTION_TRUSTED_ROOT))
            .map_err(|error| error.to_string())?;
        Verifier::new(&root).map_err(|error| error.to_string())?;
        Ok(Self(root))
    }
}

/// Verifies the bundle whose payload, as it was parsed before, names `subject` (SHA-256).
///
/// # Errors
/// With the cause, if anything does not hold.
pub fn verify<S: Read + Seek>(
    payload: &mut Payload<S>,
    subject: [u8; 32],
    root: &Root,
    identity: &str,
    issuer: &str,
) -> Result<(), Refusal> {
    install_cryptography();
    let invalid = |problem: String| Refusal::new(Cause::BundleInvalid, problem);
    let text = payload.text_of_bundle(MAX_KEYLESS_BYTES).map_err(|error| invalid(error.to_string()))?;
    let text = text.ok_or_else(|| {
        invalid(format!(
            "it is keyless and has more than {MAX_KEYLESS_BYTES} bytes: sign so many files with a key or a certificate, or pack them"
        ))
    })?;
    let bundle: Bundle = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    drop(text);
    // What the library reads must be what was parsed and will be compared.
    match &bundle.content {
        SignatureContent::DsseEnvelope(envelope)
            if <[u8; 32]>::from(Sha256::digest(envelope.payload.as_bytes())) == payload.sha256() => {}
        _ => return Err(invalid("its payload is read in two ways".into())),
    }
    let verifier = Verifier::new(&root.0).map_err(|error| refusal(&error, &bundle, root))?;
    let identity = match identity {
        uri if uri.contains(':') => IdentityMatcher::Uri(uri.into()),
        address if address.contains('@') => IdentityMatcher::Email(address.into()),
        other => IdentityMatcher::Exact(other.into()),
    };
    let policy = VerificationPolicy::new(identity, issuer);
    let digest =
        ArtifactDigest::new(HashAlgorithm::Sha2256, subject.to_vec()).map_err(|error| invalid(error.to_string()))?;
    let result =
        verifier.verify(Artifact::Digest(digest), &bundle, &policy).map_err(|error| refusal(&error, &bundle, root))?;
    let complete = result.certificate_verified()
        && result.sct_verified()
        && result.tlog_verified()
        && result.identity_policy_checked();
    if complete { Ok(()) } else { Err(Refusal::new(Cause::TransparencyLog, "a check was left out")) }
}

/// Why the library refuses, in the terms of reports. It says little of the cause of some errors, so the bundle is asked too:
/// it was refused already, and nothing here accepts it.
fn refusal(error: &Error, bundle: &Bundle, root: &Root) -> Refusal {
    let cause = match error {
        Error::IdentityMismatch { .. } => Cause::UntrustedIdentity,
        Error::IssuerMismatch { .. } => Cause::UntrustedIssuer,
        Error::Certificate(CertificateError::NotYetValid { .. } | CertificateError::Expired { .. }) => {
            Cause::CertificateTime
        }
        Error::Certificate(CertificateError::ChainInvalid(_)) if logged_outside_validity(bundle) => {
            Cause::CertificateTime
        }
        Error::Certificate(CertificateError::ChainInvalid(_) | CertificateError::NoValidAuthority { .. }) => {
            Cause::UntrustedChain
        }
        Error::TransparencyLog(LogError::IntegratedTime(_)) => Cause::CertificateTime,
        Error::Certificate(CertificateError::Sct(_)) | Error::InvalidTrustRoot(_) => {
            match names_unknown_certificate_log(bundle, root) {
                true => Cause::UntrustedLog,
                false => Cause::CertificateLog,
            }
        }
        Error::TransparencyLog(LogError::UnknownLog { .. }) => Cause::UntrustedLog,
        Error::TransparencyLog(LogError::Checkpoint(_) | LogError::InclusionPromise(_)) => {
            match names_unknown_log(bundle, root) {
                true => Cause::UntrustedLog,
                false => Cause::LogSignature,
            }
        }
        Error::Bundle(FormError::MissingCheckpoint) => Cause::LogSignature,
        Error::TransparencyLog(LogError::InclusionProof(_))
        | Error::Bundle(
            FormError::MissingInclusionProof(_)
            | FormError::LogIndexOutOfRange { .. }
            | FormError::CheckpointRootMismatch,
        ) => Cause::InclusionProof,
        Error::TransparencyLog(LogError::EntryMismatch(_)) => Cause::OtherLogEntry,
        Error::TransparencyLog(_) | Error::Timestamp(_) => Cause::TransparencyLog,
        Error::SignatureInvalid(_) => Cause::SignatureInvalid,
        _ => Cause::BundleInvalid,
    };
    Refusal::new(cause, error.to_string())
}

fn leaf(bundle: &Bundle) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(bundle.signing_certificate()?.as_bytes()).ok().map(|(_, leaf)| leaf)
}

/// Whether the log took an entry in when the certificate was not valid. The library checks that the log says so before it
/// looks at the path.
fn logged_outside_validity(bundle: &Bundle) -> bool {
    let Some(leaf) = leaf(bundle) else { return false };
    let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let mut times = bundle.verification_material.tlog_entries.iter().filter_map(|entry| entry.integrated_time);
    times.any(|time| !(from..=to).contains(&time.as_second()))
}

/// Whether an entry names a log that the trusted root does not have.
fn names_unknown_log(bundle: &Bundle, root: &Root) -> bool {
    let known = |id: &[u8]| root.0.tlogs.iter().any(|log| log.log_id.key_id.as_bytes() == id);
    bundle.verification_material.tlog_entries.iter().any(|entry| !known(entry.log_id.key_id.as_bytes()))
}

/// Whether the certificate was logged, and only in logs that the trusted root does not have.
fn names_unknown_certificate_log(bundle: &Bundle, root: &Root) -> bool {
    let known = |id: &[u8]| root.0.ctlogs.iter().any(|log| log.log_id.key_id.as_bytes() == id);
    let Some(leaf) = leaf(bundle) else { return false };
    let mut named = leaf.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SCT(timestamps) => Some(timestamps),
        _ => None,
    });
    named.any(|timestamps| timestamps.iter().all(|timestamp| !known(timestamp.id.key_id)))
}

#[cfg(test)]
#[path = "keyless_tests.rs"]
mod tests;
