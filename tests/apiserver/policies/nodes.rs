//! WL-114: who reaches a node. The API server and the domain decide alike.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use weightlock::api::{Mode, WeightIndexSpec};
use weightlock::domain::world::Settings;
use weightlock::domain::{Operation, Request, User, World, admission};
use weightlock::render::policies::ring;

use super::fixture::{apply, fixture, pod};
use super::{assert_accepted, assert_refused};
use crate::harness;

/// A namespace in which the rule is enforced, and where account `agent` is an agent of the node.
struct Strict {
    namespace: String,
    world: World,
}

/// Label of the PersistentVolumes for which the rule is enforced.
const LABEL: &str = "weightlock-test-node";

async fn strict() -> &'static Strict {
    static STRICT: OnceCell<Strict> = OnceCell::const_new();
    STRICT.get_or_init(make).await
}

/// The policies and bindings as they are rendered, but under other names and for one namespace, so that other tests see
/// the shared setting.
async fn make() -> Strict {
    let client = harness::client().await;
    fixture().await;
    let namespace = harness::unique("wl-nodes");
    harness::namespace(&client, &namespace).await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": namespace}});
    harness::create(&client, &account).await.expect("service account");
    let settings = Settings {
        node_access: Mode::Enforce,
        node_agents: [format!("{namespace}/agent").parse().unwrap()].into(),
        ..Settings::default()
    };
    let rendered = ring(&settings, vec![WeightIndexSpec { shards: 1, ..WeightIndexSpec::default() }], []);
    for (name, bound, only) in [
        (
            "weightlock-pods",
            "weightlock-pods-0",
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}),
        ),
        (
            "weightlock-node-volumes",
            "weightlock-node-volumes",
            json!({"objectSelector": {"matchLabels": {LABEL: namespace}}}),
        ),
    ] {
        let (named, bound) = (Some(name.to_string()), Some(bound.to_string()));
        let own = Some(format!("{name}-{namespace}"));
        let mut policy: ValidatingAdmissionPolicy =
            rendered.policies.iter().find(|p| p.metadata.name == named).expect("the policy").clone();
        policy.metadata.name = own.clone();
        let mut binding: ValidatingAdmissionPolicyBinding =
            rendered.bindings.iter().find(|b| b.metadata.name == bound).expect("the binding").clone();
        binding.metadata.name = own.clone();
        let spec = binding.spec.as_mut().unwrap();
        assert_eq!(spec.validation_actions.as_deref(), Some(&["Deny".to_string()][..]));
        spec.policy_name = own;
        spec.match_resources = serde_json::from_value(only).unwrap();
        apply(&client, &policy).await;
        apply(&client, &binding).await;
    }
    let strict = Strict { namespace, world: World { settings, ..World::default() } };
    harness::eventually("the strict bindings are in force", async || {
        let thief = pod(&strict.namespace, json!([{"name": "k", "hostPath": {"path": "/var/lib/kubelet"}}]));
        let disk = volume(&strict, json!({"local": {"path": "/dev/sda"}}), "other");
        match (harness::try_create(&client, &thief).await, harness::try_create(&client, &disk).await) {
            (Err(one), Err(two)) if one.contains("[WL-114]") && two.contains("[WL-114]") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    strict
}

fn volume(strict: &Strict, source: Value, namespace: &str) -> Value {
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": harness::unique("pv"), "labels": {LABEL: strict.namespace}},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "none"},
    });
    json_patch::merge(&mut volume["spec"], &source);
    if !namespace.is_empty() {
        volume["spec"]["claimRef"] = json!({"namespace": namespace, "name": "c"});
    }
    if volume["spec"].get("local").is_some() {
        let on = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]});
        volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [on]}});
    }
    volume
}

fn with(namespace: &str, spec: Value) -> Value {
    let mut made = pod(namespace, json!([]));
    json_patch::merge(&mut made["spec"], &spec);
    made
}

fn secured(security: Value) -> Value {
    json!({"containers": [{"name": "main", "image": "registry.invalid/x:1", "securityContext": security}]})
}

