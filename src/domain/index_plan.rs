//! What the policies inside the API server look up: the shards of the WeightIndex.
//!
//! Where admission is in Audit, nothing may be refused. So an artifact is in the index unless it permits at least one
//! environment that exists and all of those are in Audit; and the namespaces of an environment in Audit are marked, so
//! that the policies let everything pass there. An artifact whose environments are all missing is in the index, and
//! permitted nowhere. Of one that cannot be read, what the index in force has of it is carried over.

mod members;
mod owners;

use std::collections::BTreeMap;

use super::backend::{BackendKey, Overlap};
use super::world::{Artifact, ClaimName, LocationSource, World};
use crate::api::{IndexEntry, IndexMember, IndexPart, IndexTerms, Mode, WeightIndexSpec};
use members::members;
pub use members::{MAX_MEMBERS, left_out};
use owners::{Owners, joined};

/// Most keys in one table of a shard, as its definition has it.
pub const MAX_KEYS: usize = 20_000;
/// Most bytes in one shard. etcd takes 1.5 MiB, with metadata and the record of who wrote which field; and each shard costs every pod of
/// the cluster, so what is larger is better.
const MAX_BYTES: usize = 1_400_000;
/// Most shards of one part. A cluster that needs more has outgrown this index; the API server then refuses shards that are too large.
const MAX_SHARDS: usize = 256;

/// Why there is no plan. The index in force stays: it protects what was known when it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexPlanError {
    /// A listing is missing.
    #[error("{0}")]
    Unsynced(String),
}

/// The shards of the index, in order, those of [`IndexPart::Storage`] first. There is always one of each part.
/// `in_force`: those that are there, or are being replaced; of artifacts that cannot be read they are all that is known.
///
/// # Errors
/// If the world is not known well enough to say what is protected.
pub fn plan(world: &World, in_force: &[WeightIndexSpec]) -> Result<Vec<WeightIndexSpec>, IndexPlanError> {
    if let Some(reason) = world.undecidable() {
        return Err(IndexPlanError::Unsynced(reason));
    }
    let members = members(world, in_force);
    let tables = collect(world, in_force, &members);
    let parts = [IndexPart::Storage, IndexPart::Claims];
    Ok(parts.into_iter().flat_map(|part| shards(part, &tables, &members, MAX_KEYS)).collect())
}

/// Whether ring 1 enforces an artifact: see the documentation of the module.
pub fn enforced(world: &World, artifact: &Artifact) -> bool {
    let mut environments = world.environments_of(artifact).peekable();
    environments.peek().is_none() || environments.any(|environment| environment.enforces_admission())
}

/// The tables, before they are cut into shards.
#[derive(Default)]
struct Tables<'a> {
    keys: Table<'a>,
    paths: Table<'a>,
    parents: Table<'a>,
    misplaced: Table<'a>,
    claims: Table<'a>,
    snapshots: Table<'a>,
    volumes: Table<'a>,
}

type Table<'a> = BTreeMap<String, Owners<'a>>;

fn collect<'a>(
    world: &'a World,
    in_force: &'a [WeightIndexSpec],
    members: &BTreeMap<String, IndexMember>,
) -> Tables<'a> {
    let mut tables = Tables::default();
    for artifact in world.artifacts.values().filter(|artifact| enforced(world, artifact)) {
        let owners = Owners::of(artifact);
        for (location, key) in world.keys_of(artifact) {
            if let LocationSource::Claim(name) = &location.source {
                add(&mut tables.claims, claim_key(name), &owners);
            }
            if let Ok(key) = key {
                tables.register(key.comparable().0, key.has_path(), &owners);
            }
        }
    }
    if !world.unreadable_artifacts.is_empty() {
        for shard in in_force {
            tables.carry(world, shard);
        }
    }
    // Another content can bring in the same snapshot by its handle alone, which does not say what it was taken of.
    for content in world.snapshots.values() {
        let Some(volume) = &content.volume else { continue };
        let owners = tables.owners(volume);
        for handle in &content.handles {
            tables.register(handle.comparable().0, handle.has_path(), &owners);
        }
    }
    for (name, volume) in &world.volumes {
        let Ok(key) = &volume.key else { continue };
        let owners = tables.owners(key);
        if let Some(claim) = &volume.claim {
            add(&mut tables.claims, claim_key(claim), &owners);
        }
        add(&mut tables.volumes, name.clone(), &owners);
    }
    for (name, claim) in &world.claims {
        if let Some(owners) = claim.volume.as_ref().and_then(|volume| tables.volumes.get(volume)) {
            add(&mut tables.claims, claim_key(name), owners);
        }
    }
    for content in world.snapshots.values() {
        let snapshot = format!("{}/{}", content.snapshot.namespace, content.snapshot.name);
        for key in content.keys() {
            let owners = tables.owners(key);
            add(&mut tables.snapshots, snapshot.clone(), &owners);
        }
    }
    let misplaced = tables.claims.iter().filter(|(claim, owners)| {
        let member = claim.split_once('/').and_then(|(namespace, _)| members.get(namespace));
        !member.is_some_and(|member| {
            member.admission == Mode::Audit || owners.permitted().contains(member.environment.as_str())
        })
    });
    tables.misplaced = misplaced.map(|(claim, owners)| (claim.clone(), owners.clone())).collect();
    tables
}

