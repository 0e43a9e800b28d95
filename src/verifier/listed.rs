//! The files of a list as what is hashed.

use std::marker::PhantomData;

use super::algorithm::Hashing;
use super::hash::Resource;
use super::inode::Fingerprint;
use super::manifest::starts;
use super::pool::Resources;

/// The files of a list as resources: one for each, or one for each of its shards.
pub(super) struct Listed<'a, F> {
    hashing: Hashing,
    /// The number of the first shard of each file; empty where files are hashed whole.
    starts: Vec<u32>,
    count: usize,
    file: F,
    paths: PhantomData<&'a str>,
}

impl<'a, F: Fn(usize) -> (&'a str, u64, Option<Fingerprint>)> Listed<'a, F> {
    pub(super) fn new(hashing: Hashing, files: usize, file: F) -> Self {
        let (starts, count) = match hashing.shard_size {
            None => (Vec::new(), files),
            Some(_) => starts(hashing, (0..files).map(|index| file(index).1)),
        };
        Self { hashing, starts, count, file, paths: PhantomData }
    }

    /// The file and the shard of the resource at this index.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        if self.starts.is_empty() {
            return (index, 0);
        }
        // Of files that begin at the same number, the last is the one that has a shard.
        let file = self.starts.partition_point(|start| *start as usize <= index).saturating_sub(1);
        (file, index - self.starts[file] as usize)
    }
}

impl<'a, F: Fn(usize) -> (&'a str, u64, Option<Fingerprint>) + Sync> Resources for Listed<'a, F> {
    fn count(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Resource<'_> {
        let (file, shard) = self.place(index);
        let (path, size, listed) = (self.file)(file);
        self.hashing.resource(path, size, shard as u64, listed)
    }
}
