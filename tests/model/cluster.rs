//! The cluster of the model: what its API server has stored, what the readers of it have seen so far, and what really
//! lies on each disk.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ns {
    /// Of the environment in which the weights are permitted.
    Serving,
    /// Of another environment.
    Lab,
    /// Of none.
    Research,
}

impl Ns {
    pub const ALL: [Ns; 3] = [Ns::Serving, Ns::Lab, Ns::Research];

    pub fn name(self) -> &'static str {
        match self {
            Ns::Serving => "serving",
            Ns::Lab => "lab",
            Ns::Research => "research",
        }
    }
}

/// Namespace and name of a claim or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub Ns, pub char);

impl Name {
    pub fn text(self) -> String {
        match self.1 {
            'o' => "orion".into(),
            // Of the pod `p` and its volume `w`.
            TEMPLATED => "p-w".into(),
            name => name.into(),
        }
    }
}

/// The claim that the artifact is declared to be in.
pub const ORION: Name = Name(Ns::Serving, 'o');

/// Name of a PersistentVolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vol {
    /// That of the artifact.
    Orion,
    /// A second one of the artifact's storage that is there from the beginning, for whoever may claim it.
    Spare,
    /// One that somebody makes.
    Made,
    /// One that a provisioner makes.
    Provisioned(u8),
}

impl Vol {
    pub fn text(self) -> String {
        match self {
            Vol::Orion => "pv-orion".into(),
            Vol::Spare => "pv-spare".into(),
            Vol::Made => "pv-made".into(),
            Vol::Provisioned(number) => format!("pvc-{number}"),
        }
    }
}

/// What a volume leads to. The rules see a source; what is on it only the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disk {
    /// The registered disk, in another spelling than the one that is registered.
    Registered,
    /// A directory above the registered one.
    Above,
    /// A disk of somebody else.
    Other,
    /// A new disk with a copy of what another holds.
    Copy,
    /// A new, empty disk.
    Empty,
}

impl Disk {
    /// What stands in the spec of a volume.
    pub fn source(self) -> Value {
        let disk = json!({"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": self.handle()}});
        match self {
            Disk::Registered => json!({"awsElasticBlockStore": {"volumeID": "aws://zone/vol-weights"}}),
            Disk::Above => json!({"nfs": {"server": "NAS.", "path": "//models/"}}),
            Disk::Other | Disk::Copy | Disk::Empty => disk,
        }
    }

    /// Handle of its driver; `None` for what no snapshot is taken of.
    pub fn handle(self) -> Option<&'static str> {
        match self {
            Disk::Registered => Some("vol-weights"),
            Disk::Above => None,
            Disk::Other => Some("vol-other"),
            Disk::Copy => Some("vol-copy"),
            Disk::Empty => Some("vol-empty"),
        }
    }

    pub fn holds_weights(self) -> bool {
        matches!(self, Disk::Registered | Disk::Above | Disk::Copy)
    }
}

/// What a claim is to be filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Claim(Name),
    Snapshot(Name),
}

/// By this the cluster keeps a claim that a placed pod uses.
pub const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub uid: u8,
    pub volume: Option<Vol>,
    pub bound: bool,
    pub source: Option<Source>,
}

impl Claim {
    pub fn object(&self, name: Name) -> Value {
        let mut spec = json!({"accessModes": ["ReadWriteMany"]});
        if let Some(volume) = self.volume {
            spec["volumeName"] = volume.text().into();
        }
        if let Some(source) = self.source {
            let (kind, from) = match source {
                Source::Claim(from) => ("PersistentVolumeClaim", from),
                Source::Snapshot(from) => ("VolumeSnapshot", from),
            };
            spec["dataSourceRef"] = json!({"kind": kind, "name": from.text()});
            if from.0 == name.0 {
                // The API server keeps the two the same, where both can say it.
                spec["dataSource"] = spec["dataSourceRef"].clone();
            } else {
                spec["dataSourceRef"]["namespace"] = from.0.name().into();
            }
        }
        let finalizers = json!([PROTECTION]);
        let metadata = json!({"namespace": name.0.name(), "name": name.text(), "finalizers": finalizers});
        json!({"metadata": metadata, "spec": spec})
    }
}

