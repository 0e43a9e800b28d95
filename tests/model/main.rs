//! A model of what a tenant can do step by step, driven through the real decisions: `domain::admission::decide` and `shape`
//! for pods, when they are created and when they are placed on a node, the real index for ring 1, whose policies are functions here (see [`ring1`]).
//!
//! Every sequence of steps up to a depth is explored. In no state that is reached does a pod run with weights outside the
//! environment in which they are permitted, or before they were verified. That the model would find it is shown by
//! leaving rules out. WEIGHTLOCK_MODEL_SECONDS has
//! everything at once explored for so long (`e2e/test --full`: 300).

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod cluster;
mod effects;
mod ring1;
mod steps;

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model, Property};

use admission::Admission;
use cluster::{Cluster, Disk, Mount, Name, Ns, Pod, Reserved, Source, TEMPLATED, Vol};
use steps::{A, Powers, Step};

/// The claim that is made for a pod where the weights are permitted.
const TEMPLATED_CLAIM: Name = Name(Ns::Serving, TEMPLATED);

const PLACE: &str = "weights are only where they are permitted";
const VERIFIED: &str = "weights are verified before they are read, by pods of members";
const SERVED: &str = "a pod reads the weights where it may";
const UNRELATED: &str = "a pod that has nothing to do with weights runs";

struct Tenants {
    powers: Powers,
    admission: Admission,
}

/// A pod that runs, with what it has mounted.
fn running(cluster: &Cluster) -> Option<(&Pod, Disk)> {
    let pod = cluster.pod.as_ref()?;
    Some((pod, pod.running?))
}

/// The weights are permitted in the namespace that was there when the environment was declared, in no other of its name.
fn in_place(pod: &Pod) -> bool {
    pod.namespace == Ns::Serving && pod.namespace_uid == 0
}

impl Model for Tenants {
    type State = Cluster;
    type Action = Step;

    fn init_states(&self) -> Vec<Cluster> {
        vec![Cluster::new(self.powers.spare)]
    }

    fn actions(&self, cluster: &Cluster, steps: &mut Vec<Step>) {
        self.powers.steps(cluster, steps);
    }

    fn next_state(&self, cluster: &Cluster, step: Step) -> Option<Cluster> {
        self.powers.take(&self.admission, cluster, &step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PLACE, |_, cluster| {
                running(cluster).is_none_or(|(pod, disk)| !disk.holds_weights() || in_place(pod))
            }),
            Property::always(VERIFIED, |_, cluster| {
                running(cluster)
                    .is_none_or(|(pod, disk)| !disk.holds_weights() || !in_place(pod) || (pod.member && pod.verified))
            }),
            Property::sometimes(SERVED, |_, cluster| {
                running(cluster).is_some_and(|(pod, disk)| disk == Disk::Registered && in_place(pod) && pod.verified)
            }),
            Property::sometimes(UNRELATED, |_, cluster| {
                running(cluster).is_some_and(|(pod, disk)| !disk.holds_weights() && pod.namespace != Ns::Serving)
            }),
        ]
    }
}

/// Far more than any exploration here takes.
const PATIENCE: Duration = Duration::from_secs(900);

/// What was found: the steps to each discovery.
#[derive(Debug)]
struct Found {
    place: Option<Vec<Step>>,
    verified: Option<Vec<Step>>,
    served: Option<Vec<Step>>,
    unrelated: Option<Vec<Step>>,
}

/// Explores every sequence of so many steps, until one of the properties in `until` is broken. One thread: only then is it
/// breadth first, so that no state is met at the end of a long way and left there although a short one leads to it.
fn explore(powers: Powers, without: &[&'static str], steps: usize, until: &[&'static str], most: Duration) -> Found {
    let model = Tenants { powers, admission: Admission::new(without) };
    // A state at the depth where stateright stops is not looked at, and the first state is at depth 1.
    let checker = model.checker().target_max_depth(steps + 2).timeout(most);
    let checker = checker.finish_when(HasDiscoveries::AnyOf(until.iter().copied().collect())).spawn_bfs().join();
    let (states, tried) = (checker.unique_state_count(), checker.state_count());
    println!("{powers:?} without {without:?}: {states} states, {tried} steps taken, {} deep", checker.max_depth() - 1);
    let steps = |name| checker.discovery(name).map(|path| path.into_actions());
    Found { place: steps(PLACE), verified: steps(VERIFIED), served: steps(SERVED), unrelated: steps(UNRELATED) }
}

