//! One watch per kind, for ever.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};

use super::fold::{self, Fold, Folded};
use super::{Index, Kind, PAGE, Scope};
use crate::api::{WeightArtifact, WeightEnvironment, WeightIncident};

/// How long a failed watch waits at first, and at most, before it is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// When it is looked again whether the cluster has a kind that it may not have.
const NOT_SERVED: Duration = Duration::from_secs(20);
/// How many events that are already there are folded in one step.
const BATCH: usize = 512;

/// Runs the watches of a scope. It never ends by itself.
pub(super) fn run(index: Index, client: Client, scope: Scope) -> impl Future<Output = ()> + Send + 'static {
    let watches: Vec<BoxFuture<'static, ()>> = scope
        .kinds()
        .iter()
        .map(|kind| {
            let (index, client) = (index.clone(), client.clone());
            match kind {
                Kind::Node => objects::<fold::NodeObject, Node>(index, client).boxed(),
                Kind::Artifact => objects::<fold::ArtifactObject, WeightArtifact>(index, client).boxed(),
                Kind::Environment => objects::<fold::EnvironmentObject, WeightEnvironment>(index, client).boxed(),
                Kind::Namespace => namespaces(index, client).boxed(),
                Kind::Claim => objects::<fold::ClaimObject, PersistentVolumeClaim>(index, client).boxed(),
                Kind::Volume => objects::<fold::VolumeObject, PersistentVolume>(index, client).boxed(),
                Kind::Incident => objects::<fold::IncidentObject, WeightIncident>(index, client).boxed(),
                Kind::Pod => objects::<fold::PodObject, Pod>(index, client).boxed(),
                Kind::Snapshot => watched::<fold::SnapshotObject>(index, client, snapshots()).boxed(),
            }
        })
        .collect();
    async move {
        futures::future::join_all(watches).await;
    }
}

/// Watches whole objects, untyped: one that does not have the shape of its type must not end the watch.
async fn objects<T: Folded, K: Resource<DynamicType = ()>>(index: Index, client: Client) {
    watched::<T>(index, client, ApiResource::erase::<K>(&())).await;
}

async fn watched<T: Folded>(index: Index, client: Client, resource: ApiResource) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    follow::<T>(index, watcher(api, watcher::Config::default().page_size(PAGE))).await;
}

/// The contents of snapshots: a kind that comes with the snapshot controller.
pub(super) fn snapshots() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", fold::SnapshotObject::KIND))
}

/// Whether the API server does not have the kind. Of a group that is not there it says so in plain text, without a reason.
pub(super) fn not_served(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Watches namespaces by their metadata alone.
async fn namespaces(index: Index, client: Client) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let events = watcher(api, watcher::Config::default()).map(|event| {
        event.map(|event| match event {
            Event::Apply(o) => Event::Apply(bare(o)),
            Event::Delete(o) => Event::Delete(bare(o)),
            Event::InitApply(o) => Event::InitApply(bare(o)),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        })
    });
    follow::<fold::NamespaceObject>(index, events).await;
}

fn bare(object: PartialObjectMeta<Namespace>) -> DynamicObject {
    DynamicObject { types: None, metadata: object.metadata, data: Default::default() }
}

/// Folds a stream of events; after an error it waits before the watch is tried again. What was known stays in force.
async fn follow<T: Folded>(
    index: Index,
    events: impl futures::Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Send,
) {
    let mut fold = Fold::<T>::new();
    // What is parsed is let go before the next is looked at.
    let events = events.map(|event| event.map(fold::converted::<T>));
    let mut events = pin!(events.ready_chunks(BATCH));
    let mut pause = PAUSE.0;
    while let Some(chunk) = events.next().await {
        let mut good = Vec::with_capacity(chunk.len());
        let mut failed = None;
        for event in chunk {
            match event {
                Ok(event) => good.push(event),
                Err(error) => failed = Some(error),
            }
        }
        // A listing starts anew at each attempt, so that one begins is no sign that the API server is well again.
        if good.iter().any(|event| !matches!(event, Event::Init)) {
            pause = PAUSE.0;
        }
        index.fold(&mut fold, good);
        let missing = matches!(&failed, Some(watcher::Error::InitialListFailed(error)) if not_served(error));
        if T::OPTIONAL && missing {
            index.fold(&mut fold, vec![Event::Init, Event::InitDone]);
            tokio::time::sleep(NOT_SERVED).await;
        } else if let Some(error) = failed {
            index.count_watch_error(T::KIND);
            tracing::warn!(kind = T::KIND, %error, retry_after = ?pause, "watch failed; what was known stays in force");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}
