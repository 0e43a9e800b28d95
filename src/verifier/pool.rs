//! Hashes many resources on all the cores that the container may use.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use blake3::hazmat::ChainingValue;

use super::algorithm::{Algorithm, Digest};
use super::beneath::Beneath;
use super::hash::{HashError, Hasher, Resource};
use super::inode::Fingerprints;
use super::progress::Progress;
use super::read::{Cache, Pace};
use super::subtree;

/// Most threads, whatever the machine has: each has a buffer, and no storage feeds more.
pub const MAX_THREADS: usize = 64;
const STACK_BYTES: usize = 256 << 10;
/// Results that are handed over at once: to wake the receiver for each costs more than to hash a small file.
const BATCH: usize = 64;
/// Batches that wait to be taken.
const BATCHES: usize = 64;
const TICK: Duration = Duration::from_millis(200);
/// From this size on resources are hashed the largest first, so that no thread is left with a large one at the end; below it
/// in the order in which they are listed, which is kinder to disks.
const LARGE_BYTES: u64 = 8 << 20;

/// What is hashed, made when it is asked for.
pub trait Resources: Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// The one at this index.
    fn get(&self, index: usize) -> Resource<'_>;
}

impl Resources for [Resource<'_>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Resource<'_> {
        self[index].clone()
    }
}

/// How it is read.
#[derive(Debug)]
pub struct How {
    threads: usize,
    cache: Cache,
    pace: Option<Pace>,
}

impl Default for How {
    /// As fast as the cores allow that the container may use: its CPU limit and its CPU set.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        Self { threads: threads.min(MAX_THREADS), cache: Cache::Keep, pace: None }
    }
}

impl How {
    /// On so many threads, or as many as there are cores.
    pub fn on(threads: Option<NonZeroUsize>) -> Self {
        let default = Self::default();
        Self { threads: threads.map_or(default.threads, |threads| threads.get().min(MAX_THREADS)), ..default }
    }

    /// What hashes one resource after the other in this way.
    pub fn hasher<'a>(&'a self, root: &'a Beneath, prints: &'a Fingerprints) -> Hasher<'a> {
        Hasher::new(root, prints, self.cache, self.pace.as_ref())
    }

    /// In the background: one thread, at most so many bytes per second, and the page cache is left as it was.
    pub fn background(bytes_per_second: NonZeroU64) -> Self {
        Self { threads: 1, cache: Cache::Spare, pace: Some(Pace::new(bytes_per_second)) }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// Fewer results than resources: what has none was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{results} of {resources} digests were computed")]
pub struct Incomplete {
    /// How many results there were.
    pub results: usize,
    /// How many there should have been.
    pub resources: usize,
}

/// Hashes each resource beneath the root and calls back with its index and its digest, or why it has none, in any order. What
/// is counted as read is added to `progress`. It is an error if not every resource had its result.
pub fn hash_all(
    root: &Beneath,
    prints: &Fingerprints,
    resources: &(impl Resources + ?Sized),
    how: &How,
    progress: &mut Progress<'_>,
    on_result: &mut dyn FnMut(usize, Result<Digest, HashError>),
) -> Result<(), Incomplete> {
    let work = Work {
        root,
        prints,
        resources,
        how,
        order: order(resources),
        queue: Mutex::default(),
        merges: Mutex::default(),
        read: AtomicU64::new(0),
    };
    let before = progress.done();
    let mut results = 0;
    let threads = how.threads.min(work.most_threads()).max(1);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(BATCHES);
        let mut started = 0;
        for _ in 0..threads {
            let (work, sender) = (&work, sender.clone());
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
                let (mut batch, mut last) = (Vec::with_capacity(BATCH), Instant::now());
                // The receiver outlives the threads.
                let send = |batch: &mut Vec<_>| drop(sender.send(std::mem::take(batch)));
                work.run(&mut |index, result| {
                    batch.push((index, result));
                    if batch.len() == BATCH || last.elapsed() >= TICK {
                        send(&mut batch);
                        last = Instant::now();
                    }
                });
                send(&mut batch);
            });
            started += usize::from(thread.is_ok());
        }
        drop(sender);
        if started == 0 {
            // Where no thread can be made, this one does it.
            return work.run(&mut |index, result| {
                on_result(index, result);
                results += 1;
                progress.reach(before + work.read.load(Ordering::Relaxed));
            });
        }
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(batch) => {
                    results += batch.len();
                    batch.into_iter().for_each(|(index, result)| on_result(index, result));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            progress.reach(before + work.read.load(Ordering::Relaxed));
        }
    });
    progress.reach(before + work.read.load(Ordering::Relaxed));
    match resources.count() {
        resources if resources == results => Ok(()),
        resources => Err(Incomplete { results, resources }),
    }
}

