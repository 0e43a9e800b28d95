//! Watch events folded into a world, one kind at a time.

mod kinds;

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use kube::runtime::watcher::Event;

pub(super) use self::kinds::*;
use crate::domain::World;

/// An object of a watched kind, as the world holds it.
pub(super) trait Folded: Sized + Send + 'static {
    /// Kind, as it stands in `World::unsynced` and in metrics.
    const KIND: &'static str;
    /// Whether a cluster may not have the kind at all; then there is none of it.
    const OPTIONAL: bool = false;
    /// What tells one object of the kind from another.
    type Key: Ord + Clone + Send;

    fn convert(object: DynamicObject) -> Self;
    fn key(&self) -> Self::Key;
    /// Whether the world already holds just this.
    fn held(&self, world: &World) -> bool;
    fn put(self, world: &mut World);
    /// Whether it held one that is removed.
    fn remove(world: &mut World, key: &Self::Key) -> bool;
    fn keys(world: &World) -> impl Iterator<Item = &Self::Key>;
    /// Why the object could not be read, where it could not.
    fn problem(&self) -> Option<(&str, &str)> {
        None
    }
}

/// The fold of one kind: what a listing brought so far, until it is complete.
pub(super) struct Fold<T: Folded> {
    listing: Option<Listing<T>>,
}

struct Listing<T: Folded> {
    keys: BTreeSet<T::Key>,
    /// What the world does not hold just so. The rest need not be kept until the end.
    other: Vec<T>,
}

/// What an event did to the world.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folding {
    /// The world changed.
    pub changed: bool,
    /// Objects that could not be read, as name and reason.
    pub unreadable: Vec<(String, String)>,
}

impl<T: Folded> Fold<T> {
    pub(super) fn new() -> Self {
        Self { listing: None }
    }

    /// Folds one event into the world.
    ///
    /// A listing is taken over at once when it is complete; until then the world keeps what it had. The first one is taken over as it
    /// comes, since nothing is decided before it is complete, and what would be kept until then is as large as the world.
    pub(super) fn apply(&mut self, world: &mut World, event: Event<T>) -> Folding {
        let mut folding = Folding::default();
        let first = world.unsynced.contains(T::KIND);
        match event {
            Event::Init => {
                self.listing = None;
                if first {
                    // What an earlier attempt brought.
                    for key in T::keys(world).cloned().collect::<Vec<_>>() {
                        T::remove(world, &key);
                    }
                }
            }
            Event::InitApply(object) => {
                note(&object, &mut folding);
                if first {
                    put(world, object);
                    return folding;
                }
                let listing = self.listing.get_or_insert_with(Listing::default);
                listing.keys.insert(object.key());
                if !object.held(world) {
                    listing.other.push(object);
                }
            }
            Event::InitDone if first => folding.changed = world.unsynced.remove(T::KIND),
            Event::InitDone => {
                let Listing { keys, other } = self.listing.take().unwrap_or_default();
                for object in other {
                    folding.changed |= put(world, object);
                }
                let gone: Vec<T::Key> = T::keys(world).filter(|key| !keys.contains(key)).cloned().collect();
                for key in gone {
                    folding.changed |= T::remove(world, &key);
                }
            }
            Event::Apply(object) => {
                note(&object, &mut folding);
                folding.changed = put(world, object);
            }
            Event::Delete(object) => folding.changed = T::remove(world, &object.key()),
        }
        folding
    }
}

impl<T: Folded> Default for Listing<T> {
    fn default() -> Self {
        Self { keys: BTreeSet::new(), other: Vec::new() }
    }
}

/// An event with its object as the world holds it. What takes time is done here, before the world is locked.
pub(super) fn converted<T: Folded>(event: Event<DynamicObject>) -> Event<T> {
    match event {
        Event::Apply(object) => Event::Apply(T::convert(object)),
        Event::Delete(object) => Event::Delete(T::convert(object)),
        Event::InitApply(object) => Event::InitApply(T::convert(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

fn note<T: Folded>(object: &T, folding: &mut Folding) {
    if let Some((name, reason)) = object.problem() {
        folding.unreadable.push((name.to_owned(), reason.to_owned()));
    }
}

fn put<T: Folded>(world: &mut World, object: T) -> bool {
    if object.held(world) {
        return false;
    }
    object.put(world);
    true
}
