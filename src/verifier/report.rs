//! The result, for people, for programs and for the kubelet.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use super::engine::{Examined, Verification};
use super::finding::{Finding, Findings, Reason, exit};
use super::progress::{duration, size};

/// Most bytes the kubelet keeps of a termination message.
pub const TERMINATION_BYTES: usize = 4096;
const LINE_BYTES: usize = 320;

/// What stands in the termination message while it runs: it remains if the verifier is killed.
pub const UNFINISHED: &str = "Undecided: the verification was ended before it was done (exit code 143: the pod was stopped; 137: killed, \
     most often for using more memory than its limit).\nRemedy: start the pod again; raise the memory limit if it was exceeded.\n";

/// How a verification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Every byte is what the manifest says.
    Verified,
    /// Something is not what the manifest says.
    Refused,
    /// Something is not any more what was verified before.
    Drifted,
    /// It cannot be said.
    Undecided,
}

impl Outcome {
    fn of(reason: Option<Reason>) -> Self {
        match reason {
            None => Self::Verified,
            Some(
                Reason::ManifestMissing
                | Reason::SignatureMissing
                | Reason::UnreadableDirectory
                | Reason::UnreadableFile
                | Reason::StaleHandle
                | Reason::TooManyFiles,
            ) => Self::Undecided,
            Some(_) => Self::Refused,
        }
    }
}

/// A verification that ended.
#[derive(Debug)]
pub struct Report {
    /// What was examined.
    pub artifacts: Vec<Examined>,
    /// What is wrong.
    pub findings: Findings,
    /// Whether the content was read.
    pub content_read: bool,
    /// Whether a manifest was to be made, rather than one be verified.
    pub hashing: bool,
    /// Whether the artifacts were verified before.
    pub again: bool,
    /// How long it took.
    pub elapsed: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    outcome: Outcome,
    exit_code: u8,
    reason: Option<Reason>,
    content_read: bool,
    artifacts: Vec<ArtifactDocument<'a>>,
    findings: Vec<FindingDocument<'a>>,
    findings_total: u64,
    counts: BTreeMap<String, u64>,
    milliseconds: u128,
}

#[derive(Serialize)]
struct ArtifactDocument<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    digest: &'a str,
    hash: &'static str,
    #[serde(rename = "shardSize", skip_serializing_if = "Option::is_none")]
    shard_size: Option<u64>,
    files: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct FindingDocument<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    remedy: &'static str,
}

impl Report {
    /// The report of a verification.
    pub fn new(verification: Verification, elapsed: Duration) -> Self {
        let Verification { artifacts, findings, content_read } = verification;
        Self { artifacts, findings, content_read, hashing: false, again: false, elapsed }
    }

    /// The report of a verification that is not the first.
    pub fn again(verification: Verification, elapsed: Duration) -> Self {
        Self { again: true, ..Self::new(verification, elapsed) }
    }

    /// The report of a command that made no manifest.
    pub fn without_manifest(findings: Findings, elapsed: Duration) -> Self {
        Self { artifacts: Vec::new(), findings, content_read: false, hashing: true, again: false, elapsed }
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match Outcome::of(self.findings.reason()) {
            Outcome::Refused if self.again => Outcome::Drifted,
            outcome => outcome,
        }
    }

    /// The exit code: that of the reason that weighs most, or that of drift where it was right before.
    pub fn exit_code(&self) -> u8 {
        match self.findings.reason() {
            Some(_) if self.outcome() == Outcome::Drifted => exit::DRIFT,
            Some(reason) => reason.exit_code(),
            // Nothing examined is nothing verified, whatever led here.
            None if self.artifacts.is_empty() => exit::USAGE,
            None => exit::VERIFIED,
        }
    }

    /// One JSON object.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Document {
            outcome: self.outcome(),
            exit_code: self.exit_code(),
            reason: self.findings.reason(),
            content_read: self.content_read,
            artifacts: self
                .artifacts
                .iter()
                .map(|a| ArtifactDocument {
                    name: &a.artifact,
                    authority: a.authority.as_deref(),
                    digest: &a.digest,
                    hash: a.hashing.algorithm.name(),
                    shard_size: a.hashing.shard_size,
                    files: a.files,
                    bytes: a.bytes,
                })
                .collect(),
            findings: self
                .findings
                .kept()
                .map(|finding| FindingDocument { finding, remedy: finding.reason.remedy() })
                .collect(),
            findings_total: self.findings.total(),
            counts: self.findings.counts().iter().map(|(reason, count)| (format!("{reason:?}"), *count)).collect(),
            milliseconds: self.elapsed.as_millis(),
        })
    }

    /// The text for people, which is the termination message too: outcome, first ten findings, remedy.
    pub fn text(&self) -> String {
        let Some(reason) = self.findings.reason() else { return self.success() };
        let total = self.findings.total();
        let artifacts: std::collections::BTreeSet<&str> =
            self.findings.kept().map(|finding| finding.artifact.as_str()).collect();
        let named = artifacts.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let noun = if total == 1 { "finding" } else { "findings" };
        let head = match self.hashing {
            true => format!("Not hashed (exit code {}): {total} {noun}", self.exit_code()),
            false => {
                format!(
                    "{:?} (exit code {}): {total} {noun} in WeightArtifact {named}",
                    self.outcome(),
                    self.exit_code()
                )
            }
        };
        let mut text = cut(head, LINE_BYTES);
        text.push('\n');
        let mut shown = 0;
        for finding in self.findings.kept() {
            text += &cut(finding.to_string(), LINE_BYTES);
            text.push('\n');
            shown += 1;
        }
        if total > shown {
            text += &format!("… and {} more\n", total - shown);
        }
        let remedy = if self.hashing { reason.remedy_of_hashing() } else { reason.remedy() };
        text += &format!("Remedy: {remedy}.\n");
        cut(text, TERMINATION_BYTES)
    }

    fn success(&self) -> String {
        let mut text = String::new();
        for examined in &self.artifacts {
            text += &format!(
                "Verified: WeightArtifact {:?} {}: {} {}, {} bytes ({}){}\n",
                examined.artifact,
                examined.digest,
                examined.files,
                if examined.files == 1 { "file" } else { "files" },
                examined.bytes,
                size(examined.bytes),
                examined.authority.as_ref().map(|name| format!(", signed by {name:?}")).unwrap_or_default()
            );
        }
        let bytes: u64 = self.artifacts.iter().map(|examined| examined.bytes).sum();
        let seconds = self.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { (bytes as f64 / seconds) as u64 } else { 0 };
        text += &format!("Took {} ({}/s)\n", duration(self.elapsed), size(rate));
        cut(text, TERMINATION_BYTES)
    }
}

