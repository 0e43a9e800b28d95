//! Each rule in the schemas, with an object that keeps it and one that breaks it.

mod environments;
mod index;

use kube::api::{Patch, PatchParams, ValidationDirective};
use serde_json::{Value, json};

use crate::harness::{self, yaml};
use environments::{ENVIRONMENT, ENVIRONMENT_CASES};

const ARTIFACT: &str = r#"
apiVersion: weightlock.dev/v1alpha1
kind: WeightArtifact
metadata: {name: orion}
spec:
  type: FineTune
  model: {name: orion-70b, version: v3}
  manifestDigest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  manifest: {path: .weightlock/manifest.json}
  locations:
  - {name: serving, role: Serving, persistentVolumeClaim: {namespace: llm, name: orion}, path: v3}
  permittedEnvironments: [{name: inference}]
  contact: weights-team@example.com
"#;

/// What becomes of the base once a merge patch was put over it: accepted, or refused with a message.
struct Case {
    patch: &'static str,
    refusal: Option<&'static str>,
}

const fn accepted(patch: &'static str) -> Case {
    Case { patch, refusal: None }
}

const fn refused(patch: &'static str, message: &'static str) -> Case {
    Case { patch, refusal: Some(message) }
}

const MANIFEST: &str = r#"
apiVersion: weightlock.dev/v1alpha1
kind: WeightManifest
metadata: {name: orion-1}
spec: {manifest: orion, shard: 1, shards: 2, data: "x"}
"#;

const INCIDENT: &str = r#"
apiVersion: weightlock.dev/v1alpha1
kind: WeightIncident
metadata: {name: tampered-0123456789abcdef}
spec:
  reason: Tampered
  artifact: orion
  manifestDigest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  backendKeys: ["v1:nfs:nas:/models/orion"]
  pod: {namespace: llm, name: vllm-0, uid: u1, node: node1}
  message: "Drift"
"#;

const INCIDENT_CASES: &[Case] = &[
    accepted("{}"),
    accepted("spec: {backendKeys: []}"),
    refused("spec: {manifestDigest: 'sha256:0'}", "spec.manifestDigest"),
    refused("spec: {reason: Other}", "Unsupported value: \"Other\""),
    refused("spec: {backendKeys: [a, a]}", "Duplicate value"),
    refused("spec: {pod: null}", "spec.pod"),
    refused(
        "metadata: {name: a23456789-123456789-123456789-123456789-123456789-123456789-1234}",
        "the name of a WeightIncident has at most 63 characters",
    ),
];

