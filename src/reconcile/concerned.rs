//! Whom a change of pods concerns: of ten thousand artifacts nearly none, and a status of some pod changes all the time.
//!
//! What a recipe does follows from the declarations, from what was observed, and from pods: for an artifact those that hold
//! it, for an environment those of its namespaces. Where nothing but pods changed, a recipe none of whose pods changed
//! would find again what it found before.

use std::collections::BTreeSet;

use imbl::ordmap::DiffItem;

use super::schedule::Recipe;
use crate::domain::{World, consumers, world::Environment};

/// The recipes for whose sake a round runs.
#[derive(Debug, PartialEq, Eq)]
pub enum Concerned {
    /// All.
    All,
    /// Those that look at pods which changed.
    Some {
        /// Names of artifacts that pods hold now, or held before.
        artifacts: BTreeSet<String>,
        /// Names of environments with such pods.
        environments: BTreeSet<String>,
    },
}

impl Concerned {
    /// Whom the difference of the pods of two worlds concerns that have all else in common. `namespaces` are those that an
    /// environment has to do with besides its members.
    pub fn by_pods(before: &World, after: &World, namespaces: impl Fn(&Environment) -> BTreeSet<String>) -> Self {
        let mut artifacts = BTreeSet::new();
        let mut changed = BTreeSet::new();
        for change in before.pods.diff(&after.pods) {
            let (old, new) = match change {
                DiffItem::Add(key, new) => (None, Some((key, new))),
                DiffItem::Update { old, new } => (Some(old), Some(new)),
                DiffItem::Remove(key, old) => (Some((key, old)), None),
            };
            for ((namespace, _), pod) in old.into_iter().chain(new) {
                artifacts.extend(consumers::holdings(after, namespace, pod).artifacts);
                changed.insert(namespace.as_str());
            }
        }
        let has = |environment: &&Environment| {
            environment.members.iter().any(|member| changed.contains(member.namespace.as_str()))
                || namespaces(environment).iter().any(|namespace| changed.contains(namespace.as_str()))
        };
        let environments = match changed.is_empty() {
            true => BTreeSet::new(),
            false => after.environments.values().filter(has).map(|environment| environment.name.clone()).collect(),
        };
        Self::Some { artifacts, environments }
    }

    /// Whether a recipe has to run.
    pub fn includes(&self, recipe: &Recipe) -> bool {
        match (self, recipe) {
            (Self::All, _) => true,
            (Self::Some { artifacts, .. }, Recipe::Artifact(name)) => artifacts.contains(name),
            (Self::Some { environments, .. }, Recipe::Environment(name)) => environments.contains(name),
            (Self::Some { .. }, Recipe::Webhooks | Recipe::Policies | Recipe::Manifests) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{domain::world::Settings, index};

    fn world() -> World {
        let environment = |name: &str, namespace: &str| {
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": name}, "spec": {
                "purpose": "Inference", "members": [{"namespace": namespace, "serviceAccounts": ["*"]}],
                "modes": {"admission": "Enforce", "network": "Audit", "verification": "Audit", "egress": "Audit"}}})
        };
        let artifact = |name: &str| {
            json!({"apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightArtifact", "metadata": {"name": name}, "spec": {
                "type": "Base", "model": {"name": name}, "contact": "c", "permittedEnvironments": [{"name": "serving"}],
                "locations": [{"name": "share", "role": "Serving", "nfs": {"server": "nas", "path": format!("/{name}")}}]}})
        };
        let objects =
            vec![environment("serving", "llm"), environment("training", "lab"), artifact("orion"), artifact("vega")];
        index::from_objects(objects, Settings::default()).unwrap()
    }

    fn with(mut world: World, namespace: &str, path: &str, phase: &str) -> World {
        let pod: Value = json!({"metadata": {"namespace": namespace, "name": "p"}, "status": {"phase": phase},
            "spec": {"volumes": [{"name": "w", "nfs": {"server": "nas", "path": path}}]}});
        world.pods.insert((namespace.into(), "p".into()), Arc::new(pod.into()));
        world
    }

    fn concerned(before: &World, after: &World) -> Vec<Recipe> {
        let found = Concerned::by_pods(before, after, |environment| {
            // As if a namespace was left whose policies are still there.
            if environment.name == "training" { ["left".to_owned()].into() } else { BTreeSet::new() }
        });
        let all = [
            Recipe::Artifact("orion".into()),
            Recipe::Artifact("vega".into()),
            Recipe::Environment("serving".into()),
            Recipe::Environment("training".into()),
            Recipe::Policies,
        ];
        assert!(all.iter().all(|recipe| Concerned::All.includes(recipe)));
        all.into_iter().filter(|recipe| found.includes(recipe)).collect()
    }

    #[test]
    fn a_pod_concerns_what_it_holds_or_held_and_the_environment_that_it_is_in() {
        let (orion, serving) = (Recipe::Artifact("orion".into()), Recipe::Environment("serving".into()));
        let (none, one) = (world(), with(world(), "llm", "/orion", "Running"));
        assert_eq!(concerned(&none, &none), []);
        assert_eq!(concerned(&none, &one), [orion.clone(), serving.clone()], "made");
        assert_eq!(concerned(&one, &none), [orion.clone(), serving.clone()], "gone");
        let ended = with(world(), "llm", "/orion", "Failed");
        assert_eq!(concerned(&one, &ended), [orion.clone(), serving.clone()], "changed");
        let other = with(world(), "llm", "/vega", "Running");
        assert_eq!(concerned(&one, &other), [orion.clone(), Recipe::Artifact("vega".into()), serving], "made anew");
        let elsewhere = with(one.clone(), "research", "/orion", "Running");
        assert_eq!(concerned(&one, &elsewhere), [orion], "in no environment");
        assert_eq!(concerned(&one, &with(one.clone(), "research", "/x", "Running")), []);
        let left = with(one.clone(), "left", "/x", "Running");
        assert_eq!(concerned(&one, &left), [Recipe::Environment("training".into())]);
    }
}
