//! HDF5, which Keras writes: a superblock that says where the file ends.

use super::Problem;
use super::source::Source;

/// The first bytes of a superblock.
pub const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Where else than at the beginning a superblock is looked for: behind a block of the user, at 512 bytes and each double
/// of that.
pub fn behind_user_block(source: &dyn Source) -> Result<bool, Problem> {
    let mut at = 512u64;
    while at < source.size() {
        let mut magic = [0; 8];
        if source.read_at(at, &mut magic)? == 8 && magic == MAGIC {
            return Ok(true);
        }
        at = at.saturating_mul(2);
    }
    Ok(false)
}

/// Validates the superblock at the beginning.
pub fn validate(source: &dyn Source) -> Result<(), Problem> {
    let mut block = [0; 64];
    let count = source.read_at(0, &mut block)?;
    let block = &block[..count];
    let byte = |at: usize| block.get(at).copied().ok_or("it ends within its superblock");
    let version = byte(8)?;
    let (offset_bytes, base, end) = match version {
        0 => (byte(13)?, 24, 40),
        1 => (byte(13)?, 28, 44),
        2 | 3 => (byte(9)?, 12, 28),
        _ => return Err(format!("its superblock has version {version}; versions 0 to 3 are known").into()),
    };
    if offset_bytes != 8 {
        return Err(format!("its offsets have {offset_bytes} bytes, not 8").into());
    }
    let number = |at: usize| {
        let bytes = block.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or("it ends within its superblock")
    };
    let (base, end) = (number(base)?, number(end)?);
    if base != 0 || end != source.size() {
        return Err(format!("it says that it goes from byte {base} to {end}, the file has {}", source.size()).into());
    }
    Ok(())
}
