//! Where registered storage is, looked up in advance, so that a decision need not look at every artifact and volume.
//!
//! It is made from three tables of a [`World`] and holds them as they were then. It answers only while the world still has
//! these very tables; else the tables themselves are searched. So it can be left behind, but not be wrong.

use std::collections::BTreeSet;

use compact_str::CompactString;
use imbl::ordmap::DiffItem;

use super::backend::{BackendKey, Overlap, Reference};
use super::world::{Artifact, ArtifactLocation, Claim, ClaimName, LocationSource, Map, Set, Volume, World};

/// What is known of the registered storage of a world: see the documentation of the module.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    artifacts: Map<String, Artifact>,
    claims: Map<ClaimName, Claim>,
    volumes: Map<String, Volume>,
    /// Names of artifacts, by key in the form that is compared.
    at: Map<String, Vec<String>>,
    /// The keys under which an artifact is in `at`.
    keys: Map<String, Vec<String>>,
    /// Claims that artifacts are declared to be behind.
    declared: Map<ClaimName, Declared>,
    /// Those of them that name a volume, by its name.
    leading: Set<(String, ClaimName)>,
    /// Volumes that are reserved for a claim which does not name them. Where both are bound to each other, as nearly all
    /// are, nobody asks.
    reserved: Set<(ClaimName, String)>,
    /// Volumes for nobody, by key in the form that is compared.
    free: Map<String, Vec<String>>,
    /// Those of them that are registered storage.
    bindable: Set<String>,
    /// Artifacts that are images.
    images: Set<String>,
}

/// A claim that artifacts are declared to be behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Declared {
    artifacts: Vec<String>,
    volume: Option<String>,
}

impl World {
    /// The artifacts whose storage overlaps this key, by name.
    pub fn artifacts_at(&self, key: &BackendKey) -> Vec<&Artifact> {
        let Some(registered) = self.registered() else {
            return self.artifacts.values().filter(|artifact| !self.locations_at(artifact, key).is_empty()).collect();
        };
        let found: BTreeSet<&String> = overlapping(&registered.at, key).into_iter().flatten().collect();
        found.into_iter().filter_map(|name| self.artifacts.get(name)).collect()
    }

    /// The artifacts that are declared to be behind a claim, by name.
    pub fn artifacts_behind(&self, claim: &ClaimName) -> Vec<&Artifact> {
        match self.registered() {
            Some(registered) => {
                let declared = registered.declared.get(claim).into_iter().flat_map(|declared| &declared.artifacts);
                declared.filter_map(|name| self.artifacts.get(name)).collect()
            }
            None => self.artifacts.values().filter(|artifact| claims_of(artifact).any(|c| c == claim)).collect(),
        }
    }

    /// Whether any image is registered as weights.
    pub fn registers_images(&self) -> bool {
        match self.registered() {
            Some(registered) => !registered.images.is_empty(),
            None => self.artifacts.values().any(has_images),
        }
    }

    /// The artifacts that an image is, with the key by which it was found: its digest, else its repository.
    pub fn artifacts_of_image(&self, reference: &str) -> Option<(BackendKey, Vec<&Artifact>)> {
        let keys = Reference::read(reference).keys().into_iter();
        keys.map(|key| (key.clone(), self.artifacts_at(&key))).find(|(_, artifacts)| !artifacts.is_empty())
    }

    /// The first volume by name that is reserved for a claim. To be asked of claims that name none themselves.
    pub(super) fn reserved_for(&self, claim: &ClaimName) -> Option<&str> {
        let Some(registered) = self.registered() else {
            return self.volumes.iter().find(|(_, v)| v.claim.as_ref() == Some(claim)).map(|(name, _)| name.as_str());
        };
        let (held, volume) = registered.reserved.range((claim.clone(), String::new())..).next()?;
        (held == claim).then_some(volume)
    }

    /// The volumes of registered storage that are for nobody, by name, each with its artifacts.
    pub(super) fn bindable(&self) -> impl Iterator<Item = (&str, Vec<&Artifact>)> {
        let known = self.registered().map(|registered| registered.bindable.iter());
        let searched = known.is_none().then(|| self.volumes.keys());
        known.into_iter().flatten().chain(searched.into_iter().flatten()).filter_map(|name| {
            let volume = self.volumes.get(name).filter(|volume| volume.claim.is_none())?;
            let artifacts = self.artifacts_at(volume.key.as_ref().ok()?);
            (!artifacts.is_empty()).then_some((name.as_str(), artifacts))
        })
    }

    /// What was looked up in advance, if it is of the tables as they are.
    fn registered(&self) -> Option<&Registered> {
        let known = &self.registered;
        let current = known.artifacts.ptr_eq(&self.artifacts)
            && known.claims.ptr_eq(&self.claims)
            && known.volumes.ptr_eq(&self.volumes);
        current.then_some(known)
    }

