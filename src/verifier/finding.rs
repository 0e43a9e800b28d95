//! What can be wrong with an artifact, and the exit code of each.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Exit codes. They are part of the interface: a number is never given another meaning.
pub mod exit {
    /// Everything was verified. Nothing else ends with 0.
    pub const VERIFIED: u8 = 0;
    /// The arguments are wrong; nothing was looked at.
    pub const USAGE: u8 = 10;
    /// The manifest is not there or cannot be read.
    pub const MANIFEST_MISSING: u8 = 11;
    /// The manifest cannot be parsed, or contradicts itself.
    pub const MANIFEST_INVALID: u8 = 12;
    /// The manifest is not the one that the digest pins.
    pub const DIGEST_MISMATCH: u8 = 13;
    /// The signature is not there or cannot be read.
    pub const SIGNATURE_MISSING: u8 = 14;
    /// The signature is no bundle of OMS v1.0, contradicts itself, is not of what it says, or is of other files.
    pub const SIGNATURE_INVALID: u8 = 15;
    /// The signature is sound, but by none of the authorities that the artifact trusts.
    pub const UNTRUSTED_SIGNER: u8 = 16;
    /// The signature was made in a way that the artifact does not allow.
    pub const SIGNED_LOOSELY: u8 = 17;
    /// A file has another content or size than the manifest says, or changed while it was read.
    pub const CONTENT_MISMATCH: u8 = 20;
    /// There is a file that the manifest does not list.
    pub const EXTRA_FILE: u8 = 21;
    /// A file that the manifest lists is not there, or has another name.
    pub const MISSING_FILE: u8 = 22;
    /// Something is there that may not be part of an artifact: a link, a device, a FIFO, a socket, a mount, a name that is not
    /// UTF-8, a loop of directories.
    pub const REFUSED_TYPE: u8 = 23;
    /// A file is of a format that the artifact does not allow, or is not what it claims to be.
    pub const FORMAT: u8 = 24;
    /// Re-verification found that what was verified before is so no longer.
    pub const DRIFT: u8 = 25;
    /// The directory is not laid out as the artifact says: a revision that is not there, links that lead elsewhere.
    pub const LAYOUT: u8 = 26;
    /// Something could not be read, so that nothing can be said of it.
    pub const UNREADABLE: u8 = 30;
    /// `digest` only: there are more files than `--max-files` allows.
    pub const TOO_MANY_FILES: u8 = 31;
    /// The result could not be written.
    pub const OUTPUT: u8 = 32;
    /// Ended by SIGINT before it was done.
    pub const INTERRUPTED: u8 = 130;
    /// Ended by SIGTERM before it was done.
    pub const TERMINATED: u8 = 143;
}

