//! The network policies of an environment: NetworkPolicies in its namespaces and, where the cluster has them,
//! ClusterNetworkPolicies in the Admin tier, which no NetworkPolicy opens.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource, api::DynamicObject};
use serde::Serialize;

use super::{
    Context, Next,
    apply::{Applied, ObjectId},
    error::ReconcileError,
    members::Members,
    observed::{by_name, written_for},
};
use crate::{
    domain::{
        network::{self, AdminTier, NetworkPlan, admin_tier},
        world::{AdminTierUse, Environment},
    },
    render::{self, cluster_network_policy::ClusterNetworkPolicy},
};

/// In which time a watch notices that its kind is gone.
const NOTICED: Duration = Duration::from_secs(3);

/// What came of the network policies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// The plan; `None` if it could not be computed.
    pub plan: Option<NetworkPlan>,
    /// What policies of others allow beyond what is declared, each with the policy and the field.
    pub undeclared: Vec<String>,
    /// What came of the NetworkPolicies.
    pub namespaced: Written,
    /// What came of the Admin tier.
    pub admin: Admin,
}

/// What came of the Admin tier.
#[derive(Debug, Default)]
pub(super) struct Admin {
    /// Whether there is one.
    pub used: Used,
    /// The tier that is wanted; `None` if none is.
    pub tier: Option<AdminTier>,
    /// What came of its policies.
    pub written: Written,
}

/// Whether the Admin tier is used here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Used {
    /// The cluster has no ClusterNetworkPolicies.
    #[default]
    NotServed,
    /// The installation says so.
    Never,
    /// The network plugin is Cilium, and the installation does not say that it may be used even so.
    ///
    /// Up to 1.20.2 it sorts what a new pod changes in its tables by the difference of two tiers, which are unsigned numbers of
    /// eight bits. So the permission of a NetworkPolicy may arrive before the `Pass` that it needs against our denial, and is dropped.
    Cilium,
    /// It is.
    Yes,
}

/// What came of writing objects.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// What is wanted.
    pub wanted: Vec<ObjectId>,
    /// What a rival changed and is put back later.
    pub deferred: Vec<ObjectId>,
    /// The first error.
    pub error: Option<ReconcileError>,
    /// When to look again without a change.
    pub next: Next,
}

impl Policies {
    /// All that is wanted.
    pub fn wanted(&self) -> Vec<ObjectId> {
        self.namespaced.wanted.iter().chain(&self.admin.written.wanted).cloned().collect()
    }

    /// When to look again without a change.
    pub fn next(&self) -> Next {
        [self.namespaced.next, self.admin.written.next].into_iter().flatten().min()
    }

    /// The first error.
    pub fn error(&mut self) -> Option<ReconcileError> {
        self.namespaced.error.take().or_else(|| self.admin.written.error.take())
    }
}

impl Written {
    fn fail(&mut self, error: ReconcileError) {
        tracing::warn!(%error, "network policy");
        self.error.get_or_insert(error);
    }

    async fn put<K>(&mut self, context: &Context, policy: &K, live: Option<Arc<DynamicObject>>)
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let id = ObjectId::of(policy);
        self.wanted.push(id.clone());
        if live.is_some_and(|live| context.writer.is_settled(policy, &live)) {
            return;
        }
        match context.writer.apply(policy).await {
            Ok(Applied::Deferred(at)) => {
                self.deferred.push(id);
                self.next = self.next.into_iter().chain([at]).min();
            }
            Ok(Applied::Repaired) => {
                tracing::warn!(object = %id, "put back what was changed or deleted by someone else")
            }
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
    }
}

/// Brings the policies of an environment in line.
pub(super) async fn write(context: &Context, environment: &Environment, members: &Members) -> Policies {
    let mut outcome = Policies::default();
    let plan = match network::plan(&members.world, &environment.name) {
        Ok(plan) => plan,
        Err(error) => {
            let object = ObjectId::new("WeightEnvironment", None, &environment.name);
            outcome.namespaced.fail(ReconcileError::Plan { object, reason: error.to_string() });
            return outcome;
        }
    };
    for policy in render::network::policies(&environment.name, &plan) {
        let id = ObjectId::of(&policy);
        let live = context.observed.policy(id.namespace.as_deref().unwrap_or_default(), &id.name);
        outcome.namespaced.put(context, &policy, live).await;
    }
    outcome.admin = write_admin(context, environment, &plan).await;
    context.writer.forget_unwanted(&owner(&environment.name), &outcome.wanted());
    let wanted: BTreeSet<(String, String)> =
        outcome.namespaced.wanted.iter().filter_map(|id| Some((id.namespace.clone()?, id.name.clone()))).collect();
    if let Err(error) = remove_namespaced(context, &environment.name, &wanted).await {
        outcome.namespaced.fail(error);
    }
    outcome.undeclared = undeclared(context, &plan, &wanted);
    outcome.plan = Some(plan);
    outcome
}

