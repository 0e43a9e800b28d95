//! The synthetic cluster: what is in it, each object computed from its number.

use serde_json::{Value, json};

const CSI_DRIVER: &str = "ebs.csi.aws.com";
/// Name of the service account that may mount weights.
pub const SERVER_ACCOUNT: &str = "vllm";
/// A team's namespace whose pods are measured: it belongs to no environment.
pub const UNRELATED: &str = "team-0";

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub artifacts: usize,
    /// PersistentVolumes, with a claim each but for a few.
    pub volumes: usize,
    pub pods: usize,
    pub environments: usize,
    /// Namespaces without an environment.
    pub teams: usize,
}

/// A kind for the report, how many, and the object of each number with its path.
pub type Bulk<F> = (&'static str, usize, F);

impl Plan {
    pub fn new(scale: f64) -> Self {
        let part = |full: f64, least: usize| ((full * scale).round() as usize).max(least);
        Self {
            artifacts: part(10_000.0, 40),
            volumes: part(50_000.0, 200),
            pods: part(100_000.0, 400),
            environments: part(100.0, 4),
            teams: part(300.0, 4),
        }
    }

    /// For the report.
    pub fn scale(&self) -> String {
        format!(
            "{} artifacts, {} volumes and claims, {} pods, {} environments with two namespaces each, {} other namespaces",
            self.artifacts, self.volumes, self.pods, self.environments, self.teams
        )
    }

    /// What is created in bulk.
    pub fn bulk(&self) -> Vec<Bulk<impl Fn(usize) -> (String, Value) + Copy>> {
        #[derive(Clone, Copy)]
        enum Kind {
            Volume,
            Claim,
            Pod,
            Artifact,
        }
        let plan = *self;
        let object = move |kind| {
            move |number| match kind {
                Kind::Volume => ("/api/v1/persistentvolumes".into(), plan.volume(number)),
                Kind::Claim => {
                    let (namespace, _) = plan.claim_of(number);
                    (format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims"), plan.claim(number))
                }
                Kind::Pod => {
                    let (namespace, _) = plan.claim_of(number % plan.volumes);
                    (format!("/api/v1/namespaces/{namespace}/pods"), plan.pod(number))
                }
                Kind::Artifact => ("/apis/weightlock.dev/v1alpha1/weightartifacts".into(), plan.artifact(number)),
            }
        };
        vec![
            ("PersistentVolumes", self.volumes, object(Kind::Volume)),
            ("PersistentVolumeClaims", self.volumes, object(Kind::Claim)),
            ("Pods", self.pods, object(Kind::Pod)),
            ("WeightArtifacts", self.artifacts, object(Kind::Artifact)),
        ]
    }

    pub fn namespaces(&self) -> Vec<String> {
        let environments = (0..self.environments).flat_map(|e| [0, 1].map(|n| serving(e, n)));
        environments.chain((0..self.teams).map(team)).collect()
    }

    /// The environment of an artifact.
    pub fn environment_of(&self, artifact: usize) -> usize {
        artifact % self.environments
    }

    /// Whether an artifact is declared by its claim. Half of them are.
    pub fn by_claim(&self, artifact: usize) -> bool {
        artifact % 10 < 5
    }

    /// Namespace and name of the claim of a volume. The first volumes are those of artifacts.
    pub fn claim_of(&self, volume: usize) -> (String, String) {
        if volume < self.artifacts && self.by_claim(volume) {
            return (serving(self.environment_of(volume), 0), format!("weights-{volume}"));
        }
        let namespace = match volume % 10 {
            0 => serving(volume / 10 % self.environments, volume / 10 % 2),
            _ => team(volume % self.teams),
        };
        (namespace, format!("data-{volume}"))
    }

    /// Whether a volume is for nobody yet, and its claim not bound. One in 50 is.
    fn is_free(&self, volume: usize) -> bool {
        volume >= self.artifacts && [40, 49].contains(&(volume % 100))
    }

    /// The `number`th block of a hundred volumes that are not those of artifacts, counted around.
    pub fn block(&self, number: usize) -> usize {
        let first = self.artifacts.next_multiple_of(100);
        first + number % ((self.volumes - first) / 100) * 100
    }

    fn volume(&self, number: usize) -> Value {
        let (namespace, claim) = self.claim_of(number);
        let mut volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("pvc-{number:08}-5c1e-4d2f-9b7d-0123456789ab"),
                "annotations": {"pv.kubernetes.io/provisioned-by": CSI_DRIVER}},
            "spec": {
                "capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "fast",
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim},
                "csi": {"driver": CSI_DRIVER, "volumeHandle": format!("vol-{number:017x}"), "fsType": "ext4"},
            },
        });
        if self.is_free(number) {
            volume["spec"].as_object_mut().map(|spec| spec.remove("claimRef"));
        }
        volume
    }

    fn claim(&self, number: usize) -> Value {
        let (namespace, name) = self.claim_of(number);
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace, "name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Gi"}},
                "storageClassName": "fast", "volumeName": format!("pvc-{number:08}-5c1e-4d2f-9b7d-0123456789ab")},
        });
        if self.is_free(number) {
            claim["spec"].as_object_mut().map(|spec| spec.remove("volumeName"));
        }
        claim
    }

    fn pod(&self, number: usize) -> Value {
        let (namespace, claim) = self.claim_of(number % self.volumes);
        let mut pod = ordinary(&format!("worker-{number}"), &claim);
        pod["metadata"]["namespace"] = namespace.into();
        pod
    }

    /// Half of the artifacts are declared by claim, a fifth by CSI handle, a fifth by NFS export, a tenth are images.
    fn artifact(&self, number: usize) -> Value {
        let environment = self.environment_of(number);
        let mut location = match number % 10 {
            kind if kind < 5 => {
                let (namespace, name) = self.claim_of(number);
                json!({"persistentVolumeClaim": {"namespace": namespace, "name": name}})
            }
            5 | 6 => json!({"csi": {"driver": "disk.example.com", "volumeHandle": format!("model-{number}")}}),
            7 | 8 => {
                json!({"nfs": {"server": format!("nas-{}.example.com", number % 20), "path": format!("/models/m{number}/v1")}})
            }
            _ => {
                json!({"image": {"digest": digest(number + 7), "repositories": [format!("registry.example.com/models/m{number}")]}})
            }
        };
        location["name"] = "serving".into();
        location["role"] = "Serving".into();
        let file = |n: usize| json!({"path": format!("model-{n:05}-of-00004.safetensors"), "size": 4_294_967_296u64, "sha256": &digest(number * 8 + n)[7..]});
        let mut permitted = vec![json!({"name": format!("environment-{environment}")})];
        if number.is_multiple_of(3) {
            permitted.push(json!({"name": format!("environment-{}", (environment + 1) % self.environments)}));
        }
        json!({
            "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact",
            "metadata": {"name": format!("model-{number}")},
            "spec": {
                "type": "FineTune", "model": {"name": format!("orion-{}b", number % 100), "version": "v3"},
                "manifestDigest": digest(number), "manifest": {"inline": [file(1), file(2), file(3), file(4)]},
                "locations": [location], "permittedEnvironments": permitted,
                "contact": format!("weights-team-{}@example.com, #model-weights", number % 50),
            },
        })
    }

    pub fn environment(&self, number: usize) -> Value {
        let members: Vec<Value> = [0, 1]
            .iter()
            .map(|n| json!({"namespace": serving(number, *n), "serviceAccounts": [SERVER_ACCOUNT]}))
            .collect();
        json!({
            "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment",
            "metadata": {"name": format!("environment-{number}")},
            "spec": {
                "purpose": "Inference", "members": members,
                "modes": {"admission": "Enforce", "network": "Audit", "verification": "Enforce", "egress": "Audit"},
                "workloads": {"volumes": {"unregisteredReads": "Allow"}},
            },
        })
    }
}

