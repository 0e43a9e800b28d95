//! WL-2xx: each on a pod that holds weights, and on one that does not.

use serde_json::{Value, json};

use super::support::*;

/// What a rule of pods with weights says of the others of an environment.
const REFUSED_TO_ALL: [&str; 3] = ["WL-201", "WL-204", "WL-205"];

/// The rule refuses the field at `pointer` in a pod with weights, in every container. Other pods it leaves alone, but for
/// what reaches their neighbours.
#[track_caller]
fn rule_of_pods(id: &str, pointer: &str, value: &Value, fact: &str) {
    let world = small();
    let pod = set(server("orion"), pointer, value.clone());
    refused(&admit(&world, "serving", &pod), &[id], fact);
    let neighbour = set(ordinary("scratch"), pointer, value.clone());
    let decision = admit(&world, "serving", &neighbour);
    // Capabilities that containers have anyway reach nobody.
    let plain = pointer.ends_with("/capabilities") && value["add"] == json!(["NET_RAW"]);
    if REFUSED_TO_ALL.contains(&id) && !plain {
        refused(&decision, &[id], fact);
        assert!(decision.violations[0].fact.contains("a pod of an environment may not"), "{}", decision.violations[0]);
        assert!(
            decision.violations[0].remedy.ends_with(", or run node tools in a namespace of their own."),
            "{}",
            decision.violations[0]
        );
    } else {
        passes(&decision);
    }
    // Where there is no environment the webhook is not called. What reaches the node is warned of: WL-114.
    let mut outside = set(neighbour, "/spec/volumes", json!([]));
    outside["spec"]["containers"][0]["volumeMounts"] = json!([]);
    let decision = admit(&world, "research", &outside);
    assert!(decision.allowed(), "{:?}", decision.violations);
    assert!(decision.warnings.iter().all(|warning| warning.starts_with("[WL-114] ")), "{:?}", decision.warnings);
}

/// As [`rule_of_pods`], for a field of a security context: also in an init container, a sidecar, and outside environments.
#[track_caller]
fn rule_of_containers(id: &str, field: &str, value: &Value, fact: &str) {
    rule_of_pods(id, &format!("/spec/containers/0/securityContext/{field}"), value, fact);
    let context = set(json!({"runAsUser": 1000}), &format!("/{field}"), value.clone());
    for restart in [Value::Null, json!("Always")] {
        let init = json!({"name": "i", "image": "tools", "restartPolicy": restart, "securityContext": context});
        let pod = set(server("orion"), "/spec/initContainers", json!([init]));
        let decision = admit(&small(), "serving", &pod);
        assert_eq!(ids(&decision), [id], "{:?}", decision.violations);
        assert!(decision.violations[0].fact.contains("container \"i\""), "{}", decision.violations[0]);
    }
    let outside = set(ordinary("stolen"), &format!("/spec/containers/0/securityContext/{field}"), value.clone());
    assert_eq!(ids(&admit(&small(), "research", &outside)), ["WL-101", id]);
}

#[test]
fn wl_201_namespaces_of_the_node() {
    for (field, what) in [("hostNetwork", "network"), ("hostPID", "process"), ("hostIPC", "IPC")] {
        rule_of_pods("WL-201", &format!("/spec/{field}"), &json!(true), &format!("{what} namespace of its node"));
        passes(&admit(&small(), "serving", &set(server("orion"), &format!("/spec/{field}"), json!(false))));
    }
}

#[test]
fn wl_202_shared_process_namespace() {
    rule_of_pods("WL-202", "/spec/shareProcessNamespace", &json!(true), "share a process namespace");
}

#[test]
fn wl_204_privileged() {
    rule_of_containers("WL-204", "privileged", &json!(true), "container \"vllm\" is privileged");
    rule_of_containers("WL-204", "windowsOptions", &json!({"hostProcess": true}), "container \"vllm\" is privileged");
    rule_of_pods(
        "WL-204",
        "/spec/securityContext",
        &json!({"windowsOptions": {"hostProcess": true}}),
        "the pod is privileged",
    );
    passes(&admit(
        &small(),
        "serving",
        &set(server("orion"), "/spec/containers/0/securityContext/privileged", json!(false)),
    ));
}

