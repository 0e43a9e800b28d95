//! Signatures: OpenSSF Model Signing (OMS) v1.0.
//!
//! A signature says who vouches for a list of files. It stands beside the digest of the manifest, which says what the
//! files are: both must hold. Everything in a bundle comes from whoever wrote the volume; trust comes from the
//! [`authority`] list alone, which the verifier is given with its arguments.

pub mod authority;
pub mod bundle;
pub mod certificate;
pub mod files;
mod keyless;
pub mod keys;
pub mod refusal;
pub mod statement;
mod strict;

use time::OffsetDateTime;

use authority::{Authority, Trust};
use bundle::{Bundle, Material, PAYLOAD_TYPE, Payload};
use keys::PublicKey;
use refusal::{Cause, Refusal};
use statement::Statement;

/// What an artifact allows besides the strict form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowance {
    /// Files that the signer left out may be there.
    IgnorePaths,
    /// The signer followed symbolic links. The volume may hold none all the same.
    Symlinks,
    /// Predicates of signers before 1.0.
    StatementV01,
}

impl Allowance {
    /// All of them, by the names that the API gives them.
    pub const ALL: [(&'static str, Self); 3] =
        [("IgnorePaths", Self::IgnorePaths), ("Symlinks", Self::Symlinks), ("StatementV01", Self::StatementV01)];

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, allowance)| allowance)
    }
}

/// What signatures an artifact accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whom it trusts: any of them will do.
    pub authorities: Vec<Authority>,
    /// What it allows besides the strict form.
    pub allow: Vec<Allowance>,
}

/// A signature that one of the authorities vouches for.
#[derive(Debug)]
pub struct Signed {
    /// Name of the authority.
    pub authority: String,
    /// What it vouches for.
    pub statement: Statement,
}

impl Policy {
    /// Verifies the text of a bundle as of a time.
    ///
    /// # Errors
    /// With the cause that weighs most, if none of the authorities vouches for it, or the artifact does not allow how it
    /// was made.
    pub fn verify(&self, text: Vec<u8>, now: OffsetDateTime) -> Result<Signed, Refusal> {
        let bundle = Bundle::parse(&text).map_err(|error| Refusal::new(Cause::BundleInvalid, error.to_string()))?;
        // Only the sigstore library reads it once more; for a large artifact it is large.
        let text = if matches!(bundle.material, Material::Keyless(_)) { text } else { Vec::new() };
        let statement = Statement::parse(bundle.payload.statement())
            .map_err(|error| Refusal::new(Cause::StatementInvalid, error.to_string()))?;
        if statement.old_predicate && !self.allow.contains(&Allowance::StatementV01) {
            let detail = "its predicate is that of signers before 1.0, and the artifact does not allow StatementV01";
            return Err(Refusal::new(Cause::SignedWithOldPredicate, detail));
        }
        let authority = self.authority(&bundle, &text, &statement, now)?;
        if statement.serialization.allow_symlinks && !self.allow.contains(&Allowance::Symlinks) {
            let detail = "the signer followed symbolic links, and the artifact does not allow Symlinks";
            return Err(Refusal::new(Cause::SignedWithSymlinks, detail));
        }
        Ok(Signed { authority: authority.name.clone(), statement })
    }

    fn authority(
        &self,
        bundle: &Bundle,
        text: &[u8],
        statement: &Statement,
        now: OffsetDateTime,
    ) -> Result<&Authority, Refusal> {
        let mut refusals = Vec::new();
        for authority in &self.authorities {
            match vouches(authority, bundle, text, statement, now) {
                Ok(()) => return Ok(authority),
                Err(refusal) => refusals.push((authority, refusal)),
            }
        }
        let told: Vec<_> = refusals
            .iter()
            .map(|(authority, refusal)| format!("authority {:?}: {}", authority.name, refusal.detail))
            .collect();
        let cause = refusals.iter().map(|(_, refusal)| refusal.cause).min().unwrap_or(Cause::UntrustedMethod);
        Err(Refusal::new(cause, told.join("; ")))
    }
}

