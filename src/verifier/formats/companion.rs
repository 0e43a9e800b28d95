//! What every directory of a model holds beside the weights, and cannot hold weights or run by itself: text and images.

use super::Problem;
use super::source::Source;

/// How much text is looked at in one step.
const STEP: usize = 64 << 10;

/// Whether it begins as an image of a common kind.
pub fn is_image(head: &[u8]) -> bool {
    head.starts_with(b"\x89PNG\r\n\x1a\n")
        || head.starts_with(b"\xff\xd8\xff")
        || head.starts_with(b"GIF87a")
        || head.starts_with(b"GIF89a")
        || (head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP"))
}

/// Whether it is a program: for Linux, Windows or macOS, or a script that names its interpreter.
pub fn is_program(head: &[u8]) -> bool {
    const MACH: [[u8; 4]; 5] = [
        [0xfe, 0xed, 0xfa, 0xce],
        [0xfe, 0xed, 0xfa, 0xcf],
        [0xce, 0xfa, 0xed, 0xfe],
        [0xcf, 0xfa, 0xed, 0xfe],
        [0xca, 0xfe, 0xba, 0xbe],
    ];
    head.starts_with(b"\x7fELF")
        || head.starts_with(b"MZ")
        || head.starts_with(b"#!")
        || MACH.iter().any(|magic| head.starts_with(magic))
}

/// Whether it is text in UTF-8, from the first byte to the last.
pub fn is_text(source: &dyn Source) -> Result<bool, Problem> {
    let mut buffer = vec![0; STEP];
    let (mut offset, mut kept) = (0, 0);
    loop {
        let count = source.read_at(offset, &mut buffer[kept..])?;
        offset += count as u64;
        let bytes = &buffer[..kept + count];
        if bytes.contains(&0) {
            return Ok(false);
        }
        let good = match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Ok(false),
        };
        let end = bytes.len();
        if count == 0 {
            return Ok(good == end);
        }
        buffer.copy_within(good..end, 0);
        kept = end - good;
    }
}
