//! What a manifest may hold, and how much.

use super::ManifestError;

/// Most bytes a manifest may have.
pub const MAX_BYTES: u64 = 256 << 20;
/// Most files a manifest may list, and most digests where files have several.
pub const MAX_FILES: usize = 1_000_000;
/// Most bytes that the paths of a manifest may add up to: so many, and so many more for each file. It bounds the memory that
/// a manifest takes.
pub const MAX_PATHS_BYTES: (u64, u64) = (8 << 20, 80);
/// Fewest bytes of a shard.
pub const MIN_SHARD_BYTES: u64 = 1 << 20;
/// Most bytes of a shard.
pub const MAX_SHARD_BYTES: u64 = 1 << 50;
/// Most bytes a path may have, as in Linux.
pub const MAX_PATH_BYTES: usize = 4095;
/// Most bytes one step of a path may have, as in Linux.
pub const MAX_STEP_BYTES: usize = 255;

/// What a manifest may take, counted while it grows.
#[derive(Clone, Default)]
pub struct Bounds {
    files: usize,
    digests: u64,
    paths: u64,
}

impl Bounds {
    /// Adds a file; an error if that is one too many.
    pub fn add(&mut self, path: usize, digests: u64) -> Result<(), ManifestError> {
        self.files += 1;
        self.digests = self.digests.saturating_add(digests.max(1));
        self.paths += path as u64;
        if self.digests > MAX_FILES as u64 {
            return Err(ManifestError::TooManyFiles);
        }
        let (flat, each) = MAX_PATHS_BYTES;
        if self.paths > flat + each * self.files as u64 {
            return Err(ManifestError::LongPaths { files: self.files, bytes: self.paths });
        }
        Ok(())
    }
}

/// Checks the size of a shard.
pub fn check_shard_size(size: Option<u64>) -> Result<(), ManifestError> {
    match size {
        Some(size) if !(MIN_SHARD_BYTES..=MAX_SHARD_BYTES).contains(&size) => Err(ManifestError::Hashing(format!(
            "shardSize is {size}: it must be at least {MIN_SHARD_BYTES} and at most {MAX_SHARD_BYTES} bytes"
        ))),
        _ => Ok(()),
    }
}

/// Checks that a path stays where it is put: relative, with no empty, `.` or `..` step, no NUL, and no longer than Linux takes.
pub fn check_path(path: &str) -> Result<(), ManifestError> {
    let problem = if path.is_empty() {
        "is empty"
    } else if path.starts_with('/') {
        "is absolute: it must be relative to the directory of the artifact"
    } else if path.contains('\0') {
        "has a NUL in it"
    } else if path.len() > MAX_PATH_BYTES {
        "is longer than 4095 bytes"
    } else if path.split('/').any(|step| step.is_empty()) {
        "has an empty step"
    } else if path.split('/').any(|step| matches!(step, "." | "..")) {
        "has a '.' or '..' step"
    } else if path.split('/').any(|step| step.len() > MAX_STEP_BYTES) {
        "has a step longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(ManifestError::Path { path: path.into(), problem })
}
