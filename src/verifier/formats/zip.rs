//! Zip archives, read strictly: one archive, from the first byte to the last, in which both directories agree.

use std::io;

use super::Problem;
use super::source::{Reader, Source};

/// Most members.
const MAX_MEMBERS: u64 = 100_000;
/// Longest name in bytes.
const MAX_NAME: u16 = 4096;
const END: u32 = 0x0605_4b50;
const END_BYTES: u64 = 22;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;

/// How a member is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As it is.
    Stored,
    /// Compressed with DEFLATE.
    Deflated,
    /// In a way that is not read here.
    Other,
}

/// One member.
#[derive(Debug)]
pub struct Member {
    /// Its name; empty if that is not UTF-8.
    pub name: String,
    /// How it is stored.
    pub method: Method,
    /// Where its bytes begin.
    pub start: u64,
    /// How many bytes it takes in the archive.
    pub stored: u64,
}

/// Where the end record of an archive is, if one is found from the end of the source, as every reader looks for it. Random
/// bytes hold no signature of a directory where such a record says that it is.
pub fn end_record(source: &dyn Source) -> io::Result<Option<u64>> {
    let start = source.size().saturating_sub(END_BYTES + u64::from(u16::MAX));
    let mut tail = vec![0; usize::try_from(source.size() - start).unwrap_or(0)];
    let count = source.read_at(start, &mut tail)?;
    tail.truncate(count);
    let Some(last) = tail.len().checked_sub(END_BYTES as usize) else { return Ok(None) };
    for at in (0..=last).rev().filter(|at| tail[*at..].starts_with(&END.to_le_bytes())) {
        let number = |from: usize| {
            let bytes: [u8; 4] = tail[at + from..at + from + 4].try_into().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        let (bytes, offset, end) = (number(12), number(16), start + at as u64);
        let (directory, signature) = match (bytes, offset) {
            (u32::MAX, _) | (_, u32::MAX) => (end.checked_sub(20), LOCATOR64),
            // An empty archive.
            (0, 0) if end == 0 => return Ok(Some(end)),
            (bytes, _) => (end.checked_sub(u64::from(bytes)), CENTRAL),
        };
        let mut found = [0; 4];
        if let Some(directory) = directory
            && source.read_at(directory, &mut found)? == 4
            && u32::from_le_bytes(found) == signature
        {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

fn malformed(what: &str) -> Problem {
    format!("it is a zip archive of which {what}").into()
}

struct Numbers<'a>(Reader<'a>);

impl Numbers<'_> {
    fn u16(&mut self) -> Result<u16, Problem> {
        Ok(u16::from_le_bytes(self.0.array()?.ok_or_else(|| malformed("a record is cut short"))?))
    }
    fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.0.array()?.ok_or_else(|| malformed("a record is cut short"))?))
    }
    fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.0.array()?.ok_or_else(|| malformed("a record is cut short"))?))
    }
    fn skip(&mut self, bytes: u64) -> Result<(), Problem> {
        if self.0.skip(bytes) { Ok(()) } else { Err(malformed("a record is cut short")) }
    }
    fn bytes(&mut self, count: u16) -> Result<Vec<u8>, Problem> {
        if count > MAX_NAME {
            return Err(malformed("a name is too long"));
        }
        let mut bytes = vec![0; usize::from(count)];
        if self.0.fill(&mut bytes)? { Ok(bytes) } else { Err(malformed("a record is cut short")) }
    }
}

/// Number of members, and where the central directory begins and ends.
fn directory(source: &dyn Source, end: u64) -> Result<(u64, u64, u64), Problem> {
    let mut at = Numbers(Reader::new(source, end + 10));
    let (members, bytes, offset) = (u64::from(at.u16()?), u64::from(at.u32()?), u64::from(at.u32()?));
    let comment = u64::from(at.u16()?);
    if end + END_BYTES + comment != source.size() {
        return Err(malformed("the end is not the end of the file"));
    }
    let (mut members, mut bytes, mut offset, mut limit) = (members, bytes, offset, end);
    if let Some(locator) = end.checked_sub(20) {
        let mut at = Numbers(Reader::new(source, locator));
        if at.u32()? == LOCATOR64 {
            at.skip(4)?;
            let record = at.u64()?;
            let mut at = Numbers(Reader::new(source, record));
            if record.checked_add(56) != Some(locator) || at.u32()? != END64 {
                return Err(malformed("the zip64 record is not where it is said to be"));
            }
            at.skip(8 + 2 + 2 + 4 + 4 + 8)?;
            (members, bytes, offset, limit) = (at.u64()?, at.u64()?, at.u64()?, record);
        }
    }
    if offset.checked_add(bytes) != Some(limit) {
        return Err(malformed(
            "the directory does not end where the archive ends, or something stands ahead of the archive",
        ));
    }
    Ok((members, offset, limit))
}

