//! The definitions in `crds/` and in the chart are the ones that the types give, and everything in them is bounded.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use weightlock::api;

const DIRECTORIES: [&str; 2] = ["crds", "charts/weightlock/crds"];

#[test]
fn files_match_the_types() {
    let bless = std::env::var_os("WEIGHTLOCK_BLESS").is_some();
    let mut differing = Vec::new();
    for definition in api::definitions() {
        let text = api::to_yaml(&definition).unwrap();
        for directory in DIRECTORIES {
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(directory)
                .join(format!("{}.yaml", definition.spec.names.plural));
            if bless {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, &text).unwrap();
            } else if std::fs::read_to_string(&file).ok().as_deref() != Some(text.as_str()) {
                differing.push(format!("{directory}/{}.yaml", definition.spec.names.plural));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "not what src/api gives: {}. Write them anew with: WEIGHTLOCK_BLESS=1 cargo test --test crds",
        differing.join(", ")
    );
}

#[test]
fn yaml_reads_back_as_the_same_definition() {
    for definition in api::definitions() {
        let back: serde_json::Value = serde_saphyr::from_str(&api::to_yaml(&definition).unwrap()).unwrap();
        assert_eq!(back, serde_json::to_value(&definition).unwrap(), "{}", definition.spec.names.kind);
    }
}

#[test]
fn no_other_file_is_in_the_directories() {
    let expected: Vec<String> = api::definitions().iter().map(|d| format!("{}.yaml", d.spec.names.plural)).collect();
    for directory in DIRECTORIES {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(expected.contains(&name), "{directory}/{name} is no definition of ours");
        }
    }
}

#[test]
fn everything_is_bounded_and_described() {
    for definition in api::definitions() {
        let kind = &definition.spec.names.kind;
        assert_eq!(definition.spec.scope, "Cluster", "{kind}");
        assert_eq!(definition.spec.names.categories.as_deref(), Some(&["weights".to_string()][..]), "{kind}");
        assert!(definition.spec.names.short_names.as_ref().is_some_and(|n| !n.is_empty()), "{kind} has no short name");
        for version in &definition.spec.versions {
            assert!(
                version.additional_printer_columns.as_ref().is_some_and(|c| !c.is_empty()),
                "{kind} has no columns"
            );
            let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let mut problems = Vec::new();
            walk(root, kind, &mut problems);
            assert!(problems.is_empty(), "{}", problems.join("\n"));
        }
    }
}

fn walk(schema: &JSONSchemaProps, path: &str, problems: &mut Vec<String>) {
    let mut problem = |text: &str| problems.push(format!("{path}: {text}"));
    match schema.type_.as_deref() {
        Some("string") if schema.max_length.is_none() && schema.enum_.is_none() && schema.format.is_none() => {
            problem("a string without maxLength, enum or format");
        }
        Some("array") => {
            if schema.max_items.is_none() {
                problem("a list without maxItems");
            }
            if schema.x_kubernetes_list_type.is_none() {
                problem("a list without x-kubernetes-list-type");
            }
        }
        Some("object") if schema.additional_properties.is_some() && schema.max_properties.is_none() => {
            problem("a map without maxProperties");
        }
        Some("integer" | "boolean" | "string" | "object") => {}
        other => problem(&format!("type {other:?} is not expected")),
    }
    if schema.nullable.is_some() {
        problem("may be null: absence and null would differ");
    }
    if schema.x_kubernetes_preserve_unknown_fields.is_some() {
        problem("keeps unknown fields");
    }
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        if rule.message.as_deref().is_none_or(str::is_empty) && rule.message_expression.is_none() {
            problem(&format!("rule {:?} has no message", rule.rule));
        }
    }
    for (name, property) in schema.properties.iter().flatten() {
        if property.description.is_none() {
            problems.push(format!("{path}.{name}: no description"));
        }
        walk(property, &format!("{path}.{name}"), problems);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        walk(item, &format!("{path}[]"), problems);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        walk(value, &format!("{path}{{}}"), problems);
    }
}
