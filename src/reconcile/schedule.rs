//! When each recipe runs next.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    time::{Duration, Instant},
};

use super::{Next, concerned::Concerned, error::Category};

/// After a failure that a change may cure, a change is waited for no longer than this before it counts.
const SETTLE: Duration = Duration::from_secs(2);

/// A recipe and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipe {
    /// Certificates and webhook configurations.
    Webhooks,
    /// The policies inside the API server and the index that they look things up in.
    Policies,
    /// ConfigMaps with manifests that nobody needs any more.
    Manifests,
    /// The WeightArtifact of this name.
    Artifact(String),
    /// The WeightEnvironment of this name.
    Environment(String),
}

impl Recipe {
    /// The kind, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Recipe::Webhooks => "Webhooks",
            Recipe::Policies => "Policies",
            Recipe::Manifests => "Manifests",
            Recipe::Artifact(_) => "WeightArtifact",
            Recipe::Environment(_) => "WeightEnvironment",
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recipe::Webhooks | Recipe::Policies | Recipe::Manifests => f.write_str(self.kind()),
            Recipe::Artifact(name) | Recipe::Environment(name) => write!(f, "{} {name}", self.kind()),
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// Runs that failed in a row.
    failures: u32,
    /// Changes before this time do not make it run.
    not_before: Option<Instant>,
    /// It runs at this time even without a change.
    due: Option<Instant>,
}

/// What is known of each recipe's last run.
#[derive(Debug, Default)]
pub struct Schedule(HashMap<Recipe, Entry>);

impl Schedule {
    /// Whether a recipe runs in a round: those run that the round concerns, those that are due, and those that failed, since
    /// what they were kept from looking at then may have changed.
    pub fn runs(&self, recipe: &Recipe, concerned: &Concerned, now: Instant) -> bool {
        let Some(entry) = self.0.get(recipe) else { return true };
        let due = entry.due.is_some_and(|due| now >= due);
        let wanted = entry.failures > 0 || concerned.includes(recipe);
        due || (wanted && entry.not_before.is_none_or(|time| now >= time))
    }

    /// Notes that a recipe ran through.
    pub fn succeeded(&mut self, recipe: Recipe, next: Next) {
        self.0.insert(recipe, Entry { failures: 0, not_before: None, due: next });
    }

    /// Notes that a recipe failed. Returns how long it waits if nothing changes.
    pub fn failed(&mut self, recipe: Recipe, category: Category, now: Instant) -> Duration {
        let entry = self.0.entry(recipe).or_default();
        entry.failures = entry.failures.saturating_add(1);
        let pause = category.delay(entry.failures);
        entry.due = Some(now + pause);
        entry.not_before = Some(match category {
            Category::Retry => now + pause,
            Category::Wait | Category::Bug => now + pause.min(SETTLE),
        });
        pause
    }

    /// Forgets recipes that there is no object for any more.
    pub fn retain(&mut self, recipes: &[Recipe]) {
        let known: BTreeSet<&Recipe> = recipes.iter().collect();
        self.0.retain(|recipe, _| known.contains(recipe));
    }

    /// When the next round is due without any change.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe::Environment("a".into())
    }

    #[test]
    fn a_retry_is_not_hurried_by_changes() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.failed(recipe(), Category::Retry, now);
        let second = schedule.failed(recipe(), Category::Retry, now);
        assert_eq!(second, Category::Retry.delay(2));
        assert!(!schedule.runs(&recipe(), &Concerned::All, now + second - Duration::from_millis(1)));
        assert!(schedule.runs(&recipe(), &Concerned::All, now + second));
        assert_eq!(schedule.next(), Some(now + second));
    }

    #[test]
    fn a_change_may_cure_what_waits() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let pause = schedule.failed(recipe(), Category::Wait, now);
        assert!(schedule.runs(&recipe(), &Concerned::All, now + SETTLE));
        assert_eq!(schedule.next(), Some(now + pause));
    }

    #[test]
    fn what_a_round_does_not_concern_does_not_run() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let pods = Concerned::Some { artifacts: Default::default(), environments: ["a".to_owned()].into() };
        let other = Recipe::Environment("b".into());
        assert!(schedule.runs(&Recipe::Webhooks, &pods, now), "a recipe that never ran runs");
        schedule.succeeded(Recipe::Webhooks, Some(now + SETTLE));
        schedule.succeeded(recipe(), None);
        schedule.succeeded(other.clone(), None);
        assert!(schedule.runs(&recipe(), &pods, now));
        assert!(!schedule.runs(&Recipe::Webhooks, &pods, now) && !schedule.runs(&other, &pods, now));
        assert!(schedule.runs(&Recipe::Webhooks, &Concerned::All, now));
        assert!(schedule.runs(&Recipe::Webhooks, &pods, now + SETTLE), "what is due runs");
        schedule.failed(other.clone(), Category::Wait, now);
        assert!(schedule.runs(&other, &pods, now + SETTLE), "what failed runs");
    }

    #[test]
    fn success_clears_the_past_and_objects_that_are_gone_are_forgotten() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.failed(recipe(), Category::Bug, now);
        schedule.succeeded(recipe(), None);
        assert!(schedule.runs(&recipe(), &Concerned::All, now));
        assert_eq!(schedule.next(), None);
        schedule.failed(recipe(), Category::Bug, now);
        schedule.retain(&[]);
        assert_eq!(schedule.next(), None);
    }
}
