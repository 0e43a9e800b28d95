//! What is signed: an in-toto statement with the predicate of OMS v1.0 (sections 5, 6 and 8.3).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed as _, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use super::files::{self, Digest, SignedFile};
use super::strict::{Bounded, Ignored, Members};
use crate::verifier::algorithm::{Algorithm, Hashing};
use crate::verifier::manifest::MAX_FILES;

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
    Files(#[from] files::FilesError),
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serialization {
    /// The hash, of whole files or of shards.
    pub hashing: Hashing,
    /// Whether links were followed.
    pub allow_symlinks: bool,
    /// Paths that were left out, with all beneath them.
    pub ignore_paths: Vec<String>,
}

/// A statement that was found to be sound: each file once, all digests of the stated length, the root as computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Name of the subject. It says nothing about what is signed.
    pub name: String,
    /// How the signer walked and hashed.
    pub serialization: Serialization,
    /// The files, sorted by the bytes of their paths.
    pub files: Vec<SignedFile>,
    /// SHA-256 over the raw digests in the order listed. Names are not in it: it identifies nothing.
    pub root: [u8; 32],
    /// Whether it is of a signer before 1.0.
    pub old_predicate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    #[serde(deserialize_with = "resources")]
    resources: Vec<Resource>,
    serialization: SerializationDocument,
}

fn resources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Resource>, D::Error> {
    Bounded::new(MAX_RESOURCES, "resources").deserialize(deserializer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SerializationDocument {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    shard_size: Option<Integer>,
    #[serde(default, deserialize_with = "ignored_paths")]
    ignore_paths: Option<Vec<String>>,
}

fn ignored_paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Bounded::new(MAX_IGNORED, "paths").deserialize(deserializer).map(Some)
}

/// A positive integer. The reference writes it as a number with a fraction of zero, since protobuf has no other numbers.
struct Integer(u64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // 2^53: up to there each integer has a double of its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = |double: f64| (double.fract() == 0.0 && (0.0..=EXACT).contains(&double)).then_some(double as u64);
        match number.as_u64().or_else(|| number.as_f64().and_then(whole)) {
            Some(value) if value > 0 => Ok(Self(value)),
            _ => Err(D::Error::custom(format!("{number} is not a positive integer"))),
        }
    }
}

/// One entry of the list. Members that OMS does not know are allowed here (section 5.2.1), each at most once.
struct Resource {
    name: String,
    algorithm: String,
    digest: Digest,
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members_;
        impl<'de> Visitor<'de> for Members_ {
            type Value = Resource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a resource")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resource, A::Error> {
                let (mut name, mut algorithm, mut digest) = (None, None, None);
                let mut others = Members::default();
                while let Some(member) = map.next_key::<Cow<'de, str>>()? {
                    match member.as_ref() {
                        "name" => once(&mut name, "name", map.next_value::<String>()?)?,
                        "algorithm" => once(&mut algorithm, "algorithm", map.next_value::<String>()?)?,
                        "digest" => once(&mut digest, "digest", map.next_value::<Digest>()?)?,
                        other => {
                            others.add::<A::Error>(other)?;
                            map.next_value::<Ignored>()?;
                        }
                    }
                }
                let missing = A::Error::missing_field;
                Ok(Resource {
                    name: name.ok_or_else(|| missing("name"))?,
                    algorithm: algorithm.ok_or_else(|| missing("algorithm"))?,
                    digest: digest.ok_or_else(|| missing("digest"))?,
                })
            }
        }
        deserializer.deserialize_map(Members_)
    }
}

fn once<T, E: serde::de::Error>(held: &mut Option<T>, field: &'static str, value: T) -> Result<(), E> {
    match held.replace(value) {
        Some(_) => Err(E::duplicate_field(field)),
        None => Ok(()),
    }
}

/// A subject. Members that in-toto adds are allowed.
struct Subject {
    name: String,
    sha256: Option<Digest>,
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members_;
        impl<'de> Visitor<'de> for Members_ {
            type Value = Subject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a subject")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Subject, A::Error> {
                let (mut name, mut digests) = (None, None);
                let mut others = Members::default();
                while let Some(member) = map.next_key::<Cow<'de, str>>()? {
                    match member.as_ref() {
                        "name" => once(&mut name, "name", map.next_value::<String>()?)?,
                        "digest" => once(&mut digests, "digest", map.next_value::<DigestSet>()?)?,
                        other => {
                            others.add::<A::Error>(other)?;
                            map.next_value::<Ignored>()?;
                        }
                    }
                }
                let DigestSet(sha256) = digests.ok_or_else(|| A::Error::missing_field("digest"))?;
                Ok(Subject { name: name.ok_or_else(|| A::Error::missing_field("name"))?, sha256 })
            }
        }
        deserializer.deserialize_map(Members_)
    }
}

