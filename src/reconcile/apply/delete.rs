//! Deleting what is ours.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, EvictParams, Preconditions},
};

use super::{OWNER, ObjectId, Writer, check_ownership, to_value};
use crate::reconcile::error::ReconcileError;

impl Writer {
    /// Deletes an object of ours. Absent is success; so is one that is already being deleted.
    ///
    /// # Errors
    /// [`ReconcileError::NotOurs`] if it was made by someone else; [`ReconcileError::Api`] if the API server refuses.
    pub async fn delete<K>(&self, namespace: Option<&str>, name: &str) -> Result<bool, ReconcileError>
    where
        K: Resource<DynamicType = ()>,
    {
        self.delete_if::<K>(namespace, name, |_| true).await
    }

    /// Deletes an object of ours if its annotation [`OWNER`] has this value, so that what another owner took over in the
    /// meantime stays.
    ///
    /// # Errors
    /// As [`Writer::delete`].
    pub async fn delete_of_owner<K>(
        &self,
        namespace: Option<&str>,
        name: &str,
        owner: &str,
    ) -> Result<bool, ReconcileError>
    where
        K: Resource<DynamicType = ()>,
    {
        let is_owner = |live: &DynamicObject| {
            live.metadata.annotations.as_ref().and_then(|annotations| annotations.get(OWNER)).map(String::as_str)
                == Some(owner)
        };
        self.delete_if::<K>(namespace, name, is_owner).await
    }

    /// Deletes the object that has this UID, at once, whoever made it. Absent is success.
    ///
    /// # Errors
    /// [`ReconcileError::Api`] if the API server refuses.
    pub async fn delete_exactly<K>(&self, namespace: Option<&str>, name: &str, uid: &str) -> Result<(), ReconcileError>
    where
        K: Resource<DynamicType = ()>,
    {
        let id = ObjectId::new(&K::kind(&()), namespace, name);
        self.begin("delete", &id)?;
        let only = Preconditions { uid: Some(uid.into()), resource_version: None };
        // 1: not 0, which would take the object away before its containers have ended.
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default().grace_period(1) };
        match self.api::<K>(&id).delete(name, &params).await {
            Ok(_) => Ok(()),
            // 409: another object has the name now.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            Err(error) => Err(ReconcileError::api("delete", id, error)),
        }
    }

    /// Evicts the pod that has this UID, as PodDisruptionBudgets let; returns whether it goes. Absent is success.
    ///
    /// # Errors
    /// [`ReconcileError::Api`] if the API server refuses for another reason than a budget.
    pub async fn evict(&self, namespace: &str, name: &str, uid: &str) -> Result<bool, ReconcileError> {
        let id = ObjectId::new("Pod", Some(namespace), name);
        self.begin("evict", &id)?;
        let only = Preconditions { uid: Some(uid.into()), resource_version: None };
        let delete_options = Some(DeleteParams { preconditions: Some(only), ..DeleteParams::default() });
        let params = EvictParams { delete_options, ..EvictParams::default() };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match api.evict(name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(true),
            // A budget: the eviction may be possible later.
            Err(kube::Error::Api(status)) if status.code == 429 => Ok(false),
            Err(error) => Err(ReconcileError::api("evict", id, error)),
        }
    }

    async fn delete_if<K>(
        &self,
        namespace: Option<&str>,
        name: &str,
        condition: impl Fn(&DynamicObject) -> bool,
    ) -> Result<bool, ReconcileError>
    where
        K: Resource<DynamicType = ()>,
    {
        let id = ObjectId::new(&K::kind(&()), namespace, name);
        let api = self.api::<K>(&id);
        let live = api.get_opt(name).await.map_err(|error| ReconcileError::api("get", id.clone(), error))?;
        let live = live.filter(|live| live.metadata.deletion_timestamp.is_none() && condition(live));
        let Some(live) = live else { return Ok(false) };
        check_ownership(&id, &to_value(&id, &live)?)?;
        self.begin("delete", &id)?;
        self.forget(&id);
        // What changed since it was looked at is looked at again.
        let seen = Preconditions { uid: live.metadata.uid, resource_version: live.metadata.resource_version };
        match api.delete(name, &DeleteParams { preconditions: Some(seen), ..DeleteParams::default() }).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(ReconcileError::api("delete", id, error)),
        }
    }
}
