//! Whom an artifact trusts: the objects of `spec.signature.authorities`, as the verifier's arguments carry them.

use std::sync::Arc;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::certificate::Roots;
use super::keyless::Root;
use super::keys::PublicKey;

/// Most bytes that an authority may have.
const MAX_BYTES: usize = 256 << 10;

/// One authority.
#[derive(Clone)]
pub struct Authority {
    /// Its name, used in reports.
    pub name: String,
    /// What it vouches with.
    pub trust: Arc<Trust>,
    json: String,
}

/// What an authority vouches with.
pub enum Trust {
    /// A key.
    PublicKey(PublicKey),
    /// Certificates of an identity beneath roots.
    Certificate {
        /// The roots.
        roots: Roots,
        /// The name that the leaf must have.
        identity: String,
        /// When the chain must be valid; `None`: when it is verified.
        valid_at: Option<OffsetDateTime>,
    },
    /// Keyless certificates of an identity at an issuer.
    Sigstore {
        /// The name that the leaf must have.
        identity: String,
        /// Who told Fulcio who it is.
        issuer: String,
        /// Authorities and logs.
        root: Box<Root>,
    },
}

impl Trust {
    /// The signing method by the name that OMS gives it.
    pub fn method(&self) -> &'static str {
        match self {
            Self::PublicKey(_) => "key",
            Self::Certificate { .. } => "certificate",
            Self::Sigstore { .. } => "sigstore",
        }
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Authority {}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.json)
    }
}

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// Too large.
    #[error("has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not the JSON that is expected.
    #[error("is no authority: {0}")]
    Json(String),
    /// Not exactly one kind.
    #[error("takes exactly one of: publicKey, certificate, sigstore")]
    Kind,
    /// A field that cannot be.
    #[error("has a {field} that cannot be used: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    name: String,
    public_key: Option<KeyDocument>,
    certificate: Option<CertificateDocument>,
    sigstore: Option<SigstoreDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDocument {
    pem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CertificateDocument {
    roots_pem: String,
    identity: String,
    valid_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SigstoreDocument {
    identity: String,
    issuer: String,
    trusted_root: Option<String>,
}

fn required(field: &'static str, value: String) -> Result<String, AuthorityError> {
    if value.is_empty() { Err(AuthorityError::Field { field, problem: "it is empty".into() }) } else { Ok(value) }
}

impl Authority {
    /// Parses the JSON of an authority.
    ///
    /// # Errors
    /// If it is none, or what it trusts cannot be used.
    pub fn parse(json: &str) -> Result<Self, AuthorityError> {
        if json.len() > MAX_BYTES {
            return Err(AuthorityError::TooLarge);
        }
        let document: Document = serde_json::from_str(json).map_err(|error| AuthorityError::Json(error.to_string()))?;
        let field = |field, problem: String| AuthorityError::Field { field, problem };
        let trust = match (document.public_key, document.certificate, document.sigstore) {
            (Some(key), None, None) => Trust::PublicKey(
                PublicKey::from_pem(&key.pem).map_err(|error| field("publicKey.pem", error.to_string()))?,
            ),
            (None, Some(certificate), None) => Trust::Certificate {
                roots: Roots::from_pem(&certificate.roots_pem)
                    .map_err(|error| field("certificate.rootsPem", error.to_string()))?,
                identity: required("certificate.identity", certificate.identity)?,
                valid_at: certificate
                    .valid_at
                    .map(|text| OffsetDateTime::parse(&text, &Rfc3339))
                    .transpose()
                    .map_err(|error| field("certificate.validAt", error.to_string()))?,
            },
            (None, None, Some(sigstore)) => Trust::Sigstore {
                identity: required("sigstore.identity", sigstore.identity)?,
                issuer: required("sigstore.issuer", sigstore.issuer)?,
                root: Box::new(
                    Root::parse(sigstore.trusted_root.as_deref())
                        .map_err(|problem| field("sigstore.trustedRoot", problem))?,
                ),
            },
            _ => return Err(AuthorityError::Kind),
        };
        Ok(Self { name: document.name, trust: Arc::new(trust), json: json.to_owned() })
    }
}
