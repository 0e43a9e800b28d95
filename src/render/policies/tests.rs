use super::*;
use crate::api::{IndexMember, IndexReach};
use crate::domain::world::GpuPodsOutside;

fn shards(n: i32) -> Vec<WeightIndexSpec> {
    let of = |part| (0..n).map(move |shard| WeightIndexSpec { part, shard, shards: n, ..WeightIndexSpec::default() });
    of(IndexPart::Storage).chain(of(IndexPart::Claims)).collect()
}

/// Operator and names by which a binding selects namespaces.
fn selected(spec: &ValidatingAdmissionPolicyBindingSpec) -> (String, Option<Vec<String>>) {
    let resources = spec.match_resources.clone().unwrap();
    let by = resources.namespace_selector.unwrap().match_expressions.unwrap().swap_remove(0);
    (by.operator, by.values)
}

#[test]
fn every_binding_with_a_parameter_denies_when_it_is_gone() {
    let ring = ring(&Settings::default(), shards(2), []);
    let bound: Vec<_> = ring.bindings.iter().filter_map(|b| b.spec.as_ref()?.param_ref.as_ref()).collect();
    assert!(bound.len() >= 10, "{bound:?}");
    for reference in bound {
        assert_eq!(reference.parameter_not_found_action.as_deref(), Some("Deny"));
        assert!(ring.shards.iter().any(|s| s.metadata.name == reference.name), "{reference:?}");
    }
}

#[test]
fn every_policy_fails_closed_is_bound_and_names_its_rule() {
    let ring = ring(&Settings::default(), shards(1), []);
    for policy in &ring.policies {
        let (name, spec) = (policy.metadata.name.clone().unwrap(), policy.spec.clone().unwrap());
        assert_eq!(spec.failure_policy.as_deref(), Some("Fail"), "{name}");
        assert!(name.starts_with(PREFIX));
        assert!(ring.bindings.iter().any(|b| b.spec.as_ref().unwrap().policy_name.as_ref() == Some(&name)), "{name}");
        let message = spec.validations.unwrap()[0].message.clone().unwrap();
        assert!(message.starts_with("[WL-") && message.contains("Remedy: "), "{name}: {message}");
    }
}

#[test]
fn pod_policies_spare_the_cluster_and_ourselves() {
    let settings = Settings { own_namespace: "elsewhere".into(), ..Settings::default() };
    let all = ring(&settings, shards(1), []);
    for policy in all.policies {
        let constraints = policy.spec.unwrap().match_constraints.unwrap();
        let on_pods = constraints
            .resource_rules
            .unwrap()
            .iter()
            .any(|r| r.resources.as_ref().is_some_and(|r| r.contains(&"pods".to_string())));
        let bound = all.bindings.iter().map(|binding| binding.spec.clone().unwrap());
        let bound: Vec<_> = bound.filter(|spec| spec.policy_name == policy.metadata.name).collect();
        assert!(!bound.is_empty());
        for spec in bound.into_iter().filter(|_| on_pods) {
            assert_eq!(selected(&spec).1.as_deref(), Some(&["kube-system".to_string(), "elsewhere".to_string()][..]));
        }
    }
}

#[test]
fn statuses_are_guarded_where_admission_is_enforced_and_need_no_parameter() {
    let member =
        |admission| IndexMember { uid: "u".into(), environment: "e".into(), admission, reach: IndexReach::Nobody };
    let members = |of: &[(&str, Mode)]| of.iter().map(|(name, mode)| ((*name).to_string(), member(*mode))).collect();
    let with = |of: &[(&str, Mode)]| {
        let shard = WeightIndexSpec { members: members(of), ..WeightIndexSpec::default() };
        let ring = ring(&Settings::default(), vec![shard], []);
        let name = Some("weightlock-pod-statuses".to_string());
        let bound = ring.bindings.into_iter().find(|b| b.metadata.name == name);
        ring.policies.into_iter().find(|p| p.metadata.name == name).map(|p| (p.spec.unwrap(), bound.unwrap()))
    };
    assert!(with(&[("trial", Mode::Audit)]).is_none());
    let (policy, binding) = with(&[("llm", Mode::Enforce), ("trial", Mode::Audit)]).unwrap();
    // A lost parameter would stop every kubelet.
    let bound = binding.spec.unwrap();
    assert_eq!((policy.param_kind, &bound.param_ref), (None, &None));
    assert_eq!(selected(&bound), ("In".into(), Some(vec!["llm".to_string()])));
    // It would be read at each write of anything.
    assert_eq!(policy.match_constraints.unwrap().namespace_selector, Some(LabelSelector::default()));
}

#[test]
fn pods_are_refused_or_warned_of_as_the_installation_has_it() {
    let expected = [
        (Mode::Audit, GpuPodsOutside::Warn, 1, 2, 2),
        (Mode::Audit, GpuPodsOutside::Allow, 1, 1, 1),
        (Mode::Enforce, GpuPodsOutside::Warn, 2, 1, 2),
        (Mode::Audit, GpuPodsOutside::Deny, 2, 1, 1),
        (Mode::Enforce, GpuPodsOutside::Deny, 3, 0, 0),
    ];
    for (node_access, gpu_pods_outside, refused, warned, bindings) in expected {
        let settings = Settings { node_access, gpu_pods_outside, ..Settings::default() };
        let ring = ring(&settings, shards(2), []);
        let policy = |name: &str| ring.policies.iter().find(|p| p.metadata.name.as_deref() == Some(name));
        let checks =
            |name: &str| policy(name).map_or(0, |policy| policy.spec.clone().unwrap().validations.unwrap().len());
        assert_eq!((checks("weightlock-pods"), checks("weightlock-pod-warnings")), (refused, warned));
        let bound: Vec<_> = ring.bindings.iter().filter_map(|b| b.spec.as_ref()).collect();
        let of = |name: &str| bound.iter().filter(|s| s.policy_name.as_deref() == Some(name)).count();
        // One for each shard, but a warning is given once.
        assert_eq!((of("weightlock-pods"), of("weightlock-pod-warnings")), (2, bindings.min(1)));
        for spec in bound {
            let actions = spec.validation_actions.clone().unwrap();
            match spec.policy_name.as_deref() {
                Some("weightlock-pods") => assert_eq!(actions, ["Deny"]),
                Some("weightlock-pod-warnings") => assert_eq!(actions, ["Warn", "Audit"]),
                _ => {}
            }
        }
    }
}

#[test]
fn namespaces_that_the_index_has_no_room_for_are_guarded_by_name() {
    let ring = ring(&Settings::default(), shards(1), ["crowded".to_string()]);
    for name in ["pod-statuses", "services", "endpoints", "claims-in-use", "protect-network-policies"] {
        let name = Some(format!("{PREFIX}{name}"));
        let bound: Vec<_> = ring.bindings.iter().filter_map(|binding| binding.spec.as_ref()).collect();
        let bound = bound.into_iter().find(|spec| spec.policy_name == name).expect("a binding");
        assert_eq!(selected(bound), ("In".into(), Some(vec!["crowded".to_string()])), "{name:?}");
    }
}