const ARTIFACT_CASES: &[Case] = &[
    accepted("{}"),
    // Names stand in labels.
    accepted("metadata: {name: a23456789-123456789-123456789-123456789-123456789-123456789-123}"),
    refused(
        "metadata: {name: a23456789-123456789-123456789-123456789-123456789-123456789-1234}",
        "the name of a WeightArtifact has at most 63 characters",
    ),
    // Layout and formats.
    accepted("spec: {layout: Directory}"),
    accepted("spec: {layout: HuggingFaceCache, revision: 0123456789abcdef0123456789abcdef01234567}"),
    refused("spec: {layout: HuggingFaceCache}", "revision is required with layout: HuggingFaceCache"),
    refused(
        "spec: {revision: 0123456789abcdef0123456789abcdef01234567}",
        "revision is required with layout: HuggingFaceCache",
    ),
    refused("spec: {layout: HuggingFaceCache, revision: main}", "spec.revision"),
    accepted("spec: {formats: [Safetensors, GGUF]}"),
    refused("spec: {formats: []}", "spec.formats"),
    refused("spec: {formats: [safetensors]}", "spec.formats"),
    refused("spec: {formats: [GGUF, GGUF]}", "Duplicate value"),
    // Digest and manifest.
    accepted("spec: {manifestDigest: null, manifest: null}"),
    accepted("spec: {manifestDigest: null}"),
    refused("spec: {manifest: null}", "manifest is required with manifestDigest"),
    refused("spec: {manifestDigest: 'sha256:XYZ'}", "spec.manifestDigest"),
    refused(
        "spec: {manifestDigest: 'sha512:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}",
        "spec.manifestDigest",
    ),
    accepted(
        "spec: {manifest: {path: null, inline: [{path: a, size: 1, sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]}}",
    ),
    refused(
        "spec: {manifest: {inline: [{path: a, size: 1, sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]}}",
        "manifest takes exactly one of: path, inline, object.",
    ),
    accepted("spec: {manifest: {path: null, object: {name: orion, shards: 2}}}"),
    refused(
        "spec: {manifest: {object: {name: orion, shards: 2}}}",
        "manifest takes exactly one of: path, inline, object.",
    ),
    refused("spec: {manifest: {path: null, object: {name: orion, shards: 65}}}", "less than or equal to 64"),
    refused("spec: {manifest: {path: null}}", "manifest takes exactly one of: path, inline, object."),
    refused(
        "spec: {manifest: {path: null, inline: [{path: a, size: -1, sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]}}",
        "size",
    ),
    accepted("spec: {manifest: {path: a/b.json}}"),
    refused("spec: {manifest: {path: /etc/passwd}}", "manifest.path is relative"),
    refused("spec: {manifest: {path: a/../../b}}", "manifest.path is relative"),
    refused("spec: {manifest: {path: a//b}}", "manifest.path is relative"),
    // Producers.
    accepted("spec: {producers: [{environment: training, serviceAccounts: [trainer]}]}"),
    accepted(
        "spec: {manifestDigest: null, manifest: null, producers: [{environment: training, serviceAccounts: ['*']}], writes: Frozen}",
    ),
    refused("spec: {producers: [{environment: training, serviceAccounts: []}]}", "spec.producers[0].serviceAccounts"),
    refused("spec: {producers: [{environment: training}]}", "spec.producers[0].serviceAccounts"),
    refused(
        "spec: {producers: [{environment: a, serviceAccounts: [x]}, {environment: a, serviceAccounts: [y]}]}",
        "Duplicate value",
    ),
    refused("spec: {writes: Never}", "Unsupported value: \"Never\""),
    // Signatures.
    accepted(
        "spec: {signature: {bundlePath: model.sig, authorities: [{name: release-2026, publicKey: {pem: '-----BEGIN PUBLIC KEY-----'}}]}}",
    ),
    accepted(
        "spec: {signature: {bundlePath: a/b.sig, allow: [IgnorePaths, Symlinks, StatementV01], authorities: [{name: ca, certificate: {rootsPem: '-----BEGIN CERTIFICATE-----', identity: a@example.com, validAt: '2026-01-01T00:00:00Z'}}, {name: keyless, sigstore: {identity: a@example.com, issuer: 'https://issuer.example.com', trustedRoot: '{}'}}]}}",
    ),
    refused(
        "spec: {manifestDigest: null, signature: {bundlePath: a, authorities: [{name: a, publicKey: {pem: '-----BEGIN PUBLIC KEY-----'}}]}}",
        "signature requires manifestDigest",
    ),
    refused(
        "spec: {signature: {bundlePath: ../a, authorities: [{name: a, publicKey: {pem: '-----BEGIN PUBLIC KEY-----'}}]}}",
        "signature.bundlePath is relative",
    ),
    refused("spec: {signature: {bundlePath: a, authorities: []}}", "authorities"),
    refused("spec: {signature: {bundlePath: a}}", "authorities"),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a}]}}",
        "an authority takes exactly one of: publicKey, certificate, sigstore.",
    ),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a, publicKey: {pem: '-----BEGIN PUBLIC KEY-----'}, sigstore: {identity: i, issuer: 'https://i'}}]}}",
        "an authority takes exactly one of: publicKey, certificate, sigstore.",
    ),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a, publicKey: {pem: '-----BEGIN PUBLIC KEY-----'}}, {name: a, publicKey: {pem: '-----BEGIN PUBLIC KEY-----'}}]}}",
        "Duplicate value",
    ),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a, publicKey: {pem: '-----BEGIN PRIVATE KEY-----'}}]}}",
        "publicKey.pem is a public key in PEM",
    ),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a, certificate: {rootsPem: x, identity: i}}]}}",
        "certificate.rootsPem is one or more certificates in PEM",
    ),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a, certificate: {rootsPem: '-----BEGIN CERTIFICATE-----'}}]}}",
        "identity",
    ),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a, certificate: {rootsPem: '-----BEGIN CERTIFICATE-----', identity: i, validAt: yesterday}}]}}",
        "validAt",
    ),
    refused(
        "spec: {signature: {bundlePath: a, authorities: [{name: a, sigstore: {identity: i, issuer: 'http://i'}}]}}",
        "sigstore.issuer is the https:// URL of an OpenID Connect issuer.",
    ),
    refused(
        "spec: {signature: {bundlePath: a, allow: [Anything], authorities: [{name: a, publicKey: {pem: '-----BEGIN PUBLIC KEY-----'}}]}}",
        "Unsupported value",
    ),
    // Locations.
    accepted(
        "spec: {locations: [{name: a, role: Backup, csi: {driver: efs.csi.aws.com, volumeHandle: 'fs-0123::fsap-9'}}]}",
    ),
    accepted("spec: {locations: [{name: a, role: Primary, nfs: {server: nas.example.com, path: /models}}]}"),
    accepted("spec: {locations: [{name: a, role: Cache, hostPath: {path: /mnt/weights}}]}"),
    refused(
        "spec: {locations: [{name: a, role: Cache}]}",
        "a location takes exactly one of: persistentVolumeClaim, csi, nfs, hostPath, image.",
    ),
    refused(
        "spec: {locations: [{name: a, role: Cache, hostPath: {path: /a}, nfs: {server: s, path: /a}}]}",
        "a location takes exactly one of: persistentVolumeClaim, csi, nfs, hostPath, image.",
    ),
    refused(
        "spec: {locations: [{name: a, role: Cache, hostPath: {path: /a}}, {name: a, role: Cache, hostPath: {path: /b}}]}",
        "Duplicate value",
    ),
    refused("spec: {locations: []}", "spec.locations"),
    refused("spec: {locations: [{name: A_b, role: Cache, hostPath: {path: /a}}]}", "name"),
    accepted("spec: {locations: [{name: a, role: Cache, hostPath: {path: /a}, path: v3/sub}]}"),
    refused("spec: {locations: [{name: a, role: Cache, hostPath: {path: /a}, path: ../b}]}", "path is relative"),
    refused("spec: {locations: [{name: a, role: Cache, hostPath: {path: a/b}}]}", "hostPath.path is absolute"),
    refused("spec: {locations: [{name: a, role: Cache, hostPath: {path: /}}]}", "hostPath.path is absolute"),
    refused("spec: {locations: [{name: a, role: Cache, hostPath: {path: //./}}]}", "hostPath.path is absolute"),
    refused("spec: {locations: [{name: a, role: Cache, hostPath: {path: /a/../b}}]}", "hostPath.path is absolute"),
    refused("spec: {locations: [{name: a, role: Cache, hostPath: {path: /a/..}}]}", "hostPath.path is absolute"),
    accepted("spec: {locations: [{name: a, role: Cache, hostPath: {path: /...}}]}"),
    accepted("spec: {locations: [{name: a, role: Cache, hostPath: {path: /a..b/..c}}]}"),
    accepted(
        "spec: {locations: [{name: a, role: Cache, hostPath: {path: /a}, aliases: [{hostPath: {path: /b}}, {nfs: {server: s, path: /a}}]}]}",
    ),
    refused(
        "spec: {locations: [{name: a, role: Cache, hostPath: {path: /a}, aliases: [{}]}]}",
        "an alias takes exactly one of: csi, nfs, hostPath, image.",
    ),
    accepted(
        "spec: {locations: [{name: a, role: Serving, image: {digest: 'sha256:5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d', repositories: ['registry.example.com:5000/models/orion', orion]}}]}",
    ),
    refused("spec: {locations: [{name: a, role: Serving, image: {digest: 'sha256:5c1e'}}]}", "digest"),
    refused(
        "spec: {locations: [{name: a, role: Serving, image: {digest: 'sha256:5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d5c1e0b7d', repositories: ['orion:v3']}}]}",
        "repositories",
    ),
    refused(
        "spec: {locations: [{name: a, role: Cache, csi: {driver: nfs.CSI.k8s.io, volumeHandle: h}}]}",
        "handles of nfs.csi.k8s.io and smb.csi.k8s.io are free text",
    ),
    refused(
        "spec: {locations: [{name: a, role: Cache, csi: {driver: ' d', volumeHandle: h}}]}",
        "csi.driver has no spaces around it",
    ),
    refused(
        "spec: {locations: [{name: a, role: Cache, csi: {driver: d, volumeHandle: ' '}}]}",
        "csi.volumeHandle has no spaces around it",
    ),
    refused(
        "spec: {locations: [{name: a, role: Cache, nfs: {server: '10.7', path: /a}}]}",
        "nfs.server is a host name",
    ),
    refused("spec: {locations: [{name: a, role: Cache, nfs: {server: x/y, path: /a}}]}", "nfs.server is a host name"),
    refused("spec: {locations: [{name: a, role: Cache, nfs: {server: s, path: models}}]}", "nfs.path is absolute"),
    refused("spec: {locations: [{name: a, role: Cache, nfs: {server: s, path: /a/../b}}]}", "nfs.path is absolute"),
    refused("spec: {locations: [{name: a, role: Other, hostPath: {path: /a}}]}", "Unsupported value: \"Other\""),
    // Environments. One that does not exist is a condition, not a refusal.
    accepted("spec: {permittedEnvironments: [{name: no-such-environment}, {name: nor-this}]}"),
    accepted("spec: {locations: [{name: a, role: Cache, persistentVolumeClaim: {namespace: no-such, name: no-such}}]}"),
    refused("spec: {permittedEnvironments: []}", "spec.permittedEnvironments"),
    refused("spec: {permittedEnvironments: null}", "spec.permittedEnvironments"),
    refused("spec: {permittedEnvironments: [{name: a}, {name: a}]}", "Duplicate value"),
    refused("spec: {contact: ''}", "spec.contact"),
    refused("spec: {type: Toy}", "Unsupported value: \"Toy\""),
];

