//! A manifest in the log of a pod: `weightlock-verify digest` prints it, `kubectl weightlock register` reads it. Each line
//! is marked, since standard output and standard error arrive as one.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Hashing};
use super::manifest::{Entry, Hash, Manifest, ManifestError};

const FILE_MARK: &str = "weightlock-manifest-file: ";
const END_MARK: &str = "weightlock-manifest-end: ";

/// The last line: without it the log is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Digest of the manifest, `sha256:…`.
    pub digest: String,
    /// Number of files.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// The hash, where it is not SHA-256 of whole files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Bytes of a shard, where files are hashed in shards.
    #[serde(default, rename = "shardSize", skip_serializing_if = "Option::is_none")]
    pub shard_size: Option<u64>,
}

/// Why a log holds no manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TranscriptError {
    /// The last line is missing.
    #[error("the log ends before the manifest does")]
    Incomplete,
    /// A line that cannot be parsed.
    #[error("a line of the manifest cannot be parsed: {0}")]
    Line(String),
    /// The lines are no manifest.
    #[error("the lines are no manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The lines are another manifest than the last line says.
    #[error("the lines have digest {found}, the last line says {expected}: part of the log is missing")]
    Digest {
        /// Digest of the lines.
        found: String,
        /// Digest in the last line.
        expected: String,
    },
}

/// The summary of a manifest.
pub fn summary(manifest: &Manifest) -> Summary {
    let hashing = manifest.hashing();
    Summary {
        digest: manifest.digest().digest(),
        files: manifest.files().len() as u64,
        bytes: manifest.total_bytes(),
        hash: (hashing != Hashing::default()).then(|| hashing.algorithm.name().to_owned()),
        shard_size: hashing.shard_size,
    }
}

/// Prints a manifest; its files only where `files` says so.
pub fn write(manifest: &Manifest, files: bool, target: &mut dyn Write) -> io::Result<()> {
    let mut target = io::BufWriter::new(target);
    if files {
        for index in 0..manifest.files().len() {
            writeln!(target, "{FILE_MARK}{}", serde_json::to_string(&Entry::new(manifest, index))?)?;
        }
    }
    writeln!(target, "{END_MARK}{}", serde_json::to_string(&summary(manifest))?)?;
    target.flush()
}

/// Reads a log: the summary, and the manifest if its files were printed.
pub fn read(log: &str) -> Result<(Summary, Option<Manifest>), TranscriptError> {
    let line_error = |error: serde_json::Error| TranscriptError::Line(error.to_string());
    let end = log.lines().filter_map(|line| line.strip_prefix(END_MARK)).next_back();
    let summary: Summary = serde_json::from_str(end.ok_or(TranscriptError::Incomplete)?).map_err(line_error)?;
    if Hash::parse_digest(&summary.digest).is_none() {
        return Err(TranscriptError::Line(format!("digest {:?} is none", summary.digest)));
    }
    let algorithm = match &summary.hash {
        None => Algorithm::default(),
        Some(name) => {
            Algorithm::parse(name).ok_or_else(|| TranscriptError::Line(format!("hash {name:?} is unknown")))?
        }
    };
    let hashing = Hashing { algorithm, shard_size: summary.shard_size };
    let lines = log.lines().filter_map(|line| line.strip_prefix(FILE_MARK));
    let Some(manifest) = Entry::parse_all(hashing, lines).map_err(|error| match error {
        ManifestError::Json(text) => TranscriptError::Line(text),
        error => error.into(),
    })?
    else {
        return Ok((summary, None));
    };
    let found = manifest.digest().digest();
    if found != summary.digest {
        return Err(TranscriptError::Digest { found, expected: summary.digest });
    }
    Ok((summary, Some(manifest)))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Files;
    use super::*;

    fn log(files: bool) -> (Manifest, String) {
        let manifest = Manifest::of_sha256([("b\n", Hash([1; 32]), 3), ("a", Hash([2; 32]), 3)]).unwrap();
        let mut log = b"progress\n".to_vec();
        write(&manifest, files, &mut log).unwrap();
        (manifest, String::from_utf8(log).unwrap())
    }

    #[test]
    fn what_is_printed_is_read() {
        let (manifest, text) = log(true);
        assert_eq!(read(&text), Ok((summary(&manifest), Some(manifest))));
        let (manifest, text) = log(false);
        assert_eq!(read(&text), Ok((summary(&manifest), None)));
    }

    #[test]
    fn other_hashes_and_shards_are_read_too() {
        let hashing = Hashing { algorithm: Algorithm::Blake2b, shard_size: Some(1 << 20) };
        let mut files = Files::default();
        files.push("a", 3, 1).unwrap();
        let manifest = Manifest::new(hashing, files, vec![7; 64]).unwrap();
        let mut log = Vec::new();
        write(&manifest, true, &mut log).unwrap();
        let text = String::from_utf8(log).unwrap();
        assert_eq!(read(&text), Ok((summary(&manifest), Some(manifest))));
    }

    #[test]
    fn a_log_that_lost_lines_is_no_manifest() {
        let (_, text) = log(true);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(read(&lines[..3].join("\n")), Err(TranscriptError::Incomplete));
        let without = [lines[0], lines[2], lines[3]].join("\n");
        assert!(matches!(read(&without), Err(TranscriptError::Digest { .. })));
        assert!(matches!(read(&text.replace("\"size\":3", "\"size\":")), Err(TranscriptError::Line(_))));
    }
}
