//! What can happen: requests of somebody who may write in every namespace, and the parts of the cluster that follow.

use std::collections::BTreeSet;

use crate::admission::Admission;
use crate::cluster::{Cluster, Disk, Mount, Name, Ns, Pod, Reserved, Source, TEMPLATED, Vol};

/// One thing that happens. A request that is refused is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A claim is made.
    Claim(Name, Option<Vol>, Option<Source>),
    /// A claim without a volume is given one, which the API server allows once.
    NameVolume(Name, Vol),
    DeleteClaim(Name),
    /// A snapshot of a claim, of the same name.
    Snapshot(Name),
    Pod(Ns, bool, Mount),
    /// A pod that names its node itself, so that no scheduler places it.
    PodOnNode(Ns, bool, Mount),
    DeleteNamespace(Ns),
    CreateNamespace(Ns),
    Relabel(Ns),
    Volume(Disk, Option<Reserved>),
    /// `spec.claimRef` of a volume is written.
    Reserve(Vol, Option<Reserved>),
    DeleteVolume(Vol),
    /// Somebody who may write the status of a claim says that it is bound.
    SayBound(Name),
    /// The binder binds a claim and a volume.
    Bind(Name, Vol),
    /// A provisioner makes the volume of a claim, from its source if it has one.
    Provision(Name),
    /// The snapshot of a claim is taken.
    Take(Name),
    /// The claim that is made for the pod.
    Template,
    /// A scheduler places the pod on a node. Not the one of Kubernetes, which waits for the claims: whoever may.
    Place,
    /// The kubelet mounts what the claim leads to now, and starts the containers; before that the pod is placed, if it was not.
    Start,
    /// The watches of the webhook, each by itself.
    SeeNamespaces,
    SeeClaims,
    SeeVolumes,
    /// The index is written anew.
    Index,
}

/// What somebody may do, and how far readers lag behind. Not all at once can be explored to a depth that says something.
#[derive(Clone, Copy, Debug)]
pub struct Powers {
    /// Where weights are not permitted: in another environment, or in none.
    pub elsewhere: Ns,
    /// A second volume of the registered storage is there, and nobody's.
    pub spare: bool,
    /// PersistentVolumes are made, reserved and deleted.
    pub volumes: bool,
    /// Claims are filled from others, snapshots are taken.
    pub copies: bool,
    /// Claims are filled from other namespaces: a feature of the API server that is off unless somebody turns it on.
    pub across: bool,
    /// Namespaces are deleted, made again and labelled.
    pub namespaces: bool,
    /// Something happens between the moment at which a pod is placed on a node and the mount, and pods name their node.
    pub nodes: bool,
    /// The webhook's watches lag.
    pub webhook_lags: bool,
    /// The index lags.
    pub index_lags: bool,
}

/// The claim that is made in the namespace where the weights are permitted.
pub const A: Name = Name(Ns::Serving, 'a');

impl Powers {
    /// The claims that are made: one where the weights are permitted, and one where they are not.
    fn made(&self) -> [Name; 2] {
        [A, Name(self.elsewhere, 'a')]
    }

    /// The claim that is made to copy to.
    fn copied(&self) -> Name {
        Name(if self.across { self.elsewhere } else { Ns::Serving }, 'b')
    }

