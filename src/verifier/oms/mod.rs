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
pub mod payload;
pub mod refusal;
pub mod statement;
mod strict;

use time::OffsetDateTime;

use std::io::{Read, Seek};

use authority::{Authority, Trust};
use bundle::{Bundle, BundleError, Material};
use files::{FilesError, Item};
use keys::{Hasher, PublicKey};
use payload::Payload;
use refusal::{Cause, Refusal};
use statement::{Statement, StatementError};

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
pub struct Signed<S> {
    /// Name of the authority.
    pub authority: String,
    /// What it vouches for.
    pub statement: Statement,
    payload: Payload<S>,
}

impl<S: Read + Seek> Signed<S> {
    /// Gives each file, or each shard of one, that is signed to a function, in the order of the list.
    ///
    /// # Errors
    /// If the list cannot be, or the bundle was changed since it was verified; then what was given before is void.
    pub fn list(&mut self, each: &mut dyn FnMut(&Item<'_>) -> Result<(), FilesError>) -> Result<(), Refusal> {
        let statement = &self.statement;
        self.payload.read(|payload| statement.list(payload, each)).map_err(unread)?.map_err(no_statement)
    }
}

fn unread(error: BundleError) -> Refusal {
    let cause = match error {
        BundleError::Changed => Cause::ChangedWhileRead,
        BundleError::Read(_) => Cause::SignatureMissing,
        _ => Cause::BundleInvalid,
    };
    Refusal::new(cause, error.to_string())
}

fn no_statement(error: StatementError) -> Refusal {
    Refusal::new(Cause::StatementInvalid, error.to_string())
}

impl Policy {
    /// Verifies a bundle as of a time.
    ///
    /// # Errors
    /// With the cause that weighs most, if none of the authorities vouches for it, or the artifact does not allow how it
    /// was made.
    pub fn verify<S: Read + Seek>(&self, source: S, now: OffsetDateTime) -> Result<Signed<S>, Refusal> {
        let mut bundle = Bundle::parse(source).map_err(unread)?;
        let statement = bundle.payload.read(|payload| Statement::parse(payload));
        let statement = statement.map_err(unread)?.map_err(no_statement)?;
        if statement.old_predicate && !self.allow.contains(&Allowance::StatementV01) {
            let detail = "its predicate is that of signers before 1.0, and the artifact does not allow StatementV01";
            return Err(Refusal::new(Cause::SignedWithOldPredicate, detail));
        }
        let authority = self.authority(&mut bundle, &statement, now)?.name.clone();
        if statement.serialization.allow_symlinks && !self.allow.contains(&Allowance::Symlinks) {
            let detail = "the signer followed symbolic links, and the artifact does not allow Symlinks";
            return Err(Refusal::new(Cause::SignedWithSymlinks, detail));
        }
        Ok(Signed { authority, statement, payload: bundle.payload })
    }

    fn authority<S: Read + Seek>(
        &self,
        bundle: &mut Bundle<S>,
        statement: &Statement,
        now: OffsetDateTime,
    ) -> Result<&Authority, Refusal> {
        let mut refusals = Vec::new();
        for authority in &self.authorities {
            match vouches(authority, bundle, statement, now) {
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
fn vouches<S: Read + Seek>(
    authority: &Authority,
    bundle: &mut Bundle<S>,
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
            let named = hint.is_some() || raw.is_some();
            let signed = key.verifies(bundle.payload.hashed(key.hasher()).map_err(unread)?, &bundle.signature)
                || (statement.old_predicate
                    && key.verifies(bundle.payload.hashed_as_before(key.hasher()).map_err(unread)?, &bundle.signature));
            match (signed, named) {
                (true, _) => Ok(()),
                (false, true) => Err(not_signed()),
                // It does not say which key it is of, so another key is as likely as a change.
                (false, false) => Err(Refusal::new(Cause::UntrustedKey, "the signature is not by this key")),
            }
        }
        (Trust::Certificate { roots, identity, valid_at }, Material::CertificateChain(chain)) => {
            let key = certificate::trusted_key(chain, roots, identity, valid_at.unwrap_or(now))?;
            let signed = key.verifies(bundle.payload.hashed(key.hasher()).map_err(unread)?, &bundle.signature)
                // Certificates before 1.0: with SHA-256 for every curve that can be used with it.
                || (statement.old_predicate
                    && key.verifies(
                        bundle.payload.hashed_as_before(Hasher::sha256()).map_err(unread)?,
                        &bundle.signature,
                    ));
            if signed { Ok(()) } else { Err(not_signed()) }
        }
        (Trust::Sigstore { identity, issuer, root }, Material::Keyless(_)) => {
            keyless::verify(&mut bundle.payload, statement.subject, root, identity, issuer)
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

#[cfg(test)]
mod tests;
