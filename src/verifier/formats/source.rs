//! Bytes that are read where they are needed, a few at a time.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::{pread, retry_on_intr};

/// Content of a known length that can be read anywhere. Nothing here reads more than it was asked for.
pub trait Source {
    /// Length in bytes.
    fn size(&self) -> u64;
    /// Reads into `buffer` at `offset`; fewer bytes than asked for only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Source for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// An open file.
pub struct OpenFile<'a> {
    fd: BorrowedFd<'a>,
    size: u64,
}

impl<'a> OpenFile<'a> {
    /// A file of which the length is known.
    pub fn new(fd: BorrowedFd<'a>, size: u64) -> Self {
        Self { fd, size }
    }
}

impl Source for OpenFile<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        let mut done = 0;
        while done < allowed {
            match retry_on_intr(|| pread(self.fd, &mut buffer[done..allowed], offset + done as u64))? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }
}

/// A part of a source as a source of its own.
pub struct Window<'a> {
    inner: &'a dyn Source,
    start: u64,
    size: u64,
}

impl<'a> Window<'a> {
    /// The part from `start` on, which must lie within the source.
    pub fn new(inner: &'a dyn Source, start: u64, size: u64) -> Self {
        Self { inner, start, size }
    }
}

impl Source for Window<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        self.inner.read_at(self.start.saturating_add(offset), &mut buffer[..allowed])
    }
}

/// How much a [`Reader`] holds.
const HELD: usize = 16 << 10;

/// Reads a source from front to back through a small buffer, and can step over what it need not see.
pub struct Reader<'a> {
    source: &'a dyn Source,
    /// Where the next byte is.
    position: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins.
    start: u64,
}

impl<'a> Reader<'a> {
    /// Begins at an offset.
    pub fn new(source: &'a dyn Source, position: u64) -> Self {
        Self { source, position, buffer: Vec::new(), start: 0 }
    }

    /// Where the next byte is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.source.size().saturating_sub(self.position)
    }

    fn held(&mut self) -> io::Result<&[u8]> {
        let end = self.start + self.buffer.len() as u64;
        if self.position < self.start || self.position >= end {
            self.buffer.resize(HELD, 0);
            let count = self.source.read_at(self.position, &mut self.buffer)?;
            self.buffer.truncate(count);
            self.start = self.position;
        }
        let at = usize::try_from(self.position - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(at..).unwrap_or_default())
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> io::Result<Option<u8>> {
        let next = self.held()?.first().copied();
        self.position += u64::from(next.is_some());
        Ok(next)
    }

    /// Fills the buffer; `false` where fewer bytes are left.
    pub fn fill(&mut self, mut target: &mut [u8]) -> io::Result<bool> {
        while !target.is_empty() {
            let held = self.held()?;
            if held.is_empty() {
                return Ok(false);
            }
            let count = held.len().min(target.len());
            target[..count].copy_from_slice(&held[..count]);
            self.position += count as u64;
            target = &mut target[count..];
        }
        Ok(true)
    }

    /// The next bytes as an array; `None` where fewer are left.
    pub fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok(self.fill(&mut bytes)?.then_some(bytes))
    }

    /// Steps over bytes; `false` where fewer are left.
    pub fn skip(&mut self, bytes: u64) -> bool {
        let possible = bytes <= self.left();
        if possible {
            self.position += bytes;
        }
        possible
    }
}

impl io::Read for Reader<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let held = self.held()?;
        let count = held.len().min(target.len());
        target[..count].copy_from_slice(&held[..count]);
        self.position += count as u64;
        Ok(count)
    }
}
