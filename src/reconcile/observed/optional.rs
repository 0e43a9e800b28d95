//! Objects of kinds that a cluster may not have, or whose reading may not be allowed.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    runtime::{
        reflector::{Store, store::Writer as StoreWriter},
        watcher::{self, watcher},
    },
};
use tokio::sync::watch;

/// When it is looked again whether the cluster has the kind.
const NOT_SERVED: Duration = Duration::from_secs(20);

/// The objects of such a kind.
#[derive(Clone)]
pub struct Optional {
    store: Store<DynamicObject>,
    served: Arc<AtomicBool>,
}

impl Optional {
    /// The objects; `None`: the cluster does not have the kind.
    pub fn served(&self) -> Option<&Store<DynamicObject>> {
        self.served.load(Ordering::Acquire).then_some(&self.store)
    }
}

/// What keeps such objects up.
pub(super) struct Keeper {
    writer: StoreWriter<DynamicObject>,
    served: Arc<AtomicBool>,
    unlisted: Option<Arc<AtomicUsize>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Keeper {
    /// The objects, and what keeps them up. `unlisted` counts them until it is known whether the cluster has them.
    pub(super) fn of(
        resource: ApiResource,
        unlisted: &Arc<AtomicUsize>,
        changed: &Arc<watch::Sender<u64>>,
    ) -> (Optional, Self) {
        let writer = StoreWriter::new(resource);
        let optional = Optional { store: writer.as_reader(), served: Arc::default() };
        unlisted.fetch_add(1, Ordering::Relaxed);
        let served = optional.served.clone();
        (optional, Self { writer, served, unlisted: Some(unlisted.clone()), changed: changed.clone() })
    }

    /// Keeps them up. It never ends by itself.
    pub(super) async fn run(mut self, api: Api<DynamicObject>, config: watcher::Config) {
        loop {
            // A watch that once began is not listed again when the kind is gone, so it is begun anew.
            let mut events = pin!(watcher(api.clone(), config.clone()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        self.writer.apply_watcher_event(&event);
                        match event {
                            watcher::Event::InitDone => self.found(true),
                            _ => self.changed.send_modify(|version| *version += 1),
                        }
                    }
                    Err(error) if is_missing(&error) => {
                        self.found(false);
                        break;
                    }
                    // What was known stays; nothing waits for a kind that may not be there.
                    Err(_) => {
                        self.looked();
                        tokio::time::sleep(super::PAUSE).await;
                    }
                }
            }
            tokio::time::sleep(NOT_SERVED).await;
        }
    }

    fn found(&mut self, served: bool) {
        let before = self.served.swap(served, Ordering::AcqRel);
        self.looked();
        if served || before {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    fn looked(&mut self) {
        if let Some(unlisted) = self.unlisted.take() {
            unlisted.fetch_sub(1, Ordering::Release);
            self.changed.send_modify(|version| *version += 1);
        }
    }
}

/// Whether the kind cannot be read at all: it is not there, or its reading is not allowed.
fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => [401, 403, 404, 405].contains(&status.code),
        _ => false,
    }
}
