//! The node itself: the ways in which a pod reaches it, and through it the storage of every pod that runs there.

use super::backend::{canonical_path, holds};

/// Directories and sockets of a node through which the volumes of all its pods can be read, or programs and pods be
/// started that nobody admits.
pub const DIRECTORIES: &[&str] = &[
    "/dev",
    "/etc/cni",
    "/etc/cron.d",
    "/etc/crontab",
    "/etc/kubernetes",
    "/etc/ld.so.preload",
    "/etc/systemd",
    "/opt/cni",
    "/proc",
    "/root",
    "/run/containerd",
    "/run/cri-dockerd.sock",
    "/run/crio",
    "/run/dbus",
    "/run/docker.sock",
    "/run/k3s",
    "/run/nri",
    "/run/systemd",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/k0s",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/snap/microk8s",
    "/var/spool/cron",
];

/// Directories within those where distributions keep the volumes of claims: each volume is compared by itself.
pub const VOLUMES: &[&str] = &["/var/lib/rancher/k3s/storage", "/var/snap/microk8s/common/default-storage"];

/// Devices and settings within those that hold no storage. Pods outside environments may have them.
pub const HARMLESS: &[&str] = &[
    "/dev/dri",
    "/dev/fuse",
    "/dev/infiniband",
    "/dev/kfd",
    "/dev/kvm",
    "/dev/net",
    "/dev/null",
    "/dev/shm",
    "/proc/sys/net",
];

/// Capabilities with which a container reaches other processes of its node, or its disks. Those that containers have
/// anyway are not among them.
pub const CAPABILITIES: &[&str] = &[
    "ALL",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "PERFMON",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
];

/// The capability that changes a network: the pod's own, or with `hostNetwork` that of the node and what contains others.
pub const NETWORK_CAPABILITY: &str = "NET_ADMIN";

/// The one of [`DIRECTORIES`] that a path on nodes covers or lies in. `spared`: paths to let be, with all in them,
/// besides [`VOLUMES`].
///
/// The path is taken as it is spelled: what lies behind a link of a process under `/proc` depends on the process.
pub fn directory(path: &str, spared: &[&str]) -> Option<&'static str> {
    let path = canonical_path(path);
    let path = match path.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/run{rest}"),
        _ => path,
    };
    if spared.iter().chain(VOLUMES).any(|spared| holds(spared, &path)) {
        return None;
    }
    DIRECTORIES.iter().copied().find(|directory| holds(directory, &path) || holds(&path, directory))
}

/// The name of a capability as the kernel has it: upper case, without `CAP_`.
pub fn capability(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_or_lies_in_a_directory_of_the_node_reaches_it() {
        for (path, reached) in [
            ("/", "/dev"),
            ("/var", "/var/lib/containerd"),
            ("/var/lib//kubelet/./pods/", "/var/lib/kubelet"),
            ("/srv/../var/lib/kubelet", "/var/lib/kubelet"),
            ("/var/run/containerd/containerd.sock", "/run/containerd"),
            ("/var/run", "/run/containerd"),
            ("/proc/4711/root/models", "/proc"),
            ("/var/lib/rancher/k3s", "/var/lib/rancher"),
        ] {
            assert_eq!(directory(path, HARMLESS), Some(reached), "{path}");
        }
    }

    #[test]
    fn the_rest_of_the_node_is_let_be() {
        for path in
            ["/var/log", "/srv/cache", "/devices", "/run/cache", "/var/running", "/var/lib/rancher/k3s/storage/pvc-1"]
        {
            assert_eq!(directory(path, &[]), None, "{path}");
        }
        assert_eq!(directory("/dev/net/tun", HARMLESS), None);
        assert_eq!(directory("/dev/net/tun", &[]), Some("/dev"));
        assert_eq!(directory("/dev/network", HARMLESS), Some("/dev"));
    }
}
