//! What can happen: requests of somebody who may write in every namespace, and the parts of the cluster that follow.

use std::collections::BTreeSet;

use crate::admission::{Admission, CONTROLLER, TENANT, snapshot, snapshot_content};
use crate::cluster::{Claim, Cluster, Disk, Mount, Name, Namespace, Ns, Pod, Reserved, Source, TEMPLATED, Vol, Volume};

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
    /// The kubelet mounts what the claim leads to now, and starts the containers.
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
    /// A claim can be deleted while a pod waits for it. Of a pod that was placed on a node the cluster does not let that
    /// happen; of one that was not it does.
    pub unplaced: bool,
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
        // It is asked about the pod alone.
        if self.webhook_lags && cluster.pod.is_none() {
            steps.extend([Step::SeeNamespaces, Step::SeeClaims, Step::SeeVolumes]);
        }
        if self.index_lags {
            steps.push(Step::Index);
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
            let used = cluster.pod.as_ref().is_some_and(|pod| match pod.mount {
                Mount::Claim(of) => Name(pod.namespace, of) == *name,
                Mount::Template { .. } => Name(pod.namespace, TEMPLATED) == *name,
                Mount::Inline(_) => false,
            });
            if self.unplaced || !used {
                steps.push(Step::DeleteClaim(*name));
            }
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
            }
            let mut mounts = vec![Mount::Inline(Disk::Registered), Mount::Inline(Disk::Above)];
            if self.copies {
                mounts.extend(self.sources(cluster).map(|s| Mount::Template { volume: None, source: Some(s) }));
            } else if cluster.stored.volumes.contains_key(&Vol::Spare) {
                mounts.push(Mount::Template { volume: Some(Vol::Spare), source: None });
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
            }
            steps.push(Step::Start);
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

impl Step {
    fn apply(&self, admission: &Admission, cluster: &mut Cluster) -> Option<()> {
        match *self {
            Step::Claim(name, volume, source) => create_claim(admission, cluster, TENANT, name, volume, source)?,
            Step::NameVolume(name, volume) => write_volume_name(admission, cluster, TENANT, name, volume)?,
            Step::DeleteClaim(name) => {
                cluster.stored.claims.remove(&name)?;
            }
            Step::Snapshot(name) => {
                let request = ("volumesnapshots", &snapshot(name), None);
                admission.takes(cluster, TENANT, Some(name.0), request).then_some(())?;
                cluster.snapshots.insert(name, (name, None));
            }
            Step::Pod(namespace, member, mount) => {
                let namespace_uid = cluster.stored.namespaces.get(&namespace)?.uid;
                let pod = Pod { namespace, namespace_uid, member, mount, verified: false, running: None };
                let verified = admission.admits(cluster, &pod)?;
                cluster.pod = Some(Pod { verified, ..pod });
            }
            Step::DeleteNamespace(namespace) => {
                cluster.stored.namespaces.remove(&namespace)?;
                cluster.stored.claims.retain(|name, _| name.0 != namespace);
                cluster.snapshots.retain(|name, _| name.0 != namespace);
                cluster.pod = cluster.pod.take().filter(|pod| pod.namespace != namespace);
            }
            // Made again once is made again.
            Step::CreateNamespace(namespace) => {
                cluster.stored.namespaces.insert(namespace, Namespace { uid: 1, relabelled: false });
            }
            Step::Relabel(namespace) => cluster.stored.namespaces.get_mut(&namespace)?.relabelled ^= true,
            Step::Volume(disk, reserved) => {
                write_volume(admission, cluster, TENANT, Vol::Made, Volume { disk, reserved })?;
            }
            Step::Reserve(name, reserved) => {
                let disk = cluster.stored.volumes.get(&name)?.disk;
                write_volume(admission, cluster, TENANT, name, Volume { disk, reserved })?;
            }
            Step::DeleteVolume(name) => {
                cluster.stored.volumes.remove(&name)?;
            }
            Step::SayBound(name) => cluster.stored.claims.get_mut(&name)?.bound = true,
            Step::Bind(name, volume) => bind(admission, cluster, name, volume)?,
            Step::Provision(name) => provision(admission, cluster, name)?,
            Step::Take(name) => {
                let (claim, _) = *cluster.snapshots.get(&name)?;
                let disk = cluster.mounted(claim)?;
                let content = ("volumesnapshotcontents", &snapshot_content(claim, disk.handle()?), None);
                admission.takes(cluster, CONTROLLER, None, content).then_some(())?;
                let taken = copy_of(disk);
                cluster.snapshots.insert(name, (claim, Some(taken)));
            }
            Step::Template => {
                let pod = cluster.pod.as_ref()?;
                let Mount::Template { volume, source } = pod.mount else { return None };
                let name = Name(pod.namespace, TEMPLATED);
                (!cluster.stored.claims.contains_key(&name)).then_some(())?;
                create_claim(admission, cluster, CONTROLLER, name, volume, source)?;
            }
            Step::Start => {
                let disk = cluster.mount_of(cluster.pod.as_ref()?)?;
                cluster.pod.as_mut()?.running = Some(disk);
            }
            Step::SeeNamespaces => cluster.webhook.namespaces.clone_from(&cluster.stored.namespaces),
            Step::SeeClaims => cluster.webhook.claims.clone_from(&cluster.stored.claims),
            Step::SeeVolumes => cluster.webhook.volumes.clone_from(&cluster.stored.volumes),
            Step::Index => cluster.index.clone_from(&cluster.stored),
        }
        Some(())
    }
}

