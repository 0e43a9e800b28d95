//! WL-114: what reaches a node, and who may.

use serde_json::{Value, json};

use super::support::*;
use crate::api::Mode;
use crate::domain::decision::Decision;
use crate::domain::request::Operation;
use crate::domain::world::World;

/// A cluster in which `research/agent` is an agent of the node.
fn strict() -> World {
    let mut world = small();
    world.settings.node_access = Mode::Enforce;
    world.settings.node_agents.insert("research/agent".parse().unwrap());
    world
}

fn plain() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}

fn host(path: &str) -> Value {
    set(plain(), "/spec/volumes", json!([{"name": "k", "hostPath": {"path": path}}]))
}

fn with_security(security: Value) -> Value {
    set(plain(), "/spec/containers/0/securityContext", security)
}

/// Each way to the node, with what is said of it.
fn ways() -> Vec<(Value, &'static str)> {
    let kubelet = "volume \"k\" (hostPath \"/var/lib/kubelet/pods\") reaches /var/lib/kubelet of the node";
    let adds = |capability: &str| with_security(json!({"capabilities": {"add": [capability]}}));
    let init = json!([{"name": "i", "image": "x", "securityContext": {"privileged": true}}]);
    let network = set(adds("NET_ADMIN"), "/spec/hostNetwork", json!(true));
    vec![
        (host("/var/lib/kubelet/pods"), kubelet),
        (host("/"), "reaches /dev of the node"),
        (host("/proc/4711/root/models"), "reaches /proc of the node"),
        (host("/var/run/docker.sock"), "reaches /run/docker.sock of the node"),
        (set(plain(), "/spec/hostPID", json!(true)), "the process namespace of its node (hostPID)"),
        (with_security(json!({"privileged": true})), "container \"c\" is privileged, and so reaches all of its node."),
        (set(plain(), "/spec/initContainers", init), "container \"i\" is privileged"),
        (with_security(json!({"windowsOptions": {"hostProcess": true}})), "container \"c\" is a process of its node"),
        (
            set(plain(), "/spec/securityContext", json!({"windowsOptions": {"hostProcess": true}})),
            "the pod is a process of its node",
        ),
        (adds("SYS_PTRACE"), "container \"c\" adds \"SYS_PTRACE\", and so reaches beyond its pod"),
        (adds("CAP_DAC_READ_SEARCH"), "adds \"CAP_DAC_READ_SEARCH\""),
        (adds("bpf"), "adds \"bpf\""),
        (network, "adds \"NET_ADMIN\""),
    ]
}

#[test]
fn wl_114_nobody_but_agents_of_the_node_reaches_it() {
    for (pod, fact) in ways() {
        let decision = judge(&strict(), "research", &pod);
        refused(&decision, &["WL-114"], fact);
        assert!(decision.violations[0].remedy.contains("service account \"research/default\" listed in nodeAgents"));
        // An agent, the cluster's own pods and ours.
        let agent = set(pod.clone(), "/spec/serviceAccountName", json!("agent"));
        passes(&judge(&strict(), "research", &agent));
        for namespace in ["kube-system", "weightlock-system"] {
            passes(&judge(&strict(), namespace, &pod));
        }
        // An account of that name in another namespace is another one.
        refused(&judge(&strict(), "elsewhere", &agent), &["WL-114"], fact);
    }
}

#[test]
fn wl_114_pods_that_do_not_reach_the_node_notice_nothing() {
    let adds = |capability: &str| with_security(json!({"capabilities": {"add": [capability]}}));
    let pods = [
        plain(),
        host("/var/log"),
        host("/dev/net/tun"),
        host("/var/lib/rancher/k3s/storage/pvc-1"),
        // A service mesh sets up the network of its own pod.
        adds("NET_ADMIN"),
        adds("NET_RAW"),
        set(plain(), "/spec/hostNetwork", json!(true)),
        with_security(json!({"privileged": false, "runAsUser": 0})),
    ];
    for pod in pods {
        passes(&judge(&strict(), "research", &pod));
    }
}

#[test]
fn wl_114_in_audit_the_same_is_a_warning() {
    for (pod, fact) in ways() {
        let decision = judge(&small(), "research", &pod);
        assert!(decision.allowed(), "{:?}", decision.violations);
        let warned = |d: &Decision| d.warnings.iter().any(|w| w.starts_with("[WL-114] ") && w.contains(fact));
        assert!(warned(&decision), "{:?}", decision.warnings);
    }
}

#[test]
fn wl_114_does_not_follow_the_mode_of_an_environment() {
    let mut world = strict();
    let pod = with_security(json!({"privileged": true}));
    // Enforced, it is refused by the environment's own rules, and once.
    assert_eq!(ids(&judge(&world, "lab", &shaped(&world, "lab", &pod))), ["WL-204"]);
    world.environments.get_mut("training").unwrap().modes.admission = Mode::Audit;
    refused(&judge(&world, "lab", &pod), &["WL-114"], "is privileged");
}

#[test]
fn wl_114_volumes_that_are_the_node() {
    let decide = |world: &World, source: Value, namespace: &str| {
        let mut spec = source;
        if !namespace.is_empty() {
            spec["claimRef"] = json!({"namespace": namespace, "name": "c"});
        }
        let volume = json!({"metadata": {"name": "pv"}, "spec": spec});
        crate::domain::admission::decide(
            world,
            &request(Operation::Create, "persistentvolumes", None, "", Some(&volume), None),
        )
    };
    let mut world = strict();
    for source in [json!({"hostPath": {"path": "/var/lib/kubelet"}}), json!({"local": {"path": "/dev/sda"}})] {
        for namespace in ["serving", "elsewhere", ""] {
            refused(&decide(&world, source.clone(), namespace), &["WL-114"], "of the node, and through it the volumes");
        }
        passes(&decide(&world, source.clone(), "kube-system"));
        passes(&decide(&world, source.clone(), "research"));
    }
    passes(&decide(&world, json!({"hostPath": {"path": "/var/lib/rancher/k3s/storage/pvc-1"}}), "elsewhere"));
    passes(&decide(&world, json!({"local": {"path": "/mnt/disks/1"}}), "elsewhere"));
    world.environments.get_mut("training").unwrap().modes.admission = Mode::Audit;
    refused(&decide(&world, json!({"local": {"path": "/dev/sda"}}), "lab"), &["WL-114"], "(local \"/dev/sda\")");
}