/// Whether an authority vouches for a bundle.
fn vouches(
    authority: &Authority,
    bundle: &Bundle,
    text: &[u8],
    statement: &Statement,
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    match (&*authority.trust, &bundle.material) {
        (Trust::PublicKey(key), Material::PublicKey { hint, raw }) => {
            if let Some(hint) = hint.as_ref().filter(|hint| *hint != key.fingerprint()) {
                let detail = format!("the bundle is of the key {hint:?}, not of {:?}", key.fingerprint());
                return Err(Refusal::new(Cause::UntrustedKey, detail));
            }
            if raw.as_deref().and_then(parse_raw).is_some_and(|raw| raw != *key) {
                return Err(Refusal::new(Cause::UntrustedKey, "the bundle carries another key"));
            }
            let signed = key.verifies(bundle.payload.pre_authentication_encoding(), &bundle.signature)
                || (statement.old_predicate && key.verifies(&old_encoding(&bundle.payload), &bundle.signature));
            match (signed, hint.is_some() || raw.is_some()) {
                (true, _) => Ok(()),
                (false, true) => Err(not_signed()),
                // It does not say which key it is of, so another key is as likely as a change.
                (false, false) => Err(Refusal::new(Cause::UntrustedKey, "the signature is not by this key")),
            }
        }
        (Trust::Certificate { roots, identity, valid_at }, Material::CertificateChain(chain)) => {
            let key = certificate::trusted_key(chain, roots, identity, valid_at.unwrap_or(now))?;
            let signed = key.verifies(bundle.payload.pre_authentication_encoding(), &bundle.signature)
                || (statement.old_predicate
                    && key.verifies_with_sha256(&old_encoding(&bundle.payload), &bundle.signature));
            if signed { Ok(()) } else { Err(not_signed()) }
        }
        (Trust::Sigstore { identity, issuer, root }, Material::Keyless(_)) => {
            let subject = match statement.files.first() {
                // There the files themselves are the subjects.
                Some(file) if statement.old_predicate => file.digests.first().and_then(|d| d.bytes().try_into().ok()),
                _ => Some(statement.root),
            };
            let subject = subject.ok_or_else(|| Refusal::new(Cause::StatementInvalid, "it has no subject"))?;
            keyless::verify(text, &bundle.payload, subject, root, identity, issuer)
        }
        (trust, material) => {
            let detail =
                format!("the bundle is signed by the method {:?}, not {:?}", material.method(), trust.method());
            Err(Refusal::new(Cause::UntrustedMethod, detail))
        }
    }
}

fn not_signed() -> Refusal {
    Refusal::new(Cause::SignatureInvalid, "the signature is not of this payload: one of them was changed")
}

/// A key as old bundles carry it: PEM or DER.
fn parse_raw(raw: &[u8]) -> Option<PublicKey> {
    let pem = std::str::from_utf8(raw).ok().and_then(|text| PublicKey::from_pem(text).ok());
    pem.or_else(|| PublicKey::from_spki(raw).ok())
}

/// What signers before 1.0 signed: the payload in the notation that Python has for bytes.
fn old_encoding(payload: &Payload) -> Vec<u8> {
    let statement = payload.statement();
    let quote = if statement.contains(&b'\'') && !statement.contains(&b'"') { '"' } else { '\'' };
    let mut text = format!("DSSEV1 {} {PAYLOAD_TYPE} {} b{quote}", PAYLOAD_TYPE.len(), statement.len());
    for byte in statement {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b' '..=b'~' => {
                if char::from(*byte) == quote {
                    text.push('\\');
                }
                text.push(char::from(*byte));
            }
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text.push(quote);
    text.into_bytes()
}

#[cfg(test)]
mod tests;
