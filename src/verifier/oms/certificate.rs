//! The method `certificate`: a path from the leaf to roots that the artifact names, and an identity that the leaf must
//! have (OMS v1.0, section 8.2; RFC 5280).

use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, UnixTime, alg_id,
};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as algorithms};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::keys::{PublicKey, verifies_p521};
use super::refusal::{Cause, Refusal};

/// OID 1.3.6.1.5.5.7.3.3, the content of its DER.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// Why roots cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RootsError {
    /// Not PEM, or not a certificate.
    #[error("it cannot be read as PEM certificates: {0}")]
    Form(String),
    /// No root at all.
    #[error("it has no PEM block \"CERTIFICATE\"")]
    Empty,
}

/// Roots that certificates must lead to, in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// From PEM, one or more blocks.
    ///
    /// # Errors
    /// If there is none, or one of them is no certificate.
    pub fn from_pem(text: &str) -> Result<Self, RootsError> {
        let form = |error: String| RootsError::Form(error);
        let roots: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| form(error.to_string()))?;
        for root in &roots {
            anchor_from_trusted_cert(root).map_err(|error| form(error.to_string()))?;
            X509Certificate::from_der(root).map_err(|error| form(error.to_string()))?;
        }
        if roots.is_empty() { Err(RootsError::Empty) } else { Ok(Self(roots)) }
    }

    /// Those that are valid at a time.
    fn valid_at(&self, at: OffsetDateTime) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter().filter(move |root| {
            X509Certificate::from_der(root).is_ok_and(|(_, parsed)| {
                let validity = parsed.validity();
                validity.not_before.to_datetime() <= at && at <= validity.not_after.to_datetime()
            })
        })
    }
}

/// P-521 with SHA-512, which ring does not have.
#[derive(Debug)]
struct P521;

impl SignatureVerificationAlgorithm for P521 {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }
    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        if verifies_p521(public_key, message, signature) { Ok(()) } else { Err(InvalidSignature) }
    }
}

/// What authorities may sign certificates with. The key of the leaf is held to [`PublicKey`] besides.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    &P521,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Finds the key of the leaf, if the chain leads to one of the roots and the leaf is the identity's.
///
/// # Errors
/// With the cause, if the chain, a validity, the usage or the identity does not hold.
pub fn trusted_key(chain: &[Vec<u8>], roots: &Roots, identity: &str, at: OffsetDateTime) -> Result<PublicKey, Refusal> {
    let malformed = |problem: String| Refusal::new(Cause::BundleInvalid, format!("leaf certificate: {problem}"));
    let [leaf, others @ ..] = chain else { return Err(malformed("there is none".into())) };
    let leaf_der = CertificateDer::from(leaf.as_slice());
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| malformed(error.to_string()))?;
    let key = PublicKey::from_spki(parsed.public_key().raw).map_err(|error| malformed(error.to_string()))?;

    let end_entity = EndEntityCert::try_from(&leaf_der).map_err(|error| malformed(error.to_string()))?;
    let anchors: Vec<_> = roots.valid_at(at).filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    if anchors.is_empty() {
        return Err(Refusal::new(Cause::CertificateTime, format!("none of the roots is valid at {at}")));
    }
    let intermediates: Vec<_> = others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let seconds = u64::try_from(at.unix_timestamp()).unwrap_or(0);
    end_entity
        .verify_for_usage(
            ALGORITHMS,
            &anchors,
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::required_if_present(CODE_SIGNING),
            None,
            None,
        )
        .map_err(|error| path_refusal(&error))?;
    check_usage(&parsed)?;
    check_identity(&parsed, identity)?;
    Ok(key)
}

fn path_refusal(error: &webpki::Error) -> Refusal {
    use webpki::Error as E;
    let cause = match error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => Cause::CertificateTime,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension | E::CaUsedAsEndEntity => Cause::CertificateUsage,
        _ => Cause::UntrustedChain,
    };
    let text = match error {
        E::CertExpired { not_after, .. } => format!("a certificate expired at {} (Unix time)", not_after.as_secs()),
        E::CertNotValidYet { not_before, .. } => {
            format!("a certificate is not valid before {} (Unix time)", not_before.as_secs())
        }
        E::UnknownIssuer => "the chain does not lead to one of the roots".into(),
        E::CaUsedAsEndEntity => "the leaf is the certificate of an authority".into(),
        other => format!("the chain does not hold: {other}"),
    };
    Refusal::new(cause, text)
}

fn check_usage(leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
    let malformed = |error: x509_parser::error::X509Error| Refusal::new(Cause::BundleInvalid, error.to_string());
    let usage = leaf.key_usage().map_err(malformed)?;
    let extended = leaf.extended_key_usage().map_err(malformed)?;
    let may_sign = usage.is_some_and(|usage| usage.value.digital_signature())
        || extended.is_some_and(|extended| extended.value.code_signing);
    if may_sign {
        return Ok(());
    }
    let text = "the leaf has neither key usage digitalSignature nor extended key usage codeSigning";
    Err(Refusal::new(Cause::CertificateUsage, text))
}

/// Kinds of names that can be an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Uri,
    Email,
    Dns,
}

impl Kind {
    /// What an identity is, by its form: a colon is in every URI and in nothing else, an @ in every address.
    fn of(identity: &str) -> Self {
        if identity.contains(':') {
            Self::Uri
        } else if identity.contains('@') {
            Self::Email
        } else {
            Self::Dns
        }
    }
}

fn check_identity(leaf: &X509Certificate<'_>, identity: &str) -> Result<(), Refusal> {
    let malformed = |error: x509_parser::error::X509Error| Refusal::new(Cause::BundleInvalid, error.to_string());
    let names = leaf.subject_alternative_name().map_err(malformed)?;
    let names: Vec<(Kind, &str)> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((Kind::Uri, *uri)),
            GeneralName::RFC822Name(address) => Some((Kind::Email, *address)),
            GeneralName::DNSName(host) => Some((Kind::Dns, *host)),
            _ => None,
        })
        .collect();
    if names.contains(&(Kind::of(identity), identity)) {
        return Ok(());
    }
    let found: Vec<_> = names.iter().map(|(_, name)| format!("{name:?}")).collect();
    let found = if found.is_empty() { "no name".into() } else { found.join(", ") };
    Err(Refusal::new(Cause::UntrustedIdentity, format!("the leaf is of {found}, not of {identity:?}")))
}
