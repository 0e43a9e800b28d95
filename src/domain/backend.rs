//! Canonical keys of storage. Two spellings of the same storage have one key; keys overlap where one holds the other.
//!
//! A key names storage by what the node will connect to (driver and handle, server and path, directory), never by the
//! name of a claim or volume, which anyone who may create objects can choose.

mod image;
mod overlap;
mod placed;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use image::{Reference, is_id};
pub(in crate::domain) use overlap::Overlap;
pub use placed::{NFS_DRIVER, SMB_DRIVER};

/// Canonical, versioned key of storage: `v1:csi:DRIVER:HANDLE`, `v1:nfs:SERVER:/PATH`, `v1:smb:SERVER:/PATH`,
/// `v1:host:/PATH`, `v1:image:DIGEST` and `v1:repository:HOST/PATH` for images, and `v1:TYPE:…` for the other types that Kubernetes knows, `TYPE` being the field of the volume source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackendKey(pub String);

impl std::fmt::Display for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key with its parts apart. Kinds without paths keep all in `rest`.
#[derive(PartialEq, Eq)]
struct Parts<'a> {
    kind: &'a str,
    rest: String,
    path: Option<String>,
}

impl BackendKey {
    /// A volume of a CSI driver. Driver names are domain names, so their case says nothing; handles are opaque.
    pub fn csi(driver: &str, handle: &str) -> Self {
        Self(format!("v1:csi:{}:{}", driver.trim().to_ascii_lowercase(), handle.trim()))
    }

    /// The key of an image, by the digest of an index, a manifest or a configuration.
    pub fn image(digest: &str) -> Self {
        Self(format!("v1:image:{}", digest.trim()))
    }

    /// The key of all images of a repository.
    pub fn repository(name: &str) -> Self {
        Self(format!("v1:repository:{}", Reference::read(name).repository))
    }

    /// Whether this is the key of an image or of a repository.
    pub fn is_image(&self) -> bool {
        ["v1:image:", "v1:repository:"].iter().any(|kind| self.0.starts_with(kind))
    }

    /// A directory that an NFS server exports.
    pub fn nfs(server: &str, path: &str) -> Self {
        Self(format!("v1:nfs:{}:{}", canonical_host(server), canonical_path(path)))
    }

    /// A directory on nodes: hostPath and local volumes. The same path on two nodes is one key, since a pod does not
    /// choose its node by its volumes alone.
    pub fn host(path: &str) -> Self {
        Self(format!("v1:host:{}", canonical_host_path(path)))
    }

    /// Whether the two name storage of which one holds the other: equal, ancestor or descendant. Symmetric.
    pub fn overlaps(&self, other: &Self) -> bool {
        const CSI: &str = "v1:csi:";
        if self.0 == other.0 {
            return true;
        }
        // Most keys are these, and every mount is compared with every artifact.
        if self.0.starts_with(CSI) && other.0.starts_with(CSI) && !self.has_spellings() {
            return false;
        }
        let (a, b) = (self.parts(), other.parts());
        if a.kind != b.kind || a.rest != b.rest {
            return false;
        }
        match (&a.path, &b.path) {
            (Some(a), Some(b)) => holds(a, b) || holds(b, a),
            (None, None) => true,
            _ => false,
        }
    }

    /// Where `inner` lies within this storage, as a relative path (empty where they are equal). `None` where `inner` is
    /// not within it.
    pub fn relative(&self, inner: &Self) -> Option<String> {
        let (a, b) = (self.parts(), inner.parts());
        if a.kind != b.kind || a.rest != b.rest {
            return None;
        }
        match (&a.path, &b.path) {
            (Some(a), Some(b)) => holds(a, b).then(|| b[a.trim_end_matches('/').len()..].trim_matches('/').to_owned()),
            (None, None) => Some(String::new()),
            _ => None,
        }
    }

    /// Whether keys of this kind have paths, and are matched by overlap rather than equality.
    pub fn has_path(&self) -> bool {
        self.parts().path.is_some()
    }

    /// The key in the form in which storage that is matched by equality has one spelling, whichever type declared it.
    pub fn comparable(&self) -> Self {
        Self(self.compared().0)
    }

    /// The text of [`Self::comparable`], and whether the key has a path.
    fn compared(&self) -> (String, bool) {
        let parts = self.parts();
        match parts.path {
            Some(path) if parts.rest.is_empty() => (format!("v1:{}:{path}", parts.kind), true),
            Some(path) => (format!("v1:{}:{}:{path}", parts.kind, parts.rest), true),
            None => (format!("v1:{}:{}", parts.kind, parts.rest), false),
        }
    }

    /// The directory on nodes that this key names; `None` for storage of another kind.
    pub fn host_path(&self) -> Option<&str> {
        self.0.strip_prefix("v1:host:")
    }

    /// Whether handles of the CSI driver are more than one text for one disk.
    fn has_spellings(&self) -> bool {
        let driver = self.0.split(':').nth(2).unwrap_or_default();
        [AZURE_DISK, GCE_DISK].contains(&driver)
    }

