//! The same requests, made up at random, put to the policies of a real API server and to `decide`: both give the same rules.
//!
//! The pools hold what is registered, what nearly is, and what has nothing to do with it. What CEL cannot compare and
//! refuses for that is left to `agreement`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weightlock::domain::admission::decide;
use weightlock::domain::{Operation, Request, User, World};

use super::fixture::{DRIVER, Fixture, claim, fixture, persistent_volume, pod};
use crate::harness;

/// How many requests of each kind.
const REQUESTS: usize = 250;

/// A generator whose choices are the same in each run.
struct Choices(u64);

impl Choices {
    fn number(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn of<T: Clone>(&mut self, pool: &[T]) -> T {
        pool[self.number(pool.len())].clone()
    }

    /// True once in so many times.
    fn rarely(&mut self, times: usize) -> bool {
        self.number(times) == 0
    }
}

fn namespaces(f: &Fixture) -> Vec<String> {
    vec![f.inside.clone(), f.lab.clone(), f.audit.clone(), f.outside.clone()]
}

/// Volumes of pods, by their sources.
fn sources(f: &Fixture) -> Vec<Value> {
    // Not "declared": of a claim that is declared and not there yet, only the policies know.
    let claims = ["orion", "bound-before", "anything-else"];
    let directories = [
        f.directory(),
        format!("{}/deep", f.directory()),
        "/srv".into(),
        "/data/x".into(),
        "/var/lib/kubelet/pods".into(),
    ];
    let exports = ["/models/orion", "/models/orion/v3", "/models", "/models/orion-2", "/other"];
    let mut pool: Vec<Value> = Vec::new();
    pool.extend(claims.map(|name| json!({"persistentVolumeClaim": {"claimName": name}})));
    pool.extend(directories.map(|path| json!({"hostPath": {"path": path}})));
    pool.extend(exports.map(|path| json!({"nfs": {"server": f.nas(), "path": path}})));
    pool.extend([
        json!({"nfs": {"server": "another.example.com", "path": "/models/orion"}}),
        json!({"awsElasticBlockStore": {"volumeID": format!("vol-aws-{}", f.run)}}),
        json!({"awsElasticBlockStore": {"volumeID": "vol-another"}}),
        json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeAttributes": {"server": f.nas(), "share": "/models/orion"}}}),
        json!({"configMap": {"name": "c"}}),
        json!({"secret": {"secretName": "s"}}),
        json!({"emptyDir": {}}),
        json!({"projected": {"sources": []}}),
        json!({"downwardAPI": {"items": []}}),
        json!({"image": {"reference": format!("registry.invalid/x@{}", f.digest())}}),
        json!({"image": {"reference": "registry.invalid/data:1"}}),
        json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}),
    ]);
    pool
}

fn a_pod(f: &Fixture, choices: &mut Choices) -> Value {
    let (all, sources) = (namespaces(f), sources(f));
    let count = choices.number(4);
    let volumes: Vec<Value> = (0..count)
        .map(|number| {
            let mut volume = choices.of(&sources);
            volume["name"] = format!("v{number}").into();
            volume
        })
        .collect();
    let mut pod = pod(&choices.of(&all), json!(volumes));
    let images = [
        "registry.invalid/x:1".to_string(),
        "registry.invalid/x:1".to_string(),
        format!("mirror.invalid/x@{}", f.digest()),
        format!("{}:v3", f.repository()),
        format!("{}-2:v3", f.repository()),
    ];
    let securities = [
        json!({}),
        json!({"privileged": true}),
        json!({"capabilities": {"add": ["NET_BIND_SERVICE"]}}),
        json!({"capabilities": {"add": ["CAP_sys_admin"]}}),
        json!({"runAsNonRoot": true}),
    ];
    let container = |name: &str, choices: &mut Choices| {
        let mut container = json!({"name": name, "image": choices.of(&images)});
        if choices.rarely(3) {
            container["securityContext"] = choices.of(&securities);
        }
        if choices.rarely(6) {
            container["resources"] = json!({"limits": {choices.of(&["nvidia.com/gpu", "example.com/nic"]): "1"}});
        }
        if choices.rarely(6) {
            let value = choices.of(&["all", "none", ""]);
            container["env"] = json!([{"name": choices.of(&["NVIDIA_VISIBLE_DEVICES", "OTHER"]), "value": value}]);
        }
        container
    };
    let main = container("main", choices);
    pod["spec"]["containers"] = json!([main]);
    if choices.rarely(4) {
        let init = container("init", choices);
        pod["spec"]["initContainers"] = json!([init]);
    }
    for field in ["hostPID", "hostNetwork"] {
        if choices.rarely(8) {
            pod["spec"][field] = true.into();
        }
    }
    pod
}

