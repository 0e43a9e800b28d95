//! What all tests of the policies share: namespaces, one index of artifacts, and the policies as the controller writes
//! them. It is made once, and only read.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use weightlock::api::{Mode, Modes, Network, VolumeRules, WeightIndex};
use weightlock::domain::world::{
    Artifact, ArtifactLocation, Claim, ClaimName, Environment, EnvironmentMember, LocationSource, Manifest, Settings,
    SnapshotContent, SnapshotName, Volume, World,
};
use weightlock::domain::{BackendKey, index_plan};
use weightlock::render::policies::{Ring, ring};

use crate::harness;

pub struct Fixture {
    /// Tells this run's storage from that of others.
    pub run: String,
    /// Namespace of environment `inference`, which is permitted.
    pub inside: String,
    /// Namespace of environment `lab`, which is enforced and not permitted. It lets addresses in.
    pub lab: String,
    /// Namespace of environment `gated`, which is enforced and not permitted. It lets pods in.
    pub gated: String,
    /// Namespace of environment `trial`, whose admission is in Audit.
    pub audit: String,
    /// Namespace of no environment.
    pub outside: String,
    /// Namespace of environment `inference`, made again since it was pinned.
    pub again: String,
    /// A volume, a claim and a pod of `outside` that were there before the policies.
    pub before: Before,
    pub world: World,
}

pub struct Before {
    pub volume: Value,
    pub claim: Value,
    pub pod: Value,
}

pub const DRIVER: &str = "csi.example.com";

pub async fn fixture() -> &'static Fixture {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    FIXTURE.get_or_init(make).await
}

impl Fixture {
    /// Handle of the registered CSI volume.
    pub fn handle(&self) -> String {
        format!("vol-{}", self.run)
    }

    /// Registered NFS server; `/models/orion` of it holds an artifact.
    pub fn nas(&self) -> String {
        format!("nas-{}.example.com", self.run)
    }

    /// Registered directory of nodes.
    pub fn directory(&self) -> String {
        format!("/srv/{}/orion", self.run)
    }

    /// Repository of the registered image. `hub/RUN` and `hub-RUN` of Docker Hub are registered, too.
    pub fn repository(&self) -> String {
        format!("registry.example.com/models/orion-{}", self.run)
    }

    /// Digest of the registered image.
    pub fn digest(&self) -> String {
        let unique: String = self.run.chars().filter(char::is_ascii_hexdigit).collect();
        format!("sha256:{unique:0>64}")
    }

    /// The PersistentVolume that is the registered CSI volume.
    /// Handle of a snapshot that was taken of the registered volume before it was registered.
    pub fn snapshot(&self) -> String {
        format!("snap-{}", self.run)
    }

    pub fn volume(&self) -> String {
        format!("orion-{}", self.run)
    }
}

async fn make() -> Fixture {
    let (client, controller) = (harness::client().await, harness::controller().await);
    harness::install_definitions(&client).await;
    remove_bindings(&client).await;

    let run = harness::unique("run").trim_start_matches("run-").to_string();
    let name = |what: &str| format!("wl-{what}-{run}");
    let mut fixture = Fixture {
        inside: name("inside"),
        lab: name("lab"),
        gated: name("gated"),
        audit: name("audit"),
        outside: name("outside"),
        again: name("again"),
        before: Before { volume: Value::Null, claim: Value::Null, pod: Value::Null },
        world: World::default(),
        run,
    };
    let mut uids = std::collections::BTreeMap::new();
    for namespace in [&fixture.inside, &fixture.lab, &fixture.gated, &fixture.audit, &fixture.outside, &fixture.again] {
        uids.insert(namespace.clone(), harness::namespace(&client, namespace).await);
    }
    let own = Settings::default().own_namespace;
    let _ =
        harness::create(&client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}})).await;
    for namespace in [own.as_str(), "kube-system"] {
        harness::default_service_account(&client, namespace).await;
    }
    fixture.before = before(&client, &fixture).await;
    fixture.world = world(&fixture, &uids);

    let shards = index_plan::plan(&fixture.world, &[]).expect("index");
    let rendered = ring(&Settings::default(), shards, []);
    install(&client, &controller, &rendered).await;
    // Bindings take effect one after the other: the first with a parameter, and one of the last.
    let volume = persistent_volume(&fixture, csi(&fixture), &fixture.outside);
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": harness::unique("ends"), "namespace": fixture.inside}});
    for (object, rule) in [(volume, "[WL-112]"), (endpoints, "[WL-406]")] {
        harness::eventually("the policies are in force", async || match harness::try_create(&client, &object).await {
            Err(said) if said.contains(rule) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    fixture
}

/// A PersistentVolume, reserved for claim `c` of a namespace (empty: for none).
pub fn persistent_volume(_: &Fixture, source: Value, namespace: &str) -> Value {
    let mut spec = json!({
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "none",
    });
    json_patch::merge(&mut spec, &source);
    if !namespace.is_empty() {
        spec["claimRef"] = json!({"namespace": namespace, "name": "c"});
    }
    if spec.get("local").is_some() {
        let on = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]});
        spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [on]}});
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": harness::unique("pv")}, "spec": spec})
}

