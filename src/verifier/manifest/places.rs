//! Which digests of a list of files are those of which file.

use std::ops::Range;

use super::super::algorithm::Hashing;
use super::Files;

/// Which digests are those of which file: all are numbered, file by file, and in a file shard by shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub(super) hashing: Hashing,
    /// The number of the first digest of each file; empty where each file has one.
    starts: Vec<u32>,
    count: usize,
}

impl Places {
    /// Of so many files, by their sizes.
    pub fn new(hashing: Hashing, files: usize, size: impl Fn(usize) -> u64) -> Self {
        if hashing.shard_size.is_none() {
            return Self { hashing, starts: Vec::new(), count: files };
        }
        let mut next = 0;
        let starts = (0..files).map(|index| {
            let start = next;
            // No manifest has more digests than fit: see MAX_FILES.
            next += hashing.digests(size(index)) as u32;
            start
        });
        let starts = starts.collect();
        Self { hashing, starts, count: next as usize }
    }

    /// Of a list of files.
    pub fn of_files(hashing: Hashing, files: &Files) -> Self {
        Self::new(hashing, files.len(), |index| files.at(index).size)
    }

    /// How the files are hashed.
    pub fn hashing(&self) -> Hashing {
        self.hashing
    }

    /// How many digests there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The numbers of the digests of the file at this index.
    pub fn of(&self, index: usize) -> Range<usize> {
        if self.hashing.shard_size.is_none() {
            return index..index + 1;
        }
        let start = |index: usize| self.starts.get(index).map_or(self.count, |start| *start as usize);
        start(index)..start(index + 1)
    }

    /// The file that has the digest of this number, and which of its shards that is.
    pub fn file(&self, number: usize) -> (usize, usize) {
        if self.starts.is_empty() {
            return (number, 0);
        }
        // Of files that begin at the same number, the last is the one that has a shard.
        let file = self.starts.partition_point(|start| *start as usize <= number).saturating_sub(1);
        (file, number - self.starts[file] as usize)
    }
}
