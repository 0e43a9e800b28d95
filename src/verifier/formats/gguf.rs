//! GGUF, versions 2 and 3, little-endian: metadata, a directory of tensors, and their bytes at aligned offsets.

use super::Problem;
use super::names::Names;
use super::source::{Reader, Source};

/// The first bytes.
pub const MAGIC: &[u8] = b"GGUF";
/// Most key-value pairs.
const MAX_PAIRS: u64 = 65_536;
/// Most tensors; what is kept of each is 16 bytes.
const MAX_TENSORS: u64 = 1_000_000;
/// Longest key in bytes.
const MAX_KEY: u64 = 65_535;
/// Longest name of a tensor in bytes: 64 with its end, as in ggml.
const MAX_NAME: u64 = 63;
/// Longest text and list in metadata: a vocabulary or a chat template.
const MAX_TEXT: u64 = 64 << 20;
const MAX_LIST: u64 = 16 << 20;
/// Most dimensions of one tensor, as in ggml.
const MAX_DIMENSIONS: u32 = 4;
/// Alignment of the tensors unless `general.alignment` says another.
const ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// Elements and bytes of one block of a ggml type.
fn block(ggml_type: u32) -> Option<(u64, u64)> {
    Some(match ggml_type {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        20 => (32, 18),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        _ => return None,
    })
}

/// Bytes of a value of a fixed size.
fn scalar(value_type: u32) -> Option<u64> {
    match value_type {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;
const U32: u32 = 4;

struct Parser<'a> {
    reader: Reader<'a>,
}

impl Parser<'_> {
    fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.reader.array()?.ok_or_else(ends)?))
    }

    fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.reader.array()?.ok_or_else(ends)?))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Problem> {
        if self.reader.skip(bytes) { Ok(()) } else { Err(ends()) }
    }

    /// A text that is kept: a key or a name.
    fn name(&mut self, what: &str, longest: u64) -> Result<String, Problem> {
        let length = self.u64()?;
        if length == 0 || length > longest {
            return Err(format!("{what} has {length} bytes, not 1 to {longest}").into());
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if !self.reader.fill(&mut bytes)? {
            return Err(ends());
        }
        String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8").into())
    }

    fn text(&mut self, key: &str) -> Result<(), Problem> {
        let length = self.u64()?;
        if length > MAX_TEXT {
            return Err(format!("a text of {key:?} has {length} bytes, more than {MAX_TEXT}").into());
        }
        self.skip(length)
    }

    fn values(&mut self, key: &str, value_type: u32, count: u64) -> Result<(), Problem> {
        match (value_type, scalar(value_type)) {
            (BOOL, _) => (0..count).try_for_each(|_| match self.reader.byte()? {
                Some(0 | 1) => Ok(()),
                Some(other) => Err(format!("a bool of {key:?} is {other}").into()),
                None => Err(ends()),
            }),
            (_, Some(bytes)) => self.skip(bytes.checked_mul(count).ok_or_else(ends)?),
            (TEXT, None) => (0..count).try_for_each(|_| self.text(key)),
            _ => Err(format!("{key:?} has the unknown type {value_type}").into()),
        }
    }

    /// One key-value pair; returns the alignment if it is that.
    fn pair(&mut self, keys: &mut Names) -> Result<Option<u64>, Problem> {
        let key = self.name("a key", MAX_KEY)?;
        let value_type = self.u32()?;
        let mut alignment = None;
        if key == "general.alignment" {
            if value_type != U32 {
                return Err(format!("general.alignment has type {value_type}, not uint32").into());
            }
            alignment = Some(u64::from(self.u32()?));
        } else if value_type == LIST {
            let (inner, count) = (self.u32()?, self.u64()?);
            if count > MAX_LIST {
                return Err(format!("the list {key:?} has {count} entries, more than {MAX_LIST}").into());
            }
            self.values(&key, inner, count)?;
        } else {
            self.values(&key, value_type, 1)?;
        }
        if !keys.add(&key) {
            return Err(format!("the key {key:?} is there twice").into());
        }
        Ok(alignment)
    }

    /// Name, offset and length of the next tensor.
    fn tensor(&mut self) -> Result<(String, u64, u64), Problem> {
        let name = self.name("the name of a tensor", MAX_NAME)?;
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(format!("tensor {name:?} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}").into());
        }
        let overflows = || Problem::from(format!("the size of tensor {name:?} overflows"));
        let (mut row, mut elements) = (0, 1u64);
        for index in 0..dimensions {
            let length = self.u64()?;
            row = if index == 0 { length } else { row };
            elements = elements.checked_mul(length).ok_or_else(overflows)?;
        }
        let ggml_type = self.u32()?;
        let (block, bytes) =
            block(ggml_type).ok_or_else(|| format!("tensor {name:?} has the unknown type {ggml_type}"))?;
        if row % block != 0 {
            return Err(format!("a row of tensor {name:?} has {row} elements, no multiple of {block}").into());
        }
        let length = (elements / block).checked_mul(bytes).ok_or_else(overflows)?;
        Ok((name, self.u64()?, length))
    }
}

fn ends() -> Problem {
    "it ends within its header".into()
}

fn padded(offset: u64, alignment: u64) -> Option<u64> {
    offset.checked_next_multiple_of(alignment)
}

/// Validates a whole file.
pub fn validate(source: &dyn Source) -> Result<(), Problem> {
    let mut parser = Parser { reader: Reader::new(source, MAGIC.len() as u64) };
    let version = parser.u32()?;
    if !matches!(version, 2 | 3) {
        return Err(format!("its version is {version}; versions 2 and 3, little-endian, are known").into());
    }
    let (tensors, pairs) = (parser.u64()?, parser.u64()?);
    if tensors > MAX_TENSORS || pairs > MAX_PAIRS {
        return Err(format!(
            "it says it has {tensors} tensors and {pairs} keys; at most {MAX_TENSORS} and {MAX_PAIRS} are read"
        )
        .into());
    }
    let (mut alignment, mut keys) = (ALIGNMENT, Names::default());
    for _ in 0..pairs {
        alignment = parser.pair(&mut keys)?.unwrap_or(alignment);
    }
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(format!("general.alignment is {alignment}, no power of two up to {MAX_ALIGNMENT}").into());
    }
    let mut names = Names::default();
    let mut extents = Vec::new();
    for _ in 0..tensors {
        let (name, offset, length) = parser.tensor()?;
        if !names.add(&name) {
            return Err(format!("the tensor {name:?} is there twice").into());
        }
        extents.push((offset, length));
    }
    let end = parser.reader.position();
    extents.sort_unstable();
    let mut covered = 0;
    for (offset, length) in &extents {
        let expected = padded(covered, alignment).ok_or_else(ends)?;
        if *offset != expected {
            let what = if *offset < expected { "overlap or are not aligned" } else { "leave a gap" };
            return Err(format!("its tensors {what} at byte {} of the data", expected.min(*offset)).into());
        }
        covered = offset.checked_add(*length).ok_or("the extent of a tensor overflows")?;
    }
    let size = source.size();
    // A file without tensors may end with its header; any other is padded ahead of its data, and may be after it.
    let ends_well = if extents.is_empty() {
        size == end || padded(end, alignment) == Some(size)
    } else {
        let data = padded(end, alignment).ok_or_else(ends)?;
        data.checked_add(covered) == Some(size)
            || padded(covered, alignment).and_then(|covered| data.checked_add(covered)) == Some(size)
    };
    if !ends_well {
        return Err(format!("its tensors end at byte {covered} of the data, which is not where the file ends").into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