    /// Everything that might happen next.
    pub fn steps(&self, cluster: &Cluster, steps: &mut Vec<Step>) {
        match &cluster.pod {
            // Nothing that happens later changes what a pod that runs has mounted.
            Some(pod) if pod.running.is_some() => return,
            Some(pod) if pod.placed => return self.after_placement(pod, cluster, steps),
            // Nor what it will mount, if it says so itself.
            Some(Pod { mount: Mount::Inline(_), .. }) => return steps.push(Step::Start),
            _ => {}
        }
        self.claims(cluster, steps);
        if self.volumes {
            self.reservations(cluster, steps);
        }
        if cluster.pod.is_none() {
            self.pods(cluster, steps);
        }
        if self.namespaces {
            // Of one that was never permitted anything it says nothing that it was made again.
            steps.push(match cluster.stored.namespaces.get(&Ns::Serving) {
                Some(_) => Step::DeleteNamespace(Ns::Serving),
                None => Step::CreateNamespace(Ns::Serving),
            });
            if cluster.pod.is_none() {
                steps.extend([Step::Relabel(Ns::Serving), Step::Relabel(self.elsewhere)]);
            }
        }
        self.controllers(cluster, steps);
        // It is asked about the pod alone, and reads what is read when it is placed.
        if self.webhook_lags && cluster.pod.is_none() {
            steps.extend([Step::SeeNamespaces, Step::SeeClaims, Step::SeeVolumes]);
        }
        if self.index_lags {
            steps.push(Step::Index);
        }
    }

    /// What could still change what a pod mounts that was placed.
    fn after_placement(&self, pod: &Pod, cluster: &Cluster, steps: &mut Vec<Step>) {
        steps.push(Step::Start);
        let Some(name) = pod.claim() else { return };
        match cluster.stored.claims.get(&name) {
            Some(claim) => {
                steps.push(Step::DeleteClaim(name));
                if !claim.bound {
                    steps.extend(cluster.stored.volumes.keys().map(|volume| Step::Bind(name, *volume)));
                }
            }
            None => {
                steps.extend(cluster.stored.volumes.keys().map(|volume| Step::Claim(name, Some(*volume), None)));
                steps.extend(matches!(pod.mount, Mount::Template { .. }).then_some(Step::Template));
            }
        }
        if self.volumes {
            self.reservations(cluster, steps);
        }
    }

    fn claims(&self, cluster: &Cluster, steps: &mut Vec<Step>) {
        for name in self.made() {
            if !cluster.stored.claims.contains_key(&name) {
                steps.push(Step::Claim(name, None, None));
                let volumes = cluster.stored.volumes.keys().copied();
                // Also before it is there.
                let volumes = volumes.chain(self.volumes.then_some(Vol::Made)).collect::<BTreeSet<_>>();
                steps.extend(volumes.into_iter().map(|volume| Step::Claim(name, Some(volume), None)));
            }
        }
        if self.copies && !cluster.stored.claims.contains_key(&self.copied()) {
            steps.extend(self.sources(cluster).map(|source| Step::Claim(self.copied(), None, Some(source))));
        }
        if self.copies && !cluster.stored.claims.contains_key(&A) {
            steps.extend(self.sources(cluster).map(|source| Step::Claim(A, None, Some(source))));
        }
        for (name, claim) in &cluster.stored.claims {
            if claim.volume.is_none() {
                steps.extend(cluster.stored.volumes.keys().map(|volume| Step::NameVolume(*name, *volume)));
            } else if self.volumes && !claim.bound {
                steps.push(Step::SayBound(*name));
            }
            steps.push(Step::DeleteClaim(*name));
            let taken = cluster.snapshots.contains_key(name);
            if self.copies && !taken && name.0 == Ns::Serving {
                steps.push(Step::Snapshot(*name));
            }
        }
    }

    /// What a claim can be filled from, whether or not it is there yet.
    fn sources(&self, cluster: &Cluster) -> impl Iterator<Item = Source> {
        let claims = [crate::cluster::ORION, A].map(Source::Claim);
        claims.into_iter().chain(cluster.snapshots.keys().copied().map(Source::Snapshot))
    }

