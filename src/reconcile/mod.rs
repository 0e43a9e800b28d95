//! One recipe per kind, and one writer.
//!
//! A recipe is `async fn reconcile(context: &Context, …) -> Result<Next, ReconcileError>`. It compares what the world
//! asks for with what is there and lets the [`apply::Writer`] do the rest; in steady state it writes nothing.

pub mod apply;
pub mod artifact;
mod audit;
pub mod certificate;
mod concerned;
pub mod conditions;
mod drift;
pub mod elsewhere;
mod environment;
mod environment_status;
pub mod error;
pub mod events;
mod in_force;
pub mod index;
mod manifests;
mod members;
mod network;
pub mod observed;
pub mod policies;
mod repair;
mod reports;
mod schedule;
mod scope;
mod sealing;
mod tampering;
pub mod uninstall;
mod unreadable;
mod verification;
pub mod webhook_configuration;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use tokio::sync::watch;

use crate::{
    api::WeightIndexSpec,
    domain::{
        World, consumers,
        settings::{CONTROLLER_LEASE, Settings},
        world::Map,
    },
    index::{Index, Scope},
    runtime::{
        Process, RuntimeError,
        lease::Elector,
        metrics::{Access, Reconciles, Writes},
    },
};
use concerned::Concerned;
use error::ReconcileError;
use in_force::InForce;
use observed::Observed;
use schedule::{Recipe, Schedule};

/// How soon to look again where two watches do not show the same object yet.
const CATCH_UP: Duration = Duration::from_millis(100);
/// How long changes are gathered before a round.
const GATHER: Duration = Duration::from_millis(50);
/// The least time from the start of one round to the start of the next.
const ROUND: Duration = Duration::from_millis(200);
/// How long one recipe may take; what it has not done by then, its next run does.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many recipes run at once.
const CONCURRENCY: usize = 4;

/// Lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a recipe works with.
#[derive(Clone)]
pub struct Context {
    /// The only writer; its client is for reads.
    pub writer: apply::Writer,
    /// The cluster as the index sees it, with every kind synced.
    pub world: Arc<World>,
    /// The objects that are compared with and written.
    pub observed: Observed,
    /// What the policies inside the API server decide with.
    in_force: Arc<InForce>,
    /// The shards of the index that are there; `None` if one of them cannot be read.
    shards: Option<Arc<Vec<WeightIndexSpec>>>,
    /// What was told in events already.
    memory: Memory,
    /// How many could reach the weights of an environment past admission.
    access: Access,
    /// The pods of each artifact.
    holders: Arc<BTreeMap<String, Vec<(String, String)>>>,
}

/// What was told in events already, for as long as this process leads. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// Verifications.
    verified: verification::Reported,
    /// Pods of environments in Audit.
    audited: audit::Told,
    /// Pods that hold weights where they are not permitted: UID and artifact.
    elsewhere: audit::Told,
    /// Manifests that are brought to pods.
    manifests: manifests::Known,
}

impl Context {
    fn new(writer: &apply::Writer, world: Arc<World>, observed: &Observed, memory: &Memory, access: &Access) -> Self {
        let mut holders: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (key, pod) in &world.pods {
            for artifact in consumers::holdings(&world, &key.0, pod).artifacts {
                holders.entry(artifact).or_default().push(key.clone());
            }
        }
        let bound = !observed::names(&observed.ring.bindings).is_empty();
        let shards = index::live(observed).ok().map(Arc::new);
        let in_force = InForce::of(&world, shards.as_deref().map_or(&[], Vec::as_slice), bound);
        Self {
            writer: writer.clone(),
            world,
            in_force: Arc::new(in_force),
            shards,
            observed: observed.clone(),
            memory: memory.clone(),
            access: access.clone(),
            holders: Arc::new(holders),
        }
    }

    /// Namespace and name of the pods that hold an artifact, those that ended included.
    pub fn pods_with(&self, artifact: &str) -> &[(String, String)] {
        self.holders.get(artifact).map(Vec::as_slice).unwrap_or_default()
    }
}

/// When a recipe wants to run again although nothing changed; `None`: only on a change.
pub type Next = Option<Instant>;

/// Runs the controller until the process is told to shut down: follows, and reconciles while it leads.
///
/// # Errors
/// [`RuntimeError::LeaseLost`] when another process may lead. All writing has stopped by then.
pub async fn run(process: &Process, settings: Settings) -> Result<(), RuntimeError> {
    process.health.set("index", false);
    let own_namespace = settings.own_namespace.clone();
    let (index, watches) = Index::start(process.client.clone(), settings, Scope::Controller);
    let (observed, more_watches) = Observed::start(&process.client, &own_namespace);
    let (writes, reconciles) = (Writes::new(&process.metrics), Reconciles::new(&process.metrics));
    let access = Access::new(&process.metrics);
    process.metrics.register(|registry| index.register(registry));

    // A follower keeps its caches warm, so that it can take over at once.
    let background = tokio::spawn(async move { futures::join!(watches, more_watches) });
    let ready = tokio::spawn(report_readiness(process.clone(), index.clone(), observed.clone()));

    let elector = Elector::new(process.client.clone(), &own_namespace, CONTROLLER_LEASE, &process.instance);
    let outcome = match elector.acquire(&process.shutdown).await {
        None => Ok(()),
        Some(mut leadership) => {
            let (leading, is_leading) = watch::channel(true);
            reconciles.leader.set(1);
            let writer = apply::Writer::new(process.client.clone(), writes, is_leading, &process.instance);
            // Whichever comes first drops the others: no recipe goes on after the lease is lost.
            let lost = tokio::select! {
                lost = leadership.keep() => Some(lost),
                () = reconcile(index, observed, writer, &access, &reconciles) => None,
                () = process.shutdown.cancelled() => None,
            };
            leading.send_replace(false);
            reconciles.leader.set(0);
            match lost {
                Some(lost) => Err(lost),
                None => {
                    leadership.release().await;
                    Ok(())
                }
            }
        }
    };
    ready.abort();
    background.abort();
    outcome
}

