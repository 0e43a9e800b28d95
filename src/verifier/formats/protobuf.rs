//! Protocol buffers carry no mark of what they are. A message is taken for what its fields say, if all of it fits: ONNX
//! models, TensorFlow's SavedModel, and the tokenizers of SentencePiece.

use super::Problem;
use super::source::{Reader, Source, Window};

/// Most fields of a message that are looked at; a vocabulary has a field for each piece.
const MAX_FIELDS: u32 = 4 << 20;

/// A message that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// ONNX `ModelProto`.
    Onnx,
    /// TensorFlow `SavedModel`.
    SavedModel,
    /// SentencePiece `ModelProto`: a vocabulary.
    SentencePiece,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Varint,
    Fixed64,
    Bytes(u64, u64),
    Fixed32,
}

/// The next field: its number and what it holds. The error tells that this is no message.
fn field(reader: &mut Reader<'_>) -> std::io::Result<Option<(u64, Kind)>> {
    let Some(tag) = varint(reader)? else { return Ok(None) };
    let kind = match tag & 7 {
        0 => varint(reader)?.map(|_| Kind::Varint),
        1 => reader.skip(8).then_some(Kind::Fixed64),
        5 => reader.skip(4).then_some(Kind::Fixed32),
        2 => match varint(reader)? {
            Some(length) => {
                let start = reader.position();
                reader.skip(length).then_some(Kind::Bytes(start, length))
            }
            None => None,
        },
        _ => None,
    };
    Ok(kind.map(|kind| (tag >> 3, kind)))
}

fn varint(reader: &mut Reader<'_>) -> std::io::Result<Option<u64>> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some(byte) = reader.byte()? else { return Ok(None) };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Calls `each` with the fields of a message. `false`: it is none, or `each` said so.
fn fields(source: &dyn Source, mut each: impl FnMut(u64, Kind) -> Result<bool, Problem>) -> Result<bool, Problem> {
    let mut reader = Reader::new(source, 0);
    for _ in 0..MAX_FIELDS {
        if reader.left() == 0 {
            return Ok(true);
        }
        match field(&mut reader)? {
            Some((number, kind)) if each(number, kind)? => {}
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// What a message is.
pub fn recognise(source: &dyn Source) -> Result<Option<Message>, Problem> {
    if is_onnx(source)? {
        return Ok(Some(Message::Onnx));
    }
    if is_saved_model(source)? {
        return Ok(Some(Message::SavedModel));
    }
    Ok(is_sentence_piece(source)?.then_some(Message::SentencePiece))
}

fn is_onnx(source: &dyn Source) -> Result<bool, Problem> {
    let (mut version, mut graph, mut operators) = (false, None, false);
    let fits = fields(source, |number, kind| {
        Ok(match (number, kind) {
            (1, Kind::Varint) => {
                version = true;
                true
            }
            (5, Kind::Varint) => true,
            (7, Kind::Bytes(start, length)) => graph.replace((start, length)).is_none(),
            (8, Kind::Bytes(..)) => {
                operators = true;
                true
            }
            (2 | 3 | 4 | 6 | 14 | 20 | 25 | 26, Kind::Bytes(..)) => true,
            _ => false,
        })
    })?;
    let Some((start, length)) = graph.filter(|_| fits && version && operators) else { return Ok(false) };
    fields(&Window::new(source, start, length), |number, kind| {
        Ok(matches!((number, kind), (1 | 2 | 5 | 10..=16, Kind::Bytes(..))))
    })
}

fn is_saved_model(source: &dyn Source) -> Result<bool, Problem> {
    let (mut version, mut graphs) = (false, 0);
    let fits = fields(source, |number, kind| {
        Ok(match (number, kind) {
            (1, Kind::Varint) => {
                version = true;
                true
            }
            (2, Kind::Bytes(..)) => {
                graphs += 1;
                true
            }
            _ => false,
        })
    })?;
    Ok(fits && version && graphs > 0)
}

fn is_sentence_piece(source: &dyn Source) -> Result<bool, Problem> {
    let mut pieces = 0;
    let fits = fields(source, |number, kind| match (number, kind) {
        (1, Kind::Bytes(start, length)) => {
            pieces += 1;
            is_piece(&Window::new(source, start, length))
        }
        (2..=5, Kind::Bytes(..)) => Ok(true),
        _ => Ok(false),
    })?;
    Ok(fits && pieces > 0)
}

/// A piece of a vocabulary: its text, its score, its type.
fn is_piece(source: &dyn Source) -> Result<bool, Problem> {
    // Pieces are short; what is long is something else.
    if source.size() > 4096 {
        return Ok(false);
    }
    let mut text = false;
    let fits = fields(source, |number, kind| {
        Ok(match (number, kind) {
            (1, Kind::Bytes(..)) => {
                text = true;
                true
            }
            (2, Kind::Fixed32) | (3, Kind::Varint) => true,
            _ => false,
        })
    })?;
    Ok(fits && text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> Option<Message> {
        recognise(&bytes).unwrap()
    }

    #[test]
    fn messages_are_known_by_their_fields() {
        // ir_version 8, producer_name "x", graph with a name, opset_import.
        let onnx = [&[8, 8, 0x12, 1, b'x', 0x3a, 3, 0x12, 1, b'g'][..], &[0x42, 2, 0x10, 13]].concat();
        assert_eq!(message(&onnx), Some(Message::Onnx));
        assert_eq!(message(&[8, 1, 0x12, 2, 0x0a, 0]), Some(Message::SavedModel));
        let piece = [0x0a, 14, 0x0a, 5, b'<', b'u', b'n', b'k', b'>', 0x15, 0, 0, 0, 0, 0x18, 2];
        assert_eq!(message(&piece), Some(Message::SentencePiece));
        // Cut short, of other fields, or with something behind it.
        assert_eq!(message(&onnx[..onnx.len() - 1]), None);
        assert_eq!(message(&piece[..piece.len() - 1]), None);
        assert_eq!(message(&[piece.as_slice(), b"\x80\x04"].concat()), None);
        assert_eq!(message(&[0x7a, 1, b'x']), None);
    }
}