/// The registered CSI volume as a volume source.
pub fn csi(fixture: &Fixture) -> Value {
    json!({"csi": {"driver": DRIVER, "volumeHandle": fixture.handle()}})
}

/// Resource id of an Azure disk.
pub fn azure_disk(name: &str) -> String {
    format!("/subscriptions/s/resourceGroups/G/providers/Microsoft.Compute/disks/{name}")
}

/// A pod of one container with these volumes.
pub fn pod(namespace: &str, volumes: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": harness::unique("pod"), "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "registry.invalid/x:1"}], "volumes": volumes},
    })
}

/// A claim with these fields in its spec.
pub fn claim(namespace: &str, fields: Value) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none",
    });
    json_patch::merge(&mut spec, &fields);
    let metadata = json!({"name": harness::unique("claim"), "namespace": namespace});
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
}

async fn before(client: &Client, fixture: &Fixture) -> Before {
    let mut made = [
        persistent_volume(fixture, csi(fixture), &fixture.outside),
        claim(&fixture.outside, json!({"volumeName": fixture.volume()})),
        pod(&fixture.outside, json!([{"name": "w", "hostPath": {"path": fixture.directory()}}])),
    ];
    for object in &mut made {
        *object = harness::create(client, object).await.expect("an object from before the policies");
    }
    let [volume, claim, pod] = made;
    Before { volume, claim, pod }
}