    fn parts(&self) -> Parts<'_> {
        let text = self.0.strip_prefix("v1:").unwrap_or(&self.0);
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "host" => Parts { kind, rest: String::new(), path: Some(canonical_host_path(rest)) },
            "nfs" | "smb" => match rest.split_once(":/") {
                Some((server, path)) => {
                    Parts { kind, rest: canonical_host(server), path: Some(canonical_path(&format!("/{path}"))) }
                }
                None => Parts { kind, rest: rest.to_owned(), path: None },
            },
            "csi" => match rest.split_once(':') {
                Some((driver, handle)) => Parts { kind, rest: csi_disk(driver, handle), path: None },
                None => Parts { kind, rest: rest.to_owned(), path: None },
            },
            // The API server hands volumes of these in-tree types to the CSI driver. [`of_volume_source`] gives the disks
            // of the first two the key of their driver at once; there can be others, pinned by hand.
            "awsElasticBlockStore" => Parts { kind: "csi", rest: csi_disk("ebs.csi.aws.com", rest), path: None },
            "cinder" => Parts { kind: "csi", rest: csi_disk("cinder.csi.openstack.org", rest), path: None },
            "azureDisk" => Parts { kind: "csi", rest: csi_disk(AZURE_DISK, rest), path: None },
            "gcePersistentDisk" => Parts { kind: "csi", rest: csi_disk(GCE_DISK, rest), path: None },
            "portworxVolume" => Parts { kind: "csi", rest: csi_disk("pxd.portworx.com", rest), path: None },
            // These two name their storage otherwise than the driver's handles do: all that can be said is that it may be
            // storage of the driver.
            "azureFile" => Parts { kind: "csi", rest: csi_disk("file.csi.azure.com", rest), path: None },
            "vsphereVolume" => Parts { kind: "csi", rest: csi_disk("csi.vsphere.vmware.com", rest), path: None },
            _ => Parts { kind, rest: rest.to_owned(), path: None },
        }
    }
}

/// CSI driver of Azure disks: resource ids, in which case says nothing.
const AZURE_DISK: &str = "disk.csi.azure.com";
/// CSI driver of Google disks: `projects/P/zones/Z/disks/NAME`, where an in-tree volume gives the name alone.
const GCE_DISK: &str = "pd.csi.storage.gke.io";

/// A CSI driver and a handle, in the spelling that is compared. Of a Google disk that is its name: two of one name, in
/// two zones or projects, are taken for one.
fn csi_disk(driver: &str, handle: &str) -> String {
    match driver {
        AZURE_DISK => format!("{driver}:{}", handle.to_ascii_lowercase()),
        GCE_DISK => format!("{driver}:{}", handle.rsplit('/').next().unwrap_or_default()),
        _ => format!("{driver}:{handle}"),
    }
}

