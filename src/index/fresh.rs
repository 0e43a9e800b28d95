//! Objects as the API server has them now, past the watches: a pod that is placed on a node, its namespace, and what its
//! claims lead to.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};
use serde_json::Value;

use super::convert;
use crate::domain::World;
use crate::domain::world::{Claim, ClaimName, Volume};

/// How many claims of a pod are read at once.
const AT_ONCE: usize = 8;

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name:?} cannot be read: {source}")]
pub struct FreshError {
    kind: String,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

/// Reads single objects. What it reads is no older than the call: the API server asks its storage.
#[derive(Clone)]
pub struct Fresh {
    client: Client,
}

/// A claim, and the volume that it names; `None` for what is not there.
struct Found {
    name: ClaimName,
    claim: Option<Claim>,
    volume: Option<(String, Option<Volume>)>,
}

impl Fresh {
    /// A reader with the rights of a client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// A pod as raw JSON; `None` where there is none.
    ///
    /// # Errors
    /// Where the API server does not answer, or refuses.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Value>, FreshError> {
        let found = self.get::<Pod>(Some(namespace), name).await?;
        Ok(found.map(convert::pod_object))
    }

    /// A world in which a namespace, claims of it, and the volumes that they name, are as they are now.
    ///
    /// # Errors
    /// Where the API server does not answer, or refuses.
    pub async fn world(&self, world: &World, namespace: &str, claims: Vec<ClaimName>) -> Result<World, FreshError> {
        let reads = stream::iter(claims).map(|name| self.claim(name)).buffer_unordered(AT_ONCE);
        let (here, found) = futures::try_join!(self.get::<Namespace>(None, namespace), reads.try_collect::<Vec<_>>())?;
        let mut world = world.clone();
        match here.and_then(|here| here.metadata.uid) {
            Some(uid) => world.namespaces.insert(namespace.to_owned(), uid),
            None => world.namespaces.remove(namespace),
        };
        for Found { name, claim, volume } in found {
            match claim {
                Some(claim) => world.claims.insert(name, claim),
                None => world.claims.remove(&name),
            };
            match volume {
                Some((name, Some(volume))) => _ = world.volumes.insert(name, volume),
                Some((name, None)) => _ = world.volumes.remove(&name),
                None => {}
            }
        }
        world.look_up();
        Ok(world)
    }

    async fn claim(&self, name: ClaimName) -> Result<Found, FreshError> {
        let object = self.get::<PersistentVolumeClaim>(Some(&name.namespace), &name.name).await?;
        let claim = object.map(|object| convert::claim(&object).1);
        let Some(named) = claim.as_ref().and_then(|claim| claim.volume.clone()) else {
            return Ok(Found { name, claim, volume: None });
        };
        let object = self.get::<PersistentVolume>(None, &named).await?;
        let volume = object.map(|object| convert::volume(&object).1);
        Ok(Found { name, claim, volume: Some((named, volume)) })
    }

    /// Untyped: an object that does not have the shape of its type is decided on like any other.
    async fn get<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>, FreshError> {
        // No object has such a name, and none is to lead to another path of the API.
        if ![namespace.unwrap_or("-"), name].iter().all(|part| is_name(part)) {
            return Ok(None);
        }
        let resource = ApiResource::erase::<K>(&());
        let client = self.client.clone();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let error =
            |source| FreshError { kind: resource.kind.clone(), name: name.to_owned(), source: Box::new(source) };
        api.get_opt(name).await.map_err(error)
    }
}

fn is_name(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.split('.').all(part)
}
