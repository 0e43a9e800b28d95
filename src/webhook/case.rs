//! What a review is decided on: the request, the world, and for a pod that is placed on a node what is read anew.

use std::sync::Arc;

use serde_json::Value;

use super::review::Review;
use crate::domain::{Request, World, admission};
use crate::index::Fresh;

/// A review with all that its decision rests on.
pub(super) struct Case {
    pub review: Arc<Review>,
    pub world: Arc<World>,
    /// The pod that a binding makes.
    placed: Option<Value>,
}

impl Case {
    /// Reads what a review needs. Most need nothing: a pod that is placed is the exception, since nobody is asked about it
    /// again, and its claims must be the ones that are mounted.
    ///
    /// # Errors
    /// Why it cannot be read, as the end of a sentence.
    pub async fn read(world: Arc<World>, fresh: &Fresh, review: Arc<Review>, binds: bool) -> Result<Self, String> {
        let mut case = Self { review, world, placed: None };
        // There is no decision then, whatever is read.
        if !case.world.unsynced.is_empty() {
            return Ok(case);
        }
        if binds {
            case.placed = Some(case.pod(fresh).await?);
        }
        let request = case.request();
        if let Some(pod) = request.object.filter(|_| admission::places(&request)) {
            let claims = admission::claims(request.namespace, pod);
            let read = fresh.world(&case.world, request.namespace, claims).await;
            let read = read.map_err(|error| error.to_string())?;
            case.world = Arc::new(read);
        }
        Ok(case)
    }

    /// The pod that the binding makes of the one that is stored.
    async fn pod(&self, fresh: &Fresh) -> Result<Value, String> {
        let request = self.review.request();
        let stored = fresh.pod(request.namespace, request.name).await.map_err(|error| error.to_string())?;
        let stored = stored.ok_or_else(|| format!("Pod {:?} does not exist", request.name))?;
        Ok(admission::placed(stored, request.object.unwrap_or(&Value::Null)))
    }

    /// The request as the rules see it.
    pub fn request(&self) -> Request<'_> {
        match &self.placed {
            Some(placed) => self.review.placement(placed),
            None => self.review.request(),
        }
    }
}
