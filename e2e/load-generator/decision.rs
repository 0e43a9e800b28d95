//! Decisions in this process, on a world that the watches of the real index made.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weightlock::domain::admission::{decide, shape};
use weightlock::domain::{Operation, Request, User, World};

use super::arguments::Arguments;
use super::objects::{Plan, UNRELATED, model_server, ordinary, serving};
use super::report::Report;
use super::statistics::Durations;

/// How many different requests there are of the mix.
const SAMPLES: usize = 2_000;

/// A request as the API server would make it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub kind: &'static str,
    pub namespace: String,
    pub operation: Operation,
    pub object: Value,
    pub old: Option<Value>,
    /// Whether it is to be allowed.
    pub allowed: bool,
}

impl Sample {
    fn request(&self) -> Request<'_> {
        Request {
            operation: self.operation,
            group: "",
            resource: "pods",
            subresource: None,
            namespace: &self.namespace,
            name: self.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default(),
            user: User { name: "system:serviceaccount:kube-system:replicaset-controller", groups: vec![] },
            object: Some(&self.object),
            old_object: self.old.as_ref(),
        }
    }

    /// The pod as the mutation leaves it, as it comes to the validation.
    fn shaped(mut self, world: &World) -> Self {
        if let Some(shaped) = shape(world, &self.request()).object {
            self.object = shaped;
        }
        self
    }

    /// The review that the API server sends.
    pub fn review(&self) -> Value {
        let operation = if self.operation == Operation::Create { "CREATE" } else { "UPDATE" };
        let pod = json!({"group": "", "version": "v1", "kind": "Pod"});
        let pods = json!({"group": "", "version": "v1", "resource": "pods"});
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "5c1e0b7d-2f5c-4e0b-8d2f-5c1e0b7d2f5c", "kind": pod, "resource": pods, "requestKind": pod, "requestResource": pods,
            "name": self.object["metadata"]["name"], "namespace": self.namespace, "operation": operation,
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]},
            "object": self.object, "oldObject": self.old, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        }})
    }
}

/// The mix: of 20 pods 8 are model servers where they belong, 5 have a claim without weights, one has a claim that is not bound
/// yet, 2 change a label; the rest break a rule: weights of another environment by NFS, a claim that does not exist, a service
/// account that is no member.
pub fn samples(plan: &Plan) -> Vec<Sample> {
    (0..SAMPLES).map(|number| sample(plan, number)).collect()
}

fn sample(plan: &Plan, number: usize) -> Sample {
    // Steps that have no common divisor with the counts visit all of them.
    let artifact = |kind: usize| (number * 7919 % plan.artifacts / 10 * 10 + kind).min(plan.artifacts - 1);
    let name = format!("pod-{number}");
    let new = |kind, namespace: String, object, allowed| Sample {
        kind,
        namespace,
        operation: Operation::Create,
        object,
        old: None,
        allowed,
    };
    let weights = artifact(number % 5);
    let (home, claim) = plan.claim_of(weights);
    match number % 20 {
        0..8 => new("model server", home, model_server(&name, &claim), true),
        8..14 => {
            let bound = number % 20 != 13;
            let (namespace, claim) =
                plan.claim_of(plan.block(number * 37) + if bound { 10 * (number % 4) } else { 40 });
            let kind = if bound { "ordinary pod" } else { "claim not bound yet" };
            new(kind, namespace, ordinary(&name, &claim), true)
        }
        14 | 15 => {
            let old = model_server(&name, &claim);
            let mut object = old.clone();
            object["metadata"]["labels"]["version"] = "2".into();
            Sample { operation: Operation::Update, old: Some(old), ..new("update", home, object, true) }
        }
        16 | 17 => {
            let nas = artifact(7);
            let mut object = model_server(&name, "");
            object["spec"]["volumes"][1] = json!({"name": "data", "nfs":
                {"server": format!("nas-{}.example.com", nas % 20), "path": format!("/models/m{nas}/v1/shard")}});
            let other = serving((plan.environment_of(nas) + 2) % plan.environments, 0);
            new("weights elsewhere", other, object, false)
        }
        18 => new("claim that is absent", home, model_server(&name, "nowhere"), false),
        _ => {
            let mut object = model_server(&name, &claim);
            object["spec"]["serviceAccountName"] = "default".into();
            new("other service account", home, object, false)
        }
    }
}

/// Measures [`decide`] on shaped pods, [`shape`] on pods as they are written, and [`decide`] on pods outside environments.
pub fn measure(world: &World, plan: &Plan, arguments: &Arguments, report: &mut Report) -> Result<()> {
    ensure!(world.artifacts.len() == plan.artifacts, "{} artifacts in the index", world.artifacts.len());
    ensure!(world.volumes.len() == plan.volumes, "{} volumes in the index", world.volumes.len());
    let written = samples(plan);
    let shaped: Vec<Sample> = written.iter().map(|sample| sample.clone().shaped(world)).collect();
    for sample in &shaped {
        let decision = decide(world, &sample.request());
        ensure!(
            decision.allowed() == sample.allowed,
            "{} in {}: {:?} {:?}",
            sample.kind,
            sample.namespace,
            decision.violations,
            decision.warnings
        );
    }
    let outside: Vec<Sample> = written
        .iter()
        .filter(|sample| sample.kind == "ordinary pod")
        .map(|sample| Sample { namespace: UNRELATED.into(), ..sample.clone() })
        .collect();
    let span = Duration::from_secs(arguments.seconds);
    let kinds: std::collections::BTreeSet<&str> = shaped.iter().map(|sample| sample.kind).collect();
    report.decision("decide, all", &time(&shaped, span, |s| drop(decide(world, &s.request())))?);
    for kind in kinds {
        let some: Vec<Sample> = shaped.iter().filter(|sample| sample.kind == kind).cloned().collect();
        let part = time(&some, span / 5, |s| drop(decide(world, &s.request())))?;
        report.decision(&format!("decide, {kind}"), &part);
    }
    report.decision("decide, outside environments", &time(&outside, span / 5, |s| drop(decide(world, &s.request())))?);
    let pods: Vec<Sample> = written.into_iter().filter(|s| s.operation == Operation::Create).collect();
    report.decision("shape, all", &time(&pods, span, |s| drop(shape(world, &s.request())))?);
    Ok(())
}

/// Times each call for as long as given, after a tenth of it to get warm.
fn time(samples: &[Sample], span: Duration, call: impl Fn(&Sample)) -> Result<Durations> {
    let started = Instant::now();
    while started.elapsed() < span / 10 {
        samples.iter().for_each(&call);
    }
    let mut durations = Durations::new()?;
    let started = Instant::now();
    while started.elapsed() < span {
        for sample in samples {
            let at = Instant::now();
            call(sample);
            durations.add(at.elapsed());
        }
    }
    Ok(durations)
}