struct Entry {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    stored: u64,
    local: u64,
}

fn entry(at: &mut Numbers<'_>) -> Result<Entry, Problem> {
    if at.u32()? != CENTRAL {
        return Err(malformed("the directory holds something that is no entry"));
    }
    at.skip(4)?;
    let (flags, method) = (at.u16()?, at.u16()?);
    at.skip(8)?;
    let (mut stored, plain) = (u64::from(at.u32()?), at.u32()?);
    let (name, extra, comment) = (at.u16()?, at.u16()?, at.u16()?);
    at.skip(8)?;
    let mut local = u64::from(at.u32()?);
    let name = at.bytes(name)?;
    let mut left = u64::from(extra);
    while left >= 4 {
        let (tag, length) = (at.u16()?, u64::from(at.u16()?));
        left = left.checked_sub(4 + length).ok_or_else(|| malformed("an extra field is too long"))?;
        let mut unread = length;
        if tag == 1 {
            let mut next = |wanted: bool| -> Result<Option<u64>, Problem> {
                if !wanted {
                    return Ok(None);
                }
                unread = unread.checked_sub(8).ok_or_else(|| malformed("a zip64 field is too short"))?;
                at.u64().map(Some)
            };
            next(plain == u32::MAX)?;
            stored = next(stored == u64::from(u32::MAX))?.unwrap_or(stored);
            local = next(local == u64::from(u32::MAX))?.unwrap_or(local);
        }
        at.skip(unread)?;
    }
    at.skip(left + u64::from(comment))?;
    Ok(Entry { name, flags, method, stored, local })
}

/// The members of the archive whose end record is at `end`.
pub fn members(source: &dyn Source, end: u64) -> Result<Vec<Member>, Problem> {
    let (count, offset, limit) = directory(source, end)?;
    if count > MAX_MEMBERS {
        return Err(malformed("the members are more than are read"));
    }
    let mut at = Numbers(Reader::new(source, offset));
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(entry(&mut at)?);
    }
    if at.0.position() != limit {
        return Err(malformed("the directory has another length than it says"));
    }
    entries.sort_by_key(|entry| entry.local);
    let (mut covered, mut members) = (0, Vec::new());
    for entry in entries {
        if entry.local != covered {
            return Err(malformed("the members overlap, or leave a gap, or something stands ahead of them"));
        }
        let member = member(source, &entry)?;
        covered = member.start.checked_add(member.stored).ok_or_else(|| malformed("a member is too long"))?;
        covered += descriptor(source, covered, &entry)?;
        members.push(member);
    }
    if covered != offset {
        return Err(malformed("something stands between the members and their directory"));
    }
    Ok(members)
}

fn member(source: &dyn Source, entry: &Entry) -> Result<Member, Problem> {
    let mut at = Numbers(Reader::new(source, entry.local));
    if at.u32()? != LOCAL {
        return Err(malformed("a member is not where the directory says"));
    }
    at.skip(2)?;
    let (flags, method) = (at.u16()?, at.u16()?);
    at.skip(16)?;
    let (name, extra) = (at.u16()?, at.u16()?);
    if at.bytes(name)? != entry.name || method != entry.method || flags & 1 != entry.flags & 1 {
        return Err(malformed("a member and the directory do not agree"));
    }
    at.skip(u64::from(extra))?;
    let method = match (entry.flags & 1, method) {
        (0, 0) => Method::Stored,
        (0, 8) => Method::Deflated,
        _ => Method::Other,
    };
    let name = String::from_utf8(entry.name.clone()).unwrap_or_default();
    Ok(Member { name, method, start: at.0.position(), stored: entry.stored })
}

/// Bytes of the descriptor that may follow a member.
fn descriptor(source: &dyn Source, at: u64, entry: &Entry) -> Result<u64, Problem> {
    if entry.flags & 8 == 0 {
        return Ok(0);
    }
    let mut bytes = [0; 24];
    let count = source.read_at(at, &mut bytes)?;
    let next = |length: usize| -> bool {
        bytes[..count].get(length - 4..).is_some() && {
            let mut signature = [0; 4];
            let read = source.read_at(at + length as u64, &mut signature);
            matches!(read, Ok(4)) && matches!(u32::from_le_bytes(signature), LOCAL | CENTRAL)
        }
    };
    let signed = bytes.starts_with(&DESCRIPTOR.to_le_bytes());
    let lengths: &[usize] = if signed { &[16, 24] } else { &[12, 20] };
    // Writers differ in whether it holds 32 or 64 bits; only one of them leads to the next record.
    match lengths.iter().find(|length| next(**length)) {
        Some(length) => Ok(*length as u64),
        None => Err(malformed("a member is not followed by the next")),
    }
}
