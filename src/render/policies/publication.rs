//! What leads clients to pods of an environment: published Services, Ingresses and routes (WL-405), and endpoints that
//! somebody wrote by hand (WL-406). Asked in namespaces whose admission is enforced.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use super::{Check, Namespaces, Parameter, Policy, cel, fallback, rule, tag};
use crate::domain::Rule;

/// The policies; none where there is no namespace to guard. `enforced`: the namespaces whose admission is enforced.
pub fn all(enforced: &[String]) -> Vec<Policy> {
    if enforced.is_empty() {
        return Vec::new();
    }
    vec![services(enforced), routes(enforced), endpoints(enforced)]
}

/// A Service is published only to addresses that the environment declares, and in a way in which they can be told. Its
/// endpoints are found by a selector.
fn services(enforced: &[String]) -> Policy {
    let mut variables = variables("object.spec != oldObject.spec");
    variables.extend([
        ("type", "has(object.spec.type) ? object.spec.type : 'ClusterIP'".to_string()),
        (
            "published",
            "variables.type in ['NodePort', 'LoadBalancer'] ? 'is of type ' + variables.type : has(object.spec.externalIPs) && size(object.spec.externalIPs) > 0 ? 'has externalIPs' : ''".into(),
        ),
        (
            "declared",
            "variables.reach == 'Addresses' && has(object.spec.externalTrafficPolicy) && object.spec.externalTrafficPolicy == 'Local'".into(),
        ),
    ]);
    let published = format!(
        "(variables.published == '' || variables.declared ? [] : [{} + 'Service ' + variables.subject + ' ' + variables.published + ', and so lets clients outside the cluster reach pods of an environment, as if they were the node. Remedy: ' + {}])",
        tag(Rule::Published),
        cel::literal(Rule::Published.describe().remedy)
    );
    let selectorless = format!(
        "(variables.type == 'ExternalName' || (has(object.spec.selector) && size(object.spec.selector) > 0) ? [] : [{} + 'Service ' + variables.subject + ' has no selector, so that somebody writes its endpoints by hand. Remedy: ' + {}])",
        tag(Rule::EndpointsByHand),
        cel::literal(Rule::EndpointsByHand.describe().remedy)
    );
    policy(
        "services",
        enforced,
        vec![rule("", &["v1"], &["services"], &["CREATE", "UPDATE"])],
        variables,
        &format!("{published} + {selectorless}"),
        Rule::Published,
    )
}

/// Clients come in through a proxy only where the environment lets any peer in.
fn routes(enforced: &[String]) -> Policy {
    let rules = vec![
        rule("networking.k8s.io", &["*"], &["ingresses"], &["CREATE", "UPDATE"]),
        rule(
            "gateway.networking.k8s.io",
            &["*"],
            &["httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes", "referencegrants"],
            &["CREATE", "UPDATE"],
        ),
        rule("route.openshift.io", &["*"], &["routes"], &["CREATE", "UPDATE"]),
    ];
    let violations = format!(
        "variables.reach != 'Nobody' ? [] : [{} + request.kind.kind + ' ' + variables.subject + ' leads clients to pods of an environment that lets nobody in. Remedy: ' + {}]",
        tag(Rule::Published),
        cel::literal(Rule::Published.describe().remedy)
    );
    policy("routes", enforced, rules, variables("object.spec != oldObject.spec"), &violations, Rule::Published)
}

/// Endpoints are written by the cluster's own controllers. A parameter that is lost would stop them, so this takes none.
fn endpoints(enforced: &[String]) -> Policy {
    let rules = vec![
        rule("discovery.k8s.io", &["*"], &["endpointslices"], &["CREATE", "UPDATE"]),
        rule("", &["v1"], &["endpoints"], &["CREATE", "UPDATE"]),
    ];
    let changed = |field: &str| {
        format!(
            "(has(object.{field}) != has(oldObject.{field}) || (has(object.{field}) && object.{field} != oldObject.{field}))"
        )
    };
    let asked = asked(&["endpoints", "ports", "subsets"].map(changed).join(" || "));
    let violations = format!(
        "{} ? [] : [{} + request.kind.kind + ' ' + variables.subject + ' is written by \"' + request.userInfo.username + '\", which is none of the controllers of the cluster. Remedy: ' + {}]",
        cel::cluster(),
        tag(Rule::EndpointsByHand),
        cel::literal(Rule::EndpointsByHand.describe().remedy)
    );
    let variables = vec![("asked", asked), subject()];
    let policy = policy("endpoints", enforced, rules, variables, &violations, Rule::EndpointsByHand);
    Policy { parameter: Parameter::None, ..policy }
}

/// What Services and routes are asked with. `changed`: as for [`asked`].
fn variables(changed: &str) -> Vec<(&'static str, String)> {
    let mut variables = cel::membership();
    let here = "params.spec.members[request.namespace]";
    variables.extend([
        ("asked", format!("!variables.audit && {}", asked(changed))),
        ("reach", format!("variables.environment != '' && has({here}.reach) ? {here}.reach : 'Nobody'")),
        subject(),
    ]);
    variables
}

/// `changed`: CEL of whether an update changes what the rule is about; what is as it was may stay, so that controllers
/// can write the status and finalizers of objects from before.
fn asked(changed: &str) -> String {
    // The API server itself writes Service and endpoints `kubernetes` of namespace `default`.
    format!("request.userInfo.username != 'system:apiserver' && (request.operation == 'CREATE' || {changed})")
}

/// Namespace and name of the object; its prefix while it has no name yet.
fn subject() -> (&'static str, String) {
    ("subject", format!("'\"' + request.namespace + '/' + ({}) + '\"'", cel::NAME))
}

fn policy(
    name: &'static str,
    enforced: &[String],
    rules: Vec<NamedRuleWithOperations>,
    variables: Vec<(&'static str, String)>,
    violations: &str,
    rule: Rule,
) -> Policy {
    Policy {
        name,
        parameter: Parameter::FirstShard,
        actions: &["Deny"],
        rules,
        scope: Namespaces::Only(enforced.to_vec()),
        variables,
        gate: None,
        checks: vec![Check {
            violations: format!("!variables.asked ? [] : ({violations})"),
            unless: None,
            fallback: fallback(rule, rule.describe().title),
        }],
    }
}
