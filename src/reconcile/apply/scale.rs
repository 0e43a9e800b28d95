//! Stopping and starting Deployments of the installation.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use super::{ObjectId, Writer};
use crate::reconcile::error::ReconcileError;

impl Writer {
    /// Sets how many replicas a Deployment has. It belongs to the chart, so there is no mark of ours to check. An absent one
    /// has none, which is success for 0 only.
    ///
    /// # Errors
    /// [`ReconcileError::Api`] if the API server refuses.
    pub async fn scale(&self, namespace: &str, name: &str, replicas: u32) -> Result<(), ReconcileError> {
        let id = ObjectId::new("Deployment", Some(namespace), name);
        self.begin("scale", &id)?;
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let patch = serde_json::json!({"spec": {"replicas": replicas}});
        match api.patch_scale(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 && replicas == 0 => Ok(()),
            Err(error) => Err(ReconcileError::api("scale", id, error)),
        }
    }
}
