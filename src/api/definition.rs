//! The CustomResourceDefinitions, bounded so that the API server can price every rule in them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

use super::{WeightArtifact, WeightEnvironment, WeightIncident, WeightIndex, WeightManifest};

/// Longest name of an artifact or environment: it stands in label values.
const MAX_NAME: i64 = 63;

/// The definitions of all custom resources, as they stand in `crds/` and in the chart.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        WeightArtifact::crd(),
        WeightEnvironment::crd(),
        WeightIncident::crd(),
        WeightIndex::crd(),
        WeightManifest::crd(),
    ];
    for definition in &mut all {
        let kind = definition.spec.names.kind.clone();
        for version in &mut definition.spec.versions {
            if let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
                refine(root);
                bound_name(root, &kind);
            }
        }
    }
    all
}

/// One definition as YAML, as it stands in its file.
///
/// # Errors
/// If the definition has no form in YAML, which would be a defect of this program.
pub fn to_yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(definition)
}

/// Names appear in label values, which are shorter than the names that the API server allows.
fn bound_name(root: &mut JSONSchemaProps, kind: &str) {
    root.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
        rule: format!("self.metadata.name.size() <= {MAX_NAME}"),
        message: Some(format!(
            "the name of a {kind} has at most {MAX_NAME} characters, since it is written into labels."
        )),
        ..Default::default()
    });
}

/// Removes what Kubernetes does not understand and bounds the types that are not ours.
fn refine(schema: &mut JSONSchemaProps) {
    // A member that may be null would make `has()` answer differently for "absent" and "null".
    schema.nullable = None;
    schema.title = None;
    if schema.format.as_deref().is_some_and(|f| f.starts_with("uint")) {
        schema.format = None;
    }
    if is_condition(schema) {
        bound_condition(schema);
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        refine(property);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(item)) => refine(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(refine),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut() {
        refine(value);
    }
}

fn is_condition(schema: &JSONSchemaProps) -> bool {
    schema.properties.as_ref().is_some_and(|p| p.contains_key("lastTransitionTime") && p.contains_key("reason"))
}

/// The bounds that Kubernetes itself documents for conditions; its generated type does not carry them.
fn bound_condition(schema: &mut JSONSchemaProps) {
    let Some(properties) = schema.properties.as_mut() else { return };
    for (name, max) in [("type", 316), ("reason", 1024), ("message", 32768)] {
        if let Some(property) = properties.get_mut(name) {
            property.max_length = Some(max);
        }
    }
    if let Some(status) = properties.get_mut("status") {
        status.enum_ = Some(["True", "False", "Unknown"].map(|s| JSON(s.into())).into());
    }
}