    fn reservations(&self, cluster: &Cluster, steps: &mut Vec<Step>) {
        let mut reserved = vec![None];
        reserved.extend(self.made().map(|claim| Some(Reserved { claim, uid: None })));
        // For a claim where it is permitted by name, and by its UID for one elsewhere.
        let elsewhere = self.made().into_iter().filter(|claim| claim.0 != Ns::Serving);
        let uids = elsewhere.filter_map(|claim| Some(cluster.stored.claims.get(&claim)?.uid));
        reserved.extend(uids.map(|uid| Some(Reserved { claim: A, uid: Some(uid) })));
        if !cluster.stored.volumes.contains_key(&Vol::Made) {
            // The registered one itself is there as `Vol::Spare`.
            for disk in [Disk::Above, Disk::Other] {
                steps.extend(reserved.iter().map(|reserved| Step::Volume(disk, *reserved)));
            }
        }
        for name in [Vol::Spare, Vol::Made] {
            if let Some(volume) = cluster.stored.volumes.get(&name) {
                let others = reserved.iter().filter(|reserved| volume.reserved != **reserved);
                steps.extend(others.map(|reserved| Step::Reserve(name, *reserved)));
                steps.push(Step::DeleteVolume(name));
            }
        }
    }

    fn pods(&self, cluster: &Cluster, steps: &mut Vec<Step>) {
        for namespace in [Ns::Serving, self.elsewhere] {
            let claims = ['a', 'b', 'o'].into_iter().filter(|name| match name {
                'o' => namespace == Ns::Serving,
                'b' => self.copies && namespace == self.copied().0,
                _ => true,
            });
            // Where nothing is permitted, an account that is a member of the environment gets furthest.
            let accounts: &[bool] = if namespace == Ns::Serving { &[true, false] } else { &[true] };
            for mount in claims.map(Mount::Claim) {
                steps.extend(accounts.iter().map(|member| Step::Pod(namespace, *member, mount)));
                if self.nodes {
                    steps.extend(accounts.iter().map(|member| Step::PodOnNode(namespace, *member, mount)));
                }
            }
            let mut mounts = vec![Mount::Inline(Disk::Registered), Mount::Inline(Disk::Above)];
            if self.copies {
                mounts.extend(self.sources(cluster).map(|s| Mount::Template { volume: None, source: Some(s) }));
            } else {
                mounts.push(Mount::Template { volume: None, source: None });
                let spare = cluster.stored.volumes.contains_key(&Vol::Spare);
                mounts.extend(spare.then_some(Mount::Template { volume: Some(Vol::Spare), source: None }));
            }
            if self.nodes {
                steps.extend(mounts.iter().map(|mount| Step::PodOnNode(namespace, true, *mount)));
            }
            steps.extend(mounts.into_iter().map(|mount| Step::Pod(namespace, true, mount)));
        }
    }

    fn controllers(&self, cluster: &Cluster, steps: &mut Vec<Step>) {
        for (name, claim) in &cluster.stored.claims {
            if claim.bound {
                continue;
            }
            steps.extend(cluster.stored.volumes.keys().map(|volume| Step::Bind(*name, *volume)));
            if claim.volume.is_none() {
                steps.push(Step::Provision(*name));
            }
        }
        steps.extend(
            cluster.snapshots.iter().filter(|(_, (_, taken))| taken.is_none()).map(|(name, _)| Step::Take(*name)),
        );
        if let Some(pod) = &cluster.pod {
            if matches!(pod.mount, Mount::Template { .. }) {
                steps.push(Step::Template);
                // Somebody makes it in place of the one that the cluster makes.
                let name = Name(pod.namespace, TEMPLATED);
                if !cluster.stored.claims.contains_key(&name) {
                    steps.extend(cluster.stored.volumes.keys().map(|volume| Step::Claim(name, Some(*volume), None)));
                }
            }
            steps.push(if self.nodes { Step::Place } else { Step::Start });
        }
    }

    /// The cluster after a step; `None` where it cannot be, is refused, or changes nothing.
    pub fn take(&self, admission: &Admission, before: &Cluster, step: &Step) -> Option<Cluster> {
        let mut cluster = before.clone();
        step.apply(admission, &mut cluster)?;
        if !self.webhook_lags {
            cluster.webhook = cluster.stored.clone();
        }
        if !self.index_lags {
            cluster.index = cluster.stored.clone();
        }
        (cluster != *before).then_some(cluster)
    }
}