fn a_claim(f: &Fixture, choices: &mut Choices) -> Value {
    let all = namespaces(f);
    let claims = ["orion", "bound-before", "anything-else"].map(|name| ("PersistentVolumeClaim", name));
    let snapshots = ["from-before", "another"].map(|name| ("VolumeSnapshot", name));
    let mut fields = json!({});
    if choices.rarely(2) {
        fields["volumeName"] = choices.of(&[f.volume(), "another".to_string()]).into();
    }
    if choices.rarely(2) {
        let (kind, name) = choices.of(&[&claims[..], &snapshots[..]].concat());
        let mut source = json!({"kind": kind, "name": name});
        if kind == "VolumeSnapshot" {
            source["apiGroup"] = "snapshot.storage.k8s.io".into();
        }
        fields[choices.of(&["dataSource", "dataSourceRef"])] = source;
    }
    claim(&choices.of(&all), fields)
}

fn a_volume(f: &Fixture, choices: &mut Choices) -> Value {
    let mut pool = sources(f);
    pool.retain(|source| ["hostPath", "nfs", "awsElasticBlockStore"].iter().any(|kind| source.get(kind).is_some()));
    for handle in [f.handle(), "another".to_string()] {
        pool.push(json!({"csi": {"driver": DRIVER, "volumeHandle": handle}}));
    }
    let mut all = namespaces(f);
    all.push(String::new());
    persistent_volume(f, choices.of(&pool), &choices.of(&all))
}

/// Rules by which the policies refuse, and of which they warn. What is refused elsewhere and only warned of in Audit, the policies
/// let pass there: the webhook warns of pods, and claims and volumes have no warnings.
const REFUSED: [&str; 3] = ["WL-101", "WL-112", "WL-115"];
const WARNED_OF: [&str; 2] = ["WL-114", "WL-501"];

/// The rules that the domain finds: refused, and warned of.
fn expected(world: &World, resource: &'static str, object: &Value) -> [BTreeSet<String>; 2] {
    let decision = decide(
        world,
        &Request {
            operation: Operation::Create,
            group: "",
            resource,
            subresource: None,
            namespace: object["metadata"]["namespace"].as_str().unwrap_or_default(),
            name: object["metadata"]["name"].as_str().unwrap_or_default(),
            user: User::default(),
            object: Some(object),
            old_object: None,
        },
    );
    let of = |texts: Vec<String>, known: &[&str]| {
        texts.iter().flat_map(|text| rules(text)).filter(|rule| known.contains(&rule.as_str())).collect()
    };
    [of(decision.violations.iter().map(ToString::to_string).collect(), &REFUSED), of(decision.warnings, &WARNED_OF)]
}

/// Of which rules the author is warned. Of pods in environments the webhook says more, so there the domain leaves WL-114 out.
async fn told(client: &kube::Client, f: &Fixture, object: &Value) -> BTreeSet<String> {
    let mut told: BTreeSet<String> =
        harness::warnings(client, object).await.iter().flat_map(|text| rules(text)).collect();
    if [&f.inside, &f.lab].iter().any(|namespace| object["metadata"]["namespace"] == namespace.as_str()) {
        told.remove("WL-114");
    }
    told
}

/// The ids in a text.
fn rules(text: &str) -> BTreeSet<String> {
    text.split('[')
        .filter_map(|part| part.split_once(']'))
        .map(|(id, _)| id.to_string())
        .filter(|id| id.starts_with("WL-"))
        .collect()
}

/// Puts random requests of a kind to both. Where the API server refuses it names the rules of the first check alone, and warnings come
/// whatever becomes of the request.
async fn compare(resource: &'static str, make: impl Fn(&Fixture, &mut Choices) -> Value) {
    let (client, f) = (harness::client().await, fixture().await);
    let mut choices = Choices(7);
    let (mut wrong, mut refused, mut warned) = (Vec::new(), 0, 0);
    for _ in 0..REQUESTS {
        let object = make(f, &mut choices);
        let [violations, warnings] = expected(&f.world, resource, &object);
        let answer = harness::try_create(&client, &object).await;
        let said = answer.as_ref().err().map(|said| rules(said)).unwrap_or_default();
        let same = match &answer {
            Ok(_) => violations.is_empty(),
            Err(_) => !said.is_empty() && said.is_subset(&violations),
        };
        // What is refused is warned of nothing more.
        let told: BTreeSet<String> = match &answer {
            Ok(_) => told(&client, f, &object).await,
            Err(_) => warnings.clone(),
        };
        refused += usize::from(!violations.is_empty());
        warned += usize::from(!warnings.is_empty());
        if !same || (told != warnings) {
            wrong.push(format!(
                "{object}\n  rust: {violations:?}, warned {warnings:?}\n  cel: {answer:?}, warned {told:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {REQUESTS} {resource}:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    let all = REQUESTS - refused;
    assert!(refused > REQUESTS / 10 && all > REQUESTS / 10, "{refused} refused, {all} not, {warned} warned of");
}

#[tokio::test]
async fn pods_are_decided_alike() {
    compare("pods", a_pod).await;
}

#[tokio::test]
async fn claims_are_decided_alike() {
    compare("persistentvolumeclaims", a_claim).await;
}

#[tokio::test]
async fn volumes_are_decided_alike() {
    compare("persistentvolumes", a_volume).await;
}