/// The second volume of the weights is there, and claims, pods and volumes are made.
const VOLUMES: Powers = Powers {
    elsewhere: Ns::Research,
    spare: true,
    volumes: true,
    copies: false,
    across: false,
    namespaces: false,
    nodes: false,
    webhook_lags: false,
    index_lags: false,
};
/// No second volume is there at first.
const ALONE: Powers = Powers { spare: false, ..VOLUMES };
const CLAIMS: Powers = Powers { volumes: false, ..VOLUMES };
const COPIES: Powers = Powers { copies: true, ..CLAIMS };
const ACROSS: Powers = Powers { across: true, ..COPIES };
const AGAIN: Powers = Powers { namespaces: true, ..CLAIMS };
const NODES: Powers = Powers { nodes: true, ..CLAIMS };
const LATE: Powers = Powers { webhook_lags: true, index_lags: true, ..CLAIMS };

#[track_caller]
fn holds(powers: Powers, steps: usize, properties: &[&'static str]) {
    let found = explore(powers, &[], steps, properties, PATIENCE);
    assert_eq!(found.place, None);
    if properties.contains(&VERIFIED) {
        assert_eq!(found.verified, None);
    }
    assert!(found.served.is_some(), "no pod reads the weights where it may, so the model says nothing: {found:?}");
    assert!(found.unrelated.is_some(), "{found:?}");
}

#[test]
fn volumes_are_made_reserved_and_bound() {
    holds(VOLUMES, 5, &[PLACE, VERIFIED]);
}

#[test]
fn volumes_are_made_reserved_and_bound_in_another_environment() {
    holds(Powers { elsewhere: Ns::Lab, ..VOLUMES }, 4, &[PLACE, VERIFIED]);
}

#[test]
fn volumes_are_made_where_there_were_none() {
    holds(ALONE, 5, &[PLACE, VERIFIED]);
}

#[test]
fn claims_are_copied() {
    holds(COPIES, 6, &[PLACE, VERIFIED]);
}

#[test]
fn claims_are_copied_to_another_namespace() {
    holds(ACROSS, 5, &[PLACE, VERIFIED]);
}

#[test]
fn a_namespace_is_made_again() {
    holds(AGAIN, 7, &[PLACE, VERIFIED]);
}

#[test]
fn claims_are_changed_under_pods_that_wait() {
    holds(CLAIMS, 7, &[PLACE, VERIFIED]);
}

#[test]
fn pods_are_placed_and_wait_for_their_mounts() {
    holds(NODES, 8, &[PLACE, VERIFIED]);
}

#[test]
fn pods_are_placed_where_volumes_are_made() {
    holds(Powers { nodes: true, ..ALONE }, 5, &[PLACE, VERIFIED]);
}

#[test]
fn what_is_known_is_late() {
    holds(LATE, 6, &[PLACE, VERIFIED]);
}

/// With one rule left out there is a way, so the model would see one; where it is in force, there is none of that length.
#[test]
fn with_one_rule_left_out_there_is_a_way() {
    let ways: [(&[&str], Powers, usize, &str); 13] = [
        (&["pods"], CLAIMS, 2, PLACE),
        (&["webhook", "binding"], CLAIMS, 2, VERIFIED),
        (&["WL-102"], CLAIMS, 2, VERIFIED),
        (&["binding"], CLAIMS, 7, VERIFIED),
        // What is not told of a claim when the pod is created is told when it is placed.
        (&["WL-111", "binding"], CLAIMS, 4, VERIFIED),
        (&["binding"], ALONE, 5, VERIFIED),
        (&["WL-117"], Powers { nodes: true, ..ALONE }, 5, VERIFIED),
        (&["claims-in-use"], NODES, 8, VERIFIED),
        (&["uids"], AGAIN, 4, PLACE),
        (&["claims/copies"], ACROSS, 4, PLACE),
        // Each of the two holds without the other.
        (&["snapshots", "snapshot-contents"], Powers { spare: false, ..ACROSS }, 6, PLACE),
        (&["volumes"], ALONE, 5, PLACE),
        (&["volumes/uid"], ALONE, 5, PLACE),
    ];
    for (rules, powers, steps, broken) in ways {
        let way = broken_by(&explore(powers, rules, steps, &[broken], PATIENCE), broken);
        println!("without {rules:?}: {way:?}");
        assert!(way.is_some(), "{rules:?} is left out, and nothing comes of it");
        // The longer ones are explored by the tests above.
        if steps < 5 {
            assert_eq!(broken_by(&explore(powers, &[], steps, &[broken], PATIENCE), broken), None);
        }
    }
}

fn broken_by(found: &Found, property: &str) -> Option<Vec<Step>> {
    if property == PLACE { found.place.clone() } else { found.verified.clone() }
}

/// What is not prevented, and named in docs/threat-model.md. A sequence that ends early here is prevented since.
#[test]
fn what_goes_although_all_rules_are_in_force() {
    let other = Name(Ns::Research, 'b');
    let ways: [(Powers, &str, &[Step]); 1] = [
        // A copy across namespaces is asked for before its source is bound, and made before the index knows of it.
        (
            Powers { index_lags: true, ..ACROSS },
            PLACE,
            &[
                Step::Claim(other, None, Some(Source::Claim(A))),
                Step::Claim(A, None, None),
                Step::Bind(A, Vol::Spare),
                Step::Provision(other),
                Step::Pod(Ns::Research, true, Mount::Claim('b')),
                Step::Place,
                Step::Start,
            ],
        ),
    ];
    for (powers, property, steps) in ways {
        let model = Tenants { powers, admission: Admission::new(&[]) };
        let cluster = play(&model, steps);
        let condition = model.property(property).condition;
        assert!(!condition(&model, &cluster), "{steps:?}");
    }
}

/// The steps that were a way before a pod was decided again when it is placed: all are taken but the one that places it, which
/// is refused. With the webhook not asked there each is a way.
#[test]
fn what_a_pod_mounts_is_decided_when_it_is_placed() {
    let ways: [(Powers, &str, &[Step]); 4] = [
        // A pod that waits for a node does not keep its claim from being deleted and made again.
        (
            CLAIMS,
            VERIFIED,
            &[
                Step::Claim(A, None, None),
                Step::Provision(A),
                Step::Pod(Ns::Serving, false, Mount::Claim('a')),
                Step::DeleteClaim(A),
                Step::Claim(A, Some(Vol::Spare), None),
                Step::Bind(A, Vol::Spare),
            ],
        ),
        // Nor one that is made for it.
        (
            CLAIMS,
            VERIFIED,
            &[
                Step::Claim(A, None, None),
                Step::Bind(A, Vol::Spare),
                Step::Pod(Ns::Serving, true, Mount::Template { volume: None, source: None }),
                Step::DeleteClaim(A),
                Step::DeleteVolume(Vol::Spare),
                Step::Volume(Disk::Above, None),
                Step::Claim(TEMPLATED_CLAIM, Some(Vol::Made), None),
                Step::Bind(TEMPLATED_CLAIM, Vol::Made),
            ],
        ),
        // A volume of the weights is made while a pod waits for its claim.
        (
            VOLUMES,
            VERIFIED,
            &[
                Step::DeleteVolume(Vol::Spare),
                Step::Claim(A, None, None),
                Step::Pod(Ns::Serving, false, Mount::Claim('a')),
                Step::Volume(Disk::Above, None),
                Step::Bind(A, Vol::Made),
            ],
        ),
        // Neither the index nor the webhook's watch of namespaces knows yet that the namespace was made again, while its
        // other watches know what was made in it since.
        (
            Powers { index_lags: true, webhook_lags: true, ..VOLUMES },
            PLACE,
            &[
                Step::DeleteNamespace(Ns::Serving),
                Step::CreateNamespace(Ns::Serving),
                Step::Volume(Disk::Registered, Some(Reserved { claim: A, uid: None })),
                Step::Claim(A, None, None),
                Step::Bind(A, Vol::Made),
                Step::SeeClaims,
                Step::SeeVolumes,
                Step::Pod(Ns::Serving, true, Mount::Claim('a')),
            ],
        ),
    ];
    for (powers, property, steps) in ways {
        let after = |without: &[&'static str]| {
            let model = Tenants { powers, admission: Admission::new(without) };
            let cluster = play(&model, steps);
            (model.next_state(&cluster, Step::Place), model)
        };
        assert_eq!(after(&[]).0, None, "{steps:?}");
        let (placed, model) = after(&["binding"]);
        let started = model.next_state(&placed.expect("a node"), Step::Start).expect("a mount");
        assert!(!(model.property(property).condition)(&model, &started), "{steps:?}");
    }
}

/// What a cluster becomes by steps, none of which is refused.
fn play(model: &Tenants, steps: &[Step]) -> Cluster {
    steps.iter().fold(Cluster::new(model.powers.spare), |cluster, step| {
        model.next_state(&cluster, step.clone()).unwrap_or_else(|| panic!("{step:?} is refused: {steps:?}"))
    })
}

/// As deep as it gets in the time that WEIGHTLOCK_MODEL_SECONDS gives, with everything at once.
#[test]
fn everything_at_once() {
    let Some(seconds) = std::env::var("WEIGHTLOCK_MODEL_SECONDS").ok().and_then(|text| text.parse().ok()) else {
        return;
    };
    let powers = Powers { copies: true, namespaces: true, ..VOLUMES };
    let found = explore(powers, &[], 20, &[PLACE, VERIFIED], Duration::from_secs(seconds));
    assert_eq!((found.place, found.verified), (None, None));
}