/// Why an artifact is refused. In the order of weight: the first reason found decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// The manifest is not there, or cannot be read.
    ManifestMissing,
    /// The manifest cannot be parsed, or contradicts itself.
    ManifestInvalid,
    /// The manifest is not the one that the digest pins.
    DigestMismatch,
    /// The signature is not there, or cannot be read.
    SignatureMissing,
    /// The file is no bundle of OMS v1.0.
    BundleInvalid,
    /// What is signed is no statement of OMS v1.0, or contradicts itself.
    StatementInvalid,
    /// The signature is not of the payload beside it.
    SignatureInvalid,
    /// The evidence of a transparency or certificate log does not hold.
    TransparencyLog,
    /// The signature is of other files than the manifest lists.
    SignedOtherFiles,
    /// A certificate is not valid at the time that counts.
    CertificateTime,
    /// The certificate is of another identity.
    UntrustedIdentity,
    /// The identity is vouched for by another issuer.
    UntrustedIssuer,
    /// The certificate is not meant for signing.
    CertificateUsage,
    /// The certificate does not lead to a trusted root.
    UntrustedChain,
    /// Another key.
    UntrustedKey,
    /// No authority of the kind that the signature is of.
    UntrustedMethod,
    /// The statement is of a signer before OMS v1.0.
    SignedWithOldPredicate,
    /// The signer followed symbolic links.
    SignedWithSymlinks,
    /// The signer left a file out that is there.
    SignedWithIgnoredPaths,
    /// The content has another digest.
    HashMismatch,
    /// The content has another digest, and the file has holes: parts of it were never written.
    SparseFile,
    /// The file has another size.
    SizeMismatch,
    /// The file became shorter while it was read.
    Truncated,
    /// The file became longer while it was read.
    Grew,
    /// A file was written to, replaced, added or removed while the artifact was read.
    ChangedWhileRead,
    /// A file of a format that the artifact does not allow.
    FormatNotAllowed,
    /// A file that claims a format and is malformed, or is of two formats at once.
    MalformedContent,
    /// A file that the manifest does not list.
    ExtraFile,
    /// Layout HuggingFaceCache: the revision is not there.
    RevisionMissing,
    /// Layout HuggingFaceCache: a link that leads out of the snapshot and its blobs.
    LinkOutside,
    /// Layout HuggingFaceCache: a link that leads nowhere.
    LinkDangling,
    /// Layout HuggingFaceCache: a link that leads in a circle.
    LinkLoop,
    /// Layout HuggingFaceCache: something in the repository directory that belongs to no file of the revision.
    BesideSnapshot,
    /// A symbolic link.
    Symlink,
    /// A block or character device.
    Device,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A file that has a further name outside the directory of the artifact.
    HardLinkOutside,
    /// Another file system is mounted there.
    MountPoint,
    /// A name that is not UTF-8.
    NonUtf8Name,
    /// A directory that is within itself.
    DirectoryLoop,
    /// A directory deeper than a path can say.
    TooDeep,
    /// A listed file is not there, and its content is there under another name.
    Renamed,
    /// A listed file is not there, and its content is there under a name that differs by case only.
    CaseChanged,
    /// A file that is listed, but not there.
    MissingFile,
    /// A directory that cannot be read.
    UnreadableDirectory,
    /// A file that cannot be read.
    UnreadableFile,
    /// The file server does not know the file any more that it gave a handle for.
    StaleHandle,
    /// Something of a type that is not known.
    UnknownType,
    /// `digest` only: more files than allowed.
    TooManyFiles,
}