    /// Looks registered storage up in advance. What that costs depends on what changed since it was done last, in this
    /// world or the one that it is a copy of. Nothing is decided differently without it, only later.
    pub fn look_up(&mut self) {
        if self.registered().is_some() {
            return;
        }
        let mut known = std::mem::take(&mut self.registered);
        let artifacts = std::mem::replace(&mut known.artifacts, self.artifacts.clone());
        let claims = std::mem::replace(&mut known.claims, self.claims.clone());
        let volumes = std::mem::replace(&mut known.volumes, self.volumes.clone());
        let mut touched = known.follow_artifacts(&artifacts);
        known.follow_claims(&claims, &mut touched);
        let mut recheck = known.follow_volumes(&volumes, &mut touched);

        // From here on `reserved_for` answers from what is known, and so do the keys of artifacts.
        self.registered = known;
        let keys: Vec<_> = touched.into_iter().map(|name| (self.compared_keys(&name), name)).collect();
        let known = &mut self.registered;
        for (keys, name) in keys {
            for moved in known.move_artifact(name, keys) {
                recheck.extend(overlapping(&known.free, &BackendKey(moved)).into_iter().flatten().cloned());
            }
        }
        for volume in recheck {
            known.check_bindable(volume);
        }
    }

    /// The keys of an artifact in the form that is compared.
    fn compared_keys(&self, artifact: &str) -> Vec<String> {
        let keys = self.artifacts.get(artifact).map(|artifact| self.keys_of(artifact)).unwrap_or_default();
        let keys: BTreeSet<String> = keys.into_iter().filter_map(|(_, key)| Some(key.ok()?.comparable().0)).collect();
        keys.into_iter().collect()
    }
}

impl Registered {
    /// Takes over the artifacts that changed. Gives their names.
    fn follow_artifacts(&mut self, before: &Map<String, Artifact>) -> BTreeSet<String> {
        let after = self.artifacts.clone();
        let mut touched = BTreeSet::new();
        for (name, old, new) in changes(before, &after) {
            for claim in old.into_iter().flat_map(claims_of) {
                self.undeclare(claim, name);
            }
            for claim in new.into_iter().flat_map(claims_of) {
                self.declare(claim, name);
            }
            if new.is_some_and(has_images) {
                self.images.insert(name.clone());
            } else {
                self.images.remove(name);
            }
            touched.insert(name.clone());
        }
        touched
    }

    fn declare(&mut self, claim: &ClaimName, artifact: &str) {
        let mut declared = self.declared.remove(claim).unwrap_or_default();
        add(&mut declared.artifacts, artifact);
        self.lead(claim, &mut declared);
        self.declared.insert(claim.clone(), declared);
    }

    fn undeclare(&mut self, claim: &ClaimName, artifact: &str) {
        let Some(mut declared) = self.declared.remove(claim) else { return };
        declared.artifacts.retain(|name| name != artifact);
        if !declared.artifacts.is_empty() {
            self.declared.insert(claim.clone(), declared);
        } else if let Some(volume) = declared.volume {
            self.leading.remove(&(volume, claim.clone()));
        }
    }

    /// Notes which volume a claim names.
    fn lead(&mut self, claim: &ClaimName, declared: &mut Declared) {
        let volume = self.claims.get(claim).and_then(|claim| claim.volume.clone());
        if declared.volume == volume {
            return;
        }
        if let Some(volume) = std::mem::replace(&mut declared.volume, volume.clone()) {
            self.leading.remove(&(volume, claim.clone()));
        }
        if let Some(volume) = volume {
            self.leading.insert((volume, claim.clone()));
        }
    }

    /// Takes over the claims that changed, and adds the artifacts behind them to those that are touched.
    fn follow_claims(&mut self, before: &Map<ClaimName, Claim>, touched: &mut BTreeSet<String>) {
        let after = self.claims.clone();
        for (name, old, new) in changes(before, &after) {
            for volume in [old, new].into_iter().flatten().filter_map(|claim| claim.volume.clone()) {
                self.check_reserved(name, &volume);
            }
            let Some(mut declared) = self.declared.get(name).cloned() else { continue };
            touched.extend(declared.artifacts.iter().cloned());
            self.lead(name, &mut declared);
            self.declared.insert(name.clone(), declared);
        }
    }

