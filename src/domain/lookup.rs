//! Questions to a [`World`]: who is a member of what, which artifacts are at a key, where an artifact may be.

use std::collections::BTreeSet;

use super::backend::BackendKey;
use super::decision::Violation;
use super::packed::PackedPod;
use super::rules::Rule;
use super::world::{
    Artifact, ArtifactLocation, Claim, ClaimName, Environment, EnvironmentMember, Incident, LocationSource,
    RestartAllContainers, World,
};

/// What a namespace is to the environments.
#[derive(Clone, Debug)]
pub enum Membership<'a> {
    /// No environment claims it.
    None,
    /// It belongs to this environment, and its UID is the pinned one.
    Member {
        /// The environment that keeps the namespace.
        environment: &'a Environment,
        /// Its entry for the namespace.
        member: &'a EnvironmentMember,
    },
    /// An environment claims it, but its UID is not pinned yet or the namespace is not known: nothing is permitted yet.
    Unpinned {
        /// The environment that claims it first.
        environment: &'a Environment,
        /// Its entry for the namespace.
        member: &'a EnvironmentMember,
    },
    /// It was deleted and made again since it was pinned: it does not inherit.
    Recreated {
        /// The environment that pinned it.
        environment: &'a Environment,
        /// Its entry for the namespace.
        member: &'a EnvironmentMember,
        /// The pinned UID.
        expected_uid: &'a str,
        /// The UID the namespace has now.
        found_uid: &'a str,
    },
}

impl<'a> Membership<'a> {
    /// The environment whose rules hold in the namespace, whether or not weights are permitted in it yet.
    pub fn environment(&self) -> Option<&'a Environment> {
        match self {
            Membership::None => None,
            Membership::Member { environment, .. }
            | Membership::Unpinned { environment, .. }
            | Membership::Recreated { environment, .. } => Some(environment),
        }
    }
}

/// What is behind a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStorage<'a> {
    /// The claim does not exist.
    Absent,
    /// It is bound to, asks for, or has reserved the volume of this name.
    Volume {
        /// Name of the PersistentVolume.
        volume: &'a str,
        /// Key of its storage, or why there is none.
        key: Result<&'a BackendKey, String>,
    },
    /// It is not bound, and nothing says which volume it will be.
    Unbound,
}

