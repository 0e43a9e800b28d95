//! What a file is, told from its bytes. Names say nothing: whoever renames a pickle does not make it safetensors.
//!
//! A file is one thing. One that two programs would read as two things (an archive behind a tensor file, a pickle ahead of
//! one) is malformed, whatever is allowed. Read is only what is needed, a few KiB at a time, through a descriptor that is
//! already open.

mod archive;
mod companion;
mod gguf;
mod hdf5;
mod names;
mod numpy;
mod pickle;
mod protobuf;
mod safetensors;
mod source;
mod zip;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

pub use source::{OpenFile, Source};

/// A format of weights. [`Format::Other`] stands for all that is not recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// GGUF, of llama.cpp.
    Gguf,
    /// ONNX models. What they keep in files of their own has no format: that is [`Format::Other`].
    Onnx,
    /// Python's pickle, also within the files of PyTorch and within arrays of objects.
    Pickle,
    /// NumPy's npy and npz.
    NumPy,
    /// HDF5, and Keras.
    Hdf5,
    /// TensorFlow's SavedModel and TensorFlow Lite. The variables of a SavedModel have no format: they are [`Format::Other`].
    TensorFlow,
    /// Anything that is not recognised, programs too.
    Other,
}

impl Format {
    /// Every format, in the order in which they are written.
    pub const ALL: [Self; 8] = [
        Self::Safetensors,
        Self::Gguf,
        Self::Onnx,
        Self::Pickle,
        Self::NumPy,
        Self::Hdf5,
        Self::TensorFlow,
        Self::Other,
    ];

    /// How it is written in a WeightArtifact and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "Safetensors",
            Self::Gguf => "GGUF",
            Self::Onnx => "ONNX",
            Self::Pickle => "Pickle",
            Self::NumPy => "NumPy",
            Self::Hdf5 => "HDF5",
            Self::TensorFlow => "TensorFlow",
            Self::Other => "Other",
        }
    }

    /// The format of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Weights of a format.
    Weights(Format),
    /// What belongs to a model and holds no weights: text, an image, the vocabulary of a tokenizer, nothing at all.
    Companion,
    /// Nothing that is known; what it looks like.
    Unknown(&'static str),
}

/// Why it cannot be told what a file is.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is not well-formed, or several things at once.
    #[error("{0}")]
    Malformed(String),
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
}

impl From<String> for Problem {
    fn from(what: String) -> Self {
        Self::Malformed(what)
    }
}

impl From<&str> for Problem {
    fn from(what: &str) -> Self {
        Self::Malformed(what.into())
    }
}

/// How much of a file its first look takes: the header of a tar archive.
const HEAD: usize = 512;

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its format is not among those that are allowed.
    #[error("{0}")]
    NotAllowed(String),
    /// It cannot be told what it is.
    #[error(transparent)]
    Problem(#[from] Problem),
}

/// Checks a file against the formats that are allowed.
///
/// # Errors
/// If it is of another format, malformed, or unreadable.
pub fn check(source: &dyn Source, allowed: &[Format]) -> Result<(), Refusal> {
    let (format, what) = match recognise(source)? {
        Content::Companion => return Ok(()),
        Content::Weights(format) => (format, format!("it is {format}")),
        Content::Unknown(what) => (Format::Other, format!("it is {what}, so Other")),
    };
    if allowed.contains(&format) {
        return Ok(());
    }
    let allowed: Vec<&str> = allowed.iter().map(|format| format.name()).collect();
    Err(Refusal::NotAllowed(format!("{what}; allowed: {}", allowed.join(", "))))
}

/// Tells what a file is.
///
/// # Errors
/// If it is malformed, several things at once, or cannot be read.
pub fn recognise(source: &dyn Source) -> Result<Content, Problem> {
    let mut head = [0; HEAD];
    let count = source.read_at(0, &mut head)?;
    let head = &head[..count];
    if head.is_empty() {
        return Ok(Content::Companion);
    }
    let archive = zip::end_record(source)?;
    let (content, what) = first_look(source, head, archive)?;
    if archive.is_some() && !is_zip(head) {
        return Err(format!("it is {what}, and a zip archive is appended to it").into());
    }
    if content != Content::Weights(Format::Pickle) && pickle::follow(source)? == pickle::Program::Code {
        return Err(format!("it is {what}, and a pickle that runs code at the same time").into());
    }
    if !matches!(content, Content::Weights(Format::Hdf5)) && hdf5::behind_user_block(source)? {
        return Err(format!("it is {what}, and an HDF5 file behind its first bytes").into());
    }
    if what != TAR && is_tar(head) {
        return Err(format!("it is {what}, and a tar archive at the same time").into());
    }
    Ok(content)
}