    /// Takes over the volumes that changed, and adds the artifacts behind their claims to those that are touched. Gives the
    /// volumes that were or are for nobody.
    fn follow_volumes(&mut self, before: &Map<String, Volume>, touched: &mut BTreeSet<String>) -> BTreeSet<String> {
        let after = self.volumes.clone();
        let mut free = BTreeSet::new();
        for (name, old, new) in changes(before, &after) {
            let led = self.leading.range((name.clone(), FIRST)..).take_while(|(volume, _)| volume == name);
            let mut affected: Vec<ClaimName> = led.map(|(_, claim)| claim.clone()).collect();
            for (volume, is_new) in old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true))) {
                match (&volume.claim, &volume.key) {
                    (Some(claim), _) => {
                        self.check_reserved(claim, name);
                        affected.push(claim.clone());
                    }
                    (None, Ok(key)) => {
                        let key = key.comparable().0;
                        if is_new {
                            add(self.free.entry(key).or_default(), name);
                        } else {
                            remove(&mut self.free, &key, name);
                        }
                        free.insert(name.clone());
                    }
                    (None, Err(_)) => {}
                }
            }
            for claim in affected {
                touched.extend(self.declared.get(&claim).into_iter().flat_map(|d| d.artifacts.iter().cloned()));
            }
        }
        free
    }

    /// Notes whether a volume is reserved for a claim which does not name it.
    fn check_reserved(&mut self, claim: &ClaimName, volume: &str) {
        let reserved = self.volumes.get(volume).is_some_and(|volume| volume.claim.as_ref() == Some(claim));
        let named = self.claims.get(claim).is_some_and(|claim| claim.volume.as_deref() == Some(volume));
        let pair = (claim.clone(), volume.to_owned());
        if reserved && !named {
            self.reserved.insert(pair);
        } else {
            self.reserved.remove(&pair);
        }
    }

    /// Notes where an artifact is now. Gives the keys at which it was not before, or is no more.
    fn move_artifact(&mut self, name: String, keys: Vec<String>) -> Vec<String> {
        let before = self.keys.remove(&name).unwrap_or_default();
        for gone in before.iter().filter(|key| !keys.contains(key)) {
            remove(&mut self.at, gone, &name);
        }
        for new in keys.iter().filter(|key| !before.contains(key)) {
            add(self.at.entry(new.clone()).or_default(), &name);
        }
        let moved = before.iter().filter(|key| !keys.contains(key)).chain(keys.iter().filter(|k| !before.contains(k)));
        let moved = moved.cloned().collect();
        if !keys.is_empty() {
            self.keys.insert(name, keys);
        }
        moved
    }

    fn check_bindable(&mut self, volume: String) {
        let free = self.volumes.get(&volume).filter(|volume| volume.claim.is_none());
        let key = free.and_then(|volume| volume.key.as_ref().ok());
        if key.is_some_and(|key| !overlapping(&self.at, key).is_empty()) {
            self.bindable.insert(volume);
        } else {
            self.bindable.remove(&volume);
        }
    }
}

/// The claim that is ordered before all others.
const FIRST: ClaimName = ClaimName { namespace: CompactString::const_new(""), name: CompactString::const_new("") };

fn claims_of(artifact: &Artifact) -> impl Iterator<Item = &ClaimName> {
    artifact.locations.iter().filter_map(|location| match &location.source {
        LocationSource::Claim(claim) => Some(claim),
        LocationSource::Key(_) => None,
    })
}

fn has_images(artifact: &Artifact) -> bool {
    let is = |location: &ArtifactLocation| {
        matches!(&location.source, LocationSource::Key(key) if key.is_image())
            || location.aliases.iter().any(BackendKey::is_image)
    };
    artifact.locations.iter().any(is)
}

/// What a table that is ordered by keys holds at keys that overlap one.
fn overlapping<'a, V>(table: &'a Map<String, V>, key: &BackendKey) -> Vec<&'a V> {
    let Overlap { named, below } = key.overlap();
    let mut found: Vec<&V> = named.iter().filter_map(|name| table.get(name)).collect();
    if let Some(below) = below {
        let descendants = table.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
        found.extend(descendants.map(|(_, value)| value));
    }
    found
}

/// Name, old and new of what is not the same in two tables.
fn changes<'a, K: Ord, V: PartialEq>(
    before: &'a Map<K, V>,
    after: &'a Map<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    before.diff(after).map(|change| match change {
        DiffItem::Add(name, new) => (name, None, Some(new)),
        DiffItem::Update { old: (_, old), new: (name, new) } => (name, Some(old), Some(new)),
        DiffItem::Remove(name, old) => (name, Some(old), None),
    })
}

/// Adds a name to a list that is in order and without repetition.
fn add(names: &mut Vec<String>, name: &str) {
    if let Err(place) = names.binary_search_by(|held| held.as_str().cmp(name)) {
        names.insert(place, name.to_owned());
    }
}

fn remove(table: &mut Map<String, Vec<String>>, key: &str, name: &str) {
    let Some(names) = table.get_mut(key) else { return };
    names.retain(|held| held != name);
    if names.is_empty() {
        table.remove(key);
    }
}

#[cfg(test)]
#[path = "registered_tests.rs"]
mod tests;