fn world(fixture: &Fixture, uids: &std::collections::BTreeMap<String, String>) -> World {
    let mut world = World { namespaces: uids.clone().into_iter().collect(), ..World::default() };
    let member = |namespace: &str, uid: &str| EnvironmentMember {
        namespace: namespace.into(),
        uid: Some(uid.into()),
        service_accounts: ["*".to_string()].into(),
        pod_status_protected_since: None,
    };
    for (name, members, admission) in [
        (
            "inference",
            vec![member(&fixture.inside, &uids[&fixture.inside]), member(&fixture.again, "uid-before")],
            Mode::Enforce,
        ),
        ("lab", vec![member(&fixture.lab, &uids[&fixture.lab])], Mode::Enforce),
        ("gated", vec![member(&fixture.gated, &uids[&fixture.gated])], Mode::Enforce),
        ("trial", vec![member(&fixture.audit, &uids[&fixture.audit])], Mode::Audit),
    ] {
        let environment = Environment {
            name: name.into(),
            created: "2026-01-01T00:00:00Z".into(),
            members,
            modes: Modes { admission, network: Mode::Audit, verification: Mode::Audit, egress: Mode::Audit },
            volumes: VolumeRules::default(),
            trusted_init: vec![],
            reverify: None,
            downloaders: vec![],
            network: network(name),
            egress_rate: None,
            deleting: false,
        };
        world.environments.insert(name.into(), environment);
    }
    for (name, permitted, source) in [
        ("orion", "inference", LocationSource::Key(BackendKey::csi(DRIVER, &fixture.handle()))),
        ("orion-nas", "inference", LocationSource::Key(BackendKey::nfs(&fixture.nas(), "/models/orion"))),
        ("orion-node", "inference", LocationSource::Key(BackendKey::host(&fixture.directory()))),
        ("orion-run", "inference", LocationSource::Key(BackendKey::host(&format!("/run/{}", fixture.run)))),
        ("orion-address", "inference", LocationSource::Key(BackendKey::nfs("fd00::7", &format!("/{}", fixture.run)))),
        (
            "orion-disk",
            "inference",
            LocationSource::Key(BackendKey(format!("v1:awsElasticBlockStore:vol-aws-{}", fixture.run))),
        ),
        (
            "orion-azure",
            "inference",
            LocationSource::Key(BackendKey::csi("disk.csi.azure.com", &azure_disk(&format!("orion-{}", fixture.run)))),
        ),
        (
            "orion-google",
            "inference",
            LocationSource::Key(BackendKey::csi(
                "pd.csi.storage.gke.io",
                &format!("projects/p/zones/z/disks/orion-{}", fixture.run),
            )),
        ),
        (
            "orion-smb",
            "inference",
            LocationSource::Key(BackendKey(format!("v1:smb:nas:/models-{}/orion", fixture.run))),
        ),
        ("orion-image", "inference", LocationSource::Key(BackendKey::image(&fixture.digest()))),
        ("orion-portworx", "inference", LocationSource::Key(BackendKey::csi("pxd.portworx.com", &fixture.handle()))),
        ("orion-share", "inference", LocationSource::Key(BackendKey::csi("file.csi.azure.com", &fixture.handle()))),
        ("orion-vmdk", "inference", LocationSource::Key(BackendKey::csi("csi.vsphere.vmware.com", &fixture.handle()))),
        ("orion-declared", "inference", LocationSource::Claim(claim_name(&fixture.outside, "declared"))),
        ("only-audited", "trial", LocationSource::Key(BackendKey::csi(DRIVER, &format!("audited-{}", fixture.run)))),
    ] {
        let aliases = match name {
            "orion-nas" => vec![BackendKey::nfs(&format!("alias-{}", fixture.nas()), "/exports/orion")],
            "orion-image" => [fixture.repository(), format!("hub/{}", fixture.run), format!("hub-{}", fixture.run)]
                .iter()
                .map(|name| BackendKey::repository(name))
                .collect(),
            _ => vec![],
        };
        let location = ArtifactLocation { name: "l".into(), source, pinned: None, aliases, path: None };
        let artifact = Artifact {
            signature: None,
            name: name.into(),
            digest: None,
            manifest: Manifest::Path("m".into()),
            content: Default::default(),
            locations: vec![location],
            permitted: [permitted.to_string()].into(),
            producers: vec![],
            frozen: false,
            effort: None,
            contact: "weights-team@example.com".into(),
        };
        world.artifacts.insert(name.into(), artifact);
    }
    let key = BackendKey::csi(DRIVER, &fixture.handle());
    world.volumes.insert(fixture.volume(), Volume { key: Ok(key), claim: Some(claim_name(&fixture.inside, "orion")) });
    for (namespace, name) in
        [(&fixture.inside, "orion"), (&fixture.outside, "bound-before"), (&fixture.lab, "bound-before")]
    {
        let claim = Claim { volume: Some(fixture.volume()), ..Claim::default() };
        world.claims.insert(claim_name(namespace, name), claim);
    }
    let snapshot = SnapshotName { namespace: fixture.outside.clone(), name: "from-before".into() };
    let handles = vec![BackendKey::csi(DRIVER, &fixture.snapshot())];
    let content = SnapshotContent { snapshot, volume: Some(BackendKey::csi(DRIVER, &fixture.handle())), handles };
    world.snapshots.insert("from-before".into(), content);
    world
}

/// Whom an environment lets in.
fn network(environment: &str) -> Network {
    let from = match environment {
        "lab" => json!({"cidr": "192.0.2.0/24"}),
        "gated" => json!({"pods": {"namespace": "gateway", "labels": {"app": "gateway"}}}),
        _ => return Network::default(),
    };
    let rule = json!({"name": "clients", "from": from, "ports": [{"protocol": "TCP", "port": 8000}]});
    serde_json::from_value(json!({"ingress": [rule]})).expect("network")
}

fn claim_name(namespace: &str, name: &str) -> ClaimName {
    ClaimName::new(namespace, name)
}

async fn remove_bindings(client: &Client) {
    let api: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=weightlock");
    for binding in api.list(&ours).await.expect("bindings") {
        api.delete(&binding.name_any(), &DeleteParams::default()).await.expect("deletion of a binding");
    }
    // The index of an earlier run can be written over once its protection is gone.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

async fn install(client: &Client, controller: &Client, rendered: &Ring) {
    for policy in &rendered.policies {
        apply::<ValidatingAdmissionPolicy>(client, policy).await;
    }
    for shard in &rendered.shards {
        apply::<WeightIndex>(controller, shard).await;
    }
    for binding in &rendered.bindings {
        apply::<ValidatingAdmissionPolicyBinding>(client, binding).await;
    }
}

pub async fn apply<K>(client: &Client, object: &K)
where
    K: Resource<DynamicType = ()> + serde::Serialize + serde::de::DeserializeOwned + Clone + std::fmt::Debug,
{
    let name = object.meta().name.clone().expect("name");
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    let api: Api<K> = Api::all(client.clone());
    api.patch(&name, &PatchParams::apply("weightlock-test").force(), &Patch::Apply(&value))
        .await
        .unwrap_or_else(|e| panic!("{} {name}: {e}", K::kind(&())));
}