impl World {
    /// Which environment a namespace belongs to. Of several claimants, one that pinned the UID the namespace has keeps
    /// it, else one that pinned any, else the oldest, else the first by name.
    pub fn membership(&self, namespace: &str) -> Membership<'_> {
        let Some((environment, member)) = self.claimants(namespace).into_iter().next() else { return Membership::None };
        match (member.uid.as_deref(), self.namespaces.get(namespace)) {
            (Some(expected), Some(found)) if expected == found => Membership::Member { environment, member },
            (Some(expected_uid), Some(found_uid)) => {
                Membership::Recreated { environment, member, expected_uid, found_uid }
            }
            (None, _) | (_, None) => Membership::Unpinned { environment, member },
        }
    }

    /// Every environment that claims a namespace, in order of precedence: the first keeps it, the others are not accepted.
    pub fn claimants(&self, namespace: &str) -> Vec<(&Environment, &EnvironmentMember)> {
        let found = self.namespaces.get(namespace).map(String::as_str);
        let mut claimants: Vec<_> = self
            .environments
            .values()
            .filter_map(|e| e.members.iter().find(|m| m.namespace == namespace).map(|m| (e, m)))
            .collect();
        claimants.sort_by_key(|(environment, member)| {
            let pinned = member.uid.as_deref();
            (
                pinned.is_none() || pinned != found,
                pinned.is_none(),
                // What comes from a file has no age, and does not outrank what is in force.
                environment.created.is_empty(),
                environment.created.as_str(),
                environment.name.as_str(),
            )
        });
        claimants
    }

    /// The pods of a namespace, by name.
    pub fn pods_in<'a>(&'a self, namespace: &str) -> impl Iterator<Item = (&'a str, &'a PackedPod)> {
        let from = (namespace.to_string(), String::new());
        let pods = self.pods.range(from..).take_while(move |((other, _), _)| other == namespace);
        pods.map(|((_, name), pod)| (name.as_str(), pod.as_ref()))
    }

    /// Whether the sidecar carries the rule by which the kubelet restarts all containers of its pod.
    pub fn restarts_all_containers(&self) -> bool {
        self.settings.restart_all_containers == RestartAllContainers::Auto
            && !self.nodes.is_empty()
            && self.nodes.values().all(|declared| *declared)
    }

    /// What is behind a claim.
    pub fn storage_of_claim(&self, name: &ClaimName) -> ClaimStorage<'_> {
        let Some(claim) = self.claims.get(name) else { return ClaimStorage::Absent };
        self.storage_of(name, claim)
    }

    fn storage_of<'a>(&'a self, name: &ClaimName, claim: &'a Claim) -> ClaimStorage<'a> {
        let reserved = || self.reserved_for(name);
        let Some(volume) = claim.volume.as_deref().filter(|v| !v.is_empty()).or_else(reserved) else {
            return ClaimStorage::Unbound;
        };
        let key = match self.volumes.get(volume) {
            Some(found) => found.key.as_ref().map_err(|reason| format!("PersistentVolume {volume:?}: {reason}")),
            None => Err(format!("PersistentVolume {volume:?} does not exist")),
        };
        ClaimStorage::Volume { volume, key }
    }

    /// Whether a claim is bound for good: claim and volume say so of each other, and neither is about to go.
    pub fn is_bound(&self, name: &ClaimName) -> bool {
        let Some(claim) = self.claims.get(name).filter(|claim| claim.bound && !claim.deleting) else { return false };
        let volume = claim.volume.as_ref().and_then(|volume| self.volumes.get(volume));
        volume.is_some_and(|volume| volume.claim.as_ref() == Some(name))
    }

    /// The keys of an artifact, per location: the pinned one, and the one its source leads to now where that is another
    /// (the bytes are at the first, and someone holds them to be at the second). An error only where there is neither.
    /// Then its aliases.
    ///
    /// A claim leads to a volume once that volume says so too: who may create claims does not thereby register storage.
    pub fn keys_of<'a>(&'a self, artifact: &'a Artifact) -> Vec<(&'a ArtifactLocation, Result<BackendKey, String>)> {
        let mut keys = Vec::new();
        for location in &artifact.locations {
            let current = match &location.source {
                LocationSource::Key(key) => Ok(key.clone()),
                LocationSource::Claim(name) => self.key_of_claim(name),
            };
            match (&location.pinned, current) {
                (None, current) => keys.push((location, current)),
                (Some(pinned), Ok(current)) if *pinned != current => {
                    keys.push((location, Ok(pinned.clone())));
                    keys.push((location, Ok(current)));
                }
                (Some(pinned), _) => keys.push((location, Ok(pinned.clone()))),
            }
            keys.extend(location.aliases.iter().map(|alias| (location, Ok(alias.clone()))));
        }
        keys
    }

    /// The key behind a claim that is bound from both sides.
    ///
    /// # Errors
    /// What is missing, for a condition.
    pub fn key_of_claim(&self, name: &ClaimName) -> Result<BackendKey, String> {
        let shown = format!("claim {}/{}", name.namespace, name.name);
        let Some(claim) = self.claims.get(name) else { return Err(format!("{shown} does not exist yet")) };
        match self.storage_of(name, claim) {
            ClaimStorage::Volume { volume, key } => {
                let mutual = self.volumes.get(volume).is_none_or(|v| v.claim.as_ref() == Some(name));
                if !claim.bound && !mutual {
                    return Err(format!("{shown} asks for PersistentVolume {volume:?}, but is not bound to it"));
                }
                key.cloned().map_err(|reason| format!("{shown}: {reason}"))
            }
            ClaimStorage::Unbound | ClaimStorage::Absent => Err(format!("{shown} is not bound yet")),
        }
    }

    /// The locations of an artifact whose storage overlaps this key, with their keys.
    pub fn locations_at<'a>(
        &'a self,
        artifact: &'a Artifact,
        key: &BackendKey,
    ) -> Vec<(&'a ArtifactLocation, BackendKey)> {
        let keys = self.keys_of(artifact).into_iter();
        keys.filter_map(|(location, own)| own.ok().filter(|own| own.overlaps(key)).map(|own| (location, own))).collect()
    }

    /// The first incident that concerns content with a digest or storage that overlaps a key.
    pub fn incident<'a>(
        &self,
        digest: Option<&str>,
        keys: impl IntoIterator<Item = &'a BackendKey>,
    ) -> Option<&Incident> {
        if self.incidents.is_empty() {
            return None;
        }
        let keys: Vec<&BackendKey> = keys.into_iter().collect();
        self.incidents.values().find(|incident| {
            incident.subject.as_ref().is_none_or(|subject| {
                digest == Some(subject.digest.as_str())
                    || subject.keys.iter().any(|held| keys.iter().any(|key| held.overlaps(key)))
            })
        })
    }

    /// The environments in which the storage of an artifact may be and that exist, by name.
    pub fn environments_of<'a>(&'a self, artifact: &'a Artifact) -> impl Iterator<Item = &'a Environment> {
        artifact.places().into_iter().filter_map(|name| self.environments.get(name))
    }

    /// Whether pods of a service account make an artifact: the namespace is a pinned member of a producing environment,
    /// which has the account among its members, and the artifact names it.
    pub fn produces(&self, artifact: &Artifact, namespace: &str, service_account: &str) -> bool {
        let Membership::Member { environment, member } = self.membership(namespace) else { return false };
        let lists = |accounts: &BTreeSet<String>| accounts.contains("*") || accounts.contains(service_account);
        lists(&member.service_accounts)
            && artifact
                .producers
                .iter()
                .any(|producer| producer.environment == environment.name && lists(&producer.service_accounts))
    }

    /// The namespaces in which an artifact may be mounted now, with their pinned UIDs.
    pub fn namespaces_of<'a>(&'a self, artifact: &'a Artifact) -> BTreeSet<(&'a str, &'a str)> {
        self.environments_of(artifact)
            .flat_map(|permitted| permitted.members.iter().map(move |member| (permitted, member)))
            .filter_map(|(permitted, member)| match self.membership(&member.namespace) {
                Membership::Member { environment, member } if environment.name == permitted.name => {
                    Some((member.namespace.as_str(), member.uid.as_deref()?))
                }
                _ => None,
            })
            .collect()
    }

    /// Whether pods of a service account may mount an artifact in a namespace.
    ///
    /// # Errors
    /// The rule that is broken (WL-101, WL-102 or WL-103), the fact and the remedy.
    pub fn permits(&self, artifact: &Artifact, namespace: &str, service_account: &str) -> Result<(), Violation> {
        self.refusal(artifact, namespace, Some(service_account))
            .map_or(Ok(()), |refusal| Err(refusal.violation(artifact)))
    }

    /// Why an artifact may not be in a namespace (and, if given, with a service account); `None` if it may.
    pub(super) fn refusal(
        &self,
        artifact: &Artifact,
        namespace: &str,
        service_account: Option<&str>,
    ) -> Option<Refusal> {
        let outside = |place: String| Refusal {
            rule: Rule::NotPermittedHere,
            reason: format!("not permitted in namespace {namespace:?} ({place})"),
            remedy: format!("{}; or ask {}.", self.where_to_run(artifact), artifact.contact),
        };
        let places = artifact.places();
        let permitted = |environment: &Environment| places.contains(environment.name.as_str());
        match self.membership(namespace) {
            Membership::None => Some(outside("no environment".into())),
            Membership::Member { environment, .. }
            | Membership::Unpinned { environment, .. }
            | Membership::Recreated { environment, .. }
                if !permitted(environment) =>
            {
                Some(outside(format!("environment {:?}", environment.name)))
            }
            Membership::Unpinned { environment, .. } => Some(Refusal {
                rule: Rule::NamespaceNotPinned,
                reason: format!(
                    "not permitted in namespace {namespace:?} yet: WeightEnvironment {:?} has not pinned its UID",
                    environment.name
                ),
                remedy: format!(
                    "wait until the status of WeightEnvironment {:?} shows the namespace, or write its UID into spec.members[].uid; or ask {}.",
                    environment.name, artifact.contact
                ),
            }),
            Membership::Recreated { environment, expected_uid, found_uid, .. } => Some(Refusal {
                rule: Rule::NamespaceNotPinned,
                reason: format!(
                    "not permitted in namespace {namespace:?}: it was made again (UID {found_uid}) since WeightEnvironment {:?} pinned UID {expected_uid}",
                    environment.name
                ),
                remedy: format!(
                    "confirm the new namespace with spec.members[].uid: {found_uid} in WeightEnvironment {:?}; or ask {}.",
                    environment.name, artifact.contact
                ),
            }),
            Membership::Member { environment, member } => {
                let account = service_account?;
                let accounts = &member.service_accounts;
                if accounts.contains("*") || accounts.contains(account) {
                    return None;
                }
                let members: Vec<&str> = accounts.iter().map(String::as_str).collect();
                Some(Refusal {
                    rule: Rule::ServiceAccountNotMember,
                    reason: format!(
                        "not permitted for service account {account:?}: environment {:?} permits in namespace {namespace:?} only {}",
                        environment.name,
                        members.join(", ")
                    ),
                    remedy: format!(
                        "set spec.serviceAccountName to one of: {}; or add {account:?} to spec.members[].serviceAccounts of WeightEnvironment {:?}; or ask {}.",
                        members.join(", "),
                        environment.name,
                        artifact.contact
                    ),
                })
            }
        }
    }

    /// The environments and namespaces of an artifact, as the start of a remedy.
    fn where_to_run(&self, artifact: &Artifact) -> String {
        let places: Vec<String> = artifact
            .places()
            .into_iter()
            .map(|name| {
                let namespaces: Vec<&str> = self
                    .environments
                    .get(name)
                    .map(|environment| environment.members.iter().map(|m| m.namespace.as_str()).take(8).collect())
                    .unwrap_or_default();
                match namespaces.as_slice() {
                    [] => format!("{name} (which does not exist yet)"),
                    [one] => format!("{name} (namespace {one})"),
                    many => format!("{name} (namespaces {})", many.join(", ")),
                }
            })
            .collect();
        if places.is_empty() {
            return "no environment is permitted for it".into();
        }
        format!("run in one of: {}", places.join(", "))
    }

    /// Why nothing that depends on the graph can be decided now; `None` when it can.
    pub fn undecidable(&self) -> Option<String> {
        if self.unsynced.is_empty() {
            return None;
        }
        let kinds: Vec<&str> = self.unsynced.iter().copied().collect();
        Some(format!("the first listing of {} has not arrived yet", kinds.join(", ")))
    }

    /// Why storage without an artifact cannot be called unregistered; `None` when it can.
    pub fn unreadable(&self) -> Option<String> {
        let (name, reason) = self.unreadable_artifacts.iter().next()?;
        let more = self.unreadable_artifacts.len() - 1;
        let others = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        Some(format!("WeightArtifact {name:?} cannot be read{others}: {reason}"))
    }
}

/// Why an artifact may not be somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub rule: Rule,
    /// Continues a sentence that names the artifact.
    pub reason: String,
    pub remedy: String,
}

impl Refusal {
    fn violation(self, artifact: &Artifact) -> Violation {
        Violation {
            rule: self.rule,
            fact: format!("WeightArtifact {:?} is {}", artifact.name, self.reason),
            remedy: self.remedy,
        }
    }
}
