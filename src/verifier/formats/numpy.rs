//! NumPy's npy: a header that is a Python literal, then the array, unless that holds objects: those are pickled.

use super::Problem;
use super::source::{Reader, Source};

/// The first bytes.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header in bytes.
const MAX_HEADER: u32 = 64 << 10;

/// What an npy file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// Numbers, texts and the like.
    Plain,
    /// Python objects, or what cannot be told from them: `numpy.load` unpickles them.
    Objects,
}

/// Reads the header, and compares it with the length if the source is the whole array.
pub fn inspect(source: &dyn Source, whole: bool) -> Result<Array, Problem> {
    let mut reader = Reader::new(source, MAGIC.len() as u64);
    let cut = || Problem::from("it ends within its header");
    let [major, minor] = reader.array()?.ok_or_else(cut)?;
    let length = match (major, minor) {
        (1, 0) => u32::from(u16::from_le_bytes(reader.array()?.ok_or_else(cut)?)),
        (2 | 3, 0) => u32::from_le_bytes(reader.array()?.ok_or_else(cut)?),
        _ => return Err(format!("its version is {major}.{minor}; versions 1.0, 2.0 and 3.0 are known").into()),
    };
    if length > MAX_HEADER {
        return Err(format!("its header has {length} bytes, more than {MAX_HEADER}").into());
    }
    let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
    if !reader.fill(&mut header)? {
        return Err(cut());
    }
    let header = String::from_utf8(header).map_err(|_| "its header is not UTF-8")?;
    let Some((item_bytes, elements)) = plain(&header) else {
        // A structured type is plain if nothing in it can spell an object type, escaped or not.
        let objects = header.contains(['O', '\\']) || header.contains("object");
        return Ok(if objects { Array::Objects } else { Array::Plain });
    };
    let data = item_bytes.checked_mul(elements).ok_or("the size of the array overflows")?;
    if whole && data != reader.left() {
        return Err(format!("its dtype and shape need {data} bytes, but {} follow the header", reader.left()).into());
    }
    Ok(Array::Plain)
}

/// Bytes of an item and number of items of a header as `numpy.save` writes it for an array of a simple type.
fn plain(header: &str) -> Option<(u64, u64)> {
    let rest = header.strip_prefix("{'descr': '")?;
    let (descr, rest) = rest.split_once("', 'fortran_order': ")?;
    let rest = rest.strip_prefix("False").or_else(|| rest.strip_prefix("True"))?;
    let (shape, rest) = rest.strip_prefix(", 'shape': (")?.split_once(')')?;
    if !matches!(rest.trim_end(), ", }" | "}") {
        return None;
    }
    let descr = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
    let (kind, size) = descr.split_at_checked(1)?;
    // Dates carry their unit in brackets.
    let digits = size.split('[').next()?;
    let size: u64 = digits.parse().ok()?;
    let bytes = match kind {
        "b" | "B" | "i" | "u" | "f" | "c" | "m" | "M" | "S" | "V" => size,
        "U" => size.checked_mul(4)?,
        _ => return None,
    };
    let mut elements = 1u64;
    for dimension in shape.split(',').map(str::trim).filter(|dimension| !dimension.is_empty()) {
        elements = elements.checked_mul(dimension.parse().ok()?)?;
    }
    Some((bytes, elements))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn arrays_of_objects_are_told_from_plain_ones() {
        let kind = |descr: &str, data: &[u8]| {
            inspect(
                &npy(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}\n"), data).as_slice(),
                true,
            )
        };
        assert_eq!(kind("'<f4'", &[0; 12]).unwrap(), Array::Plain);
        assert_eq!(kind("'<U2'", &[0; 24]).unwrap(), Array::Plain);
        assert_eq!(kind("[('a', '<f4'), ('b', '<i2')]", &[0; 18]).unwrap(), Array::Plain);
        for objects in ["'|O'", "'O8'", "'object'", "'f4,O'", "[('a', '|' 'O')]", "'\\x4f'", "[('a', '\\117')]"] {
            assert_eq!(kind(objects, b"\x80\x04").unwrap(), Array::Objects, "{objects}");
        }
        let error = kind("'<f4'", &[0; 13]).unwrap_err();
        assert_eq!(error.to_string(), "its dtype and shape need 12 bytes, but 13 follow the header");
    }
}
