//! A WeightArtifact that is ready to be applied, made of a manifest.

use clap::{Args, ValueEnum};

use super::error::CliError;
use crate::api::{
    ArtifactType, ClaimLocation, Format, Layout, Location, LocationRole, ManifestFile, ManifestSource, Model,
    PermittedEnvironment, WeightArtifact, WeightArtifactSpec, Writes,
};
use crate::verifier::algorithm::Hashing;
use crate::verifier::args::Layout as EngineLayout;
use crate::verifier::huggingface::is_revision;
use crate::verifier::manifest::Manifest;

/// Most files that stand in a WeightArtifact itself.
pub const MAX_INLINE_FILES: usize = 256;
/// Longest path that stands in a WeightArtifact itself, in characters.
const MAX_INLINE_PATH: usize = 512;

/// What a WeightArtifact says besides its content and where it is.
#[derive(Args, Clone, Debug)]
pub struct DeclarationArgs {
    /// Name of the WeightArtifact.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Environment in which the weights may be mounted. May be repeated.
    #[arg(long = "environment", value_name = "NAME")]
    pub environments: Vec<String>,
    /// How the directory is laid out: a plain directory unless given.
    #[arg(long, value_enum, value_name = "LAYOUT", ignore_case = true, requires = "revision")]
    pub layout: Option<LayoutArg>,
    /// The commit in the repository, with --layout HuggingFaceCache.
    #[arg(long, value_name = "COMMIT", requires = "layout")]
    pub revision: Option<String>,
    /// What the content of the files may be, recognised by their bytes; anything unless given. May be repeated.
    #[arg(long = "format", value_enum, value_name = "FORMAT", ignore_case = true)]
    pub formats: Vec<FormatArg>,
    /// Whom to ask about the weights; printed in refusals. The name of the user unless given.
    #[arg(long, value_name = "TEXT")]
    pub contact: Option<String>,
    /// What kind of weights they are.
    #[arg(long = "type", value_enum, default_value = "Base", ignore_case = true)]
    pub artifact_type: TypeArg,
    /// Name of the line of models; that of the artifact unless given.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Version within the line.
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
}

/// What kind of weights they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum TypeArg {
    /// Pre-trained weights.
    Base,
    /// A state of a training run.
    Checkpoint,
    /// Tuned from a base.
    FineTune,
    /// Applied on top of a base.
    Adapter,
    /// A copy in fewer bits.
    Quantized,
    /// An embedding model.
    Embedding,
}

impl From<TypeArg> for ArtifactType {
    fn from(given: TypeArg) -> Self {
        match given {
            TypeArg::Base => Self::Base,
            TypeArg::Checkpoint => Self::Checkpoint,
            TypeArg::FineTune => Self::FineTune,
            TypeArg::Adapter => Self::Adapter,
            TypeArg::Quantized => Self::Quantized,
            TypeArg::Embedding => Self::Embedding,
        }
    }
}

/// How a directory is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum LayoutArg {
    /// One repository of Hugging Face's cache.
    HuggingFaceCache,
}

impl From<LayoutArg> for Layout {
    fn from(given: LayoutArg) -> Self {
        match given {
            LayoutArg::HuggingFaceCache => Self::HuggingFaceCache,
        }
    }
}

/// What the content of a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum FormatArg {
    /// safetensors.
    Safetensors,
    /// GGUF of llama.cpp.
    #[value(name = "GGUF")]
    Gguf,
    /// ONNX models.
    #[value(name = "ONNX")]
    Onnx,
    /// Python's pickle, which runs code while it is loaded.
    Pickle,
    /// NumPy's npy and npz.
    #[value(name = "NumPy")]
    NumPy,
    /// HDF5 and Keras.
    #[value(name = "HDF5")]
    Hdf5,
    /// TensorFlow.
    #[value(name = "TensorFlow")]
    TensorFlow,
    /// Anything that is not recognised.
    Other,
}

impl From<FormatArg> for Format {
    fn from(given: FormatArg) -> Self {
        match given {
            FormatArg::Safetensors => Self::Safetensors,
            FormatArg::Gguf => Self::GGUF,
            FormatArg::Onnx => Self::ONNX,
            FormatArg::Pickle => Self::Pickle,
            FormatArg::NumPy => Self::NumPy,
            FormatArg::Hdf5 => Self::HDF5,
            FormatArg::TensorFlow => Self::TensorFlow,
            FormatArg::Other => Self::Other,
        }
    }
}

