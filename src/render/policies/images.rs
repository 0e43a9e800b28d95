//! Images that are weights (WL-101), and images of which that cannot be told (WL-115).

use super::pods::{Concern, PodAt, PodRule, gate};
use super::{Check, Namespaces, Parameter, Policy, cel, cluster_namespaces, fallback, rule, tag};
use crate::api::{IndexPart, WeightIndexSpec};
use crate::domain::Rule;
use crate::domain::world::Settings;

/// What keys of images begin with: as such they are among the parents in the index.
const KINDS: [&str; 2] = ["v1:image:", "v1:repository:"];

/// Whether a shard of the index has images.
pub fn registered(shard: &WeightIndexSpec) -> bool {
    KINDS.iter().any(|kind| shard.parents.contains_key(*kind))
}

/// The image of a running pod can be changed.
pub fn updates(settings: &Settings) -> Policy {
    let PodRule { concerned, variables, check, .. } = pods(PodAt::Itself);
    let gate = gate(PodAt::Itself, &[concerned]);
    Policy {
        name: "pod-images",
        parameter: Parameter::EveryShard(IndexPart::Storage),
        actions: &["Deny"],
        rules: vec![rule("", &["v1"], &["pods"], &["UPDATE"])],
        scope: Namespaces::Except(cluster_namespaces(settings)),
        variables,
        gate: Some(gate),
        checks: vec![check],
    }
}

/// An image that is registered is run or mounted only where it is permitted.
pub fn pods(at: PodAt) -> PodRule {
    let containers = |spec: &str, list: &str| {
        format!(
            "(has({spec}.{list}) ? {spec}.{list}.filter(c, has(c.image)).map(c, {{'of': 'container \"' + c.name + '\"', 'image': string(c.image).trim()}}) : [])"
        )
    };
    let all = |spec: &str| {
        let containers = cel::CONTAINERS.map(|list| containers(spec, list));
        format!(
            "{} + (has({spec}.volumes) ? {spec}.volumes.filter(v, has(v.image) && has(v.image.reference)).map(v, {{'of': 'volume \"' + v.name + '\"', 'image': string(v.image.reference).trim()}}) : [])",
            containers.join(" + ")
        )
    };
    let spec = at.spec();
    let mut variables = cel::membership();
    variables.extend([
        ("kinds", format!("['{}', '{}'].filter(k, k in params.spec.parents)", KINDS[0], KINDS[1])),
        ("before", format!("request.operation == 'UPDATE' ? ({}).map(i, i.image) : []", all(&at.old_spec()))),
        (
            "images",
            format!(
                "variables.audit ? [] : ({}).filter(i, !(i.image in variables.before))",
                all(&spec)
            ),
        ),
        (
            "weights",
            format!(
                "variables.images.map(i, {{'of': dyn(i.of), 'image': dyn(i.image), 'keys': dyn({}.filter(k, k in params.spec.keys && !{}))}})",
                keys("i.image"),
                cel::permitted("params.spec.keys[k]")
            ),
        ),
    ]);
    let entry = "params.spec.keys[i.keys[0]]";
    let weights = format!(
        "variables.weights.filter(i, size(i.keys) > 0).map(i, {} + i.of + ' has image \"' + i.image + '\", which is ' + {} + ' (' + i.keys[0] + ')' + {})",
        tag(Rule::NotPermittedHere),
        cel::artifact(entry),
        cel::not_permitted(entry, "request.namespace", "run in")
    );
    let kind = "params.spec.parents[variables.kinds[0]]";
    let ids = format!(
        "(size(variables.kinds) == 0 ? [] : variables.images.filter(i, {}).map(i, {} + i.of + ' has image \"' + i.image + '\", an ID, of which it cannot be told whether the image is ' + {} + '. Remedy: name the image by its repository, with a tag or a digest' + {}))",
        is_id("i.image"),
        tag(Rule::ImageById),
        cel::artifact(kind),
        cel::ask(kind)
    );
    let fallback = fallback(
        Rule::NotPermittedHere,
        "an image of this pod is registered weights, which are not permitted in its namespace",
    );
    let concerned = Concern {
        container: Some(format!("(has(c.image) && {})", may_be("c.image"))),
        volume: Some(format!("(has(v.image) && has(v.image.reference) && {})", may_be("v.image.reference"))),
        pod: None,
    };
    let check = Check { violations: format!("{weights} + {ids}"), unless: None, fallback };
    PodRule { sharded: true, concerned, variables, check }
}