/// Removes all policies of an environment.
///
/// # Errors
/// The first that the API server refuses.
pub(super) async fn remove(context: &Context, environment: &str) -> Result<(), ReconcileError> {
    remove_namespaced(context, environment, &BTreeSet::new()).await?;
    remove_admin(context, environment, &[]).await
}

async fn write_admin(context: &Context, environment: &Environment, plan: &NetworkPlan) -> Admin {
    let Some(live) = context.observed.admin_tier.served() else { return Admin::default() };
    let used = match context.world.settings.admin_tier {
        AdminTierUse::Never => Used::Never,
        AdminTierUse::Auto if context.observed.cilium.served().is_some() => Used::Cilium,
        AdminTierUse::Auto | AdminTierUse::Always => Used::Yes,
    };
    let tier = (used == Used::Yes).then(|| admin_tier(plan)).flatten();
    let mut admin = Admin { used, tier, written: Written::default() };
    let tier = admin.tier.iter();
    let policies = tier.flat_map(|tier| render::cluster_network_policy::policies(&environment.name, tier));
    // The last first: what is denied stands there, and is not to be missing while it moves from one to the next.
    for policy in policies.collect::<Vec<_>>().iter().rev() {
        admin.written.put(context, policy, by_name(live, &ObjectId::of(policy).name)).await;
    }
    if let Err(error) = remove_admin(context, &environment.name, &admin.written.wanted).await {
        admin.written.fail(error);
    }
    if admin.written.error.as_ref().is_some_and(ReconcileError::is_not_found) {
        // The kind is gone, and its watch has not noticed yet.
        let written = Written { next: Some(Instant::now() + NOTICED), ..Written::default() };
        return Admin { written, ..Admin::default() };
    }
    admin
}

/// What the policies of others allow that is not declared. Admission refuses such; these were there before it was asked.
fn undeclared(context: &Context, plan: &NetworkPlan, ours: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut found = Vec::new();
    for (namespace, allowances) in &plan.namespaces {
        for policy in context.observed.policies_in(namespace) {
            let name = policy.metadata.name.clone().unwrap_or_default();
            if ours.contains(&(namespace.clone(), name.clone())) {
                continue;
            }
            let excess = network::excess(network::Kind::NetworkPolicy, &policy.data, namespace, allowances);
            found.extend(excess.iter().map(|excess| format!("{namespace}/{name}: {}: {}", excess.at, excess.what)));
        }
    }
    found
}

/// How objects name the environment they were written for.
fn owner(environment: &str) -> String {
    format!("weightenvironment/{environment}")
}

/// Removes the NetworkPolicies of an environment that are not wanted.
async fn remove_namespaced(
    context: &Context,
    environment: &str,
    wanted: &BTreeSet<(String, String)>,
) -> Result<(), ReconcileError> {
    for (namespace, name) in context.observed.policies_of(environment) {
        if !wanted.contains(&(namespace.clone(), name.clone())) {
            context.writer.delete_of_owner::<NetworkPolicy>(Some(&namespace), &name, &owner(environment)).await?;
        }
    }
    Ok(())
}

/// Removes the ClusterNetworkPolicies of an environment that are not wanted.
async fn remove_admin(context: &Context, environment: &str, wanted: &[ObjectId]) -> Result<(), ReconcileError> {
    let Some(live) = context.observed.admin_tier.served() else { return Ok(()) };
    for policy in written_for(live, environment) {
        let name = policy.metadata.name.clone().unwrap_or_default();
        if !wanted.iter().any(|wanted| wanted.name == name) {
            context.writer.delete_of_owner::<ClusterNetworkPolicy>(None, &name, &owner(environment)).await?;
        }
    }
    Ok(())
}
