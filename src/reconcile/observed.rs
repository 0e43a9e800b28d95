//! The objects that recipes compare with and write the status of, kept up by watches.
//!
//! The index has the declarations as the rules see them; here they are whole, with their resource versions, beside what
//! Weightlock wrote. Each change wakes the reconciler.

mod kept;
mod optional;

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration,
    },
    core::v1::{ConfigMap, Secret},
    networking::v1::NetworkPolicy,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    core::{GroupVersionKind, PartialObjectMeta},
    runtime::{
        reflector::{Lookup, ObjectRef, Store, store::Writer as StoreWriter},
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{apply::ObjectId, error::ReconcileError};
use crate::{
    api::{WeightArtifact, WeightEnvironment, WeightIndex, WeightManifest},
    domain::{
        access, carrier,
        settings::{AUTHORITY_SECRET, SERVING_SECRET, Settings},
    },
    index::{PAGE, convert::grants},
    render::{ENVIRONMENT_LABEL, MANAGED_BY, cluster_network_policy::ClusterNetworkPolicy, report::ClusterReport},
};
use kept::KeptArtifact;
use optional::Keeper;
pub use optional::Optional;

/// How long a failed watch waits before it is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// Stores of what is watched. Cheap to clone.
#[derive(Clone)]
pub struct Observed {
    environments: Store<DynamicObject>,
    artifacts: Store<KeptArtifact>,
    /// NetworkPolicies of everyone, ours among them.
    policies: Store<DynamicObject>,
    /// Roles and ClusterRoles.
    roles: [Store<DynamicObject>; 2],
    /// Their bindings.
    bindings: [Store<DynamicObject>; 2],
    webhooks: Store<DynamicObject>,
    /// ClusterReports of ours.
    pub reports: Optional,
    /// ClusterNetworkPolicies of ours.
    pub admin_tier: Optional,
    /// None: it only tells whether Cilium is there.
    pub cilium: Optional,
    /// Of these the metadata alone: their content may be large.
    manifests: Store<PartialObjectMeta<WeightManifest>>,
    manifest_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// What the API server decides by itself with.
    pub ring: Ring,
    /// Stores whose first listing has not arrived.
    unlisted: Arc<AtomicUsize>,
    changed: Arc<watch::Sender<u64>>,
}

/// The objects of the policies inside the API server that are ours.
#[derive(Clone)]
pub struct Ring {
    /// ValidatingAdmissionPolicies.
    pub policies: Store<DynamicObject>,
    /// Their bindings.
    pub bindings: Store<DynamicObject>,
    /// The shards of the WeightIndex.
    pub shards: Store<DynamicObject>,
}

/// The object of a store that has this name, where names are unique in it.
pub fn by_name(store: &Store<DynamicObject>, name: &str) -> Option<Arc<DynamicObject>> {
    store.find(|object| object.metadata.name.as_deref() == Some(name))
}

impl Observed {
    /// The stores, and the future that keeps them up. It never ends by itself.
    pub fn start(client: &Client, own_namespace: &str) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let changed = Arc::new(watch::Sender::new(0));
        let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        let mut watches: Vec<BoxFuture<'static, ()>> = Vec::new();
        let unlisted = Arc::new(AtomicUsize::new(0));
        let mut store = |resource: ApiResource, config: watcher::Config| {
            let writer = StoreWriter::new(resource.clone());
            let reader = writer.as_reader();
            let api = Api::all_with(client.clone(), &resource);
            unlisted.fetch_add(1, Ordering::Relaxed);
            watches.push(keep(writer, watcher(api, config), resource, unlisted.clone(), changed.clone()).boxed());
            reader
        };
        let environments = store(erase::<WeightEnvironment>(), watcher::Config::default());
        let policies = store(erase::<NetworkPolicy>(), watcher::Config::default());
        let all = watcher::Config::default;
        let roles = [store(erase::<Role>(), all()), store(erase::<ClusterRole>(), all())];
        let bindings = [store(erase::<RoleBinding>(), all()), store(erase::<ClusterRoleBinding>(), all())];
        let webhooks = store(erase::<ValidatingWebhookConfiguration>(), ours.clone());
        let ring = Ring {
            policies: store(erase::<ValidatingAdmissionPolicy>(), ours.clone()),
            bindings: store(erase::<ValidatingAdmissionPolicyBinding>(), ours.clone()),
            shards: store(erase::<WeightIndex>(), ours.clone()),
        };
        let mut optional = |resource: ApiResource| {
            let (objects, keeper) = Keeper::of(resource.clone(), &unlisted, &changed);
            watches.push(keeper.run(Api::all_with(client.clone(), &resource), ours.clone()).boxed());
            objects
        };
        let (reports, admin_tier) = (optional(erase::<ClusterReport>()), optional(erase::<ClusterNetworkPolicy>()));
        let cilium = optional(ApiResource::from_gvk(&GroupVersionKind::gvk("cilium.io", "v2", "CiliumNode")));
        let (artifacts, manifests, manifest_maps) =
            (StoreWriter::default(), StoreWriter::default(), StoreWriter::default());
        let (artifact_store, manifest_store, map_store) =
            (artifacts.as_reader(), manifests.as_reader(), manifest_maps.as_reader());
        unlisted.fetch_add(3, Ordering::Relaxed);
        let api = Api::all_with(client.clone(), &erase::<WeightArtifact>());
        let events = watcher(api, watcher::Config::default().page_size(PAGE)).map(|event| event.map(kept::kept));
        watches.push(keep(artifacts, events, erase::<WeightArtifact>(), unlisted.clone(), changed.clone()).boxed());
        let events = watcher(Api::<PartialObjectMeta<WeightManifest>>::all(client.clone()), watcher::Config::default());
        watches.push(keep(manifests, events, erase::<WeightManifest>(), unlisted.clone(), changed.clone()).boxed());
        let events = watcher(Api::<PartialObjectMeta<ConfigMap>>::all(client.clone()), ours.clone());
        watches.push(keep(manifest_maps, events, erase::<ConfigMap>(), unlisted.clone(), changed.clone()).boxed());
        // Their recipes read them themselves; they only need to be woken.
        watches.push(
            wake::<MutatingWebhookConfiguration>(Api::all(client.clone()), ours.clone(), changed.clone()).boxed(),
        );
        // One watch for each name: the controller has rights on these two Secrets, and on no other.
        for name in [AUTHORITY_SECRET, SERVING_SECRET] {
            let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let secret = Api::namespaced(client.clone(), own_namespace);
            watches.push(wake::<Secret>(secret, named, changed.clone()).boxed());
        }
        let observed = Self {
            environments,
            artifacts: artifact_store,
            policies,
            roles,
            bindings,
            webhooks,
            reports,
            admin_tier,
            cilium,
            manifests: manifest_store,
            manifest_maps: map_store,
            ring,
            unlisted,
            changed,
        };
        (observed, async move {
            futures::future::join_all(watches).await;
        })
    }

    /// A counter that grows with each change.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until everything that is compared with was listed once.
    pub async fn ready(&self) {
        // The stores' own wait_until_ready wakes only one of several waiters.
        let mut changed = self.changed();
        while self.unlisted.load(Ordering::Acquire) > 0 {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The names of all environments.
    pub fn environment_names(&self) -> Vec<String> {
        names(&self.environments)
    }

    /// The names of all artifacts.
    pub fn artifact_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.artifacts.state().iter().filter_map(|artifact| Some(artifact.name()?.into_owned())).collect();
        names.sort();
        names
    }

    /// An environment as it is stored; `None` if there is no such object.
    pub fn environment(&self, name: &str) -> Option<Arc<DynamicObject>> {
        self.environments.get(&ObjectRef::new_with(name, erase::<WeightEnvironment>()))
    }

    /// An artifact as it is stored; `None` if there is no such object.
    pub fn artifact(&self, name: &str) -> Option<DynamicObject> {
        Some(self.artifacts.get(&ObjectRef::new(name))?.unpack())
    }

    /// A NetworkPolicy of ours.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        let found = self.policies.get(&ObjectRef::new_with(name, erase::<NetworkPolicy>()).within(namespace))?;
        has_label(&found, MANAGED_BY.0, MANAGED_BY.1).then_some(found)
    }

    /// Namespace and name of every NetworkPolicy that is labelled as written for an environment.
    pub fn policies_of(&self, environment: &str) -> Vec<(String, String)> {
        let mut found: Vec<_> = written_for(&self.policies, environment)
            .iter()
            .filter_map(|policy| Some((policy.metadata.namespace.clone()?, policy.metadata.name.clone()?)))
            .collect();
        found.sort();
        found
    }

    /// The namespaces with NetworkPolicies that were written for an environment.
    pub fn namespaces_written(&self, environment: &str) -> BTreeSet<String> {
        self.policies_of(environment).into_iter().map(|(namespace, _)| namespace).collect()
    }

    /// The NetworkPolicies in a namespace, of whomever they are, in the order of their names.
    pub fn policies_in(&self, namespace: &str) -> Vec<Arc<DynamicObject>> {
        let mut found = self.policies.state();
        found.retain(|policy| policy.metadata.namespace.as_deref() == Some(namespace));
        found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        found
    }

    /// Who could reach the weights of an environment with these namespaces past admission.
    pub fn who_could(&self, settings: &Settings, namespaces: &[&str]) -> access::Could {
        let of = |stores: &[Store<DynamicObject>; 2]| stores.iter().flat_map(Store::state).collect::<Vec<_>>();
        let (roles, bindings) = (of(&self.roles), of(&self.bindings));
        let (roles, bindings) = (roles.iter().map(Arc::as_ref), bindings.iter().map(Arc::as_ref));
        access::who_could(&grants(roles), &grants(bindings), settings, namespaces)
    }

    /// The UID of a WeightManifest.
    pub fn manifest(&self, name: &str) -> Option<String> {
        self.manifests.get(&ObjectRef::new(name))?.metadata.uid.clone()
    }

    /// UID and resource version of a ConfigMap of ours.
    pub fn manifest_map(&self, namespace: &str, name: &str) -> Option<(String, String)> {
        let found = self.manifest_maps.get(&ObjectRef::new(name).within(namespace))?;
        Some((found.metadata.uid.clone()?, found.metadata.resource_version.clone()?))
    }

    /// Namespace and name of the ConfigMaps of ours that hold manifests.
    pub fn manifest_maps(&self) -> Vec<(String, String)> {
        let maps = self.manifest_maps.state();
        let named = maps.iter().filter_map(|map| Some((map.metadata.namespace.clone()?, map.metadata.name.clone()?)));
        named.filter(|(_, name)| name.starts_with(carrier::VOLUME)).collect()
    }

    /// A validating webhook configuration of ours.
    pub fn validating_webhooks(&self, name: &str) -> Option<Arc<DynamicObject>> {
        self.webhooks.get(&ObjectRef::new_with(name, erase::<ValidatingWebhookConfiguration>()))
    }
}

