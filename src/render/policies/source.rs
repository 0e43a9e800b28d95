//! What a volume source is, in CEL: the spec of a PersistentVolume, or a volume of a pod.

use super::cel;

/// Types whose keys are compared by equality: the field, and the CEL of the key of source `{v}`.
const EXACT: [(&str, &str); 5] = [
    ("csi", "'v1:csi:' + {v}.csi.driver.trim().lowerAscii() + ':' + {v}.csi.volumeHandle.trim()"),
    // The API server hands volumes of these two to the CSI driver, under the same handle.
    (
        "awsElasticBlockStore",
        "'v1:csi:ebs.csi.aws.com:' + {v}.awsElasticBlockStore.volumeID.split('/')[size({v}.awsElasticBlockStore.volumeID.split('/')) - 1]",
    ),
    ("cinder", "'v1:csi:cinder.csi.openstack.org:' + {v}.cinder.volumeID"),
    ("gcePersistentDisk", "'v1:gcePersistentDisk:' + {v}.gcePersistentDisk.pdName"),
    ("azureDisk", "'v1:azureDisk:' + {v}.azureDisk.diskURI.lowerAscii()"),
];

/// Types whose keys have no form in CEL: where storage of the type is registered, none of it can be told apart.
const OPAQUE: [&str; 14] = [
    "azureFile",
    "cephfs",
    "fc",
    "flexVolume",
    "flocker",
    "glusterfs",
    "iscsi",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// The key for storage that is matched by equality; empty for other storage.
pub fn exact(v: &str) -> String {
    let choices: String = EXACT
        .iter()
        .map(|(field, key)| {
            // An inline CSI volume has no handle.
            let handle = if *field == "csi" { format!(" && has({v}.csi.volumeHandle)") } else { String::new() };
            format!("has({v}.{field}){handle} ? {} : ", key.replace("{v}", v))
        })
        .collect();
    format!("({choices}'')")
}

/// The key for storage that is matched by overlap; empty for other storage.
pub fn path(v: &str) -> String {
    let host =
        |field: &str| format!("has({v}.{field}) ? 'v1:host:' + {} : ", cel::host_path(&format!("{v}.{field}.path")));
    let server = cel::nfs_host(&format!("{v}.nfs.server"));
    let nfs = format!("'v1:nfs:' + {server} + ':' + {}", cel::path(&format!("{v}.nfs.path")));
    format!("({}{}has({v}.nfs) ? {nfs} : '')", host("hostPath"), host("local"))
}

/// The beginning of the keys with which this source cannot be compared, so that any of them may be it; empty if it can
/// be compared with all.
pub fn unclear(v: &str) -> String {
    let host = |field: &str| {
        format!("has({v}.{field}) && {} ? 'v1:host:' : ", cel::unclear_host_path(&format!("{v}.{field}.path")))
    };
    let server = cel::unclear_nfs_host(&format!("{v}.nfs.server"));
    let nfs = format!("has({v}.nfs) && ({server} || {}) ? 'v1:nfs:' : ", cel::unclear_path(&format!("{v}.nfs.path")));
    let inline =
        format!("has({v}.csi) && !has({v}.csi.volumeHandle) ? 'v1:csi:' + {v}.csi.driver.trim().lowerAscii() + ':' : ");
    let opaque: String = OPAQUE.iter().map(|kind| format!("has({v}.{kind}) ? 'v1:{kind}:' : ")).collect();
    format!("({}{}{nfs}{inline}{opaque}'')", host("hostPath"), host("local"))
}

/// The keys of `params.spec.keys` that the source is and that are not permitted.
pub fn forbidden_keys(exact: &str) -> String {
    let entry = cel::permitted(&format!("params.spec.keys[{exact}]"));
    format!("({exact} in params.spec.keys && !{entry} ? [{exact}] : [])")
}

/// The keys of `params.spec.paths` that are the source or hold it and that are not permitted.
pub fn forbidden_paths(path: &str) -> String {
    format!(
        "({path} == '' ? [] : {}.filter(k, k in params.spec.paths && !{}))",
        cel::ancestors(path),
        cel::permitted("params.spec.paths[k]")
    )
}

/// The keys of `params.spec.parents` that the source is or may be and that are not permitted.
pub fn forbidden_parents(path: &str, unclear: &str) -> String {
    format!("[{path}, {unclear}].filter(k, k in params.spec.parents && !{})", cel::permitted("params.spec.parents[k]"))
}

/// How the source relates to what is found in a table under key `k`.
pub fn relation(table: &str, k: &str, unclear: &str) -> String {
    match table {
        "parents" => format!("({k} == {unclear} ? 'cannot be told from ' : 'holds ')"),
        _ => "'is '".into(),
    }
}
