//! What the index holds in memory, by the resident set of this process before and after: objects are parsed page by page, as
//! a watch parses them, and folded as it folds them.
//!
//! ```sh
//! WEIGHTLOCK_SIZE=1 cargo test --release --lib -- --ignored --nocapture --test-threads 1 size::pods_of_the_load_run
//! ```
//!
//! Each test is to be run in a process of its own; `WEIGHTLOCK_SIZE` is the part of the full scale. Figures are in docs/performance.md.

use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Map, Value, json};

use super::Index;
use super::fold::{
    ArtifactObject, ClaimObject, EnvironmentObject, Fold, Folded, NamespaceObject, PodObject, VolumeObject,
};
use crate::domain::World;

#[path = "../../e2e/load-generator/objects.rs"]
#[allow(dead_code)]
mod objects;

/// How many objects one page of a listing holds.
const PAGE: usize = super::PAGE as usize;

fn plan() -> objects::Plan {
    let scale = std::env::var("WEIGHTLOCK_SIZE").ok().and_then(|scale| scale.parse().ok());
    objects::Plan::new(scale.unwrap_or(0.01))
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Lists so many objects into an index, and prints what they take.
fn list<T: Folded>(index: &Index, objects: usize, object: impl Fn(usize) -> Value) {
    let (before, started) = (resident(), std::time::Instant::now());
    let mut fold = Fold::<T>::new();
    let (mut bytes, mut highest) = (0, before);
    index.fold(&mut fold, vec![Event::Init]);
    for page in 0..objects.div_ceil(PAGE) {
        let items: Vec<Value> = (page * PAGE..objects.min((page + 1) * PAGE)).map(&object).map(served).collect();
        let page = serde_json::to_string(&items).unwrap();
        drop(items);
        bytes += page.len();
        let items: Vec<DynamicObject> = serde_json::from_str(&page).unwrap();
        drop(page);
        index.fold(&mut fold, items.into_iter().map(|item| Event::InitApply(T::convert(item))).collect());
        highest = highest.max(resident());
    }
    index.fold(&mut fold, vec![Event::InitDone]);
    let (after, mib) = (resident(), |bytes: usize| bytes as f64 / f64::from(1 << 20));
    println!(
        "{:>22}: {objects:>6} of {:>5} bytes as JSON: {:>7.1} MiB, {:>6} bytes each; now {:.1} MiB, at most {:.1}; {:?}",
        T::KIND,
        bytes / objects,
        mib(after.saturating_sub(before)),
        after.saturating_sub(before) / objects,
        mib(after),
        mib(highest.max(after)),
        started.elapsed(),
    );
}

/// An object as an API server shows it.
fn served(mut object: Value) -> Value {
    let number = object.pointer("/metadata/name").map_or(0, |name| crc(name.as_str().unwrap_or_default()));
    let manager = |of: &str, fields: Value| {
        json!({"manager": of, "operation": "Update", "apiVersion": "v1",
        "time": "2026-11-01T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    let mut managers = vec![manager("kube-controller-manager", json!({"f:spec": fields(&object["spec"])}))];
    if let Some(status) = object.get("status") {
        managers.push(manager("kubelet", json!({"f:status": fields(status)})));
    }
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.insert("uid".into(), uid(number).into());
    metadata.insert("resourceVersion".into(), number.to_string().into());
    metadata.insert("creationTimestamp".into(), "2026-11-01T10:00:00Z".into());
    metadata.insert("managedFields".into(), managers.into());
    object
}

fn fields(value: &Value) -> Value {
    match value {
        Value::Object(fields_of) => {
            fields_of.iter().map(|(name, value)| (format!("f:{name}"), fields(value))).collect()
        }
        Value::Array(items) => {
            let named =
                items.iter().filter_map(|item| Some((format!("k:{{\"name\":{}}}", item.get("name")?), fields(item))));
            Value::Object(named.collect::<Map<_, _>>())
        }
        _ => json!({}),
    }
}

fn crc(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn uid(number: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-9{:03x}-{number:012.12x}",
        number as u32,
        number >> 7 & 0xffff,
        number >> 9 & 0xfff,
        number >> 3 & 0xfff
    )
}

/// A pod as many are: three containers with probes, variables, a token, labels and annotations of other controllers, and
/// the status that a kubelet writes. Eight pods come of one ReplicaSet.
fn in_life(number: usize) -> Value {
    let hash = |of: usize| {
        format!(
            "{:016x}{:016x}{:016x}{:016x}",
            crc(&format!("a{of}")),
            crc(&format!("b{of}")),
            crc(&format!("c{of}")),
            crc(&format!("d{of}"))
        )
    };
    let (set, team) = (number / 8, number / 800);
    let token = format!("kube-api-access-{:05}", number % 100_000);
    let image = |name: &str| format!("registry.example.com/shop/{name}:v2026.11.{}", set % 100);
    let resources = json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "250m", "memory": "512Mi"}});
    let container = |name: &str, serves: bool| {
        let plain = (0..14).map(|n| json!({"name": format!("APP_SETTING_{n}"), "value": format!("https://service-{n}.shop-{team}.svc.cluster.local:8443/api/v{n}")}));
        let secret = (0..4).map(|n| json!({"name": format!("SECRET_{n}"), "valueFrom": {"secretKeyRef": {"name": "checkout-secrets", "key": format!("key-{n}")}}}));
        let own = ["metadata.name", "status.podIP"]
            .map(|path| json!({"name": path, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}));
        let mut container = json!({
            "name": name, "image": image(name), "imagePullPolicy": "IfNotPresent", "command": [format!("/usr/local/bin/{name}")],
            "args": ["--listen=:8080", "--config=/etc/app/config.yaml", "--log-format=json", "--log-level=info"],
            "env": own.into_iter().chain(plain).chain(secret).collect::<Vec<_>>(), "resources": resources,
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"},
                {"name": token, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        });
        if serves {
            container["ports"] = json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"name": "metrics", "containerPort": 9090, "protocol": "TCP"}]);
            for probe in ["livenessProbe", "readinessProbe"] {
                container[probe] = json!({"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "initialDelaySeconds": 10,
                    "timeoutSeconds": 5, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
            }
        }
        container
    };
    let status = |name: &str, state: Value| {
        json!({
            "name": name, "state": state, "lastState": {}, "ready": true, "started": true, "restartCount": 0, "image": image(name),
            "imageID": format!("registry.example.com/shop/{name}@sha256:{}", hash(set % 100)), "containerID": format!("containerd://{}", hash(number)),
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": token, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "readOnly": true, "recursiveReadOnly": "Disabled"}], "resources": resources, "allocatedResources": resources["requests"],
        })
    };
    let running = || json!({"running": {"startedAt": "2026-11-01T10:00:09Z"}});
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-01T10:00:12Z"});
    let tolerated =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let tolerations = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(tolerated);
    let conditions =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("checkout-api-{set}-{:09x}-{:05}", set * 7919, number % 100_000), "namespace": format!("shop-{team}"),
            "generateName": format!("checkout-api-{set}-{:09x}-", set * 7919), "generation": 1,
            "labels": {"app.kubernetes.io/name": "checkout-api", "app.kubernetes.io/instance": format!("checkout-{set}"),
                "app.kubernetes.io/version": "2026.11", "app.kubernetes.io/managed-by": "Helm", "pod-template-hash": format!("{:09x}", set * 7919)},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "checksum/config": hash(set),
                "cni.projectcalico.org/containerID": hash(number + 1), "cni.projectcalico.org/podIP": "10.1.2.3/32"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("checkout-api-{set}-{:09x}", set * 7919),
                "uid": uid(set as u64), "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "volumes": [{"name": "config", "configMap": {"name": "checkout-config", "defaultMode": 420}}, {"name": "tmp", "emptyDir": {}},
                {"name": "data", "persistentVolumeClaim": {"claimName": format!("data-{number}")}},
                {"name": token, "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}}],
            "initContainers": [container("migrate", false)], "containers": [container("checkout-api", true), container("envoy", true)],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "serviceAccountName": "checkout",
            "serviceAccount": "checkout", "nodeName": format!("node-{}.example.com", number % 1000), "schedulerName": "default-scheduler",
            "securityContext": {"fsGroup": 2000, "runAsUser": 1000, "runAsGroup": 1000}, "imagePullSecrets": [{"name": "registry"}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": {
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "checkout-api"}}, "topologyKey": "kubernetes.io/hostname"}}]}},
            "tolerations": tolerations,
            "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {
            "phase": "Running", "qosClass": "Burstable", "hostIP": "192.168.3.4", "hostIPs": [{"ip": "192.168.3.4"}], "podIP": "10.1.2.3",
            "podIPs": [{"ip": "10.1.2.3"}], "startTime": "2026-11-01T10:00:01Z",
            "conditions": conditions,
            "initContainerStatuses": [status("migrate", json!({"terminated": {"exitCode": 0, "reason": "Completed",
                "startedAt": "2026-11-01T10:00:02Z", "finishedAt": "2026-11-01T10:00:08Z"}}))],
            "containerStatuses": [status("checkout-api", running()), status("envoy", running())],
        },
    })
}

