//! WeightArtifacts as the API server has them, kept small: there may be ten thousand, and one is looked at at a time.

use std::borrow::Cow;

use kube::{
    Resource,
    api::DynamicObject,
    runtime::{reflector::Lookup, watcher::Event},
};
use serde_json::json;

use crate::{api::WeightArtifact, domain::packed};

/// A WeightArtifact. Who wrote its fields is not kept; nothing asks that of it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptArtifact {
    name: String,
    json: Box<[u8]>,
}

impl KeptArtifact {
    fn new(mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        Self { json: packed::pack(&object), name: object.metadata.name.unwrap_or_default() }
    }

    /// The object. Were it not to be had back, it is one without a spec, which no recipe can read.
    pub fn unpack(&self) -> DynamicObject {
        let bare = || DynamicObject {
            types: None,
            metadata: kube::core::ObjectMeta { name: Some(self.name.clone()), ..Default::default() },
            data: json!({}),
        };
        serde_json::from_value(packed::unpack(&self.json)).unwrap_or_else(|_| bare())
    }
}

impl Lookup for KeptArtifact {
    type DynamicType = ();

    fn kind((): &()) -> Cow<'_, str> {
        <WeightArtifact as Resource>::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        <WeightArtifact as Resource>::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        <WeightArtifact as Resource>::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        <WeightArtifact as Resource>::plural(&())
    }
    fn name(&self) -> Option<Cow<'_, str>> {
        Some(self.name.as_str().into())
    }
    fn namespace(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn resource_version(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn uid(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// The same event, with the object as it is kept.
pub fn kept(event: Event<DynamicObject>) -> Event<KeptArtifact> {
    match event {
        Event::Apply(object) => Event::Apply(KeptArtifact::new(object)),
        Event::Delete(object) => Event::Delete(KeptArtifact::new(object)),
        Event::InitApply(object) => Event::InitApply(KeptArtifact::new(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::observed::typed;

    #[test]
    fn an_artifact_is_had_back_as_it_was() {
        let object = |managers| {
            let artifact = json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact",
                "metadata": {"name": "orion", "uid": "u", "resourceVersion": "7", "generation": 2, "finalizers": ["weightlock.dev/protect"],
                    "annotations": {"a": "b"}, "managedFields": managers},
                "spec": {"type": "Base", "model": {"name": "orion"}, "contact": "c", "permittedEnvironments": [{"name": "serving"}],
                    "locations": [{"name": "w", "role": "Serving", "nfs": {"server": "nas", "path": "/orion"}}]},
                "status": {"observedGeneration": 2}});
            serde_json::from_value::<DynamicObject>(artifact).unwrap()
        };
        let kept = KeptArtifact::new(object(json!([{"manager": "kubectl", "operation": "Apply"}])));
        let mut whole = object(json!(null));
        assert_eq!(kept.unpack(), whole);
        assert!(typed::<WeightArtifact>(&kept.unpack()).is_ok());
        let torn = KeptArtifact { json: vec![0xff].into(), ..kept };
        whole.data = json!({});
        assert_eq!(torn.unpack().metadata.name, whole.metadata.name);
        assert!(typed::<WeightArtifact>(&torn.unpack()).is_err());
    }
}
