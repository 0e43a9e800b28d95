//! A manifest in the log of a pod: `weightlock-verify digest` prints it, `kubectl weightlock register` reads it. Each line
//! is marked, since standard output and standard error arrive as one.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::manifest::{File, Hash, Manifest, ManifestError};

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
    Summary { digest: manifest.digest().digest(), files: manifest.files().len() as u64, bytes: manifest.total_bytes() }
}

/// Prints a manifest; its files only where `files` says so.
pub fn write(manifest: &Manifest, files: bool, target: &mut dyn Write) -> io::Result<()> {
    if files {
        for file in manifest.files() {
            writeln!(target, "{FILE_MARK}{}", serde_json::to_string(file)?)?;
        }
    }
    writeln!(target, "{END_MARK}{}", serde_json::to_string(&summary(manifest))?)?;
    target.flush()
}

/// Reads a log: the summary, and the manifest if its files were printed.
pub fn read(log: &str) -> Result<(Summary, Option<Manifest>), TranscriptError> {
    let line_error = |error: serde_json::Error| TranscriptError::Line(error.to_string());
    let mut files: Vec<File> = Vec::new();
    let mut end = None;
    for line in log.lines() {
        if let Some(json) = line.strip_prefix(FILE_MARK) {
            files.push(serde_json::from_str(json).map_err(line_error)?);
        } else if let Some(json) = line.strip_prefix(END_MARK) {
            end = Some(serde_json::from_str::<Summary>(json).map_err(line_error)?);
        }
    }
    let summary = end.ok_or(TranscriptError::Incomplete)?;
    if Hash::parse_digest(&summary.digest).is_none() {
        return Err(TranscriptError::Line(format!("digest {:?} is none", summary.digest)));
    }
    if files.is_empty() {
        return Ok((summary, None));
    }
    let manifest = Manifest::new(files)?;
    let found = manifest.digest().digest();
    if found != summary.digest {
        return Err(TranscriptError::Digest { found, expected: summary.digest });
    }
    Ok((summary, Some(manifest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(files: bool) -> (Manifest, String) {
        let file = |path: &str| File { path: path.into(), sha256: Hash([1; 32]), size: 3 };
        let manifest = Manifest::new(vec![file("b\n"), file("a")]).unwrap();
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
    fn a_log_that_lost_lines_is_no_manifest() {
        let (_, text) = log(true);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(read(&lines[..3].join("\n")), Err(TranscriptError::Incomplete));
        let without = [lines[0], lines[2], lines[3]].join("\n");
        assert!(matches!(read(&without), Err(TranscriptError::Digest { .. })));
        assert!(matches!(read(&text.replace("\"size\":3", "\"size\":")), Err(TranscriptError::Line(_))));
    }
}