/// A pod of the load run, with what the API server adds to it.
fn defaulted(mut pod: Value) -> Value {
    let spec = pod["spec"].as_object_mut().unwrap();
    for (field, value) in [
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("serviceAccountName", "default"),
    ] {
        spec.entry(field).or_insert(value.into());
    }
    spec.insert(
        "tolerations".into(),
        json!(["not-ready", "unreachable"].map(|key| json!({"key": format!("node.kubernetes.io/{key}"),
        "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}))),
    );
    spec.insert("securityContext".into(), json!({}));
    let container = spec["containers"][0].as_object_mut().unwrap();
    container.insert("terminationMessagePath".into(), "/dev/termination-log".into());
    container.insert("terminationMessagePolicy".into(), "File".into());
    container.insert("imagePullPolicy".into(), "IfNotPresent".into());
    pod["status"] = json!({"phase": "Pending", "qosClass": "Burstable"});
    pod
}

/// How many objects of a kind there are, and each of them.
fn bulk(plan: &objects::Plan, kind: usize) -> (usize, impl Fn(usize) -> Value + use<'_>) {
    let (_, number, object) = plan.bulk().into_iter().nth(kind).unwrap();
    (number, move |n| object(n).1)
}

#[test]
#[ignore = "measures"]
fn pods_of_the_load_run() {
    let plan = plan();
    let (number, object) = bulk(&plan, 2);
    list::<PodObject>(&Index::fixed(World::default()), number, |n| defaulted(object(n)));
}

#[test]
#[ignore = "measures"]
fn pods_as_in_life() {
    list::<PodObject>(&Index::fixed(World::default()), plan().pods, in_life);
}

#[test]
#[ignore = "measures"]
fn what_the_webhook_holds() {
    let unsynced = super::Kind::decisive().map(super::Kind::name).collect();
    let (index, plan) = (Index::fixed(World { unsynced, ..World::default() }), plan());
    let namespaces = plan.namespaces();
    list::<NamespaceObject>(&index, namespaces.len(), |n| json!({"metadata": {"name": namespaces[n]}, "spec": {}}));
    list::<EnvironmentObject>(&index, plan.environments, |n| plan.environment(n));
    let (number, object) = bulk(&plan, 3);
    list::<ArtifactObject>(&index, number, object);
    let (number, object) = bulk(&plan, 1);
    list::<ClaimObject>(&index, number, object);
    let (number, object) = bulk(&plan, 0);
    list::<VolumeObject>(&index, number, object);
}