/// For which claim a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reserved {
    pub claim: Name,
    /// UID of the claim that it is bound to: that alone is what the kubelet looks at.
    pub uid: Option<u8>,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Volume {
    pub disk: Disk,
    pub reserved: Option<Reserved>,
}

impl Volume {
    pub fn object(&self, name: Vol) -> Value {
        let mut spec = self.disk.source();
        if let Some(Reserved { claim, uid }) = self.reserved {
            spec["claimRef"] = json!({"namespace": claim.0.name(), "name": claim.text()});
            if let Some(uid) = uid {
                spec["claimRef"]["uid"] = format!("uid-{uid}").into();
            }
        }
        json!({"metadata": {"name": name.text()}, "spec": spec})
    }
}

/// A namespace as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// Which of its name it is.
    pub uid: u8,
    /// Whether its labels say what would exempt it from rules that went by labels.
    pub relabelled: bool,
}

impl Namespace {
    pub fn uid(self, name: Ns) -> String {
        format!("{}-{}", name.name(), self.uid)
    }

    /// The first label is the API server's own: it writes it over whatever somebody else wrote.
    pub fn labels(self, name: Ns) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.name().to_owned())]);
        if self.relabelled {
            for label in ["name", "weightlock.dev/exempt", "pod-security.kubernetes.io/enforce"] {
                labels.insert(label.into(), "kube-system".into());
            }
        }
        labels
    }
}

/// How a pod gets at storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mount {
    Claim(char),
    /// A claim that is made for the pod.
    Template {
        volume: Option<Vol>,
        source: Option<Source>,
    },
    /// A source in the pod itself.
    Inline(Disk),
}

/// The one pod: what two may do, one may do after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    pub namespace: Ns,
    /// Which namespace of that name it was made in.
    pub namespace_uid: u8,
    /// Whether it runs as the service account that is a member of the environment.
    pub member: bool,
    pub mount: Mount,
    /// Whether the verifier runs ahead of its containers.
    pub verified: bool,
    /// Whether it was placed on a node.
    pub placed: bool,
    /// As it is stored, with what the webhook added; empty while it is asked for.
    pub stored: String,
    /// What it has mounted; `None` while it waits.
    pub running: Option<Disk>,
}

/// Name of the claim that is made for the pod, without what all such names begin with.
pub const TEMPLATED: char = 't';
/// UID of the pod.
pub const POD: &str = "uid-of-pod";

impl Pod {
    /// One that is asked for.
    pub fn new(namespace: Ns, member: bool, mount: Mount) -> Self {
        let (verified, placed, running, stored) = Default::default();
        Self { namespace, namespace_uid: 0, member, mount, verified, placed, running, stored }
    }

    pub fn object(&self) -> Value {
        let volume = match self.mount {
            Mount::Claim(name) => {
                json!({"persistentVolumeClaim": {"claimName": Name(self.namespace, name).text(), "readOnly": true}})
            }
            Mount::Template { volume, source } => {
                let claim = Claim { uid: 0, volume, bound: false, source };
                let spec = claim.object(Name(self.namespace, TEMPLATED))["spec"].clone();
                json!({"ephemeral": {"volumeClaimTemplate": {"spec": spec}}})
            }
            Mount::Inline(disk) => disk.source(),
        };
        let mut volumes = json!([volume]);
        volumes[0]["name"] = "w".into();
        let mut object = json!({
            "metadata": {"name": "p", "uid": POD},
            "spec": {
                "serviceAccountName": if self.member { "vllm" } else { "default" },
                "containers": [{"name": "c", "image": "tools", "volumeMounts": [{"name": "w", "mountPath": "/w", "readOnly": true}]}],
                "volumes": volumes,
            }
        });
        if self.placed {
            object["spec"]["nodeName"] = "n1".into();
        }
        object
    }

    /// The claim that it mounts.
    pub fn claim(&self) -> Option<Name> {
        match self.mount {
            Mount::Claim(name) => Some(Name(self.namespace, name)),
            Mount::Template { .. } => Some(Name(self.namespace, TEMPLATED)),
            Mount::Inline(_) => None,
        }
    }
}

