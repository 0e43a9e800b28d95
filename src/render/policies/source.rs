//! What a volume source is, in CEL: the spec of a PersistentVolume, or a volume of a pod.

use super::{cel, placed};

/// Types whose keys are compared by equality: the field, and the CEL of driver and handle of source `{v}`. The API server
/// hands volumes of all but the first to the CSI driver.
const EXACT: [(&str, &str, &str); 6] = [
    ("csi", "{v}.csi.driver.trim().lowerAscii()", "{v}.csi.volumeHandle.trim()"),
    (
        "awsElasticBlockStore",
        "'ebs.csi.aws.com'",
        "{v}.awsElasticBlockStore.volumeID.split('/')[size({v}.awsElasticBlockStore.volumeID.split('/')) - 1]",
    ),
    ("cinder", "'cinder.csi.openstack.org'", "{v}.cinder.volumeID"),
    ("gcePersistentDisk", "'pd.csi.storage.gke.io'", "{v}.gcePersistentDisk.pdName"),
    ("azureDisk", "'disk.csi.azure.com'", "{v}.azureDisk.diskURI"),
    ("portworxVolume", "'pxd.portworx.com'", "{v}.portworxVolume.volumeID"),
];

/// Types whose keys have no form in CEL, with the beginning of the keys that storage of the type may have: where one of
/// those is registered, none of it can be told apart.
const OPAQUE: [(&str, &str); 13] = [
    ("azureFile", "csi:file.csi.azure.com"),
    ("cephfs", "cephfs"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("flocker", "flocker"),
    ("glusterfs", "glusterfs"),
    ("iscsi", "iscsi"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("quobyte", "quobyte"),
    ("rbd", "rbd"),
    ("scaleIO", "scaleIO"),
    ("storageos", "storageos"),
    ("vsphereVolume", "csi:csi.vsphere.vmware.com"),
];

/// The key of a CSI volume, of the CEL of its driver and of its handle, in the spelling that is compared.
pub fn csi_key(driver: &str, handle: &str) -> String {
    let spelled = "d == 'disk.csi.azure.com' ? h.lowerAscii() : d == 'pd.csi.storage.gke.io' ? h.split('/')[size(h.split('/')) - 1] : h";
    cel::bind("d", driver, &cel::bind("h", handle, &format!("'v1:csi:' + d + ':' + ({spelled})")))
}

/// The key for storage that is matched by equality; empty for other storage.
pub fn exact(v: &str) -> String {
    let choices: String = EXACT
        .iter()
        .map(|(field, driver, handle)| {
            // An inline CSI volume has no handle, and of some drivers it says nothing.
            let given = match *field {
                "csi" => format!(" && has({v}.csi.volumeHandle) && !{}", placed::is_placed(v)),
                _ => String::new(),
            };
            let of = |part: &str| part.replace("{v}", v);
            format!("has({v}.{field}){given} ? {} : ", csi_key(&of(driver), &of(handle)))
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
    format!("({}{}{}has({v}.nfs) ? {nfs} : '')", host("hostPath"), host("local"), placed::keys(v))
}

/// The beginning of the keys with which this source cannot be compared, so that any of them may be it; empty if it can
/// be compared with all.
pub fn unclear(v: &str) -> String {
    let host = |field: &str| {
        format!("has({v}.{field}) && {} ? 'v1:host:' : ", cel::unclear_host_path(&format!("{v}.{field}.path")))
    };
    let server = cel::unclear_nfs_host(&format!("{v}.nfs.server"));
    let nfs = format!("has({v}.nfs) && ({server} || {}) ? 'v1:nfs:' : ", cel::unclear_path(&format!("{v}.nfs.path")));
    let inline = format!(
        "{}has({v}.csi) && !has({v}.csi.volumeHandle) && !{} ? 'v1:csi:' + {v}.csi.driver.trim().lowerAscii() + ':' : ",
        placed::unclear(v),
        placed::is_placed(v)
    );
    let ebs = format!(
        "has({v}.awsElasticBlockStore) && !{v}.awsElasticBlockStore.volumeID.matches('^(aws://[A-Za-z0-9-]*/)?vol-[A-Za-z0-9-]+$') ? 'v1:csi:ebs.csi.aws.com:' : "
    );
    let opaque: String = OPAQUE.iter().map(|(kind, key)| format!("has({v}.{kind}) ? 'v1:{key}:' : ")).collect();
    format!("({}{}{nfs}{ebs}{inline}{opaque}'')", host("hostPath"), host("local"))
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

/// The keys of the index that the source is, holds, lies in or may be, wherever they are permitted.
pub fn registered(exact: &str, path: &str, unclear: &str) -> String {
    format!(
        "(({exact} in params.spec.keys ? [{exact}] : []) + ({path} == '' ? [] : {}.filter(k, k in params.spec.paths)) + [{path}, {unclear}].filter(k, k in params.spec.parents))",
        cel::ancestors(path)
    )
}

/// How the source relates to what is found in a table under key `k`.
pub fn relation(table: &str, k: &str, unclear: &str) -> String {
    match table {
        "parents" => format!("({k} == {unclear} ? 'cannot be told from ' : 'holds ')"),
        _ => "'is '".into(),
    }
}
