//! What a zip archive is: what its members are decides.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{
    DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};

use super::source::{Source, Window};
use super::zip::{self, Member, Method};
use super::{Content, Format, Problem, hdf5, numpy, pickle};

/// How much of a compressed member is looked at, before and after.
const MAX_STORED: usize = 64 << 10;
const MAX_INFLATED: usize = 256 << 10;

/// What a member is, as far as it tells what the archive is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Pickle,
    Array,
    Hdf5,
    Other,
}

/// What the archive is whose end record is at `end`.
pub fn recognise(source: &dyn Source, end: u64) -> Result<Content, Problem> {
    let members = zip::members(source, end)?;
    let (mut arrays, mut hdf5) = (0, false);
    for member in &members {
        match part(source, member)? {
            Part::Pickle => return Ok(Content::Weights(Format::Pickle)),
            Part::Array => arrays += 1,
            Part::Hdf5 => hdf5 = true,
            Part::Other => {}
        }
    }
    Ok(if arrays > 0 && arrays == members.len() {
        Content::Weights(Format::NumPy)
    } else if hdf5 {
        // Keras 3 packs its HDF5 file with the configuration.
        Content::Weights(Format::Hdf5)
    } else {
        Content::Unknown("a zip archive")
    })
}

fn part(archive: &dyn Source, member: &Member) -> Result<Part, Problem> {
    // PyTorch finds its pickle by name, whatever it begins with.
    if member.name.ends_with(".pkl") {
        return Ok(Part::Pickle);
    }
    let stored = Window::new(archive, member.start, member.stored);
    match member.method {
        Method::Stored => of(&stored, true),
        Method::Deflated => of(&inflated(&stored)?.as_slice(), false),
        Method::Other => Ok(Part::Other),
    }
}

fn of(source: &dyn Source, whole: bool) -> Result<Part, Problem> {
    let mut head = [0; 16];
    let count = source.read_at(0, &mut head)?;
    let head = &head[..count];
    if pickle::claims(head) || pickle::follow(source)? == pickle::Program::Code {
        return Ok(Part::Pickle);
    }
    if head.starts_with(numpy::MAGIC) {
        return Ok(match numpy::inspect(source, whole)? {
            numpy::Array::Objects => Part::Pickle,
            numpy::Array::Plain => Part::Array,
        });
    }
    Ok(if head.starts_with(hdf5::MAGIC) { Part::Hdf5 } else { Part::Other })
}

/// The beginning of a compressed member; empty if it cannot be decompressed.
fn inflated(stored: &dyn Source) -> Result<Vec<u8>, Problem> {
    let mut input = vec![0; MAX_STORED.min(usize::try_from(stored.size()).unwrap_or(MAX_STORED))];
    let count = stored.read_at(0, &mut input)?;
    let mut output = vec![0; MAX_INFLATED];
    let flags =
        TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
    let (status, _, written) = decompress(&mut DecompressorOxide::new(), &input[..count], &mut output, 0, flags);
    let good = matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput);
    output.truncate(if good { written } else { 0 });
    Ok(output)
}
