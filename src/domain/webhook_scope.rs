//! Which namespaces the admission webhooks are called for.

use std::collections::BTreeSet;

use super::world::World;

/// Namespaces that no webhook of ours may ever stand in the way of.
const NEVER: [&str; 1] = ["kube-system"];

/// The namespaces of environments, by whether admission is enforced there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookScope {
    /// Where a request that cannot be decided is refused.
    pub enforced: BTreeSet<String>,
    /// Where an outage of ours changes nothing.
    pub audited: BTreeSet<String>,
}

/// The namespaces that environments keep. One that does not exist yet is among them: it is covered from its first moment.
/// Weightlock's own namespace and kube-system never are, so that neither can be locked out by an outage of ours.
pub fn webhook_scope(world: &World) -> WebhookScope {
    let claimed: BTreeSet<&str> =
        world.environments.values().flat_map(|e| e.members.iter().map(|m| m.namespace.as_str())).collect();
    let mut scope = WebhookScope::default();
    for namespace in claimed {
        if namespace == world.settings.own_namespace || NEVER.contains(&namespace) {
            continue;
        }
        if let Some(environment) = world.membership(namespace).environment() {
            let set = if environment.enforces_admission() { &mut scope.enforced } else { &mut scope.audited };
            set.insert(namespace.to_owned());
        }
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Mode, Modes};
    use crate::domain::world::{Environment, EnvironmentMember};

    fn environment(name: &str, admission: Mode, namespaces: &[&str]) -> Environment {
        Environment {
            name: name.into(),
            created: String::new(),
            members: namespaces
                .iter()
                .map(|n| EnvironmentMember {
                    namespace: (*n).into(),
                    uid: None,
                    service_accounts: BTreeSet::new(),
                    pod_status_protected_since: None,
                })
                .collect(),
            modes: Modes { admission, network: Mode::Enforce, verification: Mode::Enforce, egress: Mode::Enforce },
            volumes: Default::default(),
            trusted_init: vec![],
            reverify: None,
            downloaders: vec![],
            network: Default::default(),
            egress_rate: None,
            deleting: false,
        }
    }

    fn world(environments: &[Environment]) -> World {
        World { environments: environments.iter().map(|e| (e.name.clone(), e.clone())).collect(), ..World::default() }
    }

    #[test]
    fn no_environment_no_namespace() {
        assert_eq!(webhook_scope(&World::default()), WebhookScope::default());
    }

    #[test]
    fn modes_part_the_namespaces() {
        let scope = webhook_scope(&world(&[
            environment("a", Mode::Enforce, &["x", "y"]),
            environment("b", Mode::Audit, &["z"]),
        ]));
        assert_eq!(scope.enforced, ["x".to_owned(), "y".to_owned()].into());
        assert_eq!(scope.audited, ["z".to_owned()].into());
    }

    #[test]
    fn the_environment_that_keeps_a_namespace_decides_its_mode() {
        let scope =
            webhook_scope(&world(&[environment("b", Mode::Audit, &["x"]), environment("a", Mode::Enforce, &["x"])]));
        assert_eq!((scope.enforced, scope.audited), (["x".to_owned()].into(), BTreeSet::new()));
    }

    #[test]
    fn our_own_namespace_and_kube_system_are_never_in_it() {
        let scope =
            webhook_scope(&world(&[environment("a", Mode::Enforce, &["kube-system", "weightlock-system", "llm"])]));
        assert_eq!(scope.enforced, ["llm".to_owned()].into());
    }
}