async fn report_readiness(process: Process, index: Index, observed: Observed) {
    observed.ready().await;
    let mut changed = index.changed();
    while !index.synced() {
        if changed.changed().await.is_err() {
            return;
        }
    }
    process.health.set("index", true);
}

/// Runs rounds for ever: one after each change, and when a recipe asked for it.
async fn reconcile(index: Index, observed: Observed, writer: apply::Writer, access: &Access, metrics: &Reconciles) {
    observed.ready().await;
    let (mut changed, mut objects_changed) = (index.changed(), observed.changed());
    let (mut schedule, memory) = (Schedule::default(), Memory::default());
    let mut last: Option<Arc<World>> = None;
    loop {
        let started = Instant::now();
        changed.mark_unchanged();
        let only_pods = !objects_changed.has_changed().unwrap_or(true);
        objects_changed.mark_unchanged();
        let world = index.world();
        if world.unsynced.is_empty() {
            let concerned = match &last {
                Some(last) if only_pods && same_but_for_pods(last, &world) => {
                    Concerned::by_pods(last, &world, |environment| observed.namespaces_written(&environment.name))
                }
                _ => Concerned::All,
            };
            last = Some(world.clone());
            let context = Context::new(&writer, world, &observed, &memory, access);
            memory.audited.retain(&context.world);
            memory.elsewhere.retain(&context.world);
            round(&context, &mut schedule, &concerned, metrics).await;
        }
        let due = schedule.next().map(tokio::time::Instant::from_std);
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            changed = objects_changed.changed() => if changed.is_err() { return } else { objects_changed.mark_changed() },
            () = sleep_until(due) => {}
        }
        tokio::time::sleep(GATHER.max(ROUND.saturating_sub(started.elapsed()))).await;
    }
}

fn same_but_for_pods(one: &World, other: &World) -> bool {
    // Parts that both share are not compared.
    fn same<K: Ord, V: PartialEq>(one: &Map<K, V>, other: &Map<K, V>) -> bool {
        one.diff(other).next().is_none()
    }
    same(&one.artifacts, &other.artifacts)
        && one.unreadable_artifacts == other.unreadable_artifacts
        && same(&one.environments, &other.environments)
        && same(&one.incidents, &other.incidents)
        && same(&one.namespaces, &other.namespaces)
        && same(&one.claims, &other.claims)
        && same(&one.volumes, &other.volumes)
        && same(&one.snapshots, &other.snapshots)
}

async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Runs every recipe that may run now.
async fn round(context: &Context, schedule: &mut Schedule, concerned: &Concerned, metrics: &Reconciles) {
    let recipes = recipes(context);
    schedule.retain(&recipes);
    let runnable: Vec<Recipe> =
        recipes.into_iter().filter(|recipe| schedule.runs(recipe, concerned, Instant::now())).collect();
    let outcomes: Vec<_> = stream::iter(runnable)
        .map(|recipe| async move {
            let outcome = tokio::time::timeout(PATIENCE, run_recipe(context, &recipe)).await;
            (recipe, outcome)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    for (recipe, outcome) in outcomes {
        let result = match outcome {
            Ok(Ok(next)) => {
                schedule.succeeded(recipe.clone(), next);
                "ok"
            }
            Ok(Err(error)) => {
                let category = error.category();
                let pause = schedule.failed(recipe.clone(), category, Instant::now());
                match category {
                    error::Category::Bug => tracing::error!(%recipe, %error, retry_after = ?pause, "recipe failed"),
                    _ => tracing::warn!(%recipe, %error, retry_after = ?pause, "recipe failed"),
                }
                category.as_str()
            }
            Err(_) => {
                let pause = schedule.failed(recipe.clone(), error::Category::Retry, Instant::now());
                tracing::warn!(%recipe, limit = ?PATIENCE, retry_after = ?pause, "recipe took too long");
                "timeout"
            }
        };
        metrics.count(recipe.kind(), result);
    }
}

fn recipes(context: &Context) -> Vec<Recipe> {
    let artifacts = context.observed.artifact_names().into_iter().map(Recipe::Artifact);
    let environments = context.observed.environment_names().into_iter().map(Recipe::Environment);
    [Recipe::Webhooks, Recipe::Policies, Recipe::Manifests].into_iter().chain(artifacts).chain(environments).collect()
}

async fn run_recipe(context: &Context, recipe: &Recipe) -> Result<Next, ReconcileError> {
    match recipe {
        Recipe::Webhooks => webhook_configuration::reconcile(context).await,
        Recipe::Policies => policies::reconcile(context).await,
        Recipe::Manifests => manifests::remove_unneeded(context).await,
        Recipe::Artifact(name) => artifact::reconcile(context, name).await,
        Recipe::Environment(name) => environment::reconcile(context, name).await,
    }
}
