//! What a WeightEnvironment may say.

use super::{Case, accepted, refused};

pub const ENVIRONMENT: &str = r#"
apiVersion: weightlock.dev/v1alpha1
kind: WeightEnvironment
metadata: {name: inference}
spec:
  purpose: Inference
  members: [{namespace: llm, serviceAccounts: [vllm]}]
  modes: {admission: Enforce, network: Enforce, verification: Enforce, egress: Audit}
  network:
    ingress: [{name: gateway, from: {pods: {namespace: gateway, labels: {app: gateway}}}, ports: [{protocol: TCP, port: 8000}]}]
    egress: [{name: store, to: {cidr: 10.20.0.0/24}, ports: [{protocol: TCP, port: 443}]}]
  verification: {reverifyInterval: 24h, maxBytesPerSecond: 200M}
  egressLimits: {initiated: {rate: 10M}, replies: {rate: 200M}}
"#;

pub const ENVIRONMENT_CASES: &[Case] = &[
    accepted(
        "spec: {delivery: {download: {images: [docker.io/kserve/storage-initializer, registry.example.com/fetch/]}}}",
    ),
    refused("spec: {delivery: {}}", "spec.delivery.download"),
    refused("spec: {delivery: {download: {images: []}}}", "spec.delivery.download.images"),
    refused("spec: {delivery: {download: {images: ['a b']}}}", "spec.delivery.download.images"),
    accepted("{}"),
    accepted("metadata: {name: a23456789-123456789-123456789-123456789-123456789-123456789-123}"),
    refused(
        "metadata: {name: a23456789-123456789-123456789-123456789-123456789-123456789-1234}",
        "the name of a WeightEnvironment has at most 63 characters",
    ),
    // Members. One that does not exist is a condition, not a refusal.
    accepted(
        "spec: {members: [{namespace: no-such-namespace, serviceAccounts: ['*'], uid: 0b9a9e0c-9f4e-4e8f-8c6e-6a3f4f1f2a11}]}",
    ),
    refused("spec: {members: []}", "spec.members"),
    refused("spec: {members: [{namespace: a, serviceAccounts: []}]}", "serviceAccounts"),
    refused(
        "spec: {members: [{namespace: a, serviceAccounts: [x]}, {namespace: a, serviceAccounts: [y]}]}",
        "Duplicate value",
    ),
    refused("spec: {members: [{namespace: a, serviceAccounts: [x, x]}]}", "Duplicate value"),
    refused(
        "spec: {members: [{namespace: kube-system, serviceAccounts: [x]}]}",
        "kube-system cannot belong to an environment",
    ),
    // Modes.
    refused("spec: {modes: {network: null}}", "spec.modes.network"),
    refused("spec: {modes: {network: Disabled}}", "Unsupported value: \"Disabled\""),
    // Peers and ports.
    accepted("spec: {network: {egress: [{name: a, to: {self: {}}, ports: [{protocol: TCP, port: 1}]}]}}"),
    accepted(
        "spec: {network: {egress: [{name: a, to: {environment: no-such-environment}, ports: [{protocol: UDP, port: 1}]}]}}",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {}, ports: [{protocol: TCP, port: 1}]}]}}",
        "a peer takes exactly one of: environment, self, pods, cidr.",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {self: {}, cidr: 10.0.0.0/24}, ports: [{protocol: TCP, port: 1}]}]}}",
        "a peer takes exactly one of: environment, self, pods, cidr.",
    ),
    refused("spec: {network: {egress: [{name: a, to: {self: {}}, ports: []}]}}", "ports"),
    refused(
        "spec: {network: {ingress: [{name: a, from: {pods: {namespace: n, labels: {}}}, ports: [{protocol: TCP, port: 1}]}]}}",
        "labels",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {self: {}}, ports: [{protocol: TCP, port: 1}]}, {name: a, to: {self: {}}, ports: [{protocol: TCP, port: 2}]}]}}",
        "Duplicate value",
    ),
    accepted("spec: {network: {egress: [{name: a, to: {self: {}}, ports: [{protocol: TCP, port: 10, endPort: 20}]}]}}"),
    refused(
        "spec: {network: {egress: [{name: a, to: {self: {}}, ports: [{protocol: TCP, port: 20, endPort: 10}]}]}}",
        "endPort is not below port.",
    ),
    refused("spec: {network: {egress: [{name: a, to: {self: {}}, ports: [{protocol: TCP, port: 65536}]}]}}", "port"),
    // Addresses.
    accepted(
        "spec: {network: {egress: [{name: a, to: {cidr: '2001:db8::/32'}, ports: [{protocol: TCP, port: 443}]}]}}",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {cidr: 10.20.0.0}, ports: [{protocol: TCP, port: 443}]}]}}",
        "cidr is an IPv4 or IPv6 network",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {cidr: 10.20.0.0/33}, ports: [{protocol: TCP, port: 443}]}]}}",
        "cidr is an IPv4 or IPv6 network",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {cidr: 0.0.0.0/0}, ports: [{protocol: TCP, port: 443}]}]}}",
        "write network.openEgress: Acknowledged.",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {cidr: '::/0'}, ports: [{protocol: TCP, port: 443}]}]}}",
        "write network.openEgress: Acknowledged.",
    ),
    refused(
        "spec: {network: {egress: [{name: a, to: {cidr: 128.0.0.0/1}, ports: [{protocol: TCP, port: 443}]}]}}",
        "write network.openEgress: Acknowledged.",
    ),
    accepted(
        "spec: {network: {openEgress: Acknowledged, egress: [{name: a, to: {cidr: 0.0.0.0/0}, ports: [{protocol: TCP, port: 443}]}]}}",
    ),
    // Rates.
    accepted("spec: {egressLimits: null}"),
    accepted("spec: {egressLimits: {initiated: null, replies: {rate: 1.5G}}}"),
    refused(
        "spec: {egressLimits: {initiated: null, replies: null}}",
        "egressLimits takes at least one of: initiated, replies.",
    ),
    refused("spec: {egressLimits: {initiated: {rate: 10 Mbit}}}", "rate is a positive quantity of bits per second"),
    refused("spec: {egressLimits: {initiated: {rate: '0'}}}", "rate is a positive quantity of bits per second"),
    refused("spec: {egressLimits: {initiated: {rate: -1M}}}", "rate is a positive quantity of bits per second"),
    // Verification again.
    accepted("spec: {verification: null}"),
    accepted("spec: {verification: {reverifyInterval: 1h30m, maxBytesPerSecond: null}}"),
    accepted("spec: {verification: {reverifyInterval: 1s, resources: {cpu: '1', memory: 1Gi}}}"),
    refused("spec: {verification: {reverifyInterval: 500ms}}", "reverifyInterval is a duration from 1s to 8760h"),
    refused("spec: {verification: {reverifyInterval: 9000h}}", "reverifyInterval is a duration from 1s to 8760h"),
    refused("spec: {verification: {reverifyInterval: 1d}}", "spec.verification.reverifyInterval"),
    refused("spec: {verification: {maxBytesPerSecond: fast}}", "maxBytesPerSecond is a quantity of bytes per second"),
    refused("spec: {verification: {maxBytesPerSecond: 10k}}", "maxBytesPerSecond is a quantity of bytes per second"),
    refused("spec: {verification: {resources: {memory: 1Mi}}}", "memory is a quantity of at least 32Mi."),
    refused("spec: {verification: {resources: {cpu: '0'}}}", "cpu is a positive quantity"),
    // Trusted init containers.
    accepted("spec: {workloads: {trustedInit: [registry.example.com/mesh/]}}"),
    refused("spec: {workloads: {trustedInit: [registry.example.com/mesh]}}", "trustedInit"),
    refused("spec: {workloads: {debug: Allow}}", "Unsupported value: \"Allow\""),
];
