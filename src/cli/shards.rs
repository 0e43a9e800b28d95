//! A manifest as WeightManifest objects.

use super::declare::yaml;
use super::error::CliError;
use crate::api::{
    MAX_MANIFEST_SHARDS, MAX_SHARD_CHARACTERS, ManifestObject, ManifestSource, WeightManifest, WeightManifestSpec,
    shard_name,
};
use crate::verifier::manifest::Manifest;

/// Longest name of a manifest: the number of a shard still fits into a name.
const MAX_NAME: usize = 60;

/// The WeightManifests that hold a manifest, and what a WeightArtifact says of them.
///
/// # Errors
/// Where the manifest is larger than the shards that there may be.
pub fn objects(name: &str, manifest: &Manifest) -> Result<(Vec<WeightManifest>, ManifestSource), CliError> {
    let mut canonical = Vec::new();
    manifest.write_canonical(&mut canonical)?;
    let text = String::from_utf8(canonical)
        .map_err(|error| CliError::Encode { format: "JSON", problem: error.to_string() })?;
    let slices = slices(&text);
    let name: String = name.chars().take(MAX_NAME).collect();
    let name = name.trim_end_matches(['-', '.']).replace('.', "-");
    let count = i32::try_from(slices.len()).ok().filter(|count| (*count).unsigned_abs() <= MAX_MANIFEST_SHARDS);
    let shards = count.ok_or_else(|| CliError::Value {
        option: "weightmanifest",
        value: name.clone(),
        problem: format!(
            "would have {} shards, more than the {MAX_MANIFEST_SHARDS} that are allowed: write the manifest into the volume (--write-manifest)",
            slices.len()
        ),
    })?;
    let objects = slices.into_iter().zip(0..).map(|(data, shard)| {
        let spec = WeightManifestSpec { manifest: name.clone(), shard, shards, data: data.into() };
        WeightManifest::new(&shard_name(&name, shard), spec)
    });
    let objects = objects.collect();
    Ok((objects, ManifestSource { path: None, inline: None, object: Some(ManifestObject { name, shards }) }))
}

/// Slices of which each takes no more than a shard may, as a string in JSON.
fn slices(text: &str) -> Vec<&str> {
    let mut slices = Vec::new();
    let (mut start, mut length) = (0, 0);
    for (at, character) in text.char_indices() {
        let bytes = match character {
            '"' | '\\' => 2,
            other if other.is_control() => 6,
            other => other.len_utf8(),
        };
        if length + bytes > MAX_SHARD_CHARACTERS {
            slices.push(&text[start..at]);
            (start, length) = (at, 0);
        }
        length += bytes;
    }
    slices.push(&text[start..]);
    slices
}

/// The objects as YAML documents.
///
/// # Errors
/// Where they cannot be written as YAML.
pub fn documents(objects: &[WeightManifest]) -> Result<String, CliError> {
    objects.iter().map(|object| Ok(format!("{}---\n", yaml(object)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::algorithm::Hashing;
    use crate::verifier::manifest::Files;

    #[test]
    fn shards_fit_and_are_the_canonical_manifest_together() {
        let mut files = Files::default();
        (0..5000).for_each(|n| files.push(&format!("ä\"{n:05}"), 1, 1).unwrap());
        let manifest = Manifest::new(Hashing::default(), files, vec![7; 5000 * 32]).unwrap();
        let (objects, source) = objects("orion", &manifest).unwrap();
        assert!(objects.len() > 1, "{}", objects.len());
        let object = source.object.unwrap();
        assert_eq!((object.name.as_str(), object.shards as usize), ("orion", objects.len()));
        assert_eq!(objects[1].metadata.name.as_deref(), Some("orion-1"));
        for object in &objects {
            assert!(serde_json::to_string(&object.spec.data).unwrap().len() <= MAX_SHARD_CHARACTERS + 2);
        }
        let text: String = objects.into_iter().map(|object| object.spec.data).collect();
        let mut canonical = Vec::new();
        manifest.write_canonical(&mut canonical).unwrap();
        assert_eq!(text.as_bytes(), canonical);
    }
}
