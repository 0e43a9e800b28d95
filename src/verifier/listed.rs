//! The files of a list as what is hashed.

use std::marker::PhantomData;

use super::algorithm::Hashing;
use super::hash::Resource;
use super::inode::Fingerprint;
use super::manifest::Places;
use super::pool::Resources;

/// The files of a list as resources: one for each, or one for each of its shards.
pub(super) struct Listed<'a, F> {
    places: Places,
    file: F,
    paths: PhantomData<&'a str>,
}

impl<'a, F: Fn(usize) -> (&'a str, u64, Option<Fingerprint>)> Listed<'a, F> {
    pub(super) fn new(hashing: Hashing, files: usize, file: F) -> Self {
        Self { places: Places::new(hashing, files, |index| file(index).1), file, paths: PhantomData }
    }

    /// The file and the shard of the resource at this index.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        self.places.file(index)
    }
}

impl<'a, F: Fn(usize) -> (&'a str, u64, Option<Fingerprint>) + Sync> Resources for Listed<'a, F> {
    fn count(&self) -> usize {
        self.places.count()
    }

    fn get(&self, index: usize) -> Resource<'_> {
        let (file, shard) = self.place(index);
        let (path, size, listed) = (self.file)(file);
        self.places.hashing().resource(path, size, shard as u64, listed)
    }
}
