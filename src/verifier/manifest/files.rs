//! The files of a list, in little memory.

use std::fmt;

use super::super::texts::Texts;
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

/// Files in any order, in bounds.
#[derive(Clone, Default)]
pub struct Files {
    paths: Texts,
    sizes: Vec<u64>,
    bounds: Bounds,
}

impl Files {
    /// Adds a file that has so many digests.
    ///
    /// # Errors
    /// If it is one too many, or paths are too long in all.
    pub fn push(&mut self, path: &str, size: u64, digests: u64) -> Result<(), ManifestError> {
        self.bounds.add(path.len(), digests)?;
        self.paths.push(path);
        self.sizes.push(size);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The one at this index.
    pub fn at(&self, index: usize) -> File<'_> {
        File { path: self.paths.get(index).unwrap_or_default(), size: self.sizes[index] }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = File<'_>> {
        self.paths.iter().zip(&self.sizes).map(|(path, size)| File { path, size: *size })
    }

    /// Sorts them by the bytes of their paths. Returns for each where it was, unless they were sorted before.
    pub fn sort(&mut self) -> Option<Vec<u32>> {
        if self.paths.iter().is_sorted() {
            return None;
        }
        let mut order: Vec<u32> = (0..).take(self.len()).collect();
        order.sort_unstable_by_key(|index| self.at(*index as usize).path);
        rearrange(order.clone(), &mut |one, other| {
            self.paths.swap(one, other);
            self.sizes.swap(one, other);
        });
        Some(order)
    }

    /// Index of the file with that path, if they are sorted.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.paths.find(path)
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
