//! A manifest in shards: files of a directory that Weightlock mounts beside the volume.
//!
//! The directory is a volume of ConfigMaps, in which kubelets make every file a link into a directory of one version.
//! These links are followed, here and nowhere else: whatever they lead to, only the text that the digest pins passes.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open as open_at};

use super::beneath::file_type;
use super::finding::Reason;

/// Most shards of one manifest, as in the definition of WeightManifest.
pub const MAX_SHARDS: usize = 64;
/// Most bytes of a shard: what a ConfigMap takes.
pub const MAX_SHARD_BYTES: u64 = 1 << 20;

/// Why there is no manifest in a directory.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// The directory cannot be listed.
    #[error("the directory of the manifest cannot be read: {0}")]
    Directory(io::Error),
    /// It holds something else.
    #[error("{0:?} is no shard: the directory of the manifest holds files 0, 1, 2 and so on, at most {MAX_SHARDS}")]
    Name(String),
    /// A shard between others is not there, or all are.
    #[error("shard {0} is missing in the directory of the manifest")]
    Missing(usize),
    /// A shard cannot be opened, or is no regular file.
    #[error("shard {shard} cannot be read: {problem}")]
    Unreadable {
        /// Its number.
        shard: usize,
        /// What is wrong.
        problem: String,
    },
    /// A shard is larger than any.
    #[error("shard {0} has more than {MAX_SHARD_BYTES} bytes")]
    TooLarge(usize),
}

impl ShardsError {
    /// The reason under which it is reported.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Directory(_) | Self::Missing(_) | Self::Unreadable { .. } => Reason::ManifestMissing,
            Self::Name(_) | Self::TooLarge(_) => Reason::ManifestInvalid,
        }
    }
}

/// The text of the manifest: the shards of a directory, one after the other.
///
/// # Errors
/// Where the directory holds anything but shards `0` to the last without a gap, of which each is a readable regular file.
pub fn open(directory: &Path) -> Result<impl Read, ShardsError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(ShardsError::Directory)? {
        let name = entry.map_err(ShardsError::Directory)?.file_name();
        // What kubelets keep the versions of a volume in.
        if name.as_encoded_bytes().starts_with(b"..") {
            continue;
        }
        let number = name.to_str().and_then(number).ok_or_else(|| ShardsError::Name(name.to_string_lossy().into()))?;
        numbers.push(number);
    }
    numbers.sort_unstable();
    let gap = numbers.iter().enumerate().find(|(position, number)| position != *number).map(|(position, _)| position);
    if let Some(missing) = gap.or_else(|| numbers.is_empty().then_some(0)) {
        return Err(ShardsError::Missing(missing));
    }
    let mut text = Vec::new();
    for shard in numbers {
        read(directory.join(shard.to_string()), shard, &mut text)?;
    }
    Ok(io::Cursor::new(text))
}

/// A number as shards are named: decimal, without leading zeros.
fn number(name: &str) -> Option<usize> {
    let number: usize = name.parse().ok().filter(|number| *number < MAX_SHARDS)?;
    (number.to_string() == name).then_some(number)
}

fn read(path: PathBuf, shard: usize, text: &mut Vec<u8>) -> Result<(), ShardsError> {
    let unreadable = |problem: String| ShardsError::Unreadable { shard, problem };
    // Without waiting for a writer, should it be a FIFO.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = open_at(path, flags, Mode::empty()).map_err(|error| unreadable(error.to_string()))?;
    let stat = fstat(&file).map_err(|error| unreadable(error.to_string()))?;
    if file_type(&stat) != FileType::RegularFile {
        return Err(unreadable("it is no regular file".into()));
    }
    let mut limited = std::fs::File::from(file).take(MAX_SHARD_BYTES + 1);
    limited.read_to_end(text).map_err(|error| unreadable(error.to_string()))?;
    if limited.limit() == 0 {
        return Err(ShardsError::TooLarge(shard));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory as kubelets make it of ConfigMaps.
    fn volume(shards: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("..2026")).unwrap();
        symlink("..2026", dir.path().join("..data")).unwrap();
        for (name, text) in shards {
            std::fs::write(dir.path().join("..2026").join(name), text).unwrap();
            symlink(Path::new("..data").join(name), dir.path().join(name)).unwrap();
        }
        dir
    }

    fn text(dir: &Path) -> Result<String, ShardsError> {
        let mut text = String::new();
        open(dir)?.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn shards_are_read_in_the_order_of_their_numbers() {
        let names: Vec<String> = (0..12).map(|number| number.to_string()).collect();
        let shards: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        assert_eq!(text(volume(&shards).path()).unwrap(), "01234567891011");
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let missing = Reason::ManifestMissing;
        let invalid = Reason::ManifestInvalid;
        let large = "x".repeat((1 << 20) + 1);
        for (shards, reason, message) in [
            (vec![], missing, "shard 0 is missing"),
            (vec![("1", "a")], missing, "shard 0 is missing"),
            (vec![("0", "a"), ("2", "b")], missing, "shard 1 is missing"),
            (vec![("0", "a"), ("00", "b")], invalid, "\"00\" is no shard"),
            (vec![("0", "a"), ("64", "b")], invalid, "\"64\" is no shard"),
            (vec![("0", "a"), ("extra", "b")], invalid, "\"extra\" is no shard"),
            (vec![("0", &*large)], invalid, "shard 0 has more than 1048576 bytes"),
        ] {
            let error = text(volume(&shards).path()).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().starts_with(message), "{error}");
        }
        let error = text(Path::new("/none")).unwrap_err();
        assert_eq!(error.reason(), missing);
        let dir = volume(&[]);
        std::fs::create_dir(dir.path().join("0")).unwrap();
        assert_eq!(text(dir.path()).unwrap_err().to_string(), "shard 0 cannot be read: it is no regular file");
        let dir = volume(&[]);
        symlink("nowhere", dir.path().join("0")).unwrap();
        assert_eq!(text(dir.path()).unwrap_err().reason(), missing);
    }
}