const TAR: &str = "a tar archive";

/// What the beginning says it is, with its name for messages. What claims to be of a format must be well-formed.
fn first_look(source: &dyn Source, head: &[u8], archive: Option<u64>) -> Result<(Content, &'static str), Problem> {
    let named = |format: Format| (Content::Weights(format), format.name());
    if head.starts_with(gguf::MAGIC) {
        gguf::validate(source).map_err(|problem| within("GGUF", problem))?;
        return Ok(named(Format::Gguf));
    }
    if head.starts_with(numpy::MAGIC) {
        let array = numpy::inspect(source, true).map_err(|problem| within("NumPy", problem))?;
        return Ok(named(if array == numpy::Array::Objects { Format::Pickle } else { Format::NumPy }));
    }
    if head.starts_with(hdf5::MAGIC) {
        hdf5::validate(source).map_err(|problem| within("HDF5", problem))?;
        return Ok(named(Format::Hdf5));
    }
    if is_zip(head) {
        let Some(end) = archive else { return Err("it is a zip archive without an end".into()) };
        let content = archive::recognise(source, end)?;
        return Ok((content, "a zip archive"));
    }
    if head.get(4..8) == Some(b"TFL3") {
        return Ok(named(Format::TensorFlow));
    }
    if companion::is_program(head) {
        return Ok((Content::Unknown("a program"), "a program"));
    }
    if companion::is_image(head) {
        return Ok((Content::Companion, "an image"));
    }
    if safetensors::claims(head, source.size()) {
        match safetensors::validate(source) {
            Ok(()) => return Ok(named(Format::Safetensors)),
            // The first bytes may be those of a pickle.
            Err(Problem::Malformed(_)) if pickle::claims(head) => {}
            Err(problem) => return Err(within("Safetensors", problem)),
        }
    }
    if is_tar(head) {
        // PyTorch reads any tar archive as an old file of its own, and unpickles what it expects in it.
        return Ok((Content::Weights(Format::Pickle), TAR));
    }
    if pickle::claims(head) || pickle::follow(source)? == pickle::Program::Code {
        return Ok(named(Format::Pickle));
    }
    match protobuf::recognise(source)? {
        Some(protobuf::Message::Onnx) => return Ok(named(Format::Onnx)),
        Some(protobuf::Message::SavedModel) => return Ok(named(Format::TensorFlow)),
        Some(protobuf::Message::SentencePiece) => return Ok((Content::Companion, "a tokenizer")),
        None => {}
    }
    if companion::is_text(source)? {
        return Ok((Content::Companion, "text"));
    }
    Ok((Content::Unknown("of no known format"), "of no known format"))
}

fn within(format: &str, problem: Problem) -> Problem {
    match problem {
        Problem::Malformed(what) => Problem::Malformed(format!("it begins as {format}, but {what}")),
        unreadable => unreadable,
    }
}

fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// Whether it begins with the header of a tar archive, old or new: its checksum tells.
fn is_tar(head: &[u8]) -> bool {
    let Some(field) = head.get(148..156).filter(|_| head.len() == HEAD) else { return false };
    let Ok(field) = std::str::from_utf8(field) else { return false };
    let Ok(checksum) = u32::from_str_radix(field.trim_matches([' ', '\0']), 8) else { return false };
    let sum = |convert: fn(u8) -> i64| -> i64 {
        let whole: i64 = head.iter().map(|byte| convert(*byte)).sum();
        let own: i64 = field.bytes().map(convert).sum();
        whole - own + 8 * i64::from(b' ')
    };
    [sum(i64::from), sum(|byte| i64::from(byte.cast_signed()))].contains(&i64::from(checksum))
}
