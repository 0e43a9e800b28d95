//! What is signed: an in-toto statement with the predicate of OMS v1.0 (sections 5, 6 and 8.3).

mod document;

use std::io::Read;

use super::files::{Digest, FilesError, Item};
use crate::verifier::algorithm::{Algorithm, Hashing};
use crate::verifier::manifest::MAX_FILES;
use document::{Document, Integer, List, Predicate, SerializationDocument, parse};

/// Type of the statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Type of the predicate.
pub const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// Type of the predicate of signers before 1.0.
pub const OLD_PREDICATE_TYPE: &str = "https://model_signing/Digests/v0.1";
/// Paths that a signer leaves out unless it is told otherwise (section 6.2).
pub const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];
/// Most files and shards that a statement may list.
pub const MAX_RESOURCES: usize = 4 * MAX_FILES;
/// Most paths that may be ignored.
const MAX_IGNORED: usize = 10_000;

/// Why a payload is not a statement.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StatementError {
    /// Not the JSON that is expected.
    #[error("the signed payload is not a statement of OMS v1.0: {0}")]
    Json(String),
    /// Another type.
    #[error("{field} is {found:?}, not {expected:?}")]
    Type {
        /// The member.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Not exactly one subject.
    #[error("subject has {0} entries: it must have exactly one")]
    Subjects(usize),
    /// The subject does not say what it is.
    #[error("subject[0] {0}")]
    Subject(&'static str),
    /// The serialization contradicts itself.
    #[error("predicate.serialization {0}")]
    Serialization(String),
    /// Something is wrong with the listed files.
    #[error("predicate.resources: {0}")]
    Files(#[from] FilesError),
    /// The digest over all does not fit the list.
    #[error("subject[0].digest.sha256 is {stated}, and the listed resources give {computed}: the list was changed")]
    Root {
        /// What the statement says.
        stated: String,
        /// What the list gives.
        computed: String,
    },
}

/// How the signer walked and hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serialization {
    /// The hash, of whole files or of shards.
    pub hashing: Hashing,
    /// Whether links were followed.
    pub allow_symlinks: bool,
    /// Paths that were left out, with all beneath them.
    pub ignore_paths: Vec<String>,
}

/// A statement, its list of files left aside: [`Self::list`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Name of the subject. It says nothing about what is signed.
    pub name: String,
    /// How the signer walked and hashed.
    pub serialization: Serialization,
    /// SHA-256 over the raw digests in the order listed. Names are not in it: it identifies nothing.
    pub root: [u8; 32],
    /// Digest of the first subject. It is the root, but with signers before 1.0, whose subjects are the files.
    pub subject: [u8; 32],
    /// Whether it is of a signer before 1.0.
    pub old_predicate: bool,
}

impl Statement {
    /// Reads all of a payload but the list of files, of which it computes the root. Unknown members of the predicate and
    /// repeated ones anywhere are errors.
    ///
    /// # Errors
    /// If it is not of the form of OMS v1.0 (or of its predecessor, which [`Self::old_predicate`] says), or contradicts
    /// itself.
    pub fn parse(payload: impl Read) -> Result<Self, StatementError> {
        parse(payload, &mut |_, _| Ok(()))?.check()
    }

    /// Reads the list of files of the payload that this was read from: each file, or each shard of one, in the order of the
    /// list.
    ///
    /// # Errors
    /// If one of them cannot be.
    pub fn list(
        &self,
        payload: impl Read,
        each: &mut dyn FnMut(&Item<'_>) -> Result<(), FilesError>,
    ) -> Result<(), StatementError> {
        let list = if self.old_predicate { List::Subjects } else { List::Resources };
        parse(payload, &mut |of, resource| match of == list {
            true => each(&Item::check(&resource, self.serialization.hashing)?),
            false => Ok(()),
        })?;
        Ok(())
    }

    /// Whether the signer left a path out, by what the statement says. Signers that say nothing left out the usual ones.
    pub fn ignores(&self, path: &str) -> bool {
        let beneath = |ignored: &str| {
            path.strip_prefix(ignored.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        GIT_PATHS.into_iter().chain(self.serialization.ignore_paths.iter().map(String::as_str)).any(beneath)
    }
}

fn required<T>(member: Option<T>, name: &str) -> Result<T, StatementError> {
    member.ok_or_else(|| StatementError::Json(format!("missing field `{name}`")))
}

fn expect(field: &'static str, found: String, expected: &'static str) -> Result<(), StatementError> {
    if found == expected { Ok(()) } else { Err(StatementError::Type { field, found, expected }) }
}

impl Document {
    fn check(self) -> Result<Statement, StatementError> {
        expect("_type", required(self.statement_type, "_type")?, STATEMENT_TYPE)?;
        let predicate_type = required(self.predicate_type, "predicateType")?;
        let (subjects, first) = required(self.subjects, "subject")?;
        let old_predicate = predicate_type == OLD_PREDICATE_TYPE;
        if old_predicate {
            if let Some(Predicate { resources: Some(_), .. } | Predicate { serialization: Some(_), .. }) =
                self.predicate
            {
                return Err(StatementError::Json("predicate is not empty".into()));
            }
            let subject = first.ok_or(FilesError::Empty)?.digest().unwrap_or_default();
            return Ok(Statement {
                name: String::new(),
                serialization: Serialization::default(),
                root: subjects.sha256,
                subject,
                old_predicate,
            });
        }
        expect("predicateType", predicate_type, PREDICATE_TYPE)?;
        let predicate = required(self.predicate, "predicate")?;
        let subject = match (subjects.count, first) {
            (1, Some(subject)) => subject,
            (count, _) => return Err(StatementError::Subjects(count)),
        };
        if subject.name.is_empty() {
            return Err(StatementError::Subject("has an empty name"));
        }
        let stated = subject.sha256.as_ref().ok_or(StatementError::Subject("has no digest.sha256"))?;
        let serialization = required(predicate.serialization, "serialization")?.check()?;
        let resources = required(predicate.resources, "resources")?;
        if resources.count == 0 {
            return Err(FilesError::Empty.into());
        }
        let root = resources.sha256;
        if stated.bytes() != root {
            let computed = Digest::new(&root).to_string();
            return Err(StatementError::Root { stated: stated.to_string(), computed });
        }
        Ok(Statement { name: subject.name, serialization, root, subject: root, old_predicate })
    }
}

impl SerializationDocument {
    fn check(self) -> Result<Serialization, StatementError> {
        let problem = |text: String| Err(StatementError::Serialization(text));
        let Some(algorithm) = Algorithm::parse(&self.hash_type) else {
            return problem(format!("has hash_type {:?}: known are sha256, blake2b, blake3", self.hash_type));
        };
        let shard_size = match (self.method.as_str(), self.shard_size) {
            ("files", None) => None,
            ("shards", Some(Integer(size))) => Some(size),
            ("files", Some(_)) => return problem("has a shard_size, and method is \"files\"".into()),
            ("shards", None) => return problem("has no shard_size, and method is \"shards\"".into()),
            (other, _) => return problem(format!("has method {other:?}: known are files, shards")),
        };
        Ok(Serialization {
            hashing: Hashing { algorithm, shard_size },
            allow_symlinks: self.allow_symlinks,
            ignore_paths: self.ignore_paths.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
