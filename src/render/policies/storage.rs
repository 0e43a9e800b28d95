//! Registered storage is not bound, re-declared or cloned where it is not permitted: WL-112.

use super::{Check, Namespaces, Parameter, Policy, cel, fallback, rule, source, tag};
use crate::api::IndexPart;
use crate::domain::Rule;

/// A PersistentVolume that is, holds or lies in registered storage is reserved only for claims of permitted namespaces.
/// What is as it was may stay: status, finalizers and labels of a volume can always be written.
pub fn volumes() -> Policy {
    let mut variables = cel::membership_of(
        "has(object.spec.claimRef) && has(object.spec.claimRef.namespace) ? object.spec.claimRef.namespace : ''",
    );
    variables.extend([
        (
            "asked",
            "variables.destination != '' && (request.operation == 'CREATE' || !has(oldObject.spec.claimRef) || object.spec.claimRef != oldObject.spec.claimRef)".to_string(),
        ),
        ("exact", source::exact("object.spec")),
        ("path", source::path("object.spec")),
        ("unclear", source::unclear("object.spec")),
        ("keys", source::forbidden_keys("variables.exact")),
        ("paths", source::forbidden_paths("variables.path")),
        ("parents", source::forbidden_parents("variables.path", "variables.unclear")),
        (
            "pointed",
            format!(
                "variables.asked && !variables.audit && has(object.spec.claimRef.uid) && object.spec.claimRef.uid != '' && !{} ? {} : []",
                cel::cluster(),
                source::registered("variables.exact", "variables.path", "variables.unclear")
            ),
        ),
    ]);
    let text = |table: &str| {
        let entry = format!("params.spec.{table}[k]");
        format!(
            "variables.{table}.map(k, {} + 'PersistentVolume \"' + variables.name + '\" ' + {} + {} + ' (' + k + ') and is reserved for claim \"' + object.spec.claimRef.name + '\"' + {})",
            tag(Rule::RegisteredStorageElsewhere),
            source::relation(table, "k", "variables.unclear"),
            cel::artifact(&entry),
            cel::not_permitted(&entry, "variables.destination", "bind it in")
        )
    };
    // While the object is created by its prefix it has no name yet.
    variables.push(("name", cel::NAME.into()));
    // The kubelet takes a claim for the one that a volume is bound to by its UID alone, whatever namespace stands beside it.
    let pointed = format!(
        "variables.pointed.map(k, {} + 'PersistentVolume \"' + variables.name + '\" is registered storage (' + k + '), and \"' + request.userInfo.username + '\" says by spec.claimRef.uid which claim it is bound to, which the cluster itself does. Remedy: leave spec.claimRef.uid out; the claim of that namespace and name is bound then.')",
        tag(Rule::RegisteredStorageElsewhere)
    );
    Policy {
        name: "volumes",
        parameter: Parameter::EveryShard(IndexPart::Storage),
        actions: &["Deny"],
        rules: vec![rule("", &["v1"], &["persistentvolumes"], &["CREATE", "UPDATE"])],
        scope: Namespaces::Except(vec![]),
        variables,
        gate: Some("has(object.spec.claimRef)".into()),
        checks: vec![Check {
            violations: format!(
                "!variables.asked ? [] : {} + {} + {} + {pointed}",
                text("keys"),
                text("paths"),
                text("parents")
            ),
            unless: None,
            fallback: fallback(
                Rule::RegisteredStorageElsewhere,
                "this PersistentVolume is registered storage, reserved for a claim in a namespace where it is not permitted",
            ),
        }],
    }
}

/// By which a claim leads to storage that is there already.
const FIELDS: [&str; 3] = ["volumeName", "dataSource", "dataSourceRef"];

