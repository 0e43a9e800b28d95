//! Exit codes. They are part of the interface: a number is never given another meaning.

/// Everything was verified. Nothing else ends with 0.
pub const VERIFIED: u8 = 0;
/// The arguments are wrong; nothing was looked at.
pub const USAGE: u8 = 10;
/// The manifest is not there or cannot be read.
pub const MANIFEST_MISSING: u8 = 11;
/// The manifest cannot be parsed, or contradicts itself.
pub const MANIFEST_INVALID: u8 = 12;
/// The manifest is not the one that the digest pins.
pub const DIGEST_MISMATCH: u8 = 13;
/// The signature is not there or cannot be read.
pub const SIGNATURE_MISSING: u8 = 14;
/// The signature is no bundle of OMS v1.0, contradicts itself, is not of what it says, or is of other files.
pub const SIGNATURE_INVALID: u8 = 15;
/// The signature is sound, but by none of the authorities that the artifact trusts.
pub const UNTRUSTED_SIGNER: u8 = 16;
/// The signature was made in a way that the artifact does not allow.
pub const SIGNED_LOOSELY: u8 = 17;
/// A file has another content or size than the manifest says, or changed while it was read.
pub const CONTENT_MISMATCH: u8 = 20;
/// There is a file that the manifest does not list.
pub const EXTRA_FILE: u8 = 21;
/// A file that the manifest lists is not there, or has another name.
pub const MISSING_FILE: u8 = 22;
/// Something is there that may not be part of an artifact: a link, a device, a FIFO, a socket, a mount, a name that is not
/// UTF-8, a loop of directories.
pub const REFUSED_TYPE: u8 = 23;
/// A file is of a format that the artifact does not allow, or is not what it claims to be.
pub const FORMAT: u8 = 24;
/// Re-verification found that what was verified before is so no longer.
pub const DRIFT: u8 = 25;
/// The directory is not laid out as the artifact says: a revision that is not there, links that lead elsewhere.
pub const LAYOUT: u8 = 26;
/// Something could not be read, so that nothing can be said of it.
pub const UNREADABLE: u8 = 30;
/// `digest` only: there are more files than `--max-files` allows.
pub const TOO_MANY_FILES: u8 = 31;
/// The result could not be written.
pub const OUTPUT: u8 = 32;
/// Ended by SIGINT before it was done.
pub const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM before it was done.
pub const TERMINATED: u8 = 143;
