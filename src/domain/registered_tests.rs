use proptest::prelude::*;

use super::*;
use crate::domain::lookup::ClaimStorage;
use crate::domain::world::Manifest;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What happens to a world.
#[derive(Clone, Debug)]
enum Step {
    Artifact(&'static str, Option<Vec<ArtifactLocation>>),
    Claim(ClaimName, Option<Claim>),
    Volume(&'static str, Option<Volume>),
    /// It is looked up only then.
    LookUp,
}

fn apply(world: &mut World, step: Step) {
    match step {
        Step::Artifact(name, Some(locations)) => {
            world.artifacts.insert(name.into(), artifact(name, locations));
        }
        Step::Artifact(name, None) => {
            world.artifacts.remove(name);
        }
        Step::Claim(name, Some(claim)) => {
            world.claims.insert(name, claim);
        }
        Step::Claim(name, None) => {
            world.claims.remove(&name);
        }
        Step::Volume(name, Some(volume)) => {
            world.volumes.insert(name.into(), volume);
        }
        Step::Volume(name, None) => {
            world.volumes.remove(name);
        }
        Step::LookUp => world.look_up(),
    }
}

fn artifact(name: &str, locations: Vec<ArtifactLocation>) -> Artifact {
    Artifact {
        name: name.into(),
        digest: None,
        manifest: Manifest::Path("m".into()),
        content: Default::default(),
        signature: None,
        locations,
        permitted: Default::default(),
        producers: vec![],
        frozen: false,
        effort: None,
        contact: String::new(),
    }
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

fn any_claim_name() -> impl Strategy<Value = ClaimName> {
    (prop::sample::select(vec!["n", "m"]), any_name()).prop_map(|(namespace, name)| ClaimName::new(namespace, name))
}

/// Keys of every kind, in several spellings, ancestors and descendants of one another.
fn keys() -> Vec<BackendKey> {
    let mut keys = vec![
        BackendKey::csi("ebs.csi.aws.com", "vol-1"),
        BackendKey::csi("disk.csi.azure.com", "/Subscriptions/A/Disks/B"),
        BackendKey::csi("disk.csi.azure.com", "/subscriptions/a/disks/b"),
        BackendKey("v1:azureDisk:/subscriptions/A/disks/b".into()),
        BackendKey("v1:awsElasticBlockStore:vol-1".into()),
        BackendKey("v1:nfs:NAS.:/models/./x/../a".into()),
        BackendKey("v1:nfs:a/b:/x".into()),
        BackendKey("v1:nfs:a/b:/".into()),
        BackendKey("v1:nfs:nas".into()),
        BackendKey::image("sha256:1"),
        BackendKey::repository("registry.example.com/a/b"),
    ];
    keys.extend(
        ["/", "/models", "/models/a", "/models/a:", "/models/a:/b", "/models/ab", "/models/a/b"]
            .iter()
            .flat_map(|path| [BackendKey::nfs("nas", path), BackendKey::nfs("fd00::7", path), BackendKey::host(path)]),
    );
    keys.push(BackendKey::host("/proc/1/root/models/a"));
    keys
}

fn any_key() -> impl Strategy<Value = BackendKey> {
    prop::sample::select(keys())
}

fn any_location() -> impl Strategy<Value = ArtifactLocation> {
    let source = prop_oneof![any_claim_name().prop_map(LocationSource::Claim), any_key().prop_map(LocationSource::Key)];
    let aliases = prop::collection::vec(any_key(), 0..2);
    (source, prop::option::weighted(0.3, any_key()), aliases).prop_map(|(source, pinned, aliases)| ArtifactLocation {
        name: "l".into(),
        source,
        pinned,
        aliases,
        path: None,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let volume = (any_key(), prop::bool::weighted(0.1), prop::option::of(any_claim_name()))
        .prop_map(|(key, unknown, claim)| Volume { key: if unknown { Err("unknown".into()) } else { Ok(key) }, claim });
    let claim = (prop::option::of(any_name()), any::<bool>()).prop_map(|(volume, bound)| Claim {
        volume: volume.map(Into::into),
        bound,
        ..Claim::default()
    });
    prop_oneof![
        (any_name(), prop::option::weighted(0.8, prop::collection::vec(any_location(), 0..3)))
            .prop_map(|(name, locations)| Step::Artifact(name, locations)),
        (any_claim_name(), prop::option::weighted(0.8, claim)).prop_map(|(name, claim)| Step::Claim(name, claim)),
        (any_name(), prop::option::weighted(0.8, volume)).prop_map(|(name, volume)| Step::Volume(name, volume)),
        Just(Step::LookUp),
    ]
}

/// All that a world can be asked.
fn answers(world: &World) -> Vec<String> {
    let names = |found: Vec<&Artifact>| found.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(" ");
    let mut answers: Vec<String> =
        keys().iter().map(|key| format!("{key}: {}", names(world.artifacts_at(key)))).collect();
    for name in NAMES.iter().flat_map(|name| ["n", "m"].map(|n| ClaimName::new(n, *name))) {
        let storage = match world.storage_of_claim(&name) {
            ClaimStorage::Volume { volume, key } => format!("{volume} {key:?}"),
            other => format!("{other:?}"),
        };
        answers.push(format!("{name:?}: {storage}"));
        if world.claims.get(&name).is_some_and(|claim| claim.volume.is_none()) {
            answers.push(format!("reserved for {name:?}: {:?}", world.reserved_for(&name)));
        }
        answers.push(format!("behind {name:?}: {}", names(world.artifacts_behind(&name))));
    }
    answers.push(format!("images: {}", world.registers_images()));
    answers.extend(world.bindable().map(|(volume, artifacts)| format!("bindable {volume}: {}", names(artifacts))));
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_looked_up_is_what_a_search_finds(steps in prop::collection::vec(any_step(), 1..24)) {
        let mut world = World::default();
        for step in steps {
            apply(&mut world, step);
        }
        let searched = World { registered: Registered::default(), ..world.clone() };
        // Left behind, it is not asked; brought up to date, it answers the same.
        prop_assert_eq!(answers(&world), answers(&searched));
        world.look_up();
        prop_assert!(world.registered().is_some());
        prop_assert_eq!(answers(&world), answers(&searched));
    }
}

#[test]
fn what_is_left_behind_is_not_asked() {
    let mut world = World::default();
    let key = BackendKey::csi("d", "1");
    let location = |key: &BackendKey| ArtifactLocation {
        name: "l".into(),
        source: LocationSource::Key(key.clone()),
        pinned: None,
        aliases: vec![],
        path: None,
    };
    world.artifacts.insert("a".into(), artifact("a", vec![location(&key)]));
    assert!(world.registered().is_none(), "nothing was looked up yet");
    world.look_up();
    assert!(world.registered().is_some());
    let copy = world.clone();
    world.artifacts.insert("b".into(), artifact("b", vec![location(&key)]));
    assert!(world.registered().is_none() && copy.registered().is_some());
    assert_eq!((world.artifacts_at(&key).len(), copy.artifacts_at(&key).len()), (2, 1));
}
