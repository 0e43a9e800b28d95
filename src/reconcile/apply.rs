//! The only code that writes to the API server.
//!
//! Objects are applied server-side under the manager `weightlock`. Before anything is forced, the live object must be
//! ours; if it is already as wanted, nothing is written. What others changed is put back at once the first time, then
//! with back-off per object, and the rival is remembered so that a condition can name it.

mod beside;
mod delete;
mod object;
mod scale;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    drift::{self, MANAGER},
    error::ReconcileError,
    repair::{Repairs, Verdict},
};
use crate::{
    render::{MANAGED_BY, OWNER},
    runtime::metrics::Writes,
};

pub use object::ObjectId;

/// The finalizer on WeightEnvironments and WeightArtifacts.
pub const FINALIZER: &str = "weightlock.dev/protect";

/// What [`Writer::apply`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The live object is as wanted; nothing was written.
    Unchanged,
    /// It did not exist and was made.
    Created,
    /// It was brought to a new desired state.
    Updated,
    /// Someone else had changed or deleted it, and it was put back.
    Repaired,
    /// Someone else keeps changing it; it is put back at this time.
    Deferred(Instant),
}

/// The only writer. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    writes: Writes,
    leading: tokio::sync::watch::Receiver<bool>,
    instance: Arc<str>,
    settled: Arc<Mutex<HashMap<ObjectId, Settled>>>,
    repairs: Arc<Mutex<Repairs>>,
}

/// A desired state and how the API server shows it once it is in place (with its defaults).
struct Settled {
    desired: Value,
    body: serde_json::Map<String, Value>,
}

impl Writer {
    /// A writer that writes only while `leading` is true. `instance` (the name of the pod) is reported in events.
    pub fn new(client: Client, writes: Writes, leading: tokio::sync::watch::Receiver<bool>, instance: &str) -> Self {
        Self { client, writes, leading, instance: instance.into(), settled: Arc::default(), repairs: Arc::default() }
    }