/// What a claim may not do, each with a CEL expression of whether it does, and one of the text after the name of the claim.
///
/// A copy is verified by nobody and covered by no key, so it is refused where the artifact is permitted, too.
fn claim_violations() -> Vec<(String, String)> {
    let volume = "object.spec.volumeName";
    let entry = format!("params.spec.volumes[{volume}]");
    let mut violations = vec![(
        format!("has({volume}) && {volume} in params.spec.volumes && !{}", cel::permitted(&entry)),
        format!(
            "'asks for PersistentVolume \"' + {volume} + '\", which is ' + {} + {}",
            cel::artifact(&entry),
            cel::not_permitted(&entry, "request.namespace", "bind it in")
        ),
    )];
    for (field, namespace) in [("dataSource", "request.namespace"), ("dataSourceRef", SOURCE_NAMESPACE)] {
        let source = format!("object.spec.{field}");
        let named = format!("{namespace} + '/' + {source}.name");
        for (kind, table) in [("PersistentVolumeClaim", "claims"), ("VolumeSnapshot", "snapshots")] {
            let entry = format!("params.spec.{table}[{named}]");
            violations.push((
                format!(
                    "has({source}) && {source}.kind == '{kind}' && ({named}) in params.spec.{table} && !variables.audit"
                ),
                format!(
                    "'is a copy of {kind} \"' + {named} + '\", which is ' + {} + {}",
                    cel::artifact(&entry),
                    cel::copied(&entry)
                ),
            ));
        }
    }
    violations
}

/// A claim that a pod controls is the volume that it made for itself (ephemeral), by its name, however it came to be: of such volumes
/// nobody looks at what the pod mounts. So no claim that leads to registered storage is given to a pod.
fn given() -> String {
    let lists = [("claims", "request.namespace + '/' + variables.name"), ("volumes", "object.spec.volumeName")];
    let lists = lists.map(|(table, key)| {
        let entry = format!("params.spec.{table}[{key}]");
        let there = if table == "volumes" { "has(object.spec.volumeName) && " } else { "" };
        format!(
            "(variables.given && !variables.audit && {there}({key}) in params.spec.{table} ? [{} + 'PersistentVolumeClaim \"' + variables.name + '\" leads to ' + {} + ' and is given to Pod \"' + variables.owners[0].name + '\" as a volume that it made for itself. Remedy: leave out the owner, and name the claim in the pod' + {}] : [])",
            tag(Rule::RegisteredStorageElsewhere),
            cel::artifact(&entry),
            cel::ask(&entry)
        )
    });
    lists.join(" + ")
}

/// CEL of the namespace of the data source of a claim, which may be another than the claim's.
const SOURCE_NAMESPACE: &str = "(has(object.spec.dataSourceRef.namespace) && object.spec.dataSourceRef.namespace != '' ? object.spec.dataSourceRef.namespace : request.namespace)";

/// A claim does not ask for registered storage, nor for a copy of it, where that is not permitted.
pub fn claims() -> Policy {
    let mut variables = cel::membership();
    variables.push((
        "asked",
        format!(
            "request.operation == 'CREATE' || {}.exists(f, f in object.spec && (!(f in oldObject.spec) || object.spec[f] != oldObject.spec[f]))",
            cel::literals(FIELDS)
        ),
    ));
    variables.extend([
        ("name", cel::NAME.to_string()),
        (
            "owners",
            "(has(object.metadata.ownerReferences) ? object.metadata.ownerReferences : []).filter(o, o.kind == 'Pod' && has(o.controller) && o.controller && variables.name.startsWith(o.name + '-'))".into(),
        ),
        (
            "given",
            "size(variables.owners) > 0 && (variables.asked || !has(oldObject.metadata.ownerReferences) || object.metadata.ownerReferences != oldObject.metadata.ownerReferences)".into(),
        ),
    ]);
    let lists: Vec<String> = claim_violations()
        .into_iter()
        .map(|(condition, text)| {
            format!(
                "({condition} ? [{} + 'PersistentVolumeClaim \"' + variables.name + '\" ' + {text}] : [])",
                tag(Rule::RegisteredStorageElsewhere)
            )
        })
        .collect();
    Policy {
        name: "claims",
        parameter: Parameter::EveryShard(IndexPart::Claims),
        actions: &["Deny"],
        // Owners can be written with the status, too.
        rules: vec![
            rule("", &["v1"], &["persistentvolumeclaims"], &["CREATE", "UPDATE"]),
            rule("", &["v1"], &["persistentvolumeclaims/status"], &["UPDATE"]),
        ],
        scope: Namespaces::Except(vec![]),
        variables,
        gate: Some(format!(
            "has(object.metadata.ownerReferences) || {}",
            FIELDS.map(|field| format!("has(object.spec.{field})")).join(" || ")
        )),
        checks: vec![Check {
            violations: format!("(!variables.asked ? [] : {}) + {}", lists.join(" + "), given()),
            unless: None,
            fallback: fallback(
                Rule::RegisteredStorageElsewhere,
                "this claim leads to registered storage, which is not permitted in its namespace",
            ),
        }],
    }
}

