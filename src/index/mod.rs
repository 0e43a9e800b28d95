//! Watches, folded into a [`World`].
//!
//! What cannot be read stays protected: an artifact that does not parse makes all unregistered storage doubtful (and its
//! last good form stays in force), an environment that does not parse keeps its members and is enforced at its strictest.
//! What was not yet listed is named in [`World::unsynced`].

pub(crate) mod convert;
mod duration;
mod fold;
mod fresh;
mod offline;
pub mod quantity;
#[cfg(test)]
mod size;
#[cfg(test)]
mod tests;
mod watch;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kube::Client;
use kube::runtime::watcher::Event;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

pub use fresh::{Fresh, FreshError};
pub use offline::{IndexError, from_objects, snapshot};

use crate::domain::World;
use crate::domain::world::Settings;

/// How many objects of a listing are parsed at a time. Parsed, a pod of some size takes 200 kB, and what memory was at its
/// highest is not given back to the system.
pub(crate) const PAGE: u32 = 100;

/// What an index is for, and so how much it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Admission: everything but pods and snapshots, which the policies inside the API server look at.
    Webhook,
    /// Reconciliation and audit: those as well, and no nodes.
    Controller,
}

impl Scope {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Scope::Webhook => &Kind::ALL[..7],
            Scope::Controller => &Kind::ALL[1..],
        }
    }
}

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Artifact,
    Environment,
    Namespace,
    Claim,
    Volume,
    Incident,
    Pod,
    Snapshot,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Node,
        Kind::Artifact,
        Kind::Environment,
        Kind::Namespace,
        Kind::Claim,
        Kind::Volume,
        Kind::Incident,
        Kind::Pod,
        Kind::Snapshot,
    ];

    /// Kinds that refusals rest on: while one of them is not listed, nothing that depends on it can be allowed.
    fn decisive() -> impl Iterator<Item = Kind> {
        Self::ALL.into_iter().filter(|kind| *kind != Kind::Node)
    }

    fn name(self) -> &'static str {
        use fold::Folded;
        match self {
            Kind::Node => fold::NodeObject::KIND,
            Kind::Artifact => fold::ArtifactObject::KIND,
            Kind::Environment => fold::EnvironmentObject::KIND,
            Kind::Namespace => fold::NamespaceObject::KIND,
            Kind::Claim => fold::ClaimObject::KIND,
            Kind::Volume => fold::VolumeObject::KIND,
            Kind::Incident => fold::IncidentObject::KIND,
            Kind::Pod => fold::PodObject::KIND,
            Kind::Snapshot => fold::SnapshotObject::KIND,
        }
    }
}

/// The current world, kept up by watches. Clones share it.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
}

struct Shared {
    /// What the watches fold into.
    folded: Mutex<World>,
    /// A copy of it as of the last change, which shares nearly all with it. Readers never wait for a fold.
    world: RwLock<Arc<World>>,
    version: tokio::sync::watch::Sender<u64>,
    unreadable: Family<KindLabel, Counter>,
    watch_errors: Family<KindLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

impl Index {
    /// An index and the future that keeps it up. The future never ends by itself: drop it to stop the watches.
    pub fn start(
        client: Client,
        settings: Settings,
        scope: Scope,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let unsynced = Kind::decisive().filter(|kind| scope.kinds().contains(kind)).map(Kind::name).collect();
        let index = Self::fixed(World { settings, unsynced, ..World::default() });
        let watches = watch::run(index.clone(), client, scope);
        (index, watches)
    }

    /// An index of a world that no watch changes.
    pub fn fixed(mut world: World) -> Self {
        world.look_up();
        Self {
            shared: Arc::new(Shared {
                world: RwLock::new(Arc::new(world.clone())),
                folded: Mutex::new(world),
                version: tokio::sync::watch::Sender::new(0),
                unreadable: Family::default(),
                watch_errors: Family::default(),
            }),
        }
    }

    /// The world as it is now. It does not change in the hands of the caller.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.shared.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether every kind was listed at least once.
    pub fn synced(&self) -> bool {
        self.world().unsynced.is_empty()
    }

    /// A counter that grows with each change of the world.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Adds the metrics of the index to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "weightlock_unreadable_objects",
            "Objects seen that could not be read and are held at their strictest",
            self.shared.unreadable.clone(),
        );
        registry.register(
            "weightlock_watch_errors",
            "Watches and listings that failed and are tried again",
            self.shared.watch_errors.clone(),
        );
    }

    /// Folds events of one kind into the world, in one step for all readers.
    fn fold<T: fold::Folded>(&self, fold: &mut fold::Fold<T>, events: Vec<Event<T>>) {
        let mut changed = false;
        {
            let mut world = self.shared.folded.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                let folding = fold.apply(&mut world, event);
                changed |= folding.changed;
                for (name, reason) in folding.unreadable {
                    tracing::error!(kind = T::KIND, name, reason, "object cannot be read; it is held at its strictest");
                    self.shared.unreadable.get_or_create(&KindLabel { kind: T::KIND }).inc();
                }
            }
            if changed {
                world.look_up();
                // Under the lock of the fold: a copy that is older must not come last.
                let copy = Arc::new(world.clone());
                *self.shared.world.write().unwrap_or_else(PoisonError::into_inner) = copy;
            }
        }
        if changed {
            self.shared.version.send_modify(|version| *version += 1);
        }
    }

    fn count_watch_error(&self, kind: &'static str) {
        self.shared.watch_errors.get_or_create(&KindLabel { kind }).inc();
    }
}
