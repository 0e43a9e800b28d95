//! What the design relies on, of the API server itself. If one of these changes, so must the policies.

use serde_json::{Value, json};

use super::fixture::fixture;
use crate::harness;

/// A policy on ConfigMaps named `NAME` alone, with one validation.
fn policy(name: &str, expression: &str, kind: Option<&str>) -> Value {
    let mut policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"],
                "resourceNames": [name],
            }]},
            "validations": [{"expression": expression, "message": "the expression is false"}],
        },
    });
    if let Some(kind) = kind {
        policy["spec"]["paramKind"] = json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": kind});
    }
    policy
}

fn binding(name: &str, parameter: Option<(&str, &str)>) -> Value {
    let mut binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    if let Some((parameter, not_found)) = parameter {
        binding["spec"]["paramRef"] = json!({"name": parameter, "parameterNotFoundAction": not_found});
    }
    binding
}

fn config_map(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}})
}

/// Binds a policy and gives the answer to the creation of a ConfigMap, once it says `expected` or for good.
async fn answer(expression: &str, kind: Option<&str>, parameter: Option<(&str, &str)>, expected: Option<&str>) {
    let client = harness::client().await;
    let f = fixture().await;
    let name = harness::unique("weightlock-fact");
    harness::create(&client, &policy(&name, expression, kind)).await.expect("the policy");
    harness::create(&client, &binding(&name, parameter)).await.expect("the binding");
    if expected.is_none() {
        // An answer that does not come is only seen by waiting until the binding must be known.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    }
    harness::eventually(&format!("{expression} answers {expected:?}"), async || {
        let said = harness::try_create(&client, &config_map(&name, &f.outside)).await;
        match (&said, expected) {
            (Ok(_), None) => Ok(()),
            (Err(text), Some(part)) if text.contains(part) => Ok(()),
            _ => Err(format!("{said:?}")),
        }
    })
    .await;
    harness::delete(&client, &binding(&name, None)).await;
    harness::delete(&client, &policy(&name, expression, None)).await;
}

#[tokio::test]
async fn the_uid_of_the_namespace_is_there_but_not_in_its_type() {
    let client = harness::client().await;
    let f = fixture().await;
    let refusal = harness::create(
        &client,
        &policy(&harness::unique("weightlock-fact"), "namespaceObject.metadata.uid != ''", None),
    )
    .await;
    let said = refusal.expect_err("namespaceObject.metadata.uid is typed now: use it without dyn()");
    assert!(said.contains("undefined field 'uid'"), "{said}");
    let uid = &f.world.namespaces[&f.outside];
    answer(&format!("dyn(namespaceObject.metadata).uid == '{uid}'"), None, None, None).await;
    answer(&format!("dyn(namespaceObject.metadata).uid != '{uid}'"), None, None, Some("the expression is false")).await;
}

#[tokio::test]
async fn a_lost_parameter_denies_only_if_the_binding_says_so() {
    fixture().await;
    answer("true", Some("WeightIndex"), Some(("no-such-index", "Deny")), Some("no params found")).await;
    answer("false", Some("WeightIndex"), Some(("no-such-index", "Allow")), None).await;
}

#[tokio::test]
async fn a_lost_definition_of_the_parameter_refuses_everything_that_is_matched() {
    fixture().await;
    answer(
        "true",
        Some("WeightNothing"),
        Some(("x", "Allow")),
        Some("failed to find resource referenced by paramKind"),
    )
    .await;
}

#[tokio::test]
async fn a_lookup_by_key_of_a_missing_member_does_not_fail_open() {
    fixture().await;
    answer(
        "params.spec.keys['nothing'].of == ''",
        Some("WeightIndex"),
        Some(("weightlock-storage-0", "Deny")),
        Some("no such key: nothing"),
    )
    .await;
}

#[tokio::test]
async fn conditions_see_no_namespace_and_no_variables_and_leave_the_rest_out_where_they_are_false() {
    let client = harness::client().await;
    let f = fixture().await;
    let with = |name: &str, condition: &str| {
        let mut policy = policy(name, "namespaceObject == null", None);
        policy["spec"]["variables"] = json!([{"name": "nothing", "expression": "[]"}]);
        policy["spec"]["matchConditions"] = json!([{"name": "condition", "expression": condition}]);
        policy
    };
    let name = harness::unique("weightlock-fact");
    let refusal = harness::create(&client, &with(&name, "size(variables.nothing) == 0")).await;
    let said = refusal.expect_err("conditions see variables now: the gates can be made of them");
    assert!(said.contains("undeclared reference to 'variables'"), "{said}");
    for (condition, refused) in
        [("namespaceObject == null", true), ("namespaceObject != null", false), ("dyn({})['nothing'] == 1", true)]
    {
        let name = harness::unique("weightlock-fact");
        let policy = with(&name, condition);
        harness::create(&client, &policy).await.expect("the policy");
        harness::create(&client, &binding(&name, None)).await.expect("the binding");
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        harness::eventually(condition, async || {
            let said = harness::try_create(&client, &config_map(&name, &f.outside)).await;
            (said.is_err() == refused).then_some(()).ok_or_else(|| format!("{said:?}"))
        })
        .await;
        harness::delete(&client, &binding(&name, None)).await;
        harness::delete(&client, &policy).await;
    }
}