/// A namespace of an environment.
pub fn serving(environment: usize, number: usize) -> String {
    format!("serving-{environment}-{number}")
}

fn team(number: usize) -> String {
    format!("team-{number}")
}

fn digest(number: usize) -> String {
    // It need not be one of anything, only as long and as hard to compress.
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let words = (0..4).map(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        format!("{:016x}", state ^ (state >> 29))
    });
    format!("sha256:{}", words.collect::<String>())
}

/// A pod as most are: a container with an environment, probes and resources, a ConfigMap and a claim.
pub fn ordinary(name: &str, claim: &str) -> Value {
    let variables: Vec<Value> =
        (0..8).map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value-{n}-of-{name}")})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "worker", "app.kubernetes.io/part-of": "platform", "pod-template-hash": "7c9d8f6b54"}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "worker", "image": "registry.example.com/platform/worker:2026.11", "env": variables,
                "args": ["--listen=:8080", "--workers=4"], "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 10},
                "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 10},
                "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/worker"}, {"name": "data", "mountPath": "/data", "readOnly": true}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "worker"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

/// A model server that mounts a claim, as its team writes it.
pub fn model_server(name: &str, claim: &str) -> Value {
    let mut pod = ordinary(name, claim);
    pod["spec"]["serviceAccountName"] = SERVER_ACCOUNT.into();
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"nvidia.com/gpu": "1", "memory": "32Gi"}});
    pod
}
