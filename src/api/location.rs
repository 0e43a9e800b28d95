//! Where the bytes of an artifact live.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One place where the bytes live: exactly one of `persistentVolumeClaim`, `csi`, `nfs`, `hostPath`, `image`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("[has(self.persistentVolumeClaim), has(self.csi), has(self.nfs), has(self.hostPath), has(self.image)].filter(x, x).size() == 1")
    .message("a location takes exactly one of: persistentVolumeClaim, csi, nfs, hostPath, image."))]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Name of the location within the artifact.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What the copy is for.
    pub role: LocationRole,
    /// A claim; resolved once to the storage behind it, then pinned in status. One that does not exist yet is pending, not an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimLocation>,
    /// A volume of a CSI driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi: Option<CsiLocation>,
    /// A directory that an NFS server exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NfsLocation>,
    /// A directory on nodes (hostPath and local volumes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathLocation>,
    /// An image that holds the weights, as an image volume or as the image of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageLocation>,
    /// Where in the volume the artifact is. It says what to hash; it narrows nothing: a mount of the volume is a mount of all in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(s, s == '..' || s == '.' || s == '')")
        .message("path is relative, with no empty, '.' or '..' step."))]
    pub path: Option<String>,
    /// Other names under which the very same storage is reached: an address or second name of an NFS server, the path below
    /// the root of its exports, a link on nodes. Weightlock asks no server and follows no link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub aliases: Vec<LocationAlias>,
}

/// Another name of the storage of a location: exactly one of `csi`, `nfs`, `hostPath`, `image`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("[has(self.csi), has(self.nfs), has(self.hostPath), has(self.image)].filter(x, x).size() == 1")
    .message("an alias takes exactly one of: csi, nfs, hostPath, image."))]
#[serde(rename_all = "camelCase")]
pub struct LocationAlias {
    /// A volume of a CSI driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi: Option<CsiLocation>,
    /// A directory that an NFS server exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NfsLocation>,
    /// A directory on nodes (hostPath and local volumes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathLocation>,
    /// The same image under another digest: of its index, of the manifest for a platform, of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageLocation>,
}

/// An image that holds weights. Its digest decides, from whichever registry it comes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct ImageLocation {
    /// Digest of the image: of its index, of a manifest or of its configuration (the image ID).
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Repositories that hold nothing but these weights, without tag: whatever is pulled from them is taken for the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9]([-a-z0-9._/]|:[0-9]+/)*[a-z0-9]$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub repositories: Vec<String>,
}

/// What a copy of the weights is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LocationRole {
    /// Where the weights were made.
    Primary,
    /// Where model servers read them.
    Serving,
    /// A copy for recovery.
    Backup,
    /// A copy that can be made again.
    Cache,
}

/// A PersistentVolumeClaim by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct ClaimLocation {
    /// Namespace of the claim.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the claim.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A volume of a CSI driver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CsiLocation {
    /// Name of the driver.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.trim() == self").message("csi.driver has no spaces around it."))]
    #[x_kube(validation = Rule::new("!(self.trim().lowerAscii() in ['nfs.csi.k8s.io', 'smb.csi.k8s.io'])")
        .message("handles of nfs.csi.k8s.io and smb.csi.k8s.io are free text: name the claim (persistentVolumeClaim), or server and path (nfs)."))]
    pub driver: String,
    /// The driver's handle of the volume, or of a snapshot that was taken of it.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.trim() == self").message("csi.volumeHandle has no spaces around it."))]
    pub volume_handle: String,
}

/// A directory that an NFS server exports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct NfsLocation {
    /// Host name or address of the server.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("isIP(self) || (self.lowerAscii().matches('^[a-z0-9_-]+([.][a-z0-9_-]+)*[.]?$') && !self.lowerAscii().matches('(^|[.])([0-9]+|0x[0-9a-f]*)[.]?$'))")
        .message("nfs.server is a host name, or an address in its usual form: others cannot be compared."))]
    pub server: String,
    /// Absolute path on the server.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !(self + '/').contains('/../')")
        .message("nfs.path is absolute and has no '..' step."))]
    pub path: String,
}

/// A directory on nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct HostPathLocation {
    /// Absolute path on the node.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && self.matches('[^/.]|[.][.]') && !(self + '/').contains('/../')")
        .message("hostPath.path is absolute, has no '..' step and is not the root of the node."))]
    pub path: String,
}
