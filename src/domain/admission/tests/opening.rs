use serde_json::{Value, json};

use super::support::*;
use crate::api::{EgressRule, Mode, Peer, Port, Protocol, SelfPeer};
use crate::domain::admission::{decide, foresee};
use crate::domain::decision::Decision;
use crate::domain::request::{Operation, Request, User};
use crate::domain::workload::subjects;
use crate::domain::world::World;

/// `serving` may reach itself on 29500.
fn declared() -> World {
    let mut world = small();
    world.environments.get_mut("inference").unwrap().network.egress = vec![EgressRule {
        name: "peers".into(),
        to: Peer { itself: Some(SelfPeer {}), ..Peer::default() },
        ports: vec![Port { protocol: Protocol::TCP, port: 29500, end_port: None }],
    }];
    world
}

fn written(world: &World, group: &str, namespace: &str, user: &str, spec: Value) -> Decision {
    let object = json!({"metadata": {"name": "theirs"}, "spec": spec});
    let resource = if group == "cilium.io" { "ciliumnetworkpolicies" } else { "networkpolicies" };
    decide(
        world,
        &Request {
            operation: Operation::Create,
            group,
            resource,
            subresource: None,
            namespace,
            name: "theirs",
            user: User { name: user, groups: vec![] },
            object: Some(&object),
            old_object: None,
        },
    )
}

#[test]
fn wl_701_policies_that_open_more_than_is_declared() {
    let world = declared();
    let open = || json!({"podSelector": {}, "egress": [{}]});
    let peers = |port: u16| json!({"egress": [{"to": [{"podSelector": {}}], "ports": [{"port": port}]}]});
    let kubernetes = |namespace: &str, spec| written(&world, "networking.k8s.io", namespace, "alice", spec);
    let everyone = "spec.egress[0]: without \"to\" it is for everyone.";
    refused(&kubernetes("serving", open()), &["WL-701"], everyone);
    let other = kubernetes("serving", peers(29501));
    refused(
        &other,
        &["WL-701"],
        "spec.egress[0].to[0]: TCP 29501 to all pods of namespace \"serving\" is not declared.",
    );
    assert!(other.violations[0].remedy.contains("declare it in spec.network of WeightEnvironment \"inference\""));
    passes(&kubernetes("serving", peers(29500)));
    passes(&kubernetes("research", open()));
    passes(&written(&world, "networking.k8s.io", "serving", &world.settings.controller(), open()));
    for group in ["crd.projectcalico.org", "projectcalico.org"] {
        let allow = json!({"egress": [{"action": "Allow"}]});
        refused(&written(&world, group, "serving", "alice", allow), &["WL-701"], "spec.egress[0]: ");
    }
    let entities = json!({"egress": [{"toEntities": ["all"]}]});
    refused(&written(&world, "cilium.io", "serving", "alice", entities), &["WL-701"], "\"toEntities\"");
    passes(&written(&world, "other.example.com", "serving", "alice", open()));

    let mut audit = declared();
    audit.environments.get_mut("inference").unwrap().modes.network = Mode::Audit;
    passes(&written(&audit, "networking.k8s.io", "serving", "alice", open()));
    let mut warned = declared();
    warned.environments.get_mut("inference").unwrap().modes.admission = Mode::Audit;
    let decision = written(&warned, "networking.k8s.io", "serving", "alice", open());
    assert_eq!((decision.allowed(), decision.warnings.len()), (true, 1), "{decision:?}");

    let mut unclear = declared();
    unclear.environments.get_mut("inference").unwrap().network.egress[0].ports.clear();
    let decision = written(&unclear, "networking.k8s.io", "serving", "alice", peers(29500));
    refused(&decision, &["WL-701"], "it cannot be told what WeightEnvironment \"inference\" declares: ");
}

/// `check` judges a file as admission does.
#[test]
fn a_policy_in_a_file_is_judged() {
    let manifest = |api: &str, kind: &str| {
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": "p", "namespace": "serving"},
            "spec": {"egress": [{"toEntities": ["all"]}]}})
    };
    for (api, kind, judged) in [
        ("networking.k8s.io/v1", "NetworkPolicy", true),
        ("cilium.io/v2", "CiliumNetworkPolicy", true),
        ("projectcalico.org/v3", "NetworkPolicy", true),
        ("networking.k8s.io/v1", "CiliumNetworkPolicy", false),
        ("example.com/v1", "NetworkPolicy", false),
    ] {
        let found = subjects(&manifest(api, kind), "").unwrap();
        assert_eq!(found.len(), usize::from(judged), "{api} {kind}");
        for subject in found {
            let decision = foresee(&declared(), &subject);
            assert_eq!(decision.violations[0].rule.id(), "WL-701", "{decision:?}");
        }
    }
}
