//! What is declared, and what becomes of a request: the policies of ring 1, then for pods `shape` and `decide`, each with
//! what its reader has seen.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use weightlock::api::{Mode, Modes, VolumeRules, WeightIndexSpec};
use weightlock::domain::admission::{BINDING, VERIFIER, decide, placed, shape};
use weightlock::domain::backend::{self, BackendKey};
use weightlock::domain::index_plan;
use weightlock::domain::webhook_scope::webhook_scope;
use weightlock::domain::world::{
    Artifact, ArtifactLocation, Claim, ClaimName, ContentRules, DataSource, Environment, EnvironmentMember,
    LocationSource, Manifest, Settings, Volume, World,
};
use weightlock::domain::{Operation, Request, User};
use weightlock::render::policies;
use weightlock::render::webhook_configuration::{Target, validating};

use crate::cluster::{Cluster, Name, Ns, ORION, POD, Pod, Source, Stored, TEMPLATED, Vol};
use crate::ring1::{Asked, POLICIES, Scope, of_policy, of_webhook};

/// Somebody who may write all that the model lets somebody write.
pub const TENANT: &str = "mallory";
/// The part of the cluster that binds and provisions.
pub const CONTROLLER: &str = "system:kube-controller-manager";

/// A pod that the webhook takes.
#[derive(Clone)]
pub struct Admitted {
    /// Whether the verifier is in it.
    pub verified: bool,
    /// The pod with what was added.
    pub stored: String,
}

/// The rules in force.
pub struct Admission {
    declared: World,
    /// Of each of [`POLICIES`].
    scopes: Vec<Scope>,
    /// Of the webhooks that are asked about a pod when it is created, and when it is placed.
    webhooks: [Scope; 2],
    /// What is left out, to see that the model then finds a way: names of [`POLICIES`], ids of rules of `decide`, `webhook`, `binding`, `uids`.
    without: BTreeSet<&'static str>,
    plans: Mutex<HashMap<Stored, Arc<Vec<WeightIndexSpec>>>>,
    pods: Mutex<HashMap<(Stored, Pod, bool), Option<Admitted>>>,
}