impl Reason {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::ManifestMissing => exit::MANIFEST_MISSING,
            Self::ManifestInvalid => exit::MANIFEST_INVALID,
            Self::DigestMismatch => exit::DIGEST_MISMATCH,
            Self::SignatureMissing => exit::SIGNATURE_MISSING,
            Self::BundleInvalid
            | Self::StatementInvalid
            | Self::SignatureInvalid
            | Self::TransparencyLog
            | Self::SignedOtherFiles => exit::SIGNATURE_INVALID,
            Self::CertificateTime
            | Self::UntrustedIdentity
            | Self::UntrustedIssuer
            | Self::CertificateUsage
            | Self::UntrustedChain
            | Self::UntrustedKey
            | Self::UntrustedMethod => exit::UNTRUSTED_SIGNER,
            Self::SignedWithOldPredicate | Self::SignedWithSymlinks | Self::SignedWithIgnoredPaths => {
                exit::SIGNED_LOOSELY
            }
            Self::HashMismatch
            | Self::SparseFile
            | Self::SizeMismatch
            | Self::Truncated
            | Self::Grew
            | Self::ChangedWhileRead => exit::CONTENT_MISMATCH,
            Self::FormatNotAllowed | Self::MalformedContent => exit::FORMAT,
            Self::ExtraFile => exit::EXTRA_FILE,
            Self::RevisionMissing | Self::LinkOutside | Self::LinkDangling | Self::LinkLoop | Self::BesideSnapshot => {
                exit::LAYOUT
            }
            Self::Renamed | Self::CaseChanged | Self::MissingFile => exit::MISSING_FILE,
            Self::Symlink
            | Self::Device
            | Self::Fifo
            | Self::Socket
            | Self::HardLinkOutside
            | Self::MountPoint
            | Self::NonUtf8Name
            | Self::DirectoryLoop
            | Self::TooDeep
            | Self::UnknownType => exit::REFUSED_TYPE,
            Self::UnreadableDirectory | Self::UnreadableFile | Self::StaleHandle => exit::UNREADABLE,
            Self::TooManyFiles => exit::TOO_MANY_FILES,
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ManifestMissing => {
                "write it with `kubectl weightlock register … --write-manifest`, or correct manifest.path and locations[].path of the WeightArtifact"
            }
            Self::ManifestInvalid => "write it again with `kubectl weightlock digest DIR --write-manifest`",
            Self::DigestMismatch => {
                "restore the manifest that belongs to the digest; if the files were meant to change, declare them as a new WeightArtifact"
            }
            Self::SignatureMissing => {
                "sign the files with `kubectl weightlock sign`, put the bundle into the volume, and correct signature.bundlePath of the WeightArtifact"
            }
            Self::BundleInvalid | Self::StatementInvalid => {
                "sign the files again with a signer of OMS v1.0, such as `kubectl weightlock sign`"
            }
            Self::SignatureInvalid | Self::TransparencyLog => {
                "treat the bundle as forged: get it again from those who signed the weights"
            }
            Self::SignedOtherFiles => {
                "get the signature that belongs to these files; if it was made over the manifest too, sign again with `kubectl weightlock sign`, which leaves it out"
            }
            Self::CertificateTime => {
                "sign again with a certificate that is valid; or pin certificate.validAt of the authority to a time at which you know the signature existed"
            }
            Self::UntrustedIdentity | Self::UntrustedIssuer => {
                "find out who signed; if it is meant, correct identity and issuer of the authority in the WeightArtifact"
            }
            Self::CertificateUsage => {
                "sign with a certificate for signing: key usage digitalSignature or extended key usage codeSigning, and no authority's"
            }
            Self::UntrustedChain | Self::UntrustedKey | Self::UntrustedMethod => {
                "find out who signed; if it is meant, add them to signature.authorities of the WeightArtifact"
            }
            Self::SignedWithOldPredicate => {
                "sign again with `kubectl weightlock sign`, or allow StatementV01 in signature.allow of the WeightArtifact"
            }
            Self::SignedWithSymlinks => {
                "sign again without following links, or allow Symlinks in signature.allow of the WeightArtifact"
            }
            Self::SignedWithIgnoredPaths => {
                "remove the file, sign again without ignoring it, or allow IgnorePaths in signature.allow of the WeightArtifact"
            }
            Self::HashMismatch | Self::SizeMismatch => {
                "treat the volume as tampered with: restore the files from a copy that verifies; if they were meant to change, declare them as a new WeightArtifact"
            }
            Self::SparseFile => {
                "copy the file again from a copy that verifies: a download or a copy that was cut short leaves holes where nothing was written"
            }
            Self::Truncated => {
                "find out who shortens the file, and restore it from a copy that verifies; sealed weights have no writer"
            }
            Self::Grew => {
                "find out who appends to the file, and restore it from a copy that verifies; sealed weights have no writer"
            }
            Self::ChangedWhileRead => "find out who writes to the volume; sealed weights have no writer",
            Self::FormatNotAllowed => {
                "convert the weights to a format of spec.formats and declare them as a new WeightArtifact; or, if the format is meant to be there, add it to spec.formats"
            }
            Self::MalformedContent => {
                "do not load it: write the file again with the tool that made it, and declare the result as a new WeightArtifact"
            }
            Self::ExtraFile => "remove it, or declare a new WeightArtifact that lists it",
            Self::MissingFile => {
                "restore it from a copy that verifies, or correct locations[].path of the WeightArtifact"
            }
            Self::RevisionMissing => {
                "correct spec.revision and locations[].path of the WeightArtifact: the path is the directory of one repository (models--ORGANISATION--NAME)"
            }
            Self::LinkOutside | Self::LinkDangling | Self::LinkLoop => {
                "download the revision again into an empty cache: its links lead to blobs/ of the same repository"
            }
            Self::BesideSnapshot => {
                "keep one revision in a repository directory: remove the others (hf cache rm), or download this one into a cache of its own"
            }
            Self::Symlink => "replace the link by the file it points to",
            Self::Device | Self::Fifo | Self::Socket | Self::UnknownType => {
                "remove it: an artifact holds regular files only"
            }
            Self::HardLinkOutside => "replace it by a copy: whoever has its other name can change it",
            Self::MountPoint => "unmount it, or declare what is mounted there as a location of its own",
            Self::NonUtf8Name => "rename it",
            Self::DirectoryLoop => "check the file system: a directory within itself is no tree",
            Self::TooDeep => "move it up, or remove it: no path can name what is within",
            Self::Renamed => "give it back the name that the manifest lists, or declare a new WeightArtifact",
            Self::CaseChanged => {
                "give it back the name that the manifest lists; a file system or a copy that does not keep the case of names cannot hold the weights"
            }
            Self::UnreadableDirectory | Self::UnreadableFile => {
                "let the user that the verifier runs as read it (fsGroup or runAsUser of the pod, permissions in the volume), and look at the storage if it is an I/O error"
            }
            Self::StaleHandle => {
                "start the pod again so that the volume is mounted anew, and find out who replaces files on the file server"
            }
            Self::TooManyFiles => {
                "write the manifest into the volume with --write-manifest, or pack the files where that is not enough"
            }
        }
    }
}