/// An object as its type.
///
/// # Errors
/// [`ReconcileError::Unreadable`] if it does not have the shape of the type.
pub fn typed<K>(object: &DynamicObject) -> Result<K, ReconcileError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    object.clone().try_parse().map_err(|error| ReconcileError::Unreadable {
        object: ObjectId::new(
            &K::kind(&()),
            object.metadata.namespace.as_deref(),
            object.metadata.name.as_deref().unwrap_or_default(),
        ),
        reason: error.to_string(),
    })
}

/// The objects of a store that are labelled as written for an environment.
pub fn written_for(store: &Store<DynamicObject>, environment: &str) -> Vec<Arc<DynamicObject>> {
    let mut found = store.state();
    found.retain(|object| {
        has_label(object, MANAGED_BY.0, MANAGED_BY.1) && has_label(object, ENVIRONMENT_LABEL, environment)
    });
    found
}

fn has_label(object: &DynamicObject, key: &str, value: &str) -> bool {
    object.metadata.labels.as_ref().and_then(|labels| labels.get(key)).is_some_and(|found| found == value)
}

fn erase<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// The names of the objects of a store, sorted.
pub fn names(store: &Store<DynamicObject>) -> Vec<String> {
    let mut names: Vec<String> = store.state().iter().filter_map(|object| object.metadata.name.clone()).collect();
    names.sort();
    names
}

