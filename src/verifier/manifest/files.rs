//! The files of a list, in little memory.

use std::fmt;

use super::{Bounds, ManifestError};

/// One file. Its digests are kept apart, since files with one of 32 bytes and with thousands of 64 bytes shall take no more
/// memory than they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// Path relative to the directory of the artifact, with `/` between its steps.
    pub path: &'a str,
    /// Length in bytes.
    pub size: u64,
}

/// Files in any order, in bounds. Their paths are one text: an allocation for each would take half as much again.
#[derive(Clone, Default)]
pub struct Files {
    text: String,
    entries: Vec<Entry>,
    bounds: Bounds,
}

#[derive(Clone, Copy)]
struct Entry {
    size: u64,
    start: u32,
    length: u32,
}

impl Files {
    /// Adds a file that has so many digests.
    ///
    /// # Errors
    /// If it is one too many, or paths are too long in all.
    pub fn push(&mut self, path: &str, size: u64, digests: u64) -> Result<(), ManifestError> {
        self.bounds.add(path.len(), digests)?;
        // Within the bounds, the text is shorter than 2^32 bytes.
        self.entries.push(Entry { size, start: self.text.len() as u32, length: path.len() as u32 });
        self.text.push_str(path);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The one at this index.
    pub fn at(&self, index: usize) -> File<'_> {
        self.file(&self.entries[index])
    }

    fn file(&self, Entry { size, start, length }: &Entry) -> File<'_> {
        let start = *start as usize;
        File { path: &self.text[start..start + *length as usize], size: *size }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = File<'_>> {
        self.entries.iter().map(|entry| self.file(entry))
    }

    /// Sorts them by the bytes of their paths. Returns for each where it was, unless they were sorted before.
    pub fn sort(&mut self) -> Option<Vec<u32>> {
        if self.iter().is_sorted_by(|a, b| a.path <= b.path) {
            return None;
        }
        let mut order: Vec<u32> = (0..).take(self.len()).collect();
        order.sort_unstable_by(|a, b| self.at(*a as usize).path.cmp(self.at(*b as usize).path));
        rearrange(order.clone(), &mut |one, other| self.entries.swap(one, other));
        Some(order)
    }

    /// Index of the file with that path, if they are sorted.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.entries.binary_search_by(|entry| self.file(entry).path.cmp(path)).ok()
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Files {}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Puts things in an order that says for each place where the thing was that belongs there. `swap` exchanges what is at two
/// places: a copy of all would take as much memory again.
pub fn rearrange(mut order: Vec<u32>, swap: &mut dyn FnMut(usize, usize)) {
    for first in 0..order.len() {
        let mut place = first;
        loop {
            let from = order[place] as usize;
            order[place] = place as u32;
            if from == first {
                break;
            }
            swap(place, from);
            place = from;
        }
    }
}
