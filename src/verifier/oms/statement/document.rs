//! The JSON of a statement, read without keeping the lists in it: with a million files, one is larger than the memory that
//! the verifier may take.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use super::super::files::{Digest, FilesError, Resource};
use super::super::strict::{Bounded, Ignored, Members};
use super::{MAX_IGNORED, MAX_RESOURCES, StatementError};
use crate::verifier::algorithm::Algorithm;

/// Reads a statement; `each` gets the entries of its lists.
///
/// # Errors
/// If it is no statement, or `each` does not want an entry.
pub fn parse(
    payload: impl Read,
    each: &mut dyn FnMut(List, Resource) -> Result<(), FilesError>,
) -> Result<Document, StatementError> {
    let mut sink = Sink { each, refused: None };
    let mut json = serde_json::Deserializer::from_reader(payload);
    let parsed = DocumentSeed(&mut sink).deserialize(&mut json);
    let parsed = parsed.and_then(|document| json.end().map(|()| document));
    match sink.refused {
        Some(error) => Err(error),
        None => parsed.map_err(|error| StatementError::Json(error.to_string())),
    }
}

/// The list that an entry is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `subject`: there signers before 1.0 list the files.
    Subjects,
    /// `predicate.resources`.
    Resources,
}

/// Who gets the entries of both lists, one by one.
struct Sink<'a> {
    each: &'a mut dyn FnMut(List, Resource) -> Result<(), FilesError>,
    /// Why it does not want more.
    refused: Option<StatementError>,
}

impl Sink<'_> {
    fn add(&mut self, list: List, resource: Resource) -> Result<(), String> {
        (self.each)(list, resource).map_err(|error| {
            let text = error.to_string();
            self.refused = Some(error.into());
            text
        })
    }
}

/// What is kept of a list.
pub struct Root {
    pub count: usize,
    /// SHA-256 over the raw digests.
    pub sha256: [u8; 32],
}

/// What was found of a statement; whether it is all there is for the caller to say.
#[derive(Default)]
pub struct Document {
    pub statement_type: Option<String>,
    /// What is kept of the list, and the first of it.
    pub subjects: Option<(Root, Option<Subject>)>,
    pub predicate_type: Option<String>,
    pub predicate: Option<Predicate>,
}

/// What was found of a predicate.
#[derive(Default)]
pub struct Predicate {
    pub resources: Option<Root>,
    pub serialization: Option<SerializationDocument>,
}

/// What is read member by member, with somebody to give the entries to.
macro_rules! seed {
    ($seed:ident => $value:ty, $expecting:literal, |$sink:ident, $map:ident, $into:ident| { $($member:literal => $read:expr,)* }) => {
        struct $seed<'s, 'a>(&'s mut Sink<'a>);

        impl<'de> DeserializeSeed<'de> for $seed<'_, '_> {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_map(self)
            }
        }

        impl<'de> Visitor<'de> for $seed<'_, '_> {
            type Value = $value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<$value, A::Error> {
                let $sink = self.0;
                let mut $into = <$value>::default();
                while let Some(member) = $map.next_key::<String>()? {
                    match member.as_str() {
                        $($member => $read,)*
                        other => return Err(A::Error::unknown_field(other, &[$($member),*])),
                    }
                }
                Ok($into)
            }
        }
    };
}

seed!(DocumentSeed => Document, "a statement", |sink, map, document| {
    "_type" => once(&mut document.statement_type, "_type", map.next_value()?)?,
    "subject" => once(&mut document.subjects, "subject", map.next_value_seed(Subjects(sink))?)?,
    "predicateType" => once(&mut document.predicate_type, "predicateType", map.next_value()?)?,
    "predicate" => once(&mut document.predicate, "predicate", map.next_value_seed(PredicateSeed(sink))?)?,
});

seed!(PredicateSeed => Predicate, "a predicate", |sink, map, predicate| {
    "resources" => once(&mut predicate.resources, "resources", map.next_value_seed(Resources(sink))?)?,
    "serialization" => once(&mut predicate.serialization, "serialization", map.next_value()?)?,
});

struct Resources<'s, 'a>(&'s mut Sink<'a>);

impl<'de> DeserializeSeed<'de> for Resources<'_, '_> {
    type Value = Root;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Root, D::Error> {
        let mut root = Sha256::new();
        let each = |resource: Resource| {
            root.update(resource.digest.bytes());
            self.0.add(List::Resources, resource)
        };
        let count = Bounded { limit: MAX_RESOURCES, what: "resources" }.each(deserializer, each)?;
        Ok(Root { count, sha256: root.finalize().into() })
    }
}

struct Subjects<'s, 'a>(&'s mut Sink<'a>);

impl<'de> DeserializeSeed<'de> for Subjects<'_, '_> {
    type Value = (Root, Option<Subject>);
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let (mut root, mut first) = (Sha256::new(), None);
        let each = |subject: Subject| {
            // Without one, it has no length either that could be right.
            let digest = subject.sha256.clone().unwrap_or_else(|| Digest::new(&[]));
            root.update(digest.bytes());
            let (name, algorithm) = (subject.name.clone(), Algorithm::Sha256.name().to_owned());
            first.get_or_insert(subject);
            self.0.add(List::Subjects, Resource { name, algorithm, digest })
        };
        let count = Bounded { limit: MAX_RESOURCES, what: "subjects" }.each(deserializer, each)?;
        Ok((Root { count, sha256: root.finalize().into() }, first))
    }
}

/// How the signer walked and hashed, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerializationDocument {
    pub method: String,
    pub hash_type: String,
    pub allow_symlinks: bool,
    pub shard_size: Option<Integer>,
    #[serde(default, deserialize_with = "ignored_paths")]
    pub ignore_paths: Option<Vec<String>>,
}

fn ignored_paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Bounded { limit: MAX_IGNORED, what: "paths" }.all(deserializer).map(Some)
}

/// A positive integer. The reference writes it as a number with a fraction of zero, since protobuf has no other numbers.
pub struct Integer(pub u64);

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

/// Members that OMS does not know are allowed here (section 5.2.1), each at most once.
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
pub struct Subject {
    pub name: String,
    pub sha256: Option<Digest>,
}

impl Subject {
    /// Its SHA-256, if it has one of the right length.
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.sha256.as_ref()?.bytes().try_into().ok()
    }
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