/// Specs of pods, by what they show, those that reach the node and those that do not.
fn specs() -> BTreeMap<&'static str, Value> {
    let adds = |capabilities: Value| secured(json!({"capabilities": {"add": capabilities}}));
    let mut specs = BTreeMap::from([
        ("plain", json!({})),
        ("host process namespace", json!({"hostPID": true})),
        ("host network", json!({"hostNetwork": true})),
        ("host IPC", json!({"hostIPC": true})),
        ("privileged", secured(json!({"privileged": true}))),
        ("not privileged", secured(json!({"privileged": false, "runAsUser": 0}))),
        ("harmless capabilities", adds(json!(["NET_ADMIN", "NET_RAW", "CHOWN"]))),
        ("many capabilities", adds(json!(["NET_ADMIN", "SYS_PTRACE", "CAP_BPF", "sys_admin"]))),
        (
            "privileged init container",
            json!({"initContainers": [{"name": "i", "image": "registry.invalid/x:1", "securityContext": {"privileged": true}}]}),
        ),
        (
            "host process",
            json!({
                "hostNetwork": true, "os": {"name": "windows"},
                "securityContext": {"windowsOptions": {"hostProcess": true, "runAsUserName": "NT AUTHORITY\\SYSTEM"}},
            }),
        ),
    ]);
    let mut on_network = adds(json!(["NET_ADMIN"]));
    on_network["hostNetwork"] = json!(true);
    specs.insert("the network of the node", on_network);
    for path in [
        "/",
        "//",
        "/var",
        "/var/lib",
        "/var/lib/kubelet",
        "/var/lib/kubelet/pods/",
        "/var/lib//kubelet/./x",
        "/var/lib/kubelets",
        "/var/run",
        "/var/run/docker.sock",
        "/run/containerd",
        "/var/running",
        "/proc",
        "/proc/4711/root/models",
        "/proc/sys/net",
        "/proc/sys",
        "/dev",
        "/dev/sda",
        "/dev/net/tun",
        "/dev/network",
        "/etc/localtime",
        "/etc",
        "/root/.ssh",
        "/srv/cache",
        "/var/log",
        "/var/lib/rancher",
        "/var/lib/rancher/k3s/storage",
        "/var/lib/rancher/k3s/storage/pvc-1",
    ] {
        specs.insert(path, json!({"volumes": [{"name": "k", "hostPath": {"path": path}}]}));
    }
    specs
}

fn request<'a>(resource: &'a str, namespace: &'a str, object: &'a Value) -> Request<'a> {
    Request {
        operation: Operation::Create,
        group: "",
        resource,
        subresource: None,
        namespace,
        name: object["metadata"]["name"].as_str().unwrap(),
        user: User::default(),
        object: Some(object),
        old_object: None,
    }
}

/// What the API server and the domain agree on.
enum Agreed {
    Refused,
    Accepted,
    /// Another rule refuses it first: it holds storage that is registered.
    Registered,
}

fn is_registered(answer: &Result<Value, String>) -> bool {
    answer.as_ref().is_err_and(|said| said.contains("[WL-101]") || said.contains("[WL-112]"))
}

/// The API server says what the domain says: all facts, or nothing.
async fn compare(
    client: &Client,
    world: &World,
    resource: &str,
    namespace: &str,
    object: &Value,
) -> Result<Agreed, String> {
    let decision = admission::decide(world, &request(resource, namespace, object));
    let answer = harness::try_create(client, object).await;
    match &answer {
        _ if is_registered(&answer) => Ok(Agreed::Registered),
        Ok(_) if decision.allowed() => Ok(Agreed::Accepted),
        Err(said)
            if said.contains("[WL-114]")
                && !decision.allowed()
                && decision
                    .violations
                    .iter()
                    .all(|v| v.rule.id() == "WL-114" && said.contains(&v.fact) && said.contains(&v.remedy)) =>
        {
            Ok(Agreed::Refused)
        }
        answer => Err(format!("{object}\n  domain: {:?}\n  API server: {answer:?}", decision.violations)),
    }
}