/// A snapshot is an unregistered copy that can be restored elsewhere: none is taken of registered storage.
pub fn snapshots() -> Policy {
    let claim = "request.namespace + '/' + object.spec.source.persistentVolumeClaimName";
    let entry = format!("params.spec.claims[{claim}]");
    Policy {
        name: "snapshots",
        parameter: Parameter::EveryShard(IndexPart::Claims),
        actions: &["Deny"],
        rules: vec![rule("snapshot.storage.k8s.io", &["*"], &["volumesnapshots"], &["CREATE"])],
        scope: Namespaces::Except(vec![]),
        variables: cel::membership(),
        gate: None,
        checks: vec![Check {
            violations: format!(
                "has(object.spec.source) && has(object.spec.source.persistentVolumeClaimName) && ({claim}) in params.spec.claims && !variables.audit ? [{} + 'the snapshot is a copy of PersistentVolumeClaim \"' + {claim} + '\", which is ' + {} + {}] : []",
                tag(Rule::RegisteredStorageElsewhere),
                cel::artifact(&entry),
                cel::copied(&entry)
            ),
            unless: None,
            fallback: fallback(Rule::RegisteredStorageElsewhere, "this snapshot is a copy of registered storage"),
        }],
    }
}

/// Registered storage is not declared as the content of a snapshot, nor is such content moved to another namespace.
pub fn snapshot_contents() -> Policy {
    let mut variables = cel::membership_of(
        "has(object.spec.volumeSnapshotRef) && has(object.spec.volumeSnapshotRef.namespace) ? object.spec.volumeSnapshotRef.namespace : ''",
    );
    // The volume that a snapshot is taken of, or the snapshot that is there already and may be registered itself.
    let handle = |field: &str| {
        format!(
            "has(object.spec.source) && has(object.spec.source.{field}) ? {} : ",
            source::csi_key("object.spec.driver.trim().lowerAscii()", &format!("object.spec.source.{field}.trim()"))
        )
    };
    variables.push(("key", format!("{}{}''", handle("volumeHandle"), handle("snapshotHandle"))));
    // What is as it was may stay: the snapshot controller writes its marks and finalizers.
    variables.push((
        "asked",
        "request.operation == 'CREATE' || object.spec.volumeSnapshotRef != oldObject.spec.volumeSnapshotRef".into(),
    ));
    let entry = "params.spec.keys[variables.key]";
    Policy {
        name: "snapshot-contents",
        parameter: Parameter::EveryShard(IndexPart::Storage),
        actions: &["Deny"],
        rules: vec![rule("snapshot.storage.k8s.io", &["*"], &["volumesnapshotcontents"], &["CREATE", "UPDATE"])],
        scope: Namespaces::Except(vec![]),
        variables,
        gate: None,
        checks: vec![Check {
            violations: format!(
                "variables.asked && variables.key in params.spec.keys && !variables.audit ? [{} + 'the snapshot content, for namespace \"' + variables.destination + '\", is a copy of ' + {} + ' (' + variables.key + ')' + {}] : []",
                tag(Rule::RegisteredStorageElsewhere),
                cel::artifact(entry),
                cel::copied(entry)
            ),
            unless: None,
            fallback: fallback(
                Rule::RegisteredStorageElsewhere,
                "this snapshot content is a copy of registered storage",
            ),
        }],
    }
}

