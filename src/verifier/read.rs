//! Reads a range of a file. docs/decisions/0009-reading.md has the measurements behind it.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2, retry_on_intr};

/// Size of the read buffer of a thread in bytes: large enough that the calls cost nothing beside the hash, small enough to
/// stay in the cache of a core.
pub const BUFFER_BYTES: usize = 256 << 10;
/// How far ahead the kernel is asked to read, in bytes.
const WINDOW_BYTES: u64 = 8 << 20;
const PAGE: u64 = 4096;
/// `RWF_DONTCACHE` of Linux: pages that a read brings into the cache leave it again, those that were in it stay.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// What becomes of the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// What was read stays: the server reads it next.
    #[default]
    Keep,
    /// What was not cached before is not cached after, as far as the kernel can tell.
    Spare,
}

/// Why a range could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// A call failed.
    Failed(Errno),
    /// The file ends within the range.
    Truncated,
    /// The file goes on after its end.
    Grew,
}

impl From<Errno> for ReadError {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

/// Bytes per second that all readers together do not exceed.
#[derive(Debug)]
pub struct Pace {
    per_second: NonZeroU64,
    next: Mutex<Instant>,
}

impl Pace {
    /// At most so many bytes per second.
    pub fn new(per_second: NonZeroU64) -> Self {
        Self { per_second, next: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may be read. Time that was not used is not saved up.
    fn wait(&self, bytes: u64) {
        let now = Instant::now();
        let due = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let due = (*next).max(now);
            *next = due + Duration::from_secs_f64(bytes as f64 / self.per_second.get() as f64);
            due
        };
        std::thread::sleep(due.saturating_duration_since(now));
    }

    /// Bytes that are read at once: no more than a tenth of a second's.
    fn step(&self) -> usize {
        usize::try_from(self.per_second.get() / 10).unwrap_or(usize::MAX).clamp(PAGE as usize, BUFFER_BYTES)
    }
}

/// Reads with one buffer.
pub struct Reader<'a> {
    buffer: Vec<u8>,
    /// Where in it the first page begins: to copy to the middle of one costs the kernel several times as much.
    start: usize,
    length: usize,
    cache: Cache,
    dont_cache: bool,
    pace: Option<&'a Pace>,
}

impl<'a> Reader<'a> {
    /// A reader.
    pub fn new(cache: Cache, pace: Option<&'a Pace>) -> Self {
        let length = pace.map_or(BUFFER_BYTES, Pace::step);
        let buffer = vec![0; length + PAGE as usize];
        let start = buffer.as_ptr().align_offset(PAGE as usize).min(PAGE as usize);
        Self { buffer, start, length, cache, dont_cache: cache == Cache::Spare, pace }
    }

    /// Reads the range of a file that had `size` bytes when it was opened, and hands on what it reads, in order.
    pub fn read(
        &mut self,
        file: &OwnedFd,
        range: Range<u64>,
        size: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ReadError> {
        self.advise(file, &range);
        let mut at = range.start;
        let mut ahead = range.start;
        loop {
            let left = range.end.saturating_sub(at);
            if left == 0 {
                return Ok(());
            }
            if self.cache == Cache::Keep && left > BUFFER_BYTES as u64 && at + WINDOW_BYTES / 2 >= ahead {
                // Advice only: where it is not known, reading is as right, and slower.
                let from = ahead.max(at);
                let _ =
                    fadvise(file.as_fd(), from, NonZeroU64::new(WINDOW_BYTES.min(range.end - at)), Advice::WillNeed);
                ahead = from + WINDOW_BYTES;
            }
            // One byte more at the end of the file: it shows that it grew even where its size is cached elsewhere.
            let most = if range.end == size { left.saturating_add(1) } else { left };
            let length = self.length.min(usize::try_from(most).unwrap_or(usize::MAX));
            if let Some(pace) = self.pace {
                pace.wait(length as u64);
            }
            let count = self.fill(file, at, length)?;
            if count == 0 {
                return Err(ReadError::Truncated);
            }
            if count as u64 > left {
                return Err(ReadError::Grew);
            }
            sink(&self.buffer[self.start..self.start + count]);
            at += count as u64;
        }
    }

    fn advise(&self, file: &OwnedFd, range: &Range<u64>) {
        let advice = match self.cache {
            // A file that one call reads needs no advice.
            Cache::Keep if range.end - range.start <= BUFFER_BYTES as u64 => return,
            Cache::Keep => Advice::Sequential,
            // No readahead: nothing is cached but what is asked for.
            Cache::Spare => Advice::Random,
        };
        let _ = fadvise(file.as_fd(), 0, None, advice);
    }

    fn fill(&mut self, file: &OwnedFd, at: u64, length: usize) -> Result<usize, Errno> {
        let buffer = &mut self.buffer[self.start..self.start + length];
        if self.cache == Cache::Keep {
            return retry_on_intr(|| pread(file, &mut *buffer, at));
        }
        if self.dont_cache {
            match retry_on_intr(|| preadv2(file, &mut [IoSliceMut::new(&mut *buffer)], at, DONT_CACHE)) {
                // Linux before 6.14, and file systems that do not know it.
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => self.dont_cache = false,
                done => return done,
            }
        }
        let count = retry_on_intr(|| pread(file, &mut *buffer, at))?;
        // Pages that a process has mapped are kept by the kernel all the same.
        let from = at & !(PAGE - 1);
        let _ = fadvise(file.as_fd(), from, NonZeroU64::new(at + count as u64 - from), Advice::DontNeed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: usize) -> (tempfile::NamedTempFile, Vec<u8>, OwnedFd) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..bytes).map(|at| (at * 7 / 3) as u8).collect();
        std::fs::write(file.path(), &content).unwrap();
        let fd = std::fs::File::open(file.path()).unwrap().into();
        (file, content, fd)
    }

    #[test]
    fn what_is_read_is_what_is_there() {
        let size = 2 * BUFFER_BYTES + 5;
        let (_file, content, fd) = file(size);
        let pace = Pace::new(NonZeroU64::new(1 << 30).unwrap());
        for (cache, pace) in [(Cache::Keep, None), (Cache::Spare, None), (Cache::Spare, Some(&pace))] {
            for range in [0..size, 0..0, 1..size - 1, 4097..BUFFER_BYTES] {
                let mut read = Vec::new();
                let wanted = range.start as u64..range.end as u64;
                let result =
                    Reader::new(cache, pace).read(&fd, wanted, size as u64, &mut |b| read.extend_from_slice(b));
                assert_eq!(result, Ok(()));
                assert!(read == content[range]);
            }
        }
    }

    #[test]
    fn a_file_that_is_shorter_or_longer_than_it_was_is_told() {
        let (_file, _, fd) = file(10);
        let mut reader = Reader::new(Cache::Keep, None);
        assert_eq!(reader.read(&fd, 0..11, 11, &mut |_| {}), Err(ReadError::Truncated));
        assert_eq!(reader.read(&fd, 0..9, 9, &mut |_| {}), Err(ReadError::Grew));
        assert_eq!(reader.read(&fd, 0..9, 10, &mut |_| {}), Ok(()));
    }

    #[test]
    fn the_pace_is_kept() {
        let (_file, _, fd) = file(300_000);
        let pace = Pace::new(NonZeroU64::new(1_000_000).unwrap());
        let started = Instant::now();
        Reader::new(Cache::Spare, Some(&pace)).read(&fd, 0..300_000, 300_000, &mut |_| {}).unwrap();
        // The last tenth is read without waiting for its time to pass.
        assert!(started.elapsed() >= Duration::from_millis(190), "{:?}", started.elapsed());
    }
}