fn add<'a>(table: &mut Table<'a>, key: String, owners: &Owners<'a>) {
    if !owners.is_empty() {
        table.entry(key).or_default().extend(owners);
    }
}

/// The directories above a key, and the beginning of the key up to its kind or CSI driver.
fn parents(key: &str, has_path: bool) -> Vec<String> {
    let mut found = Vec::new();
    // `v1:csi:DRIVER:`, and `v1:KIND:` for the rest.
    let parts = if key.starts_with("v1:csi:") { 3 } else { 2 };
    if let Some((end, _)) = key.match_indices(':').nth(parts - 1) {
        found.push(key[..=end].to_string());
    }
    if has_path {
        // Of the root the slash belongs to the key.
        for (step, (at, _)) in key.match_indices('/').enumerate() {
            let parent = if step == 0 { &key[..=at] } else { &key[..at] };
            if parent != key {
                found.push(parent.to_string());
            }
        }
    }
    found
}

fn claim_key(name: &ClaimName) -> String {
    format!("{}/{}", name.namespace, name.name)
}

impl<'a> Tables<'a> {
    /// Adds storage by its key, with what is above it.
    fn register(&mut self, key: String, has_path: bool, owners: &Owners<'a>) {
        for parent in parents(&key, has_path) {
            add(&mut self.parents, parent, owners);
        }
        add(if has_path { &mut self.paths } else { &mut self.keys }, key, owners);
    }

    /// Adds what a shard in force has of artifacts that cannot be read.
    fn carry(&mut self, world: &'a World, shard: &'a WeightIndexSpec) {
        let carried = |entry| Owners::carried(world, shard, entry);
        for (table, has_path) in [(&shard.keys, false), (&shard.paths, true)] {
            for (key, entry) in table {
                self.register(key.clone(), has_path, &carried(entry));
            }
        }
        // A misplaced claim is a claim; which of them are misplaced is asked anew.
        for (table, entries) in [
            (&mut self.parents, vec![&shard.parents]),
            (&mut self.claims, vec![&shard.claims, &shard.misplaced]),
            (&mut self.snapshots, vec![&shard.snapshots]),
            (&mut self.volumes, vec![&shard.volumes]),
        ] {
            for (key, entry) in entries.into_iter().flatten() {
                add(table, key.clone(), &carried(entry));
            }
        }
    }

    /// The artifacts whose storage overlaps a key: found by looking up its ancestors and the range of its descendants.
    fn owners(&self, key: &BackendKey) -> Owners<'a> {
        let Overlap { named, below } = key.overlap();
        let Some(below) = below else {
            return named.first().and_then(|text| self.keys.get(text)).cloned().unwrap_or_default();
        };
        let mut owners = Owners::default();
        let descendants = self.paths.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
        let ancestors = named.iter().filter_map(|name| self.paths.get(name));
        for found in descendants.map(|(_, found)| found).chain(ancestors) {
            owners.extend(found);
        }
        owners
    }
}