/// A group of claims is chosen by labels, which are not seen here: where a namespace has a claim that leads to registered
/// storage, no group snapshot is taken.
pub fn group_snapshots() -> Policy {
    let entry = "params.spec.claims[variables.claims[0]]";
    let mut variables = cel::membership();
    variables.push(("claims", "params.spec.claims.filter(c, c.startsWith(request.namespace + '/'))".into()));
    // Of what is there already, the content is asked about.
    variables
        .push(("given", "has(object.spec.source) && has(object.spec.source.volumeGroupSnapshotContentName)".into()));
    Policy {
        name: "group-snapshots",
        parameter: Parameter::EveryShard(IndexPart::Claims),
        actions: &["Deny"],
        rules: vec![rule(GROUP_SNAPSHOTS, &["*"], &["volumegroupsnapshots"], &["CREATE"])],
        scope: Namespaces::Except(vec![]),
        variables,
        gate: None,
        checks: vec![Check {
            violations: format!(
                "variables.given || size(variables.claims) == 0 || variables.audit ? [] : [{} + 'a group snapshot in namespace \"' + request.namespace + '\" may be a copy of PersistentVolumeClaim \"' + variables.claims[0] + '\", which is ' + {} + {}]",
                tag(Rule::RegisteredStorageElsewhere),
                cel::artifact(entry),
                cel::copied(entry)
            ),
            unless: None,
            fallback: fallback(
                Rule::RegisteredStorageElsewhere,
                "this group snapshot may be a copy of registered storage",
            ),
        }],
    }
}

/// Registered storage is not declared as a part of the content of a group snapshot.
pub fn group_snapshot_contents() -> Policy {
    let mut variables = cel::membership_of(
        "has(object.spec.volumeGroupSnapshotRef) && has(object.spec.volumeGroupSnapshotRef.namespace) ? object.spec.volumeGroupSnapshotRef.namespace : ''",
    );
    let of = |list: &str| format!("(has({list}) ? {list} : [])");
    variables.push((
        "keys",
        format!(
            "!has(object.spec.source) ? [] : ({} + (has(object.spec.source.groupSnapshotHandles) ? {} : [])).map(handle, {}).filter(k, k in params.spec.keys)",
            of("object.spec.source.volumeHandles"),
            of("object.spec.source.groupSnapshotHandles.volumeSnapshotHandles"),
            source::csi_key("object.spec.driver.trim().lowerAscii()", "handle.trim()")
        ),
    ));
    variables.push((
        "asked",
        "request.operation == 'CREATE' || object.spec.volumeGroupSnapshotRef != oldObject.spec.volumeGroupSnapshotRef"
            .into(),
    ));
    let entry = "params.spec.keys[k]";
    Policy {
        name: "group-snapshot-contents",
        parameter: Parameter::EveryShard(IndexPart::Storage),
        actions: &["Deny"],
        rules: vec![rule(GROUP_SNAPSHOTS, &["*"], &["volumegroupsnapshotcontents"], &["CREATE", "UPDATE"])],
        scope: Namespaces::Except(vec![]),
        variables,
        gate: None,
        checks: vec![Check {
            violations: format!(
                "!variables.asked || variables.audit ? [] : variables.keys.map(k, {} + 'the group snapshot content, for namespace \"' + variables.destination + '\", has a copy of ' + {} + ' (' + k + ')' + {})",
                tag(Rule::RegisteredStorageElsewhere),
                cel::artifact(entry),
                cel::copied(entry)
            ),
            unless: None,
            fallback: fallback(
                Rule::RegisteredStorageElsewhere,
                "this group snapshot content has a copy of registered storage",
            ),
        }],
    }
}

const GROUP_SNAPSHOTS: &str = "groupsnapshot.storage.k8s.io";