/// Digests by algorithm, of which SHA-256 is looked at.
struct DigestSet(Option<Digest>);

impl<'de> Deserialize<'de> for DigestSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members_;
        impl<'de> Visitor<'de> for Members_ {
            type Value = DigestSet;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("digests by algorithm")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DigestSet, A::Error> {
                let mut sha256 = None;
                let mut others = Members::default();
                while let Some(algorithm) = map.next_key::<Cow<'de, str>>()? {
                    if algorithm == "sha256" {
                        once(&mut sha256, "sha256", map.next_value::<Digest>()?)?;
                    } else {
                        others.add::<A::Error>(&algorithm)?;
                        map.next_value::<Ignored>()?;
                    }
                }
                Ok(DigestSet(sha256))
            }
        }
        deserializer.deserialize_map(Members_)
    }
}

/// The statement of a signer before 1.0: the files are its subjects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldDocument {
    #[serde(rename = "_type")]
    statement_type: String,
    #[serde(deserialize_with = "subjects")]
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    _predicate_type: String,
    #[serde(default, rename = "predicate")]
    _predicate: Option<EmptyObject>,
}

fn subjects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Subject>, D::Error> {
    Bounded::new(MAX_RESOURCES, "subjects").deserialize(deserializer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyObject {}

/// Whether a payload says that its predicate is that of signers before 1.0.
fn is_old(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow, rename = "predicateType")]
        predicate_type: Cow<'a, str>,
    }
    serde_json::from_slice::<Peek>(payload).is_ok_and(|peek| peek.predicate_type == OLD_PREDICATE_TYPE)
}

impl Statement {
    /// Parses the payload of a bundle. Unknown members of the predicate and repeated ones anywhere are errors.
    ///
    /// # Errors
    /// If it is not of the form of OMS v1.0 (or of its predecessor, which [`Self::old_predicate`] says), contradicts
    /// itself, or lists what cannot be.
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let json = |error: serde_json::Error| StatementError::Json(error.to_string());
        if is_old(payload) {
            return serde_json::from_slice::<OldDocument>(payload).map_err(json)?.check();
        }
        serde_json::from_slice::<Document>(payload).map_err(json)?.check()
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

fn expect(field: &'static str, found: String, expected: &'static str) -> Result<(), StatementError> {
    if found == expected { Ok(()) } else { Err(StatementError::Type { field, found, expected }) }
}

impl Document {
    fn check(self) -> Result<Statement, StatementError> {
        expect("_type", self.statement_type, STATEMENT_TYPE)?;
        expect("predicateType", self.predicate_type, PREDICATE_TYPE)?;
        let [subject] = self.subject.as_slice() else { return Err(StatementError::Subjects(self.subject.len())) };
        if subject.name.is_empty() {
            return Err(StatementError::Subject("has an empty name"));
        }
        let stated = subject.sha256.as_ref().ok_or(StatementError::Subject("has no digest.sha256"))?;
        let serialization = self.predicate.serialization.check()?;
        let mut hasher = Sha256::new();
        for resource in &self.predicate.resources {
            hasher.update(resource.digest.bytes());
        }
        let root: [u8; 32] = hasher.finalize().into();
        if stated.bytes() != root {
            let computed = Digest::new(&root).to_string();
            return Err(StatementError::Root { stated: stated.to_string(), computed });
        }
        let resources = self.predicate.resources.into_iter().map(|r| (r.name, r.algorithm, r.digest));
        let files = match serialization.hashing {
            Hashing { algorithm, shard_size: None } => files::whole(resources, algorithm)?,
            Hashing { algorithm, shard_size: Some(size) } => files::sharded(resources, algorithm, size)?,
        };
        let [subject] = <[Subject; 1]>::try_from(self.subject).map_err(|all| StatementError::Subjects(all.len()))?;
        Ok(Statement { name: subject.name, serialization, files, root, old_predicate: false })
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

impl OldDocument {
    fn check(self) -> Result<Statement, StatementError> {
        expect("_type", self.statement_type, STATEMENT_TYPE)?;
        let mut hasher = Sha256::new();
        let mut resources = Vec::with_capacity(self.subject.len());
        for subject in self.subject {
            let digest = subject.sha256.ok_or(StatementError::Subject("has no digest.sha256"))?;
            hasher.update(digest.bytes());
            resources.push((subject.name, "sha256".to_owned(), digest));
        }
        let serialization =
            Serialization { hashing: Hashing::default(), allow_symlinks: false, ignore_paths: Vec::new() };
        Ok(Statement {
            name: String::new(),
            files: files::whole(resources.into_iter(), Algorithm::Sha256)?,
            serialization,
            root: hasher.finalize().into(),
            old_predicate: true,
        })
    }
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
