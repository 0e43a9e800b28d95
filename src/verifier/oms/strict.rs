//! JSON that is read but not used is still read strictly: a member given twice could mean one thing to us and another to
//! the next reader.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// Any JSON value, thrown away. It is an error if a member occurs twice in one object of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Ignored;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Ignored, E> {
        Ok(Ignored)
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Ignored, E> {
        Ok(Ignored)
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Ignored, E> {
        Ok(Ignored)
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Ignored, E> {
        Ok(Ignored)
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Ignored, E> {
        Ok(Ignored)
    }
    fn visit_unit<E: de::Error>(self) -> Result<Ignored, E> {
        Ok(Ignored)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ignored, A::Error> {
        while seq.next_element::<Ignored>()?.is_some() {}
        Ok(Ignored)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ignored, A::Error> {
        let mut seen = Members::default();
        while let Some(member) = map.next_key::<String>()? {
            seen.add::<A::Error>(&member)?;
            map.next_value::<Ignored>()?;
        }
        Ok(Ignored)
    }
}

/// The members of one object that were met.
#[derive(Default)]
pub struct Members(BTreeSet<String>);

impl Members {
    /// Notes a member.
    ///
    /// # Errors
    /// If it was met before.
    pub fn add<E: de::Error>(&mut self, member: &str) -> Result<(), E> {
        if self.0.insert(member.to_owned()) { Ok(()) } else { Err(E::custom(format!("duplicate field `{member}`"))) }
    }
}

/// A list of at most `limit` entries: one more is an error when it is met, not after all were kept.
pub struct Bounded {
    /// Most entries.
    pub limit: usize,
    /// What they are, in the message.
    pub what: &'static str,
}

impl Bounded {
    /// The entries.
    pub fn all<'de, T: Deserialize<'de>, D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        let mut entries = Vec::new();
        self.each(deserializer, |entry| {
            entries.push(entry);
            Ok(())
        })?;
        Ok(entries)
    }

    /// Gives each entry to a function, and keeps none. Returns how many there are.
    pub fn each<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        self,
        deserializer: D,
        each: impl FnMut(T) -> Result<(), String>,
    ) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(Each { bounded: self, each, entry: PhantomData })
    }
}

struct Each<T, F> {
    bounded: Bounded,
    each: F,
    entry: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), String>> Visitor<'de> for Each<T, F> {
    type Value = usize;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a list of {}", self.bounded.what)
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<usize, A::Error> {
        let Bounded { limit, what } = self.bounded;
        for count in 0..limit {
            match seq.next_element()? {
                Some(entry) => (self.each)(entry).map_err(A::Error::custom)?,
                None => return Ok(count),
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(limit),
            Some(_) => Err(A::Error::custom(format!("more than {limit} {what}"))),
        }
    }
}
