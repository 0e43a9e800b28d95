//! Private keys of signers, from files.

use std::path::Path;

use p256::ecdsa::signature::Signer as _;
use pkcs8::der::SecretDocument;
use pkcs8::{DecodePrivateKey as _, EncodePublicKey as _, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};

use super::error::CliError;

/// Where the password of an encrypted key may stand, if it is not in a file.
pub const PASSWORD_VARIABLE: &str = "WEIGHTLOCK_KEY_PASSWORD";

/// A private key: ECDSA on P-256, P-384 or P-521.
pub enum PrivateKey {
    /// P-256.
    P256(p256::ecdsa::SigningKey),
    /// P-384.
    P384(p384::ecdsa::SigningKey),
    /// P-521.
    P521(p521::ecdsa::SigningKey),
}

fn problem(path: &Path, problem: impl std::fmt::Display) -> CliError {
    CliError::Value { option: "--private-key", value: path.display().to_string(), problem: problem.to_string() }
}

impl PrivateKey {
    /// Reads a key in PEM: PKCS#8, encrypted or not, or the older `EC PRIVATE KEY`. `password` is asked for where the key is
    /// encrypted.
    ///
    /// # Errors
    /// If it cannot be read, or is of another type.
    pub fn read(path: &Path, password: impl FnOnce() -> Result<String, CliError>) -> Result<Self, CliError> {
        let file = |source| CliError::File { path: path.display().to_string(), source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        // openssl writes the parameters of the curve ahead of the key.
        let from = text.find("-----BEGIN EC PRIVATE KEY-----").unwrap_or(0);
        let (label, document) = SecretDocument::from_pem(&text[from..])
            .map_err(|error| problem(path, format!("is no private key in PEM: {error}")))?;
        match label {
            "PRIVATE KEY" => Self::from_pkcs8(path, document.as_bytes()),
            "ENCRYPTED PRIVATE KEY" => {
                let password = password()?;
                let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
                    .map_err(|error| problem(path, format!("is no encrypted key that is known: {error}")))?;
                let decrypted = encrypted
                    .decrypt(&password)
                    .map_err(|error| problem(path, format!("cannot be decrypted: {error}; check the password")))?;
                Self::from_pkcs8(path, decrypted.as_bytes())
            }
            "EC PRIVATE KEY" => Self::from_sec1(path, document.as_bytes()),
            other => Err(problem(path, format!("is {other:?}: give a private key in PEM"))),
        }
    }

    fn from_pkcs8(path: &Path, der: &[u8]) -> Result<Self, CliError> {
        let p256 = p256::SecretKey::from_pkcs8_der(der).map(|key| Self::P256(key.into()));
        let p384 = || p384::SecretKey::from_pkcs8_der(der).map(|key| Self::P384(key.into()));
        let p521 = || p521::SecretKey::from_pkcs8_der(der).map(|key| Self::P521(key.into()));
        p256.or_else(|_| p384()).or_else(|_| p521()).map_err(|_| {
            let algorithm = PrivateKeyInfoRef::try_from(der).map(|info| info.algorithm.oid.to_string());
            let kind = match algorithm.as_deref() {
                Ok("1.2.840.113549.1.1.1") => "an RSA key".into(),
                Ok("1.3.101.112") => "an Ed25519 key".into(),
                Ok("1.2.840.10045.2.1") => "an ECDSA key on another curve, or damaged".into(),
                Ok(other) => format!("a key of the algorithm {other}"),
                Err(error) => format!("no PKCS#8 key ({error})"),
            };
            problem(path, format!("is {kind}: OMS v1.0 signs with ECDSA on P-256, P-384 or P-521"))
        })
    }

    fn from_sec1(path: &Path, der: &[u8]) -> Result<Self, CliError> {
        let p256 = p256::SecretKey::from_sec1_der(der).map(|key| Self::P256(key.into()));
        let p384 = || p384::SecretKey::from_sec1_der(der).map(|key| Self::P384(key.into()));
        let p521 = || p521::SecretKey::from_sec1_der(der).map(|key| Self::P521(key.into()));
        p256.or_else(|_| p384())
            .or_else(|_| p521())
            .map_err(|_| problem(path, "is an EC key on another curve: OMS v1.0 has P-256, P-384 and P-521"))
    }

    /// Signs a message with the hash that belongs to the curve; ASN.1 DER. The same message gives the same signature (RFC 6979).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Self::P521(key) => {
                let signature: p521::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
        }
    }

    /// The public key: DER of its SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn public(&self) -> Result<Vec<u8>, CliError> {
        let encoded = match self {
            Self::P256(key) => p256::PublicKey::from(key.verifying_key()).to_public_key_der(),
            Self::P384(key) => p384::PublicKey::from(key.verifying_key()).to_public_key_der(),
            Self::P521(key) => p521::PublicKey::from(key.verifying_key()).to_public_key_der(),
        };
        let document = encoded.map_err(|error| CliError::Encode { format: "DER", problem: error.to_string() })?;
        Ok(document.as_bytes().to_vec())
    }
}