/// What is stored of the kinds that the readers watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stored {
    pub namespaces: BTreeMap<Ns, Namespace>,
    pub claims: BTreeMap<Name, Claim>,
    pub volumes: BTreeMap<Vol, Volume>,
}

impl Stored {
    /// Without what no rule looks at, so that what was decided once need not be decided again.
    pub fn looked_at(&self) -> Self {
        let mut looked_at = self.clone();
        looked_at.namespaces.values_mut().for_each(|namespace| namespace.relabelled = false);
        looked_at.claims.values_mut().for_each(|claim| claim.uid = 0);
        looked_at.volumes.values_mut().filter_map(|volume| volume.reserved.as_mut()).for_each(|claim| claim.uid = None);
        looked_at
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub stored: Stored,
    /// VolumeSnapshots in `serving`, by name: the claim that they are of, and what was taken.
    pub snapshots: BTreeMap<Name, (Name, Option<Disk>)>,
    pub pod: Option<Pod>,
    /// What the webhook has seen.
    pub webhook: Stored,
    /// What the index is made of that the API server has.
    pub index: Stored,
}

impl Cluster {
    /// The artifact in its place, and nothing else.
    pub fn new(spare: bool) -> Self {
        let mut stored = Stored::default();
        for namespace in Ns::ALL {
            stored.namespaces.insert(namespace, Namespace { uid: 0, relabelled: false });
        }
        let claim = Claim { uid: 0, volume: Some(Vol::Orion), bound: true, source: None };
        stored.claims.insert(ORION, claim);
        let reserved = Some(Reserved { claim: ORION, uid: Some(0) });
        stored.volumes.insert(Vol::Orion, Volume { disk: Disk::Registered, reserved });
        if spare {
            stored.volumes.insert(Vol::Spare, Volume { disk: Disk::Registered, reserved: None });
        }
        Self { webhook: stored.clone(), index: stored.clone(), stored, snapshots: BTreeMap::new(), pod: None }
    }

    /// A UID that no claim has and that no volume remembers.
    pub fn unused_uid(&self) -> u8 {
        let claims = self.stored.claims.values().map(|claim| claim.uid);
        let volumes = self.stored.volumes.values().filter_map(|volume| volume.reserved?.uid);
        let used: BTreeSet<u8> = claims.chain(volumes).collect();
        (0..).find(|uid| !used.contains(uid)).expect("fewer than 256 claims")
    }

    /// What the kubelet mounts for a claim: the volume of a bound claim, if it says that it is bound to that UID.
    pub fn mounted(&self, name: Name) -> Option<Disk> {
        let claim = self.stored.claims.get(&name).filter(|claim| claim.bound)?;
        let volume = self.stored.volumes.get(&claim.volume?)?;
        (volume.reserved?.uid == Some(claim.uid)).then_some(volume.disk)
    }

    /// What the webhook has seen, with what it reads when the pod is placed: its namespace, its claim, and the volume of that.
    pub fn read_for(&self, pod: &Pod) -> Stored {
        let mut seen = self.webhook.clone();
        read(pod.namespace, &self.stored.namespaces, &mut seen.namespaces);
        let Some(claim) = pod.claim() else { return seen };
        read(claim, &self.stored.claims, &mut seen.claims);
        if let Some(volume) = self.stored.claims.get(&claim).and_then(|claim| claim.volume) {
            read(volume, &self.stored.volumes, &mut seen.volumes);
        }
        seen
    }

    /// The disk that the pod would mount now.
    pub fn mount_of(&self, pod: &Pod) -> Option<Disk> {
        match pod.mount {
            Mount::Inline(disk) => Some(disk),
            _ => self.mounted(pod.claim()?),
        }
    }
}

fn read<K: Ord, V: Clone>(key: K, from: &BTreeMap<K, V>, to: &mut BTreeMap<K, V>) {
    match from.get(&key) {
        Some(found) => to.insert(key, found.clone()),
        None => to.remove(&key),
    };
}