async fn check(base: &str, cases: &[Case]) {
    // Incidents are written by the controller alone, where the policies are in force.
    let client = harness::controller().await;
    harness::install_definitions(&client).await;
    let mut wrong = Vec::new();
    for case in cases {
        let mut object = yaml(base);
        object["metadata"]["name"] = harness::unique("case").into();
        json_patch::merge(&mut object, &yaml(case.patch));
        let outcome = harness::try_create(&client, &object).await;
        match (&outcome, case.refusal) {
            (Ok(_), None) => {}
            (Err(said), Some(expected)) if said.contains(expected) && said.starts_with("422") => {}
            (Ok(_), Some(expected)) => wrong.push(format!("accepted: {}\n  expected refusal: {expected}", case.patch)),
            (Err(said), None) => wrong.push(format!("refused: {}\n  with: {said}", case.patch)),
            (Err(said), Some(expected)) => {
                wrong.push(format!("{}\n  refused with: {said}\n  expected: {expected}", case.patch));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn weight_artifacts() {
    check(ARTIFACT, ARTIFACT_CASES).await;
}

#[tokio::test]
async fn weight_environments() {
    check(ENVIRONMENT, ENVIRONMENT_CASES).await;
}

#[tokio::test]
async fn weight_incidents() {
    check(INCIDENT, INCIDENT_CASES).await;
}

/// Creates an object whose specification cannot be changed, and deletes it.
async fn is_deleted_but_not_changed(mut object: Value, change: Value, refusal: &str) {
    let client = harness::controller().await;
    harness::install_definitions(&client).await;
    object["metadata"]["name"] = harness::unique("unchanged").into();
    harness::create(&client, &object).await.expect("an object");
    let said = harness::merge(&client, &object, &change).await.expect_err("changed");
    assert!(said.contains(refusal), "{said}");
    harness::delete(&harness::client().await, &object).await;
}

#[tokio::test]
async fn an_incident_is_deleted_but_not_changed() {
    is_deleted_but_not_changed(yaml(INCIDENT), json!({"spec": {"backendKeys": []}}), UNCHANGED).await;
}

const MANIFEST_CASES: &[Case] = &[
    refused("spec: {shard: 2}", "shard is a number from 0 to shards - 1."),
    refused("spec: {data: ''}", "should be at least 1 chars long"),
    refused("spec: {shards: 65}", "less than or equal to 64"),
    refused(
        "{metadata: {name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}",
        "the name of a WeightManifest has at most 63 characters",
    ),
];

#[tokio::test]
async fn weight_manifests() {
    check(MANIFEST, MANIFEST_CASES).await;
}

#[tokio::test]
async fn a_weight_manifest_is_deleted_but_not_changed() {
    is_deleted_but_not_changed(yaml(MANIFEST), json!({"spec": {"data": "y"}}), MANIFEST_UNCHANGED).await;
}

const MANIFEST_UNCHANGED: &str = "a manifest is not changed";
const UNCHANGED: &str = "an incident is not changed";

/// Every rule of the schemas has a case that is refused with its message.
#[test]
fn every_rule_has_its_refusal() {
    fn messages(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                    found.push(rule["message"].as_str().unwrap_or_default().to_string());
                }
                map.values().for_each(|v| messages(v, found));
            }
            Value::Array(list) => list.iter().for_each(|v| messages(v, found)),
            _ => {}
        }
    }
    let mut rules = Vec::new();
    for definition in weightlock::api::definitions().iter().filter(|d| d.spec.names.kind != "WeightIndex") {
        messages(&serde_json::to_value(definition).unwrap(), &mut rules);
    }
    assert!(rules.len() > 10, "{rules:?}");
    let refusals: Vec<&str> = ARTIFACT_CASES
        .iter()
        .chain(ENVIRONMENT_CASES)
        .chain(INCIDENT_CASES)
        .chain(MANIFEST_CASES)
        .filter_map(|c| c.refusal)
        .chain([SEALED, UNCHANGED, MANIFEST_UNCHANGED])
        .collect();
    for rule in rules {
        assert!(refusals.iter().any(|r| rule.contains(r)), "no case is refused with: {rule}");
    }
}

const SEALED: &str = "manifestDigest seals the artifact for ever";

#[tokio::test]
async fn a_digest_is_set_once() {
    let client = harness::client().await;
    harness::install_definitions(&client).await;
    let name = harness::unique("sealed");
    let mut open = yaml(ARTIFACT);
    open["metadata"]["name"] = name.clone().into();
    let digest = open["spec"]["manifestDigest"].clone();
    json_patch::merge(&mut open, &yaml("spec: {manifestDigest: null}"));
    harness::create(&client, &open).await.expect("an open artifact");

    harness::merge(&client, &open, &json!({"spec": {"manifestDigest": digest}})).await.expect("sealing");
    let other = format!("sha256:{}", "f".repeat(64));
    for attack in [json!({"spec": {"manifestDigest": other}}), json!({"spec": {"manifestDigest": null}})] {
        let said = harness::merge(&client, &open, &attack).await.expect_err("a sealed digest was changed");
        assert!(said.contains(SEALED), "{said}");
    }
    harness::merge(&client, &open, &json!({"spec": {"contact": "another-team@example.com"}})).await.expect("the rest");
    harness::api_of(&client, &open).delete(&name, &Default::default()).await.expect("deletion");
}

#[tokio::test]
async fn unknown_fields_are_named() {
    let client = harness::client().await;
    harness::install_definitions(&client).await;
    let mut object = yaml(ARTIFACT);
    object["metadata"]["name"] = harness::unique("unknown").into();
    object["spec"]["securityLevel"] = "SL3".into();
    let strictly = PatchParams {
        dry_run: true,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("weightlock-test")
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let refusal = harness::api_of(&client, &object).patch(name, &strictly, &Patch::Apply(&object)).await;
    let said = harness::message(refusal.expect_err("an unknown field"));
    assert!(said.contains("field not declared in schema") && said.contains("securityLevel"), "{said}");
}