fn create_claim(
    admission: &Admission,
    cluster: &mut Cluster,
    user: &str,
    name: Name,
    volume: Option<Vol>,
    source: Option<Source>,
) -> Option<()> {
    let claim = Claim { uid: cluster.unused_uid(), volume, bound: false, source };
    let request = ("persistentvolumeclaims", &claim.object(name), None);
    admission.takes(cluster, user, Some(name.0), request).then_some(())?;
    cluster.stored.claims.insert(name, claim);
    Some(())
}

/// Changes `spec.volumeName` of a claim that has none.
fn write_volume_name(admission: &Admission, cluster: &mut Cluster, user: &str, name: Name, volume: Vol) -> Option<()> {
    let old = cluster.stored.claims.get(&name)?.clone();
    old.volume.is_none().then_some(())?;
    let claim = Claim { volume: Some(volume), ..old.clone() };
    let request = ("persistentvolumeclaims", &claim.object(name), Some(&old.object(name)));
    admission.takes(cluster, user, Some(name.0), request).then_some(())?;
    cluster.stored.claims.insert(name, claim);
    Some(())
}

/// Makes a volume, or changes whom it is for: what it leads to never changes.
fn write_volume(admission: &Admission, cluster: &mut Cluster, user: &str, name: Vol, volume: Volume) -> Option<()> {
    let old = cluster.stored.volumes.get(&name).map(|old| old.object(name));
    let request = ("persistentvolumes", &volume.object(name), old.as_ref());
    admission.takes(cluster, user, None, request).then_some(())?;
    cluster.stored.volumes.insert(name, volume);
    Some(())
}

/// As the binder of Kubernetes does it: first the volume says which claim it is for, then the claim which volume it has,
/// then that it is bound. What is refused on the way leaves the rest as it is.
fn bind(admission: &Admission, cluster: &mut Cluster, name: Name, volume: Vol) -> Option<()> {
    let claim = cluster.stored.claims.get(&name)?.clone();
    let found = cluster.stored.volumes.get(&volume)?.clone();
    claim.volume.is_none_or(|wanted| wanted == volume).then_some(())?;
    let reserved = Some(Reserved { claim: name, uid: Some(claim.uid) });
    match found.reserved {
        None => {}
        Some(for_it) if for_it.claim == name && for_it.uid.is_none_or(|uid| uid == claim.uid) => {}
        // It was another's, even if that is gone.
        Some(_) => return None,
    }
    if found.reserved != reserved {
        write_volume(admission, cluster, CONTROLLER, volume, Volume { reserved, ..found })?;
    }
    if claim.volume.is_none() && write_volume_name(admission, cluster, CONTROLLER, name, volume).is_none() {
        return Some(());
    }
    cluster.stored.claims.get_mut(&name)?.bound = true;
    Some(())
}

fn copy_of(disk: Disk) -> Disk {
    if disk.holds_weights() { Disk::Copy } else { Disk::Empty }
}

fn provision(admission: &Admission, cluster: &mut Cluster, name: Name) -> Option<()> {
    let claim = cluster.stored.claims.get(&name)?.clone();
    let disk = match claim.source {
        None => Disk::Empty,
        Some(Source::Claim(from)) => copy_of(cluster.mounted(from)?),
        Some(Source::Snapshot(of)) => cluster.snapshots.get(&of)?.1?,
    };
    let made = (0..3).map(Vol::Provisioned).find(|made| !cluster.stored.volumes.contains_key(made))?;
    let reserved = Some(Reserved { claim: name, uid: Some(claim.uid) });
    write_volume(admission, cluster, CONTROLLER, made, Volume { disk, reserved })?;
    bind(admission, cluster, name, made)
}
