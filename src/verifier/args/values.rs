//! The values of options: each parser names the option, the value and what is expected.

use std::path::PathBuf;

use super::{Layout, UsageError};
use crate::verifier::formats::Format;
use crate::verifier::huggingface::is_revision;
use crate::verifier::manifest::{Hash, ManifestError, check_path, check_shard_size};
use crate::verifier::oms::Allowance;
use crate::verifier::oms::authority::Authority;

pub(super) fn once<T>(option: &'static str, held: &mut Option<T>, new: T, place: String) -> Result<(), UsageError> {
    match held.replace(new) {
        Some(_) => Err(UsageError::Repeated { option, place }),
        None => Ok(()),
    }
}

pub(super) fn text(option: &'static str, parser: &mut lexopt::Parser) -> Result<String, UsageError> {
    parser.value()?.into_string().map_err(|raw| value(option, &raw.to_string_lossy(), "is not UTF-8"))
}

pub(super) fn value(option: &'static str, value: &str, problem: &str) -> UsageError {
    UsageError::Value { option, value: value.into(), problem: problem.into() }
}

pub(super) fn number<T: std::str::FromStr>(option: &'static str, given: &str) -> Result<T, UsageError> {
    given.parse().map_err(|_| value(option, given, "is not a whole number of at least 1"))
}

/// Parses the digest that pins a manifest.
pub fn parse_pinned(given: &str) -> Result<Hash, UsageError> {
    Hash::parse_digest(given).ok_or_else(|| {
        value("digest", given, "is not sha256: and 64 lower-case hex digits: give the artifact's spec.manifestDigest")
    })
}

/// Parses the size of a shard in bytes: a number, or one with a unit as in Kubernetes quantities (`1Gi`, `500M`).
pub fn parse_shard_size(given: &str) -> Result<u64, UsageError> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((given.strip_suffix(name)?, *unit))).unwrap_or((given, 1));
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let size = size.filter(|_| number.bytes().all(|digit| digit.is_ascii_digit()));
    let size = size.ok_or_else(|| value("shard-size", given, "is not a number of bytes, such as 1Gi or 1000000000"))?;
    check_shard_size(Some(size)).map_err(|error| value("shard-size", given, &format!("cannot be: {error}")))?;
    Ok(size)
}

/// The only layout that is written out; Directory is meant where none is.
pub(super) fn parse_layout(given: &str) -> Result<(), UsageError> {
    match given {
        "HuggingFaceCache" => Ok(()),
        _ => Err(value("layout", given, "is not HuggingFaceCache: leave it out for a plain directory")),
    }
}

/// Parses a commit.
pub fn parse_revision(given: String) -> Result<String, UsageError> {
    if is_revision(&given) {
        Ok(given)
    } else {
        Err(value("revision", &given, "is no commit: give its 40 (or 64) lower-case hex digits, not a branch or a tag"))
    }
}

pub(super) fn layout(layout: Option<()>, revision: Option<String>, place: &str) -> Result<Layout, UsageError> {
    match (layout, revision) {
        (None, None) => Ok(Layout::Directory),
        (Some(()), Some(revision)) => Ok(Layout::HuggingFaceCache { revision }),
        (Some(()), None) => Err(UsageError::Absent { option: "revision", place: place.into() }),
        (None, Some(_)) => Err(UsageError::Absent { option: "layout", place: place.into() }),
    }
}

/// Parses a list of formats, separated by commas.
pub fn formats(given: &str) -> Result<Vec<Format>, UsageError> {
    let mut formats = Vec::new();
    for name in given.split(',') {
        match Format::parse(name) {
            Some(format) if !formats.contains(&format) => formats.push(format),
            Some(_) => return Err(value("formats", given, "names a format twice")),
            None => {
                let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
                let problem = format!("names a format that is not known: give some of {}", known.join(", "));
                return Err(value("formats", given, &problem));
            }
        }
    }
    Ok(formats)
}

/// Parses an authority; its text is left out of the message, as it is long.
pub fn authority(given: &str) -> Result<Authority, UsageError> {
    Authority::parse(given).map_err(|error| {
        let name = serde_json::from_str::<serde_json::Value>(given).ok();
        let name = name.as_ref().and_then(|authority| authority["name"].as_str()).unwrap_or("(unnamed)");
        value("authority", name, &format!("{error}; correct signature.authorities of the WeightArtifact"))
    })
}

/// Parses a list of allowances, each at most once.
pub fn allowances(given: &str) -> Result<Vec<Allowance>, UsageError> {
    let mut allowed = Vec::new();
    for name in given.split(',') {
        match Allowance::parse(name) {
            Some(allowance) if !allowed.contains(&allowance) => allowed.push(allowance),
            Some(_) => return Err(value("allow-signed", given, "names one of them twice")),
            None => return Err(value("allow-signed", given, "is not a list of IgnorePaths, Symlinks, StatementV01")),
        }
    }
    Ok(allowed)
}

pub(super) fn absolute(option: &'static str, given: &str) -> Result<PathBuf, UsageError> {
    if given.starts_with('/') {
        Ok(given.into())
    } else {
        Err(value(option, given, "is not absolute: give the path at which the volume is mounted"))
    }
}

pub(super) fn relative(option: &'static str, given: String) -> Result<String, UsageError> {
    match check_path(&given) {
        Ok(()) => Ok(given),
        Err(ManifestError::Path { path, problem }) => Err(value(option, &path, problem)),
        Err(error) => Err(value(option, &given, &error.to_string())),
    }
}
