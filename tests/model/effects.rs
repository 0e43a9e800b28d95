//! What each step does, where it is not refused.

use serde_json::Value;

use crate::admission::{Admission, Admitted, CONTROLLER, TENANT, snapshot, snapshot_content};
use crate::cluster::{Claim, Cluster, Disk, Mount, Name, Namespace, Pod, Reserved, Source, TEMPLATED, Vol, Volume};
use crate::steps::Step;

impl Step {
    /// Does it; `None` where it cannot be, or is refused.
    pub fn apply(&self, admission: &Admission, cluster: &mut Cluster) -> Option<()> {
        match *self {
            Step::Claim(name, volume, source) => create_claim(admission, cluster, TENANT, name, volume, source)?,
            Step::NameVolume(name, volume) => write_volume_name(admission, cluster, TENANT, name, volume)?,
            Step::DeleteClaim(name) => {
                // The cluster keeps one that a placed pod uses, unless somebody takes the finalizer away.
                if cluster.pod.as_ref().is_some_and(|pod| pod.placed && pod.claim() == Some(name)) {
                    let old = cluster.stored.claims.get(&name)?.object(name);
                    let mut bare = old.clone();
                    bare["metadata"]["finalizers"] = Value::Null;
                    let request = ("persistentvolumeclaims", &bare, Some(&old));
                    admission.takes(cluster, TENANT, Some(name.0), request).then_some(())?;
                }
                cluster.stored.claims.remove(&name)?;
            }
            Step::Snapshot(name) => {
                let request = ("volumesnapshots", &snapshot(name), None);
                admission.takes(cluster, TENANT, Some(name.0), request).then_some(())?;
                cluster.snapshots.insert(name, (name, None));
            }
            Step::Pod(namespace, member, mount) => {
                create_pod(admission, cluster, Pod::new(namespace, member, mount))?;
            }
            Step::PodOnNode(namespace, member, mount) => {
                create_pod(admission, cluster, Pod { placed: true, ..Pod::new(namespace, member, mount) })?;
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
            Step::Place => {
                let pod = cluster.pod.as_ref().filter(|pod| !pod.placed)?;
                admission.places(cluster, pod).then_some(())?;
                cluster.pod.as_mut()?.placed = true;
            }
            Step::Start => {
                if !cluster.pod.as_ref()?.placed {
                    Step::Place.apply(admission, cluster)?;
                }
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

fn create_pod(admission: &Admission, cluster: &mut Cluster, pod: Pod) -> Option<()> {
    let namespace_uid = cluster.stored.namespaces.get(&pod.namespace)?.uid;
    let pod = Pod { namespace_uid, ..pod };
    let Admitted { verified, stored } = admission.admits(cluster, &pod)?;
    cluster.pod = Some(Pod { verified, stored, ..pod });
    Some(())
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