impl Admission {
    pub fn new(without: &[&'static str]) -> Self {
        let declared = declared();
        let first = index_plan::plan(&declared, &[]).expect("a plan");
        let ring = policies::ring(&declared.settings, first, []);
        let scopes = POLICIES.map(|(name, _)| {
            let named = format!("{}{}", policies::PREFIX, name.split('/').next().unwrap_or_default());
            let policy = ring.policies.iter().find(|policy| policy.metadata.name.as_deref() == Some(&named));
            let spec = policy.and_then(|policy| policy.spec.as_ref()).expect("a policy of this name");
            let constraints = spec.match_constraints.as_ref().expect("constraints");
            let rules = constraints.resource_rules.as_deref().unwrap_or_default();
            let mut bindings = ring.bindings.iter().filter_map(|binding| binding.spec.as_ref());
            let bound = bindings.find(|bound| bound.policy_name.as_deref() == Some(&named)).expect("a binding");
            let namespaces = bound.match_resources.as_ref().and_then(|resources| resources.namespace_selector.as_ref());
            Scope::new(of_policy(rules), namespaces)
        });
        let target = Target { namespace: "weightlock-system", ca_bundle: b"" };
        let webhooks = validating(&webhook_scope(&declared), &target).webhooks.unwrap_or_default();
        let webhooks = ["pods.weightlock.dev", "bindings.weightlock.dev"].map(|name| {
            let webhook = webhooks.iter().find(|webhook| webhook.name == name).expect("a webhook of this name");
            let rules = webhook.rules.as_deref().unwrap_or_default();
            Scope::new(of_webhook(rules), webhook.namespace_selector.as_ref())
        });
        let without = without.iter().copied().collect();
        let (plans, pods) = Default::default();
        Self { declared, scopes: scopes.into(), webhooks, without, plans, pods }
    }

    fn is_out(&self, what: &str) -> bool {
        self.without.contains(what)
    }

    /// UID of a namespace, as the rules see it.
    fn uid(&self, stored: &Stored, namespace: Ns) -> Option<String> {
        let found = stored.namespaces.get(&namespace)?;
        let uid = if self.is_out("uids") { 0 } else { found.uid };
        Some(crate::cluster::Namespace { uid, ..*found }.uid(namespace))
    }

    /// Whether ring 1 takes a request. `namespace`: that of the object, if it is in one.
    pub fn takes(
        &self,
        cluster: &Cluster,
        user: &str,
        namespace: Option<Ns>,
        request: (&'static str, &Value, Option<&Value>),
    ) -> bool {
        let (resource, object, old) = request;
        let uid = namespace.map(|namespace| self.uid(&cluster.stored, namespace));
        // Nothing is written to a namespace that is not there.
        let Some(uid) = uid.map_or(Some(String::new()), |uid| uid) else { return false };
        let labels = namespace.and_then(|name| Some(cluster.stored.namespaces.get(&name)?.labels(name)));
        let asked = Asked {
            resource,
            create: old.is_none(),
            namespace: namespace.map(|namespace| (namespace.name(), uid.as_str())),
            user,
            object,
            old,
        };
        let shards = self.plan(&cluster.index);
        !POLICIES.iter().zip(&self.scopes).any(|((name, refuses), scope)| {
            !self.is_out(name)
                && scope.holds(resource, asked.create, labels.as_ref())
                && shards.iter().any(|shard| refuses(shard, &asked))
        })
    }

    /// The pod as it is stored, if it is taken.
    pub fn admits(&self, cluster: &Cluster, pod: &Pod) -> Option<Admitted> {
        let object = pod.object();
        let labels = cluster.stored.namespaces.get(&pod.namespace)?.labels(pod.namespace);
        let asked = self.webhooks[0].holds("pods", true, Some(&labels)) && !self.is_out("webhook");
        let admitted = if asked {
            // One that names its node is decided by what is read then.
            let seen = if pod.placed { &cluster.read_for(pod) } else { &cluster.webhook };
            self.decides(seen, pod, &object, false)?
        } else {
            Admitted { verified: false, stored: object.to_string() }
        };
        self.takes(cluster, TENANT, Some(pod.namespace), ("pods", &object, None)).then_some(admitted)
    }

    /// Whether the pod that waits may be placed on a node.
    pub fn places(&self, cluster: &Cluster, pod: &Pod) -> bool {
        let Some(namespace) = cluster.stored.namespaces.get(&pod.namespace) else { return false };
        let labels = namespace.labels(pod.namespace);
        let asked = self.webhooks[1].holds("pods/binding", true, Some(&labels)) && !self.is_out("binding");
        let stored = serde_json::from_str(&pod.stored).expect("JSON");
        let object = placed(stored, &json!({"target": {"name": "n1"}}));
        !asked || self.decides(&cluster.read_for(pod), pod, &object, true).is_some()
    }

    /// What the webhook says of a pod, with what it has seen and read.
    fn decides(&self, seen: &Stored, pod: &Pod, object: &Value, binds: bool) -> Option<Admitted> {
        let key = (seen.looked_at(), pod.clone(), binds);
        if let Some(known) = self.pods.lock().unwrap().get(&key) {
            return known.clone();
        }
        let world = self.world(seen);
        let mut request = Request {
            operation: Operation::Create,
            group: "",
            resource: "pods",
            subresource: binds.then_some(BINDING),
            namespace: pod.namespace.name(),
            name: "p",
            user: User { name: TENANT, groups: Vec::new() },
            object: Some(object),
            old_object: None,
        };
        let shaped = shape(&world, &request).object;
        request.object = shaped.as_ref().or(request.object);
        let mut decision = decide(&world, &request);
        decision.violations.retain(|violation| !self.is_out(violation.rule.id()));
        let inits = request.object.and_then(|object| object.pointer("/spec/initContainers")).and_then(Value::as_array);
        let verified = inits.into_iter().flatten().any(|container| container["name"] == VERIFIER);
        let stored = request.object.map(Value::to_string).unwrap_or_default();
        let answer = decision.allowed().then_some(Admitted { verified, stored });
        self.pods.lock().unwrap().insert(key, answer.clone());
        answer
    }

    fn plan(&self, seen: &Stored) -> Arc<Vec<WeightIndexSpec>> {
        let key = seen.looked_at();
        if let Some(known) = self.plans.lock().unwrap().get(&key) {
            return Arc::clone(known);
        }
        let plan = Arc::new(index_plan::plan(&self.world(seen), &[]).expect("a plan"));
        self.plans.lock().unwrap().insert(key, Arc::clone(&plan));
        plan
    }

    /// The world of a reader that has seen this, as `index::convert` would make it.
    fn world(&self, seen: &Stored) -> World {
        let mut world = self.declared.clone();
        world.namespaces.clear();
        for namespace in seen.namespaces.keys() {
            let uid = self.uid(seen, *namespace).expect("it is there");
            world.namespaces.insert(namespace.name().into(), uid);
        }
        for (name, claim) in &seen.claims {
            let data_source = claim.source.map(|source| {
                let (kind, from) = match source {
                    Source::Claim(from) => ("PersistentVolumeClaim", from),
                    Source::Snapshot(from) => ("VolumeSnapshot", from),
                };
                Box::new(DataSource { kind: kind.into(), namespace: from.0.name().into(), name: from.text() })
            });
            let volume = claim.volume.map(Vol::text);
            let claim = Claim {
                volume,
                bound: claim.bound,
                data_source,
                // Whoever may write claims can write that, too.
                controller: (name.1 == TEMPLATED).then(|| POD.into()),
                deleting: false,
            };
            world.claims.insert(claim_name(*name), claim);
        }
        for (name, volume) in &seen.volumes {
            let key = backend::of_volume_source(&volume.object(*name)["spec"]);
            let claim = volume.reserved.map(|reserved| claim_name(reserved.claim));
            world.volumes.insert(name.text(), Volume { key, claim });
        }
        world.look_up();
        world
    }
}

fn claim_name(name: Name) -> ClaimName {
    ClaimName::new(name.0.name(), name.text())
}

/// A snapshot of a claim, as its request has it.
pub fn snapshot(claim: Name) -> Value {
    json!({"metadata": {"name": "s"}, "spec": {"source": {"persistentVolumeClaimName": claim.text()}}})
}

/// What the snapshot controller writes when it takes a snapshot of a claim.
pub fn snapshot_content(claim: Name, handle: &str) -> Value {
    let of = json!({"namespace": claim.0.name(), "name": "s"});
    let source = json!({"volumeHandle": handle});
    json!({"spec": {"driver": "ebs.csi.aws.com", "source": source, "volumeSnapshotRef": of}})
}

fn environment(name: &str, namespace: Ns, account: &str) -> Environment {
    Environment {
        name: name.into(),
        created: "2026-01-01T00:00:00Z".into(),
        members: vec![EnvironmentMember {
            namespace: namespace.name().into(),
            uid: Some(crate::cluster::Namespace { uid: 0, relabelled: false }.uid(namespace)),
            service_accounts: [account.to_owned()].into(),
            pod_status_protected_since: None,
        }],
        modes: Modes {
            admission: Mode::Enforce,
            network: Mode::Enforce,
            verification: Mode::Enforce,
            egress: Mode::Audit,
        },
        volumes: VolumeRules::default(),
        trusted_init: Vec::new(),
        reverify: None,
        downloaders: Vec::new(),
        network: Default::default(),
        egress_rate: None,
        deleting: false,
    }
}

/// Two environments, and weights that are permitted in one of them, in a claim and on a share.
fn declared() -> World {
    let mut world = World { settings: Settings::default(), ..World::default() };
    for namespace in Ns::ALL {
        world.namespaces.insert(namespace.name().into(), format!("{}-0", namespace.name()));
    }
    for (name, namespace) in [("inference", Ns::Serving), ("training", Ns::Lab)] {
        world.environments.insert(name.into(), environment(name, namespace, "vllm"));
    }
    let location = |name: &str, source: LocationSource, pinned: Option<BackendKey>| ArtifactLocation {
        name: name.into(),
        source,
        pinned,
        aliases: Vec::new(),
        path: None,
    };
    world.artifacts.insert(
        "orion".into(),
        Artifact {
            name: "orion".into(),
            digest: Some(format!("sha256:{}", "5c1e0b7d".repeat(8))),
            manifest: Manifest::Path(".weightlock/manifest.json".into()),
            content: ContentRules::default(),
            signature: None,
            locations: vec![
                location(
                    "serving",
                    LocationSource::Claim(claim_name(ORION)),
                    Some(BackendKey::csi("ebs.csi.aws.com", "vol-weights")),
                ),
                location("share", LocationSource::Key(BackendKey::nfs("nas", "/models/orion")), None),
            ],
            permitted: ["inference".to_owned()].into(),
            producers: Vec::new(),
            frozen: false,
            effort: None,
            contact: "weights-team@example.com".into(),
        },
    );
    world
}