/// Whether a reference is an ID: `domain::backend::is_id`.
fn is_id(image: &str) -> String {
    format!("({image}.startsWith('sha256:') && !{image}.contains('/') && !{image}.contains('@'))")
}

/// Whether a reference may be one that the rule is about: true of all that are, and told without their canonical form, which
/// would cost more than all else that is asked of an ordinary pod.
fn may_be(image: &str) -> String {
    let known = |name: &str| {
        format!("{name}.substring({name}.lastIndexOf('/') + 1).split(':')[0].trim() in params.spec.images")
    };
    let digest = format!("('v1:image:' + {image}.substring({image}.indexOf('@') + 1).trim()) in params.spec.keys");
    let id = format!("{image}.contains('sha256:') && !{image}.contains('/')");
    format!(
        "({image}.contains('@') ? {digest} || {} : {} || ({id}))",
        known(&format!("{image}.split('@')[0]")),
        known(image)
    )
}

/// The keys of a reference: what `domain::backend::Reference` says in Rust.
fn keys(image: &str) -> String {
    let digest = format!("({image}.contains('@') ? ['v1:image:' + {image}.substring({image}.indexOf('@') + 1)] : [])");
    // What comes before the first slash, if that is a host.
    let hosted = "name.contains('/') && (first.contains('.') || first.contains(':') || first == 'localhost' || first != first.lowerAscii())";
    let host = cel::bind(
        "host",
        &format!("{hosted} ? first.lowerAscii() : 'docker.io'"),
        &cel::bind(
            "host",
            // Zeros before a port are none of it.
            "host.matches(':[0-9]{1,9}$') ? (int(host.substring(host.lastIndexOf(':') + 1)) == 443 ? host.substring(0, host.lastIndexOf(':')) : host.substring(0, host.lastIndexOf(':') + 1) + string(int(host.substring(host.lastIndexOf(':') + 1)))) : host",
            &cel::bind(
                "host",
                "host == 'index.docker.io' ? 'docker.io' : host",
                &cel::bind(
                    "rest",
                    &format!("{hosted} ? name.substring(size(first) + 1) : name"),
                    &cel::bind(
                        "path",
                        "rest.lastIndexOf(':') > rest.lastIndexOf('/') ? rest.substring(0, rest.lastIndexOf(':')) : rest",
                        "host + '/' + (host == 'docker.io' && !path.contains('/') ? 'library/' : '') + path",
                    ),
                ),
            ),
        ),
    );
    let repository =
        cel::bind("name", &format!("{image}.split('@')[0]"), &cel::bind("first", "name.split('/')[0]", &host));
    format!("({digest} + ['v1:repository:' + {repository}])")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_is_asked_about_images_whatever_stands_in_the_others() {
        // The kinds of keys are parents, each in one shard only: what depends on them must not decide whether images are looked up.
        let rule = pods(PodAt::Itself);
        let variable =
            |name: &str| rule.variables.iter().find(|(n, _)| *n == name).map(|(_, text)| text.clone()).unwrap();
        for name in ["images", "weights"] {
            assert!(!variable(name).contains("kinds"), "{name}");
        }
        let (weights, ids) = rule.check.violations.split_once(" + (size(variables.kinds)").unwrap();
        assert!(!weights.contains("kinds") && ids.contains("variables.kinds[0]"));
    }
}