#[tokio::test]
async fn nobody_but_agents_reaches_the_node() {
    let (client, strict) = (harness::client().await, strict().await);
    let (mut wrong, mut refused, mut accepted) = (Vec::new(), 0, 0);
    for (what, spec) in specs() {
        let made = with(&strict.namespace, spec.clone());
        match compare(&client, &strict.world, "pods", &strict.namespace, &made).await {
            Ok(Agreed::Refused) => refused += 1,
            Ok(Agreed::Accepted) => accepted += 1,
            Ok(Agreed::Registered) => continue,
            Err(why) => wrong.push(format!("{what}: {why}")),
        }
        let mut agent = made.clone();
        agent["spec"]["serviceAccountName"] = json!("agent");
        let answer = harness::try_create(&client, &agent).await;
        if !is_registered(&answer) {
            assert_accepted(&answer);
        }
        assert_accepted(&harness::try_create(&client, &with("kube-system", spec)).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 18 && accepted > 12, "{refused} refused, {accepted} accepted");
}

/// The attack that the rule is for: a pod of any namespace reads the volumes of a model server from its node.
#[tokio::test]
async fn every_way_to_the_node_is_listed() {
    let (client, strict) = (harness::client().await, strict().await);
    let mut spec = secured(json!({"privileged": true, "capabilities": {"add": ["SYS_PTRACE"]}}));
    spec["hostPID"] = json!(true);
    spec["volumes"] = json!([{"name": "k", "hostPath": {"path": "/var/lib/kubelet/pods"}}]);
    let said = harness::try_create(&client, &with(&strict.namespace, spec)).await;
    assert_refused(
        &said,
        &[
            "[WL-114] volume \"k\" (hostPath \"/var/lib/kubelet/pods\") reaches /var/lib/kubelet of the node",
            "the pod uses the process namespace of its node (hostPID)",
            "container \"main\" is privileged",
            "container \"main\" adds \"SYS_PTRACE\"",
            &format!("have service account \"{}/default\" listed in nodeAgents", strict.namespace),
        ],
    );
}

#[tokio::test]
async fn a_container_that_is_added_later_does_not_reach_the_node_either() {
    let (client, strict) = (harness::client().await, strict().await);
    let running = with(&strict.namespace, json!({}));
    assert_accepted(&harness::create(&client, &running).await);
    let debug = |security: Value| json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "registry.invalid/x:1", "securityContext": security}]}});
    let ask = async |patch: Value| harness::merge_subresource(&client, &running, "ephemeralcontainers", &patch).await;
    assert_refused(&ask(debug(json!({"privileged": true}))).await, &["[WL-114] container \"debug\" is privileged"]);
    assert_refused(&ask(debug(json!({"capabilities": {"add": ["SYS_ADMIN"]}}))).await, &["adds \"SYS_ADMIN\""]);
    assert_accepted(&ask(debug(json!({"runAsUser": 1000}))).await);
    harness::delete(&client, &running).await;
}

#[tokio::test]
async fn a_volume_is_not_the_node_itself() {
    let (client, strict) = (harness::client().await, strict().await);
    let (mut wrong, mut refused, mut accepted) = (Vec::new(), 0, 0);
    for path in [
        "/",
        "/var/lib/kubelet",
        "/var/run/docker.sock",
        "/dev/sda",
        "/proc/1/root/srv",
        "/mnt/disks/1",
        "/var/lib/rancher/k3s/storage/pvc-1",
    ] {
        for kind in ["hostPath", "local"] {
            for namespace in ["", "other", "kube-system", &strict.namespace] {
                let made = volume(strict, json!({kind: {"path": path}}), namespace);
                match compare(&client, &strict.world, "persistentvolumes", "", &made).await {
                    Ok(Agreed::Refused) => refused += 1,
                    Ok(Agreed::Accepted) => accepted += 1,
                    Ok(Agreed::Registered) => {}
                    Err(why) => wrong.push(why),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused >= 12 && accepted >= 24, "{refused} refused, {accepted} accepted");
}

#[tokio::test]
async fn a_volume_is_not_moved_to_where_it_may_not_be() {
    let (client, strict) = (harness::client().await, strict().await);
    let made = volume(strict, json!({"local": {"path": "/dev/sdb"}}), "kube-system");
    assert_accepted(&harness::create(&client, &made).await);
    let reference = |namespace: &str| json!({"spec": {"claimRef": {"namespace": namespace}}});
    assert_accepted(&harness::merge(&client, &made, &json!({"metadata": {"annotations": {"a": "b"}}})).await);
    assert_refused(&harness::merge(&client, &made, &reference("other")).await, &["[WL-114]", "(local \"/dev/sdb\")"]);
    assert_accepted(&harness::merge(&client, &made, &reference(&strict.namespace)).await);
    harness::delete(&client, &made).await;
}

/// As it is installed: nothing is refused, and the author is told.
#[tokio::test]
async fn in_audit_it_is_a_warning() {
    let (client, f) = (harness::client().await, fixture().await);
    let warned = async |spec: Value| {
        let warnings = harness::warnings(&client, &with(&f.outside, spec)).await;
        warnings.into_iter().filter(|warning| warning.contains("[WL-114]")).collect::<Vec<_>>()
    };
    let warnings = warned(json!({"volumes": [{"name": "k", "hostPath": {"path": "/var/lib/kubelet"}}]})).await;
    assert!(warnings.len() == 1 && warnings[0].contains("reaches /var/lib/kubelet of the node"), "{warnings:?}");
    assert_eq!(warned(json!({})).await, Vec::<String>::new());
}