impl Reason {
    /// What to do about it where a manifest was to be made.
    pub fn remedy_of_hashing(self) -> &'static str {
        match self {
            Self::MissingFile => "name the directory that holds the weights (--path), and check that they are there",
            Self::ChangedWhileRead | Self::Truncated | Self::Grew => "hash it again once nobody writes to it",
            Self::UnreadableDirectory | Self::UnreadableFile => {
                "hash as a user that can read it (register: --run-as-user), and look at the storage if it is an I/O error"
            }
            other => other.remedy(),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Why the artifact is refused.
    pub reason: Reason,
    /// Name of the artifact.
    pub artifact: String,
    /// Path relative to the directory of the artifact; what is not UTF-8 is shown as U+FFFD.
    pub path: String,
    /// What was found and what was expected.
    pub detail: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // {:?} escapes control characters: a file name must not be able to forge a line of the log.
        write!(f, "[{:?}] {:?}: {}", self.reason, self.path, self.detail)
    }
}

/// How many findings are kept of those that are counted.
pub const KEPT: usize = 10;
/// How many findings end a search: what is so wrong is not enumerated to its end.
pub const ENOUGH: u64 = 10_000;

/// Counts findings and keeps the first ten in the order of weight, then of path, whatever order they come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    kept: BTreeSet<Finding>,
    counts: BTreeMap<Reason, u64>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        *self.counts.entry(finding.reason).or_default() += 1;
        self.kept.insert(finding);
        if self.kept.len() > KEPT {
            self.kept.pop_last();
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many there are of each reason.
    pub fn counts(&self) -> &BTreeMap<Reason, u64> {
        &self.counts
    }

    /// The first ten.
    pub fn kept(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter()
    }

    /// Whether so much is wrong that there is no use in looking on.
    pub fn are_enough(&self) -> bool {
        self.total() >= ENOUGH
    }

    /// The reason that weighs most.
    pub fn reason(&self) -> Option<Reason> {
        self.counts.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_ten_in_order_and_counts_all() {
        let mut findings = Findings::default();
        for number in (0..50).rev() {
            findings.add(Finding {
                reason: if number == 49 { Reason::HashMismatch } else { Reason::ExtraFile },
                artifact: "a".into(),
                path: format!("{number:02}"),
                detail: String::new(),
            });
        }
        assert_eq!(findings.total(), 50);
        assert_eq!(findings.reason(), Some(Reason::HashMismatch));
        let paths: Vec<_> = findings.kept().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["49", "00", "01", "02", "03", "04", "05", "06", "07", "08"]);
    }

    #[test]
    fn a_path_cannot_forge_a_line() {
        let finding = Finding {
            reason: Reason::ExtraFile,
            artifact: "a".into(),
            path: "x\n\u{1b}[2KVerified".into(),
            detail: "d".into(),
        };
        assert_eq!(finding.to_string(), r#"[ExtraFile] "x\n\u{1b}[2KVerified": d"#);
    }
}