/// Cuts the tables of a part. A key's shard depends on the key and the number of shards only, which is a power of two: an
/// addition elsewhere moves nothing, and a doubling moves keys from shard n to shard n + half.
fn shards(
    part: IndexPart,
    tables: &Tables<'_>,
    members: &BTreeMap<String, IndexMember>,
    max_keys: usize,
) -> Vec<WeightIndexSpec> {
    let mut count = 1;
    loop {
        let shards = cut(part, tables, members, count);
        if count >= MAX_SHARDS || shards.iter().all(|shard| fits(shard, max_keys)) {
            return shards;
        }
        count *= 2;
    }
}

fn cut(
    part: IndexPart,
    tables: &Tables<'_>,
    members: &BTreeMap<String, IndexMember>,
    count: usize,
) -> Vec<WeightIndexSpec> {
    (0..count)
        .map(|number| {
            let mut terms = Terms::default();
            let mut cut = |table: &Table<'_>| {
                let mine = table.iter().filter(|(key, _)| shard_of(key, count) == number);
                mine.map(|(key, owners)| (key.clone(), terms.entry(owners))).collect()
            };
            let mut shard = WeightIndexSpec {
                part,
                shard: i32::try_from(number).unwrap_or(i32::MAX),
                shards: i32::try_from(count).unwrap_or(i32::MAX),
                members: members.clone(),
                ..WeightIndexSpec::default()
            };
            match part {
                IndexPart::Storage => {
                    shard.keys = cut(&tables.keys);
                    shard.images = last_steps(&shard.keys);
                    shard.paths = cut(&tables.paths);
                    shard.parents = cut(&tables.parents);
                    shard.misplaced = cut(&tables.misplaced);
                }
                IndexPart::Claims => {
                    shard.claims = cut(&tables.claims);
                    shard.snapshots = cut(&tables.snapshots);
                    shard.volumes = cut(&tables.volumes);
                }
            }
            shard.terms = terms.0.into_iter().map(|(terms, number)| (number.to_string(), terms)).collect();
            shard
        })
        .collect()
}

/// The last steps of the repositories among the keys, as the conditions of the policies take them from the image of a pod.
fn last_steps(keys: &BTreeMap<String, IndexEntry>) -> BTreeMap<String, bool> {
    let repositories = keys.keys().filter_map(|key| key.strip_prefix("v1:repository:"));
    let steps = repositories.filter_map(|repository| repository.rsplit('/').next()?.split(':').next());
    steps.map(|step| (step.trim().to_string(), true)).collect()
}

/// The terms of a shard, numbered as they come.
#[derive(Default)]
struct Terms(BTreeMap<IndexTerms, usize>);

impl Terms {
    fn entry(&mut self, owners: &Owners<'_>) -> IndexEntry {
        let terms = IndexTerms {
            environments: owners.permitted().into_iter().map(str::to_string).collect(),
            contact: joined(owners.contacts().into_iter()),
        };
        let next = self.0.len();
        let number = *self.0.entry(terms).or_insert(next);
        IndexEntry { artifacts: joined(owners.names().into_iter()), terms: number.to_string() }
    }
}

fn fits(shard: &WeightIndexSpec, max_keys: usize) -> bool {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (table, ..) in shard.entries() {
        *counts.entry(table).or_default() += 1;
    }
    counts.values().all(|count| *count <= max_keys) && shard.terms.len() <= max_keys && size(shard) <= MAX_BYTES
}

/// Bytes of a shard as it is stored: beside the texts of an entry, what stands around them (names of fields, quotes, colons).
fn size(shard: &WeightIndexSpec) -> usize {
    let entries = shard.entries().map(|(_, key, entry)| 25 + key.len() + entry.artifacts.len() + entry.terms.len());
    let images = shard.images.keys().map(|step| 8 + step.len());
    let terms = shard
        .terms
        .values()
        .map(|terms| 50 + terms.contact.len() + terms.environments.iter().map(|name| name.len() + 3).sum::<usize>());
    entries.chain(images).chain(terms).sum::<usize>() + members::bytes(&shard.members)
}

/// FNV-1a: stable over versions of this program, which `std`'s hash is not.
fn shard_of(key: &str, count: usize) -> usize {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits decide, the high ones are folded in since the low ones of FNV mix least.
    usize::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or_default() % count
}

#[cfg(test)]
#[path = "index_plan_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "index_plan/unreadable_tests.rs"]
mod unreadable_tests;
