//! WL-4xx and WL-112 of claims and volumes.

use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::admission::decide;
use crate::domain::decision::Decision;
use crate::domain::request::Operation::*;
use crate::domain::world::{SnapshotContent, SnapshotName, World};

fn update(namespace: &str, subresource: Option<&str>, old: &Value, new: &Value) -> Decision {
    decide(&small(), &request(Update, "pods", subresource, namespace, Some(new), Some(old)))
}

#[test]
fn wl_401_images_of_running_pods() {
    let old = shaped(&small(), "serving", &server("orion"));
    for (pointer, noun) in
        [("/spec/containers/0/image", "container \"vllm\""), ("/spec/initContainers/0/image", "init container")]
    {
        let new = set(old.clone(), pointer, json!("other"));
        refused(&update("serving", None, &old, &new), &["WL-401"], noun);
        refused(&update("serving", Some("resize"), &old, &new), &["WL-401"], noun);
        passes(&update("research", None, &old, &new));
        // A pod that is going has to be able to go.
        passes(&update("serving", None, &old, &set(new, "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))));
    }
    let added = set(old.clone(), "/spec/containers/-", json!({"name": "x", "image": "x"}));
    refused(&update("serving", None, &old, &added), &["WL-401"], "from none");
    passes(&update("serving", None, &old, &set(old.clone(), "/metadata/labels/app", json!("other"))));
    passes(&update("serving", None, &old, &set(old.clone(), "/spec/tolerations", json!([]))));
}

#[test]
fn the_bandwidth_of_a_running_pod_stays() {
    let world = with_environment(|e| e.modes.egress = Mode::Enforce);
    let old = shaped(&world, "serving", &ordinary("scratch"));
    let update = |world: &World, new: &Value, old: &Value| {
        decide(world, &request(Update, "pods", None, "serving", Some(new), Some(old)))
    };
    for annotations in [json!({}), json!({"kubernetes.io/egress-bandwidth": "100G"})] {
        let new = set(old.clone(), "/metadata/annotations", annotations);
        refused(
            &update(&world, &new, &old),
            &["WL-601"],
            "of a running pod changes; environment \"inference\" sets \"10M\"",
        );
        // Back to what it should be, and where nothing is limited, it may.
        passes(&update(&world, &old, &new));
        passes(&update(&small(), &new, &old));
    }
    passes(&update(&world, &set(old.clone(), "/metadata/labels/app", json!("x")), &old));
}

#[test]
fn wl_402_ephemeral_containers() {
    let old = shaped(&small(), "serving", &server("orion"));
    let new = set(old.clone(), "/spec/ephemeralContainers", json!([{"name": "dbg", "image": "busybox"}]));
    let decision = update("serving", Some("ephemeralcontainers"), &old, &new);
    refused(
        &decision,
        &["WL-402"],
        "ephemeral containers (\"dbg\") would read what a pod of environment \"inference\" reads",
    );
    passes(&update("research", Some("ephemeralcontainers"), &old, &new));
    passes(&update("serving", Some("ephemeralcontainers"), &new, &new));
}

#[test]
fn wl_403_connections() {
    let world = small();
    for subresource in ["exec", "attach", "portforward", "proxy", "somethingnew"] {
        let connect = |namespace| decide(&world, &request(Connect, "pods", Some(subresource), namespace, None, None));
        refused(&connect("serving"), &["WL-403"], &format!("\"{subresource}\" into Pod serving/vllm-0 by \"alice\""));
        passes(&connect("research"));
    }
    let service = decide(&world, &request(Connect, "services", Some("proxy"), "serving", None, None));
    refused(&service, &["WL-403"], "into Service serving/vllm-0");
}

#[test]
fn deletion_and_what_concerns_no_rule_pass() {
    let world = small();
    let pod = server("orion");
    passes(&decide(&world, &request(Delete, "pods", None, "serving", None, Some(&pod))));
    passes(&decide(&world, &request(Create, "pods", Some("eviction"), "serving", Some(&json!({})), None)));
    passes(&decide(&world, &request(Create, "configmaps", None, "serving", Some(&json!({})), None)));
}

#[test]
fn wl_112_claims_and_volumes_of_registered_storage() {
    let world = small();
    let claims = |namespace, spec: Value| {
        let object = json!({"spec": spec});
        decide(&world, &request(Create, "persistentvolumeclaims", None, namespace, Some(&object), None))
    };
    refused(&claims("research", json!({"volumeName": "pv-orion"})), &["WL-112"], "binds PersistentVolume \"pv-orion\"");
    passes(&claims("serving", json!({"volumeName": "pv-orion"})));
    passes(&claims("research", json!({"volumeName": "pv-scratch"})));
    let lab = json!({"spec": {"volumeName": "pv-orion"}});
    let mut audit = small();
    audit.environments.get_mut("training").unwrap().modes.admission = Mode::Audit;
    for (world, allowed) in [(&world, false), (&audit, true)] {
        let decision = decide(world, &request(Create, "persistentvolumeclaims", None, "lab", Some(&lab), None));
        assert_eq!((decision.allowed(), decision.warnings.len()), (allowed, usize::from(allowed)), "{decision:?}");
    }
    let clone = json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "orion"}});
    refused(&claims("serving", clone.clone()), &["WL-112"], "copy of PersistentVolumeClaim \"serving/orion\"");
    passes(&claims("research", clone));
    let mut snapshots = small();
    let snapshot = |name: &str| SnapshotName { namespace: "research".into(), name: name.into() };
    let volume = snapshots.volumes["pv-orion"].key.clone().ok();
    let handles = vec![crate::domain::BackendKey::csi("ebs.csi.aws.com", "snap-1")];
    // The second was made by hand of the handle of the first.
    for (name, volume) in [("old", volume), ("by-hand", None)] {
        let content = SnapshotContent { snapshot: snapshot(name), volume, handles: handles.clone() };
        snapshots.snapshots.insert(name.into(), content);
    }
    for (name, expected) in [("old", false), ("by-hand", false), ("other", true)] {
        let object = json!({"spec": {"dataSource": {"kind": "VolumeSnapshot", "name": name}}});
        let asked = request(Create, "persistentvolumeclaims", None, "research", Some(&object), None);
        let decision = decide(&snapshots, &asked);
        assert_eq!(decision.allowed(), expected, "{decision:?}");
    }
    let volumes = |spec: Value| {
        let object = json!({"spec": spec});
        decide(&world, &request(Create, "persistentvolumes", None, "", Some(&object), None))
    };
    let nfs = json!({"server": "nas", "path": "/models"});
    refused(
        &volumes(json!({"nfs": nfs, "claimRef": {"namespace": "research", "name": "x"}})),
        &["WL-112"],
        "for PVC \"research/x\"",
    );
    passes(&volumes(json!({"nfs": nfs, "claimRef": {"namespace": "serving", "name": "x"}})));
    passes(&volumes(json!({"nfs": nfs})));
}