    /// The client, for reads.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Brings the live object to the desired state, and writes nothing if it is there already.
    ///
    /// The desired object must carry the label [`MANAGED_BY`] and the annotation [`OWNER`].
    ///
    /// # Errors
    /// [`ReconcileError::NotOurs`] if an object of that name was made by someone else; [`ReconcileError::Rendered`] if
    /// the desired object has no name or lacks our marks; [`ReconcileError::Api`] if the API server refuses.
    pub async fn apply<K>(&self, desired: &K) -> Result<Applied, ReconcileError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let id = ObjectId::of(desired);
        let wanted = self.rendered::<K>(&id, desired)?;
        let api = self.api::<K>(&id);
        let live = api.get_opt(&id.name).await.map_err(|error| ReconcileError::api("get", id.clone(), error))?;
        let Some(live) = live else {
            return self.write(&api, &id, wanted, None).await;
        };
        let live = to_value(&id, &live)?;
        check_ownership(&id, &live)?;
        if self.is_settled_value(&id, &wanted, &live) {
            self.repairs().quiet(&id, Instant::now());
            return Ok(Applied::Unchanged);
        }
        let merged = api
            .patch(&id.name, &PatchParams::apply(MANAGER).force().dry_run(), &Patch::Apply(&wanted))
            .await
            .map_err(|error| ReconcileError::api("apply (dry run)", id.clone(), error))?;
        let merged = to_value(&id, &merged)?;
        if drift::foreign(&wanted, &merged).is_empty()
            && drift::body(&merged) == drift::body(&live)
            && drift::marked(&wanted, &live)
        {
            self.settle(&id, wanted, &live);
            return Ok(Applied::Unchanged);
        }
        self.write(&api, &id, wanted, Some(live)).await
    }

    /// Whether a live object from a watch is what an earlier [`Writer::apply`] of the same desired object left. It saves
    /// the read that `apply` begins with.
    pub fn is_settled<K>(&self, desired: &K, live: &DynamicObject) -> bool
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let id = ObjectId::of(desired);
        match (self.rendered::<K>(&id, desired), serde_json::to_value(live)) {
            (Ok(wanted), Ok(live)) => self.is_settled_value(&id, &wanted, &live),
            _ => false,
        }
    }

    /// Forgets what was put in place for an owner (a value of [`OWNER`]) and is not wanted any more, so that it is new
    /// when it is wanted again.
    pub fn forget_unwanted(&self, owner: &str, wanted: &[ObjectId]) {
        let is_unwanted = |id: &ObjectId, settled: &Settled| {
            let annotations = settled.desired.pointer("/metadata/annotations");
            annotations.and_then(|annotations| annotations.get(OWNER)).and_then(Value::as_str) == Some(owner)
                && !wanted.contains(id)
        };
        let unwanted: Vec<ObjectId> =
            self.lock().iter().filter(|(id, settled)| is_unwanted(id, settled)).map(|(id, _)| id.clone()).collect();
        for id in unwanted {
            self.forget(&id);
        }
    }

    /// The repairs that are remembered, for conditions.
    pub fn repairs(&self) -> std::sync::MutexGuard<'_, Repairs> {
        self.repairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(
        &self,
        api: &Api<DynamicObject>,
        id: &ObjectId,
        wanted: Value,
        live: Option<Value>,
    ) -> Result<Applied, ReconcileError> {
        // Only a departure from what we had put in place is someone else's doing; a new desired state is ours.
        let drifted = self.lock().get(id).is_some_and(|settled| settled.desired == wanted);
        if drifted {
            let by = live.as_ref().and_then(drift::rival);
            if let Verdict::Later(at) = self.repairs().drift(id, by, Instant::now()) {
                return Ok(Applied::Deferred(at));
            }
        }
        self.begin("apply", id)?;
        let applied = api
            .patch(&id.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&wanted))
            .await
            .map_err(|error| ReconcileError::api("apply", id.clone(), error))?;
        let mut result = to_value(id, &applied)?;
        if !drift::foreign(&wanted, &result).is_empty() {
            result = self.replace(api, id, &wanted, result).await?;
        }
        self.settle(id, wanted, &result);
        Ok(match (drifted, live) {
            (true, _) => Applied::Repaired,
            (false, None) => Applied::Created,
            (false, Some(_)) => Applied::Updated,
        })
    }

    /// A server-side apply leaves fields that others added; a replacement does not.
    async fn replace(
        &self,
        api: &Api<DynamicObject>,
        id: &ObjectId,
        wanted: &Value,
        mut live: Value,
    ) -> Result<Value, ReconcileError> {
        let keep = |key: &str| matches!(key, "metadata" | "status" | "apiVersion" | "kind");
        if let Some(fields) = live.as_object_mut() {
            fields.retain(|key, _| keep(key));
            fields.extend(drift::body(wanted));
        }
        let object: DynamicObject = from_value(id, live)?;
        self.begin("replace", id)?;
        let replaced = api
            .replace(&id.name, &params(), &object)
            .await
            .map_err(|error| ReconcileError::api("replace", id.clone(), error))?;
        to_value(id, &replaced)
    }

    /// Called right before each write: not the leader, no write.
    fn begin(&self, verb: &'static str, id: &ObjectId) -> Result<(), ReconcileError> {
        if !*self.leading.borrow() {
            return Err(ReconcileError::NotLeading { object: id.clone() });
        }
        self.writes.count(&id.kind, verb);
        tracing::debug!(object = %id, verb, "write");
        Ok(())
    }

    fn rendered<K>(&self, id: &ObjectId, desired: &K) -> Result<Value, ReconcileError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let mut wanted = to_value(id, desired)?;
        wanted["apiVersion"] = K::api_version(&()).into();
        wanted["kind"] = K::kind(&()).into();
        let label =
            wanted.pointer("/metadata/labels").and_then(|labels| labels.get(MANAGED_BY.0)).and_then(Value::as_str);
        let owner = wanted.pointer("/metadata/annotations").and_then(|annotations| annotations.get(OWNER));
        if id.name.is_empty() || label != Some(MANAGED_BY.1) || owner.is_none() {
            let reason =
                format!("it needs a name, the label {}={} and the annotation {OWNER}", MANAGED_BY.0, MANAGED_BY.1);
            return Err(ReconcileError::Rendered { object: id.clone(), reason });
        }
        Ok(wanted)
    }

    fn is_settled_value(&self, id: &ObjectId, wanted: &Value, live: &Value) -> bool {
        self.lock().get(id).is_some_and(|settled| {
            settled.desired == *wanted && settled.body == drift::body(live) && drift::marked(wanted, live)
        })
    }

    fn settle(&self, id: &ObjectId, desired: Value, live: &Value) {
        self.lock().insert(id.clone(), Settled { desired, body: drift::body(live) });
    }

    fn forget(&self, id: &ObjectId) {
        self.lock().remove(id);
        self.repairs().forget(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectId, Settled>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api<K: Resource<DynamicType = ()>>(&self, id: &ObjectId) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        match &id.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// Whether we may change a live object: it carries our marks, or we applied it before and someone took them off.
fn check_ownership(id: &ObjectId, live: &Value) -> Result<(), ReconcileError> {
    let label = live.pointer("/metadata/labels").and_then(|labels| labels.get(MANAGED_BY.0)).and_then(Value::as_str);
    let owner = live.pointer("/metadata/annotations").and_then(|annotations| annotations.get(OWNER));
    if (label == Some(MANAGED_BY.1) && owner.is_some()) || drift::applied_by_us(live) {
        return Ok(());
    }
    let manager = drift::rival(live).unwrap_or_else(|| "an unknown manager".into());
    Err(ReconcileError::NotOurs { object: id.clone(), manager })
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}

fn to_value<T: Serialize>(id: &ObjectId, object: &T) -> Result<Value, ReconcileError> {
    serde_json::to_value(object)
        .map_err(|error| ReconcileError::Rendered { object: id.clone(), reason: error.to_string() })
}

fn from_value<T: DeserializeOwned>(id: &ObjectId, value: Value) -> Result<T, ReconcileError> {
    serde_json::from_value(value)
        .map_err(|error| ReconcileError::Rendered { object: id.clone(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id() -> ObjectId {
        ObjectId::new("NetworkPolicy", Some("serving"), "weightlock-default-deny")
    }

    #[test]
    fn an_object_with_our_marks_is_ours() {
        let live = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "weightlock"},
            "annotations": {"weightlock.dev/owner": "weightenvironment/a"}}});
        assert!(check_ownership(&id(), &live).is_ok());
    }

    #[test]
    fn an_object_that_lost_its_marks_is_still_ours() {
        let live =
            json!({"metadata": {"managedFields": [{"manager": "weightlock", "operation": "Apply", "fieldsV1": {}}]}});
        assert!(check_ownership(&id(), &live).is_ok());
    }

    #[test]
    fn an_object_of_someone_else_is_refused_with_its_manager() {
        let live = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"},
            "managedFields": [{"manager": "helm", "operation": "Apply", "fieldsV1": {"f:spec": {}}}]}});
        let error = check_ownership(&id(), &live).map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("NetworkPolicy serving/weightlock-default-deny exists and is not Weightlock's (made by helm): names that \
                 begin with \"weightlock\" are reserved. Remedy: delete or rename it; Weightlock then writes its own"
                .into())
        );
    }
}
