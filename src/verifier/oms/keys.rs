//! Public keys of signers: ECDSA on P-256, P-384 or P-521 and nothing else (OMS v1.0, algorithm registry).

use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A curve; each has a hash of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// P-256 with SHA-256.
    P256,
    /// P-384 with SHA-384.
    P384,
    /// P-521 with SHA-512.
    P521,
}

/// Why something is no key of a signer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// No PEM block of a public key, or several.
    #[error("it has {0} PEM blocks \"PUBLIC KEY\": it must have exactly one")]
    Pem(usize),
    /// Not a key at all.
    #[error("it is no SubjectPublicKeyInfo: {0}")]
    Form(String),
    /// A key of another kind.
    #[error("it is {0}: OMS v1.0 signs with ECDSA on P-256, P-384 or P-521")]
    Kind(String),
    /// A point in another form.
    #[error("its point is not on the curve in uncompressed form")]
    Point,
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    curve: Curve,
    point: Vec<u8>,
    fingerprint: String,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} key {}", self.curve, self.fingerprint)
    }
}

impl PublicKey {
    /// From PEM, `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    /// If there is not exactly one such block, or it holds a key of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let keys: Vec<_> = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| KeyError::Form(error.to_string()))?;
        match keys.as_slice() {
            [key] => Self::from_spki(key.as_ref()),
            others => Err(KeyError::Pem(others.len())),
        }
    }

    /// From the DER of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// If it is none, or of another kind.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|error| KeyError::Form(error.to_string()))?;
        if !rest.is_empty() {
            return Err(KeyError::Form("there is something behind it".into()));
        }
        let named = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let curve = match (info.algorithm.algorithm.to_id_string().as_str(), named.map(|oid| oid.to_id_string())) {
            ("1.2.840.10045.2.1", Some(curve)) => match curve.as_str() {
                "1.2.840.10045.3.1.7" => Curve::P256,
                "1.3.132.0.34" => Curve::P384,
                "1.3.132.0.35" => Curve::P521,
                other => return Err(KeyError::Kind(format!("an ECDSA key on the curve {other}"))),
            },
            ("1.2.840.10045.2.1", None) => return Err(KeyError::Kind("an ECDSA key without a named curve".into())),
            ("1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10", _) => return Err(KeyError::Kind("an RSA key".into())),
            ("1.3.101.112", _) => return Err(KeyError::Kind("an Ed25519 key".into())),
            ("1.3.101.113", _) => return Err(KeyError::Kind("an Ed448 key".into())),
            (other, _) => return Err(KeyError::Kind(format!("a key of the algorithm {other}"))),
        };
        let point = info.subject_public_key.data.to_vec();
        let length = match curve {
            Curve::P256 => 65,
            Curve::P384 => 97,
            Curve::P521 => 133,
        };
        let on_curve = match curve {
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).is_ok(),
            Curve::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(&point).is_ok(),
            Curve::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).is_ok(),
        };
        let sound = point.len() == length && point.first() == Some(&4) && on_curve;
        if !sound {
            return Err(KeyError::Point);
        }
        Ok(Self { curve, point, fingerprint: fingerprint(der) })
    }

    /// Lower-case hex SHA-256 of the key's PEM text, as bundles have it in `publicKey.hint`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The hash that belongs to the curve, of nothing yet.
    pub fn hasher(&self) -> Hasher {
        match self.curve {
            Curve::P256 => Hasher::sha256(),
            Curve::P384 => Hasher::Sha384(Sha384::new()),
            Curve::P521 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// Whether a signature (ASN.1 DER) of the message that was hashed is by this key. It is the hash that is given, since
    /// the message may be larger than memory.
    pub fn verifies(&self, hashed: Hasher, signature: &[u8]) -> bool {
        let hash = hashed.finish();
        macro_rules! verified {
            ($curve:ident) => {{
                let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(&self.point);
                let signature = $curve::ecdsa::DerSignature::try_from(signature);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_prehash(&hash, &signature).is_ok())
            }};
        }
        match self.curve {
            Curve::P256 => verified!(p256),
            Curve::P384 => verified!(p384),
            Curve::P521 => verified!(p521),
        }
    }
}

/// The hash of what is signed, while it is computed.
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-384.
    Sha384(Sha384),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// SHA-256 of nothing yet.
    pub fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha384(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    /// The hash.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(state) => state.finalize().to_vec(),
            Self::Sha384(state) => state.finalize().to_vec(),
            Self::Sha512(state) => state.finalize().to_vec(),
        }
    }
}

/// Whether a signature (ASN.1 DER) is by the key at this point of P-521, with SHA-512.
pub fn verifies_p521(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    use p521::ecdsa::signature::Verifier as _;
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point);
    let signature = p521::ecdsa::DerSignature::try_from(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

fn fingerprint(spki: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(pem(spki)).into();
    super::files::Digest::new(&digest).to_string()
}

/// The PEM text of a SubjectPublicKeyInfo: lines of 64 characters, each ended by LF.
pub fn pem(spki: &[u8]) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(spki);
    let mut text = String::from("-----BEGIN PUBLIC KEY-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = others;
    }
    text + "-----END PUBLIC KEY-----\n"
}
