//! Artifacts that cannot be read. What the index in force has of them is carried over (`domain::index_plan`), and nothing can be
//! said in their status; so they are told in an event.

use kube::{
    Resource,
    api::{ApiResource, DynamicObject},
};

use super::{Context, apply::ObjectId, error::ReconcileError, events::Event, observed::typed};
use crate::{api::WeightArtifact, domain::world::Artifact, index::convert};

/// An artifact, as it is stored and as the rules see it. One that cannot be read gets an event, once for each reason.
///
/// # Errors
/// If it cannot be read.
pub async fn read_or_tell(
    context: &Context,
    object: &DynamicObject,
) -> Result<(WeightArtifact, Artifact), ReconcileError> {
    match read(object) {
        Ok(read) => Ok(read),
        Err(error) => {
            context.writer.event(&event(object, &error)).await?;
            Err(error)
        }
    }
}

fn read(object: &DynamicObject) -> Result<(WeightArtifact, Artifact), ReconcileError> {
    let current: WeightArtifact = typed(object)?;
    let id = ObjectId::of(&current);
    let artifact = convert::artifact(object).map_err(|reason| ReconcileError::Unreadable { object: id, reason })?;
    Ok((current, artifact))
}

fn event(object: &DynamicObject, error: &ReconcileError) -> Event {
    let reason = error.to_string();
    Event {
        regarding: object.object_ref(&ApiResource::erase::<WeightArtifact>(&())),
        related: None,
        warning: true,
        reason: "Unreadable",
        action: "Watch",
        note: format!(
            "{reason}. What the index knew of it stays protected, under the terms of then; what it declares now is not known. Remedy: correct it; to delete it instead, take its finalizers away, too"
        ),
        occurrence: reason,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::apply::ObjectId;

    #[test]
    fn the_event_is_on_the_artifact_and_says_what_is_protected() {
        let object: DynamicObject =
            serde_json::from_value(json!({"metadata": {"name": "orion", "uid": "u1"}, "spec": 3})).unwrap();
        let id = ObjectId::new("WeightArtifact", None, "orion");
        let event = event(&object, &ReconcileError::Unreadable { object: id, reason: "spec is a number".into() });
        assert_eq!(
            (event.regarding.kind.as_deref(), event.regarding.uid.as_deref()),
            (Some("WeightArtifact"), Some("u1"))
        );
        assert!(
            event.note.starts_with("cannot read WeightArtifact orion: spec is a number. What the index knew"),
            "{}",
            event.note
        );
    }
}