/// The large ones first, the largest of them before all; then the others as they are listed.
fn order(resources: &(impl Resources + ?Sized)) -> Vec<u32> {
    let bytes = |index: &u32| {
        let range = resources.get(*index as usize).bytes();
        range.end.saturating_sub(range.start)
    };
    let count = u32::try_from(resources.count()).unwrap_or(u32::MAX);
    let mut large: Vec<u32> = (0..count).filter(|index| bytes(index) >= LARGE_BYTES).collect();
    large.sort_by_key(|index| Reverse(bytes(index)));
    let small = (0..count).filter(|index| bytes(index) < LARGE_BYTES);
    let mut order = Vec::with_capacity(count as usize);
    order.extend(large.iter().copied());
    order.extend(small);
    order
}

/// What is next: a resource by its place in the order, and the subtree within it.
#[derive(Default)]
struct Queue {
    place: usize,
    part: u64,
}

/// A resource of which subtrees are being hashed.
struct Merge {
    values: Vec<ChainingValue>,
    left: u64,
    error: Option<HashError>,
}

struct Work<'a, R: ?Sized> {
    root: &'a Beneath,
    prints: &'a Fingerprints,
    resources: &'a R,
    how: &'a How,
    order: Vec<u32>,
    queue: Mutex<Queue>,
    merges: Mutex<HashMap<u32, Merge>>,
    read: AtomicU64,
}

/// A resource, or a part of one: its index, and the number of the part among how many.
struct Task {
    index: u32,
    part: u64,
    parts: u64,
    part_bytes: u64,
}

/// In how many parts a resource is hashed, and the bytes of each.
fn parts(resource: &Resource<'_>) -> (u64, u64) {
    let Range { start, end } = resource.bytes();
    let length = end.saturating_sub(start);
    match resource.algorithm {
        Algorithm::Sha256 | Algorithm::Blake2b => (1, length),
        Algorithm::Blake3 => {
            let bytes = subtree::bytes(length);
            (length.div_ceil(bytes).max(1), bytes)
        }
    }
}

impl<R: Resources + ?Sized> Work<'_, R> {
    /// How many threads could have something to do.
    fn most_threads(&self) -> usize {
        let mut tasks = 0;
        for index in &self.order {
            tasks += usize::try_from(parts(&self.resources.get(*index as usize)).0).unwrap_or(usize::MAX);
            if tasks >= MAX_THREADS {
                return MAX_THREADS;
            }
        }
        tasks
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let index = *self.order.get(queue.place)?;
        let (parts, part_bytes) = parts(&self.resources.get(index as usize));
        let task = Task { index, part: queue.part, parts, part_bytes };
        queue.part += 1;
        if queue.part >= parts {
            *queue = Queue { place: queue.place + 1, part: 0 };
        }
        Some(task)
    }

    fn run(&self, emit: &mut dyn FnMut(usize, Result<Digest, HashError>)) {
        let mut hasher = self.how.hasher(self.root, self.prints);
        let meter = |bytes| {
            self.read.fetch_add(bytes, Ordering::Relaxed);
        };
        while let Some(task) = self.next() {
            let resource = self.resources.get(task.index as usize);
            if task.parts == 1 {
                emit(task.index as usize, hasher.digest(&resource, &meter));
                continue;
            }
            let range = subtree::range(&resource.bytes(), task.part_bytes, task.part);
            let value = hasher.subtree(&resource, range, &meter);
            if let Some(result) = self.merge(&task, value) {
                emit(task.index as usize, result);
            }
        }
    }

    /// Keeps the value of a subtree; the result, if it was the last of its resource.
    fn merge(&self, task: &Task, value: Result<ChainingValue, HashError>) -> Option<Result<Digest, HashError>> {
        let mut merges = self.merges.lock().unwrap_or_else(PoisonError::into_inner);
        let count = usize::try_from(task.parts).unwrap_or(usize::MAX);
        let merge = merges.entry(task.index).or_insert_with(|| Merge {
            values: vec![ChainingValue::default(); count],
            left: task.parts,
            error: None,
        });
        match value {
            Ok(value) => merge.values[task.part as usize] = value,
            Err(error) => merge.error = merge.error.take().or(Some(error)),
        }
        merge.left -= 1;
        if merge.left > 0 {
            return None;
        }
        let Merge { values, error, .. } = merges.remove(&task.index)?;
        drop(merges);
        match error {
            Some(error) => Some(Err(error)),
            // There are at least two values here, so there is a root.
            None => subtree::root(&values).map(Ok),
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
