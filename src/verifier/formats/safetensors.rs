//! safetensors: the length of a header, the header in JSON, and the bytes of the tensors without a gap.
//!
//! As its reference implementation has it, and stricter where that is silent: names may not repeat, and the tensors cover
//! the rest of the file exactly.

use std::io::Read as _;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};

use super::Problem;
use super::names::Names;
use super::source::{Reader, Source};

/// Longest header in bytes, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;
/// Most tensors in one file; what is kept of each is 24 bytes.
const MAX_TENSORS: usize = 1_000_000;
/// Most dimensions of one tensor.
const MAX_DIMENSIONS: usize = 64;
/// The entry of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// Whether it begins as safetensors: a length that fits, then the brace of a JSON object.
pub fn claims(head: &[u8], size: u64) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
    let length = u64::from_le_bytes(*length);
    rest.first() == Some(&b'{') && length >= 2 && (length <= MAX_HEADER || length.saturating_add(8) <= size)
}

/// Bits of one element.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// The product of a shape.
struct Shape(u64);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Product;
        impl<'de> Visitor<'de> for Product {
            type Value = Shape;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of dimensions")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let (mut product, mut count) = (1u64, 0);
                while let Some(dimension) = seq.next_element::<u64>()? {
                    count += 1;
                    if count > MAX_DIMENSIONS {
                        return Err(A::Error::custom(format!("a tensor has more than {MAX_DIMENSIONS} dimensions")));
                    }
                    product = product.checked_mul(dimension).ok_or_else(|| A::Error::custom("a shape overflows"))?;
                }
                Ok(Shape(product))
            }
        }
        deserializer.deserialize_seq(Product)
    }
}

/// Collects the spans of the tensors.
struct Header<'a> {
    spans: &'a mut Vec<(u64, u64)>,
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the header, an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = map.next_key::<String>()? {
            if !names.add(&name) {
                return Err(twice(&name));
            }
            if name == METADATA {
                map.next_value_seed(Texts)?;
                continue;
            }
            let tensor: Tensor = map.next_value()?;
            if self.spans.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("it has more than {MAX_TENSORS} tensors")));
            }
            self.spans.push(span(&name, &tensor).map_err(A::Error::custom)?);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Header<'_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

fn twice<E: serde::de::Error>(name: &str) -> E {
    E::custom(format!("the name {name:?} is there twice"))
}

fn span(name: &str, tensor: &Tensor) -> Result<(u64, u64), String> {
    let (begin, end) = tensor.data_offsets;
    let dtype = &tensor.dtype;
    let bits = bits(dtype).ok_or_else(|| format!("tensor {name:?} has the unknown dtype {dtype:?}"))?;
    let total = tensor.shape.0.checked_mul(bits).ok_or_else(|| format!("the size of tensor {name:?} overflows"))?;
    if total % 8 != 0 {
        return Err(format!("tensor {name:?} does not end at a byte"));
    }
    match end.checked_sub(begin) {
        Some(length) if length == total / 8 => Ok((begin, end)),
        _ => Err(format!(
            "tensor {name:?} has the offsets [{begin}, {end}], but its dtype and shape need {} bytes",
            total / 8
        )),
    }
}

/// An object of texts, of which nothing is kept.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("__metadata__, an object of strings")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = map.next_key::<String>()? {
            if !names.add(&name) {
                return Err(twice(&name));
            }
            map.next_value_seed(Text)?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Texts {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Text {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// Validates a whole file.
pub fn validate(source: &dyn Source) -> Result<(), Problem> {
    let mut reader = Reader::new(source, 0);
    let length = u64::from_le_bytes(reader.array()?.ok_or("it is shorter than the length of its header")?);
    if length > MAX_HEADER {
        return Err(format!("its header has {length} bytes, more than {MAX_HEADER}").into());
    }
    let Some(data) = source.size().checked_sub(8 + length) else {
        return Err(format!("its header has {length} bytes, the file only {}", source.size()).into());
    };
    let mut spans = Vec::new();
    let mut json = serde_json::Deserializer::from_reader(reader.take(length));
    let parsed = Header { spans: &mut spans }.deserialize(&mut json).and_then(|()| json.end());
    if let Err(error) = parsed {
        // What could not be read is not what is malformed.
        return Err(match error.io_error_kind() {
            Some(kind) if kind != std::io::ErrorKind::UnexpectedEof => Problem::Unreadable(error.into()),
            _ => format!("its header: {error}").into(),
        });
    }
    spans.sort_unstable();
    let mut covered = 0;
    for (begin, end) in spans {
        if begin != covered {
            let what = if begin < covered { "overlap" } else { "leave a gap" };
            return Err(format!("its tensors {what} at byte {} of the data", begin.min(covered)).into());
        }
        covered = end;
    }
    if covered != data {
        return Err(format!("its tensors cover {covered} bytes, but {data} follow the header").into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
