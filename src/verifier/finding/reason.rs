//! The reasons to refuse an artifact: the exit code of each, and what to do.

use serde::Serialize;

use super::exit;

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
    /// The evidence of a transparency log cannot be read, or tells no time.
    TransparencyLog,
    /// The proof that the transparency log includes the entry does not hold.
    InclusionProof,
    /// The transparency log did not sign its promise (SET) or its checkpoint.
    LogSignature,
    /// The entry of the transparency log is of another signature.
    OtherLogEntry,
    /// The certificate has no timestamp of a certificate log (SCT), or one that does not hold.
    CertificateLog,
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
    /// The evidence is of a log that the trusted root does not have.
    UntrustedLog,
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
            | Self::InclusionProof
            | Self::LogSignature
            | Self::OtherLogEntry
            | Self::CertificateLog
            | Self::SignedOtherFiles => exit::SIGNATURE_INVALID,
            Self::CertificateTime
            | Self::UntrustedIdentity
            | Self::UntrustedIssuer
            | Self::CertificateUsage
            | Self::UntrustedChain
            | Self::UntrustedLog
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
            Self::SignatureInvalid
            | Self::TransparencyLog
            | Self::InclusionProof
            | Self::LogSignature
            | Self::OtherLogEntry
            | Self::CertificateLog => "treat the bundle as forged: get it again from those who signed the weights",
            Self::SignedOtherFiles => {
                "get the signature that belongs to these files; if it was made over the manifest too, sign again with `kubectl weightlock sign`, which leaves it out"
            }
            Self::CertificateTime => {
                "sign again with a certificate that is valid; or pin certificate.validAt of the authority to a time at which you know the signature existed"
            }
            Self::UntrustedIdentity | Self::UntrustedIssuer => {
                "find out who signed; if it is meant, correct identity and issuer of the authority in the WeightArtifact"
            }
            Self::UntrustedLog => {
                "find out which instance of Sigstore signed; if it is meant, set sigstore.trustedRoot of the authority in the WeightArtifact to its trusted root"
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
