//! What the arguments name: artifacts to verify, and directories to hash.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::verifier::algorithm::Hashing;
use crate::verifier::formats::Format;
use crate::verifier::manifest::{Hash, Manifest};
use crate::verifier::oms::Policy;

/// One artifact to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the artifact; used in reports only.
    pub artifact: String,
    /// Digest of the canonical manifest.
    pub digest: Hash,
    /// The volume, as it is mounted.
    pub root: PathBuf,
    /// Directory of the artifact in the volume.
    pub path: Option<String>,
    /// Where the manifest is.
    pub manifest: ManifestArg,
    /// How the directory is laid out.
    pub layout: Layout,
    /// What the content may be. Empty: anything.
    pub formats: Vec<Format>,
    /// The signature that must hold besides, where one is asked for.
    pub signature: Option<SignatureArg>,
    /// Files in its directory that are no part of it, besides its manifest and its signature.
    pub beside: Vec<String>,
}

/// A signature, and what is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureArg {
    /// The bundle, relative to the directory of the artifact.
    pub path: String,
    /// What is accepted.
    pub policy: Policy,
}

/// Where the manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestArg {
    /// A file, relative to the directory of the artifact.
    Path(String),
    /// The manifest itself, not yet parsed.
    Inline(String),
    /// A directory outside the volume that holds the shards of the manifest.
    Shards(PathBuf),
}

/// How the directory of an artifact is laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The directory holds the files of the artifact.
    #[default]
    Directory,
    /// The directory is a repository of Hugging Face's cache, the artifact one revision in it.
    HuggingFaceCache {
        /// The revision: a commit.
        revision: String,
    },
}

/// What `digest` hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestArgs {
    /// The volume, as it is mounted.
    pub root: PathBuf,
    /// Directory of the artifact in the volume.
    pub path: Option<String>,
    /// The manifest, relative to the directory of the artifact, where it is or will be there: not part of the artifact.
    pub manifest: Option<String>,
    /// Further paths that are not part of the artifact.
    pub except: Vec<String>,
    /// How its files are hashed.
    pub hashing: Hashing,
    /// On how many threads; as many as the container has cores unless given.
    pub threads: Option<NonZeroUsize>,
    /// How the directory is laid out.
    pub layout: Layout,
    /// More files than this are refused before anything is hashed.
    pub max_files: Option<u64>,
    /// Whether to write the manifest to its place.
    pub write_manifest: bool,
}

impl ManifestArg {
    /// Path of the manifest beside the files of the artifact, where that is where it is.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) => Some(path),
            Self::Inline(_) | Self::Shards(_) => None,
        }
    }
}

impl Target {
    /// Paths of files in its directory that are no part of it: its manifest, and its signature unless the manifest lists it.
    pub fn except(&self, manifest: &Manifest) -> Vec<&str> {
        let signature = self.signature.iter().map(|signature| signature.path.as_str());
        let others = signature.chain(self.beside.iter().map(String::as_str));
        self.manifest.path().into_iter().chain(others.filter(|path| manifest.find(path).is_none())).collect()
    }

    /// The same without its signature, which was verified before: certificates expire while a server runs, and that changes
    /// nothing in the volume.
    pub fn without_signature(mut self) -> Self {
        self.beside.extend(self.signature.take().map(|signature| signature.path));
        self
    }
}