/// Whether directory `outer` is `inner` or an ancestor of it. Both are canonical.
pub(super) fn holds(outer: &str, inner: &str) -> bool {
    outer == "/" || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// An absolute path without empty, `.` and `..` steps; what would climb above the root stays there.
pub(super) fn canonical_path(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    format!("/{}", steps.join("/"))
}

/// A path on a node. `/proc/PID/root/…` is the same file system under another name, and `/var/run` is `/run`.
fn canonical_host_path(path: &str) -> String {
    let mut path = canonical_path(path);
    loop {
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        let next = match steps.as_slice() {
            ["proc", _, "root", rest @ ..] | ["proc", _, "task", _, "root", rest @ ..] => {
                format!("/{}", rest.join("/"))
            }
            ["var", "run", rest @ ..] => canonical_path(&format!("/run/{}", rest.join("/"))),
            _ => return path,
        };
        path = next;
    }
}

/// A host name in lower case without its trailing dots, or an address in its shortest form.
fn canonical_host(host: &str) -> String {
    let host = host.trim_start().trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

/// That a server is spelled so that it can be compared: as an address in its usual form, or as a host name. What mounts it takes more:
/// shortened, octal and hexadecimal addresses, and lists of which it takes the first.
fn comparable_host(field: &str, server: &str) -> Result<(), String> {
    let host = canonical_host(server);
    let labels: Vec<&str> = host.split('.').collect();
    let is_label =
        |label: &&str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let is_number = |label: &str| {
        label.bytes().all(|b| b.is_ascii_digit())
            || label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let named = labels.iter().all(is_label) && !labels.last().is_some_and(|label| is_number(label));
    if named || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{field} {server:?} is neither a host name nor an address in its usual form"))
}

/// The volume of an in-tree EBS source. What its translation takes besides (queries, fragments, escapes) cannot be compared.
fn ebs_volume(id: &str) -> Option<&str> {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let volume = match id.strip_prefix("aws://") {
        Some(rest) => rest.split_once('/').filter(|(zone, _)| plain(zone))?.1,
        None => id,
    };
    volume.strip_prefix("vol-").filter(|rest| !rest.is_empty() && plain(rest)).map(|_| volume)
}

/// The volume sources that name storage outside the pod: fields of a PersistentVolume's spec or of a pod's volume.
pub const STORAGE_SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// The key of the storage that a PersistentVolume's spec or a pod's inline volume names.
///
/// # Errors
/// A text that says which field is missing or unknown, for a condition or a denial. An inline CSI volume has no handle
/// that would tell what is in it, so it is an error too.
pub fn of_volume_source(source: &Value) -> Result<BackendKey, String> {
    let mut found = STORAGE_SOURCES.iter().filter_map(|kind| {
        let value = source.get(*kind)?;
        (!value.is_null()).then_some((*kind, value))
    });
    let Some((kind, value)) = found.next() else {
        return Err("the volume names no storage of a type that is known".into());
    };
    if let Some((second, _)) = found.next() {
        return Err(format!("the volume names two kinds of storage: {kind} and {second}"));
    }
    key_of(kind, value)
}

fn key_of(kind: &str, value: &Value) -> Result<BackendKey, String> {
    let text = |field: &str| match value.get(field).and_then(Value::as_str).map(str::trim) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{kind}.{field} is missing")),
    };
    let optional = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |field: &str| {
        let mut items: Vec<String> = value
            .get(field)
            .and_then(Value::as_array)
            .map(|items| items.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect())
            .unwrap_or_default();
        items.sort();
        items.dedup();
        items.join(",")
    };
    let number = |field: &str| value.get(field).and_then(Value::as_i64).unwrap_or_default();
    let key = |canonical: String| Ok(BackendKey(format!("v1:{kind}:{canonical}")));
    match kind {
        "csi" => match (placed::key_of(value), text("volumeHandle")) {
            (Some(place), _) => place,
            (None, Ok(handle)) => Ok(BackendKey::csi(&text("driver")?, &handle)),
            (None, Err(_)) => Err(format!(
                "csi.volumeHandle is missing (driver {:?}): an inline volume does not tell what is in it",
                optional("driver")
            )),
        },
        "nfs" => {
            let (server, path) = (text("server")?, text("path")?);
            comparable_host("nfs.server", &server)?;
            absolute(kind, &path)?;
            Ok(BackendKey::nfs(&server, &path))
        }
        "hostPath" | "local" => {
            let path = text("path")?;
            absolute(kind, &path)?;
            Ok(BackendKey::host(&path))
        }
        // The API server hands volumes of these two in-tree types to the CSI driver, under the same handle. EBS writes it
        // as `vol-…` or as `aws://zone/vol-…`.
        "awsElasticBlockStore" => {
            let id = text("volumeID")?;
            match ebs_volume(&id) {
                Some(volume) => Ok(BackendKey::csi("ebs.csi.aws.com", volume)),
                None => Err(format!("awsElasticBlockStore.volumeID {id:?} is neither vol-… nor aws://ZONE/vol-…")),
            }
        }
        "cinder" => Ok(BackendKey::csi("cinder.csi.openstack.org", &text("volumeID")?)),
        "azureDisk" => key(text("diskURI")?.to_ascii_lowercase()),
        "azureFile" => key(format!("{}:{}", text("secretName")?, text("shareName")?.to_ascii_lowercase())),
        "cephfs" => key(format!("{}:{}", list("monitors"), canonical_path(&optional("path")))),
        "portworxVolume" => key(text("volumeID")?),
        "fc" => key(format!("{}:{}:{}", list("targetWWNs"), number("lun"), list("wwids"))),
        "flexVolume" => {
            let options = value.get("options").cloned().unwrap_or(Value::Null);
            key(format!("{}:{options}", text("driver")?))
        }
        "flocker" => key(format!("{}:{}", optional("datasetUUID"), optional("datasetName"))),
        "gcePersistentDisk" => key(text("pdName")?),
        "gitRepo" => key(text("repository")?),
        "glusterfs" => key(format!("{}:{}", text("endpoints")?, canonical_path(&text("path")?))),
        "iscsi" => key(format!(
            "{}:{}:{}",
            text("targetPortal")?.to_ascii_lowercase(),
            text("iqn")?.to_ascii_lowercase(),
            number("lun")
        )),
        "photonPersistentDisk" => key(text("pdID")?),
        "quobyte" => key(format!("{}:{}", text("registry")?.to_ascii_lowercase(), text("volume")?)),
        "rbd" => {
            let pool = text("pool").unwrap_or_else(|_| "rbd".into());
            key(format!("{}:{pool}:{}", list("monitors"), text("image")?))
        }
        "scaleIO" => {
            key(format!("{}:{}:{}", text("gateway")?.to_ascii_lowercase(), text("system")?, text("volumeName")?))
        }
        "storageos" => key(format!("{}:{}", optional("volumeNamespace"), text("volumeName")?)),
        "vsphereVolume" => key(text("volumePath")?),
        other => Err(format!("volume source {other} is not known")),
    }
}

fn absolute(kind: &str, path: &str) -> Result<(), String> {
    if path.starts_with('/') { Ok(()) } else { Err(format!("{kind}.path {path:?} is not absolute")) }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
