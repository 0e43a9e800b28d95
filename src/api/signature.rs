//! `spec.signature` of a WeightArtifact: whose signature its files must have, as OpenSSF Model Signing (OMS) v1.0 has it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A signature that must hold besides the digest. Whom to trust is said here and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// The signature file (a Sigstore bundle), relative to the location's path. It is no part of the artifact.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(s, s == '..' || s == '.' || s == '')")
        .message("signature.bundlePath is relative, with no empty, '.' or '..' step."))]
    pub bundle_path: String,
    /// Whom to trust: any of them may have signed, so that keys can overlap while they rotate.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub authorities: Vec<Authority>,
    /// What is accepted besides the strict form of a signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<SignatureAllowance>,
}

/// What is accepted besides the strict form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum SignatureAllowance {
    /// Files that the signer left out (`ignore_paths`) may be there; the digest still pins them.
    IgnorePaths,
    /// The signer followed symbolic links. The volume may hold none all the same.
    Symlinks,
    /// Predicates of signers before 1.0 (`https://model_signing/Digests/v0.1`).
    StatementV01,
}

/// One who may have signed: exactly one of `publicKey`, `certificate`, `sigstore`.
// Its members, and those of its parts, stand in alphabetical order: the verifier gets them as JSON in this order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("[has(self.publicKey), has(self.certificate), has(self.sigstore)].filter(x, x).size() == 1")
    .message("an authority takes exactly one of: publicKey, certificate, sigstore."))]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Certificates of an identity, beneath roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateAuthority>,
    /// Name of the authority within the artifact; reports have it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKeyAuthority>,
    /// Keyless signatures of an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigstore: Option<SigstoreAuthority>,
}

impl Authority {
    /// The JSON that the verifier gets, members in order.
    pub fn json(&self) -> String {
        // An authority has no member that could not be written.
        serde_json::to_value(self).unwrap_or_default().to_string()
    }
}

/// A key that may have signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct PublicKeyAuthority {
    /// The key in PEM: ECDSA on P-256, P-384 or P-521.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN PUBLIC KEY-----')")
        .message("publicKey.pem is a public key in PEM: -----BEGIN PUBLIC KEY-----."))]
    pub pem: String,
}

/// Certificates that may have signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAuthority {
    /// The name that the signing certificate must have, exactly: an e-mail address, a URI or a DNS name among its subject
    /// alternative names.
    #[schemars(length(min = 1, max = 512))]
    pub identity: String,
    /// The roots that it must lead to, in PEM.
    #[schemars(length(min = 1, max = 32768))]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')")
        .message("certificate.rootsPem is one or more certificates in PEM: -----BEGIN CERTIFICATE-----."))]
    pub roots_pem: String,
    /// When the certificates must be valid (RFC 3339, UTC). Absent: when the files are verified, so that pods no longer
    /// start once a certificate has expired. Pin it to a time at which you know that the signature existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"))]
    pub valid_at: Option<String>,
}

/// Keyless signatures (Sigstore): short-lived certificates and a transparency log, verified without a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigstoreAuthority {
    /// The name that the signing certificate must have, exactly: an e-mail address or a URI.
    #[schemars(length(min = 1, max = 512))]
    pub identity: String,
    /// Who told the certificate authority who it is, exactly: the URL of an OpenID Connect issuer.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('https://')")
        .message("sigstore.issuer is the https:// URL of an OpenID Connect issuer."))]
    pub issuer: String,
    /// Authorities and logs to trust, as JSON of the type `application/vnd.dev.sigstore.trustedroot+json`. Absent: those of
    /// the public instance, as they were when Weightlock was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub trusted_root: Option<String>,
}