/// Whether a manifest fits into a WeightArtifact; if not, why.
pub fn fits_inline(manifest: &Manifest) -> Result<(), String> {
    let files = manifest.files();
    if manifest.hashing() != Hashing::default() {
        return Err(
            "a WeightArtifact itself lists files with the SHA-256 of each, not other hashes and not shards".into()
        );
    }
    if files.len() > MAX_INLINE_FILES {
        return Err(format!(
            "{} files are more than the {MAX_INLINE_FILES} that a WeightArtifact can list",
            files.len()
        ));
    }
    match files.iter().find(|file| file.path.chars().count() > MAX_INLINE_PATH) {
        Some(file) => Err(format!(
            "path {:?} is longer than the {MAX_INLINE_PATH} characters that a WeightArtifact takes",
            file.path
        )),
        None => Ok(()),
    }
}

/// A manifest as it stands in a WeightArtifact.
pub fn inline(manifest: &Manifest) -> ManifestSource {
    let files = manifest.files().iter().enumerate().filter_map(|(index, file)| {
        Some(ManifestFile {
            path: file.path.to_string(),
            // The sum of the sizes of a manifest fits, so each does.
            size: i64::try_from(file.size).unwrap_or(i64::MAX),
            sha256: manifest.sha256_of(index)?.to_string(),
        })
    });
    ManifestSource { path: None, inline: Some(files.collect()), object: None }
}

/// A manifest that is a file in the volume.
pub fn in_volume(path: &str) -> ManifestSource {
    ManifestSource { path: Some(path.into()), inline: None, object: None }
}

/// The location of weights behind a claim.
pub fn claim_location(namespace: &str, claim: &str, path: Option<&str>) -> Location {
    Location {
        name: "serving".into(),
        role: LocationRole::Serving,
        persistent_volume_claim: Some(ClaimLocation { namespace: namespace.into(), name: claim.into() }),
        csi: None,
        nfs: None,
        image: None,
        host_path: None,
        path: path.map(str::to_owned),
        aliases: Vec::new(),
    }
}

impl DeclarationArgs {
    /// The layout as the engine takes it.
    ///
    /// # Errors
    /// Where the revision is no commit.
    pub fn engine_layout(&self) -> Result<EngineLayout, CliError> {
        match &self.revision {
            None => Ok(EngineLayout::Directory),
            Some(revision) if is_revision(revision) => {
                Ok(EngineLayout::HuggingFaceCache { revision: revision.clone() })
            }
            Some(revision) => Err(CliError::Value {
                option: "--revision",
                value: revision.clone(),
                problem: "is no commit: give its 40 lower-case hex digits, not a branch or a tag".into(),
            }),
        }
    }

    /// The WeightArtifact, sealed with the digest.
    pub fn artifact(&self, name: &str, digest: &str, manifest: ManifestSource, location: Location) -> WeightArtifact {
        let contact = self.contact.clone().or_else(|| std::env::var("USER").ok()).filter(|text| !text.is_empty());
        let spec = WeightArtifactSpec {
            artifact_type: self.artifact_type.into(),
            model: Model { name: self.model.clone().unwrap_or_else(|| name.into()), version: self.version.clone() },
            manifest_digest: Some(digest.into()),
            signature: None,
            producers: Vec::new(),
            writes: Writes::default(),
            manifest: Some(manifest),
            layout: self.layout.map_or(Layout::Directory, Into::into),
            revision: self.revision.clone(),
            formats: self.formats.iter().map(|format| (*format).into()).collect(),
            locations: vec![location],
            permitted_environments: self
                .environments
                .iter()
                .map(|name| PermittedEnvironment { name: name.clone() })
                .collect(),
            contact: contact.unwrap_or_else(|| "whoever registered it".into()),
        };
        WeightArtifact::new(name, spec)
    }
}

/// A name that Kubernetes takes, made of a text; `None` if nothing is left of it.
pub fn object_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        match character {
            'a'..='z' | '0'..='9' => name.push(character),
            _ if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name: String = name.trim_matches('-').chars().take(63).collect();
    let name = name.trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

/// The YAML of an object.
///
/// # Errors
/// Where it cannot be written as YAML.
pub fn yaml(object: &impl serde::Serialize) -> Result<String, CliError> {
    let encode = |problem: String| CliError::Encode { format: "YAML", problem };
    let value = serde_json::to_value(object).map_err(|error| encode(error.to_string()))?;
    serde_saphyr::to_string(&value).map_err(|error| encode(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_directories() {
        for (text, name) in [
            ("Orion 70B_v3", Some("orion-70b-v3")),
            ("--", None),
            ("ü", None),
            (&"a".repeat(70), Some(&*"a".repeat(63))),
        ] {
            assert_eq!(object_name(text).as_deref(), name);
        }
    }
}