async fn keep<K>(
    mut writer: StoreWriter<K>,
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
    resource: ApiResource,
    unlisted: Arc<AtomicUsize>,
    changed: Arc<watch::Sender<u64>>,
) where
    K: Lookup<DynamicType: Eq + std::hash::Hash + Clone> + Clone + 'static,
{
    let mut listed = false;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                writer.apply_watcher_event(&event);
                if !listed && matches!(event, watcher::Event::InitDone) {
                    listed = true;
                    unlisted.fetch_sub(1, Ordering::Release);
                }
                changed.send_modify(|version| *version += 1);
            }
            Err(error) => pause(&resource, &error).await,
        }
    }
}

/// Wakes at each change of objects whose content is of no interest here; only their metadata is read.
async fn wake<K>(api: Api<PartialObjectMeta<K>>, config: watcher::Config, changed: Arc<watch::Sender<u64>>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + 'static,
{
    let resource = erase::<K>();
    let mut events = std::pin::pin!(watcher(api, config));
    while let Some(event) = events.next().await {
        match event {
            Ok(_) => changed.send_modify(|version| *version += 1),
            Err(error) => pause(&resource, &error).await,
        }
    }
}

async fn pause(resource: &ApiResource, error: &watcher::Error) {
    tracing::warn!(kind = %resource.kind, %error, "watch failed; what was known stays");
    tokio::time::sleep(PAUSE).await;
}