/// Cuts a text to so many bytes, at the boundary of a character.
fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Writes the termination message, if there is such a file: the kubelet makes it, and outside a pod there is none.
pub fn write_termination_message(file: &Path, message: &str) {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if let Ok(fd) = rustix::fs::open(file, flags, Mode::empty()) {
        // What cannot be written is in the log all the same, and the exit code decides.
        let _ = std::fs::File::from(fd).write_all(message.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Hashing;
    use super::*;

    fn report(findings: impl IntoIterator<Item = Finding>) -> Report {
        let mut report = Report {
            artifacts: vec![Examined {
                authority: None,
                artifact: "orion".into(),
                digest: "sha256:00".into(),
                hashing: Hashing::default(),
                files: 3,
                bytes: 3 << 30,
            }],
            findings: Findings::default(),
            content_read: true,
            hashing: false,
            again: false,
            elapsed: Duration::from_secs(2),
        };
        findings.into_iter().for_each(|finding| report.findings.add(finding));
        report
    }

    fn mismatch(path: &str) -> Finding {
        Finding {
            reason: Reason::HashMismatch,
            artifact: "orion".into(),
            path: path.into(),
            detail: "sha256 is aa, the manifest says bb".into(),
        }
    }

    #[test]
    fn success_reads_like_this() {
        let report = report([]);
        assert_eq!(report.exit_code(), 0);
        assert_eq!(
            report.text(),
            "Verified: WeightArtifact \"orion\" sha256:00: 3 files, 3221225472 bytes (3.0 GiB)\nTook 2.0s (1.5 GiB/s)\n"
        );
        assert_eq!(
            report.json().unwrap(),
            r#"{"outcome":"Verified","exitCode":0,"reason":null,"contentRead":true,"artifacts":[{"name":"orion","digest":"sha256:00","hash":"sha256","files":3,"bytes":3221225472}],"findings":[],"findingsTotal":0,"counts":{},"milliseconds":2000}"#
        );
    }

    #[test]
    fn refusal_reads_like_this() {
        let report = report([mismatch("b"), mismatch("a")]);
        assert_eq!(report.exit_code(), exit::CONTENT_MISMATCH);
        assert_eq!(
            report.text(),
            "Refused (exit code 20): 2 findings in WeightArtifact \"orion\"\n\
             [HashMismatch] \"a\": sha256 is aa, the manifest says bb\n\
             [HashMismatch] \"b\": sha256 is aa, the manifest says bb\n\
             Remedy: treat the volume as tampered with: restore the files from a copy that verifies; if they were meant to change, declare them as a new WeightArtifact.\n"
        );
    }

    #[test]
    fn what_was_right_before_has_drifted() {
        let mut report = report([mismatch("a")]);
        report.again = true;
        assert_eq!((report.outcome(), report.exit_code()), (Outcome::Drifted, exit::DRIFT));
        assert!(report.text().starts_with("Drifted (exit code 25): 1 finding in WeightArtifact \"orion\"\n"));
        let unreadable = Finding { reason: Reason::UnreadableFile, ..mismatch("a") };
        report.findings = Findings::default();
        report.findings.add(unreadable);
        assert_eq!((report.outcome(), report.exit_code()), (Outcome::Undecided, exit::UNREADABLE));
    }

    #[test]
    fn the_message_fits_whatever_the_names_are() {
        let report = report((0..1000).map(|number| mismatch(&format!("{number}{}", "\u{1b}ü".repeat(1000)))));
        let text = report.text();
        assert!(text.len() <= TERMINATION_BYTES, "{}", text.len());
        assert_eq!(text.lines().count(), 13);
        assert!(text.contains("… and 990 more\nRemedy: "), "{text}");
    }

    #[test]
    fn nothing_examined_is_no_success() {
        let empty = Report::new(Verification::default(), Duration::ZERO);
        assert_eq!(empty.exit_code(), exit::USAGE);
    }

    #[test]
    fn the_termination_message_is_replaced_and_never_created() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("termination-log");
        write_termination_message(&file, "x");
        assert!(!file.exists());
        std::fs::write(&file, "a longer message").unwrap();
        write_termination_message(&file, "short");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "short");
    }
}
