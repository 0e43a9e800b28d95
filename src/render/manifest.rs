//! ConfigMaps with the shards of a manifest.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{OWNER, labels};
use crate::domain::carrier;

/// Value of [`OWNER`] for these ConfigMaps: several artifacts may share one.
pub const MANIFESTS: &str = "weightmanifests";

/// The ConfigMap with a shard.
pub fn config_map(namespace: &str, digest: &str, shard: u32, text: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(carrier::config_map(digest, shard)),
            namespace: Some(namespace.into()),
            labels: Some(labels(None)),
            annotations: Some(BTreeMap::from([(OWNER.to_owned(), MANIFESTS.to_owned())])),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some(BTreeMap::from([(carrier::KEY.to_owned(), text.to_owned())])),
        binary_data: None,
    }
}
