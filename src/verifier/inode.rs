//! What the kernel says of a file, and how it is noticed that it says something else later.

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Stat, Statx, StatxFlags, StatxTimestamp, fstat, fstatfs, makedev, statat, statx};
use rustix::io::Errno;

/// File systems in user space may forget a file and give it another number when it is looked up again.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Seconds and nanoseconds since 1970.
pub type Timestamp = (i64, u32);

/// What the kernel says of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Device of the file system.
    pub device: u64,
    /// Number of the inode.
    pub number: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Number of names.
    pub links: u64,
    /// Length in bytes.
    pub size: u64,
    /// When the content was last changed.
    pub modified: Timestamp,
    /// When the inode was last changed: not even its owner can set it.
    pub changed: Timestamp,
    /// When the inode was made, where the file system keeps it: it tells an inode from a later one of the same number, as
    /// its generation does.
    pub born: Option<Timestamp>,
}

impl Inode {
    /// Of an open file.
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        let file = file.as_fd();
        match statx(file, "", AtFlags::EMPTY_PATH, wanted()) {
            Ok(found) => Ok(found.into()),
            Err(Errno::NOSYS | Errno::PERM) => fstat(file).map(Into::into),
            Err(error) => Err(error),
        }
    }

    /// Of an entry of a directory; a link is not followed.
    pub fn at(directory: BorrowedFd<'_>, name: &str) -> Result<Self, Errno> {
        match statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted()) {
            Ok(found) => Ok(found.into()),
            // gVisor and seccomp profiles older than Linux 4.11 do not have statx.
            Err(Errno::NOSYS | Errno::PERM) => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(Into::into),
            Err(error) => Err(error),
        }
    }

    /// The type of the file.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

impl From<Statx> for Inode {
    fn from(found: Statx) -> Self {
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let born = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            number: found.stx_ino,
            mode: found.stx_mode.into(),
            links: found.stx_nlink.into(),
            size: found.stx_size,
            modified: time(found.stx_mtime),
            changed: time(found.stx_ctime),
            born: born.then(|| time(found.stx_btime)),
        }
    }
}

impl From<Stat> for Inode {
    // The types of these fields differ between architectures.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    fn from(found: Stat) -> Self {
        Self {
            device: found.st_dev.into(),
            number: found.st_ino.into(),
            mode: found.st_mode.into(),
            links: found.st_nlink.into(),
            size: u64::try_from(found.st_size).unwrap_or(0),
            modified: (found.st_mtime as i64, found.st_mtime_nsec as u32),
            changed: (found.st_ctime as i64, found.st_ctime_nsec as u32),
            born: None,
        }
    }
}

/// What a file was like when it was seen, in the least memory: eight bytes, under a key that nobody knows who could arrange
/// for two states to have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Makes fingerprints that can be compared with each other.
#[derive(Clone, Debug)]
pub struct Fingerprints {
    key: RandomState,
    numbers: bool,
}

impl Fingerprints {
    /// For the files of the file system that this is open on.
    pub fn new(root: BorrowedFd<'_>) -> Self {
        // Where it cannot be told, numbers count: at worst something is refused that was not changed.
        let fuse = fstatfs(root).is_ok_and(|found| found.f_type as u64 == FUSE_MAGIC);
        Self { key: RandomState::new(), numbers: !fuse }
    }

    /// The fingerprint of a file.
    pub fn of(&self, inode: &Inode) -> Fingerprint {
        let number = self.numbers.then_some((inode.number, inode.born));
        let Inode { device, mode, size, modified, changed, .. } = inode;
        Fingerprint(self.key.hash_one((device, number, mode, size, modified, changed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_system_calls_say_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let one = Inode::of(file.as_file()).unwrap();
        let other: Inode = fstat(file.as_file()).unwrap().into();
        assert_eq!(Inode { born: None, ..one.clone() }, other);
        assert_eq!((one.size, one.links, one.file_type()), (3, 1, FileType::RegularFile));
    }

    #[test]
    fn every_change_of_a_file_is_a_change_of_its_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let prints = Fingerprints::new(root.as_fd());
        let seen = |name: &str| prints.of(&Inode::at(root.as_fd(), name).unwrap());
        let path = dir.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        let first = seen("f");
        assert_eq!(seen("f"), first);

        // The same content, the same times, another inode.
        let times = std::fs::FileTimes::new().set_modified(std::fs::metadata(&path).unwrap().modified().unwrap());
        std::fs::write(dir.path().join("g"), "abc").unwrap();
        std::fs::File::options().write(true).open(dir.path().join("g")).unwrap().set_times(times).unwrap();
        std::fs::rename(dir.path().join("g"), &path).unwrap();
        let replaced = seen("f");
        assert_ne!(replaced, first);

        // The content is written again and its time set back: the time of the inode cannot be.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, b"abd").unwrap();
        file.set_times(times).unwrap();
        assert_ne!(seen("f"), replaced);
    }
}
