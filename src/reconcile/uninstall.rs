//! Takes away what would outlive Weightlock and stand in the way, in the order in which nothing blocks at any moment: the
//! controller, which would put things back; bindings, without which policies do nothing; webhook configurations, without
//! which no one calls a webhook that is gone; then what they stood on. Declarations and NetworkPolicies stay.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use k8s_openapi::{
    ClusterResourceScope,
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        core::v1::{Pod, Secret},
    },
};
use kube::{Api, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{
    apply::{ObjectId, Writer},
    error::ReconcileError,
};
use crate::{
    api::{WeightArtifact, WeightEnvironment, WeightIndex},
    domain::settings::{AUTHORITY_SECRET, SERVING_SECRET},
    render::{MANAGED_BY, cluster_network_policy::ClusterNetworkPolicy},
    runtime::{Process, metrics::Writes},
};

/// The Deployment of the controller, and the label of its pods.
const CONTROLLER: (&str, &str) =
    ("weightlock-controller", "app.kubernetes.io/name=weightlock,app.kubernetes.io/component=controller");
/// How long one thing may take: a controller to end, the API server to notice that a binding is gone.
const PATIENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(500);

/// Uninstalls. Run again after a failure, it goes on where it was.
///
/// # Errors
/// The first thing that could not be taken away within its time; nothing after it was touched.
pub async fn run(process: &Process, namespace: &str) -> Result<(), ReconcileError> {
    // Nobody holds the lease once the controller is stopped, and nothing is written that another might write too.
    let (_leading, always) = watch::channel(true);
    let writer = &Writer::new(process.client.clone(), Writes::new(&process.metrics), always, &process.instance);
    writer.scale(namespace, CONTROLLER.0, 0).await?;
    persist(async || controller_is_gone(writer, namespace).await).await?;
    delete_all::<ValidatingAdmissionPolicyBinding>(writer).await?;
    delete_all::<ValidatingWebhookConfiguration>(writer).await?;
    delete_all::<MutatingWebhookConfiguration>(writer).await?;
    delete_all::<ValidatingAdmissionPolicy>(writer).await?;
    // Nobody puts them right any more, and tenants cannot; the NetworkPolicies that stay deny by themselves.
    delete_all::<ClusterNetworkPolicy>(writer).await?;
    // A policy keeps others than the controller from it, until the API server has noticed that its binding is gone.
    persist(async || delete_all::<WeightIndex>(writer).await).await?;
    persist(async || release::<WeightEnvironment>(writer).await).await?;
    persist(async || release::<WeightArtifact>(writer).await).await?;
    for name in [SERVING_SECRET, AUTHORITY_SECRET] {
        if writer.delete::<Secret>(Some(namespace), name).await? {
            tracing::info!(object = %ObjectId::new("Secret", Some(namespace), name), "deleted");
        }
    }
    Ok(())
}

async fn controller_is_gone(writer: &Writer, namespace: &str) -> Result<(), ReconcileError> {
    let id = ObjectId::new("Deployment", Some(namespace), CONTROLLER.0);
    let pods: Api<Pod> = Api::namespaced(writer.client().clone(), namespace);
    let pods = pods
        .list_metadata(&ListParams::default().labels(CONTROLLER.1))
        .await
        .map_err(|error| ReconcileError::api("list the pods of", id.clone(), error))?;
    match pods.items.len() {
        0 => Ok(()),
        left => Err(ReconcileError::Plan { object: id, reason: format!("{left} of its pods have not ended yet") }),
    }
}

/// Deletes every object of a kind that is ours.
async fn delete_all<K>(writer: &Writer) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + DeserializeOwned + Debug,
{
    let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    for name in names::<K>(writer, &ours).await? {
        if writer.delete::<K>(None, &name).await? {
            tracing::info!(object = %ObjectId::new(&K::kind(&()), None, &name), "deleted");
        }
    }
    Ok(())
}

/// Takes our finalizer off every declaration of a kind.
async fn release<K>(writer: &Writer) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(writer.client().clone());
    for name in names::<K>(writer, &ListParams::default()).await? {
        let id = ObjectId::new(&K::kind(&()), None, &name);
        // The metadata alone: one that cannot be read otherwise must be released all the same.
        let current = api.get_metadata_opt(&name).await.map_err(|error| ReconcileError::api("get", id, error))?;
        if let Some(current) = current {
            writer.finalizer(&current, false).await?;
        }
    }
    Ok(())
}

/// The names of the objects of a kind; none if the kind itself is gone.
async fn names<K>(writer: &Writer, which: &ListParams) -> Result<Vec<String>, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(writer.client().clone());
    match api.list_metadata(which).await {
        Ok(list) => Ok(list.items.into_iter().filter_map(|object| object.metadata.name).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(ReconcileError::api("list", ObjectId::new(&K::kind(&()), None, "*"), error)),
    }
}

/// Tries again until it succeeds or [`PATIENCE`] ends.
async fn persist(mut attempt: impl AsyncFnMut() -> Result<(), ReconcileError>) -> Result<(), ReconcileError> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Err(error) if start.elapsed() < PATIENCE => {
                tracing::info!(%error, "not yet");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_at_first_is_tried_again() {
        let mut tries = 0;
        let outcome = persist(async || {
            tries += 1;
            if tries < 3 {
                let object = ObjectId::new("WeightIndex", None, "weightlock-0");
                return Err(ReconcileError::Plan { object, reason: "not yet".into() });
            }
            Ok(())
        })
        .await;
        assert!(outcome.is_ok());
        assert_eq!(tries, 3);
    }
}
