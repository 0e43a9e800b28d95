//! Writes beside the objects that are applied: status, finalizers, events.

use k8s_openapi::api::events::v1::Event as ApiEvent;
use kube::{
    Api, Resource,
    api::{DynamicObject, Patch, PatchParams},
};
use serde::Serialize;

use super::{Applied, FINALIZER, ObjectId, Writer, from_value, params, to_value};
use crate::reconcile::{drift::MANAGER, error::ReconcileError, events::Event};

impl Writer {
    /// Replaces the status of a custom resource if it differs. `current` carries the resource version that the new
    /// status was derived from, so that a pin is never lost to a stale reader.
    ///
    /// # Errors
    /// [`ReconcileError::Api`] if the API server refuses, with code 409 if `current` is out of date.
    pub async fn patch_status<K, S>(&self, current: &K, status: &S) -> Result<Applied, ReconcileError>
    where
        K: Resource<DynamicType = ()> + Serialize,
        S: Serialize,
    {
        let id = ObjectId::of(current);
        let mut object = to_value(&id, current)?;
        let status = to_value(&id, status)?;
        if object.get("status") == Some(&status) {
            return Ok(Applied::Unchanged);
        }
        object["status"] = status;
        let object: DynamicObject = from_value(&id, object)?;
        self.begin("status", &id)?;
        self.api::<K>(&id)
            .replace_status(&id.name, &params(), &object)
            .await
            .map_err(|error| ReconcileError::api("write the status of", id, error))?;
        Ok(Applied::Updated)
    }

    /// Adds or removes our finalizer; `Unchanged` if it is so already.
    ///
    /// # Errors
    /// [`ReconcileError::Api`] if the API server refuses, with code 409 if `current` is out of date.
    pub async fn finalizer<K>(&self, current: &K, present: bool) -> Result<Applied, ReconcileError>
    where
        K: Resource<DynamicType = ()>,
    {
        let id = ObjectId::of(current);
        let mut finalizers = current.meta().finalizers.clone().unwrap_or_default();
        if finalizers.iter().any(|finalizer| finalizer == FINALIZER) == present {
            return Ok(Applied::Unchanged);
        }
        if present {
            finalizers.push(FINALIZER.into());
        } else {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        self.begin("finalizer", &id)?;
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": current.meta().resource_version, "finalizers": finalizers}
        });
        self.api::<K>(&id)
            .patch(
                &id.name,
                &PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() },
                &Patch::Merge(patch),
            )
            .await
            .map_err(|error| ReconcileError::api("set the finalizer of", id, error))?;
        Ok(Applied::Updated)
    }

    /// Makes an object; that one of its name exists is no error, and leaves that one as it is.
    ///
    /// # Errors
    /// [`ReconcileError::Api`] if the API server refuses.
    pub async fn create<K>(&self, object: &K) -> Result<Applied, ReconcileError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let id = ObjectId::of(object);
        let wanted: DynamicObject = from_value(&id, self.rendered::<K>(&id, object)?)?;
        let api = self.api::<K>(&id);
        let exists =
            api.get_metadata_opt(&id.name).await.map_err(|error| ReconcileError::api("get", id.clone(), error))?;
        if exists.is_some() {
            return Ok(Applied::Unchanged);
        }
        self.begin("create", &id)?;
        match api.create(&params(), &wanted).await {
            Ok(_) => Ok(Applied::Created),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Applied::Unchanged),
            Err(error) => Err(ReconcileError::api("create", id, error)),
        }
    }

    /// Makes an event of `events.k8s.io`. Its name says what it is about, so that it is made once, whoever is the leader.
    ///
    /// # Errors
    /// [`ReconcileError::Api`] if the API server refuses; that it exists already is no error.
    pub async fn event(&self, event: &Event) -> Result<Applied, ReconcileError> {
        let object = event.render(&self.instance);
        let id = ObjectId::of(&object);
        let api: Api<ApiEvent> = Api::namespaced(self.client.clone(), id.namespace.as_deref().unwrap_or("default"));
        let exists =
            api.get_metadata_opt(&id.name).await.map_err(|error| ReconcileError::api("get", id.clone(), error))?;
        if exists.is_some() {
            return Ok(Applied::Unchanged);
        }
        self.begin("event", &id)?;
        match api.create(&params(), &object).await {
            Ok(_) => Ok(Applied::Created),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Applied::Unchanged),
            Err(error) => Err(ReconcileError::api("create", id, error)),
        }
    }
}