#[test]
fn wl_205_added_capabilities() {
    for capability in ["NET_RAW", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "BPF", "CAP_SYS_ADMIN", "sys_admin", "ALL"] {
        let context = json!({"add": [capability], "drop": ["NET_RAW"]});
        rule_of_containers("WL-205", "capabilities", &context, &format!("adds \"{capability}\""));
    }
    let pod =
        set(server("orion"), "/spec/containers/0/securityContext/capabilities", json!({"add": ["NET_BIND_SERVICE"]}));
    passes(&admit(&small(), "serving", &pod));
    let pod =
        set(ordinary("scratch"), "/spec/containers/0/securityContext/capabilities", json!({"add": ["CHOWN", "MKNOD"]}));
    passes(&admit(&small(), "serving", &pod));
}

#[test]
fn a_neighbour_of_weights_reaches_no_other_pod_with_any_of_its_containers() {
    let init = json!({"name": "i", "image": "tools", "securityContext": {"privileged": true}});
    let pod = set(ordinary("scratch"), "/spec/initContainers", json!([init]));
    refused(&admit(&small(), "serving", &pod), &["WL-204"], "init container \"i\" is privileged");
    // It needs no volume, and no account that may hold weights.
    let mut pod = set(ordinary("scratch"), "/spec/hostPID", json!(true));
    pod["spec"]["volumes"] = json!([]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([]);
    pod["spec"]["serviceAccountName"] = json!("intern");
    refused(&admit(&small(), "serving", &pod), &["WL-201"], "process namespace of its node (hostPID)");
    refused(&admit(&small(), "lab", &pod), &["WL-201"], "a pod of an environment may not");
    let audit = with_environment(|e| e.modes.admission = crate::api::Mode::Audit);
    let said = admit(&audit, "serving", &pod);
    assert!(said.allowed() && said.warnings[0].contains("[WL-201]"), "{:?}", said.warnings);
}

#[test]
fn wl_206_seccomp() {
    rule_of_containers("WL-206", "seccompProfile", &json!({"type": "Unconfined"}), "seccomp profile \"Unconfined\"");
    rule_of_pods(
        "WL-206",
        "/spec/securityContext",
        &json!({"seccompProfile": {"type": "Unconfined"}}),
        "\"vllm\" runs with",
    );
    let local = json!({"type": "Localhost", "localhostProfile": "profiles/vllm.json"});
    passes(&admit(
        &small(),
        "serving",
        &set(server("orion"), "/spec/containers/0/securityContext/seccompProfile", local),
    ));
    // Unset it is set at creation; where the mutation was evaded, it is missed.
    let unset = judge(&small(), "serving", &server("orion"));
    assert!(ids(&unset).contains(&"WL-206"), "{:?}", unset.violations);
}

#[test]
fn wl_207_privilege_escalation() {
    rule_of_containers("WL-207", "allowPrivilegeEscalation", &json!(true), "asks for privilege escalation");
    let pod = set(server("orion"), "/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(false));
    passes(&admit(&small(), "serving", &pod));
}

#[test]
fn wl_208_net_raw() {
    let mut pod = shaped(&small(), "serving", &server("orion"));
    pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"] = json!(["CHOWN"]);
    refused(&judge(&small(), "serving", &pod), &["WL-208"], "container \"vllm\" keeps NET_RAW");
    for drop in ["ALL", "all", "NET_RAW"] {
        pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"] = json!([drop]);
        passes(&judge(&small(), "serving", &pod));
    }
}

#[test]
fn wl_209_proc_mount() {
    rule_of_containers("WL-209", "procMount", &json!("Unmasked"), "procMount \"Unmasked\"");
    passes(&admit(
        &small(),
        "serving",
        &set(server("orion"), "/spec/containers/0/securityContext/procMount", json!("Default")),
    ));
}

#[test]
fn wl_210_mandatory_access_control() {
    rule_of_containers("WL-210", "appArmorProfile", &json!({"type": "Unconfined"}), "AppArmor profile \"Unconfined\"");
    rule_of_pods(
        "WL-210",
        "/spec/securityContext",
        &json!({"appArmorProfile": {"type": "Unconfined"}}),
        "the pod has AppArmor",
    );
    rule_of_containers("WL-210", "seLinuxOptions", &json!({"type": "spc_t"}), "sets the SELinux type");
    let level = json!({"level": "s0:c1,c2", "type": "container_t"});
    passes(&admit(
        &small(),
        "serving",
        &set(server("orion"), "/spec/containers/0/securityContext/seLinuxOptions", level),
    ));
}
