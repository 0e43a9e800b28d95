//! What pods mount, and what is behind it: WL-1xx.

use super::*;

pub const NOT_PERMITTED_HERE: Description = Description {
    id: "WL-101",
    title: "Weights are not permitted here",
    summary: "A volume is the storage of a WeightArtifact whose permittedEnvironments do not hold the environment of this namespace. Storage is known by what is mounted (driver and handle, server and path), not by the name of a claim, and a mount of a volume is a mount of all in it.",
    remedy: "Run in one of <the permitted environments>, or ask <contact> to add this one.",
    example: "spec.volumes[].persistentVolumeClaim of a claim bound to registered storage, in a namespace of no environment",
    rings: ALL_RINGS,
    aspect: Aspect::Admission,
};

pub const SERVICE_ACCOUNT_NOT_MEMBER: Description = Description {
    id: "WL-102",
    title: "The service account may not hold weights",
    summary: "The namespace belongs to a permitted environment, but the service account of the pod is not among the serviceAccounts of that member. A pod without serviceAccountName runs as \"default\".",
    remedy: "Set spec.serviceAccountName to one of <the members>, or have the environment list this one.",
    example: "spec.serviceAccountName: default",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const NAMESPACE_NOT_PINNED: Description = Description {
    id: "WL-103",
    title: "The namespace is not the one that was pinned",
    summary: "An environment is known by the UID of its namespaces. This namespace was deleted and made again since its UID was pinned, or no UID is pinned yet. Nothing is permitted in it until it is.",
    remedy: "Confirm the namespace: write its UID into spec.members[].uid of WeightEnvironment <name>.",
    example: "a namespace that was recreated under the name of a member",
    rings: ALL_RINGS,
    aspect: Aspect::Admission,
};

pub const OPEN_ARTIFACT: Description = Description {
    id: "WL-104",
    title: "The artifact is not sealed",
    summary: "A WeightArtifact without manifestDigest is open: it is being made, and there is nothing to verify its bytes against. Only pods of its producers (spec.producers: an environment, by the pinned UID of its namespaces, and service accounts) may mount it, and write it; everyone else waits until it is sealed.",
    remedy: "Seal WeightArtifact <name> (kubectl weightlock seal <name>), run the pod as one of its producers, or ask <contact>.",
    example: "a model server that mounts a WeightArtifact without spec.manifestDigest",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const PARTIAL_MOUNT: Description = Description {
    id: "WL-105",
    title: "Only a part of an artifact is mounted",
    summary: "The volume is a directory within an artifact. The manifest covers the whole artifact, so a part of it cannot be verified.",
    remedy: "Mount <the directory of the artifact> and pick the part with subPath, or declare the part as an artifact of its own.",
    example: "spec.volumes[].nfs.path: /models/orion/v3/tokenizer",
    rings: WEBHOOK,
    aspect: Aspect::Verification,
};

pub const UNKNOWN_VOLUME_TYPE: Description = Description {
    id: "WL-110",
    title: "The type of a volume is not known",
    summary: "A volume has a source that this version of Weightlock does not know, so it cannot tell whether weights are in it.",
    remedy: "Use a volume of a known type, or upgrade Weightlock.",
    example: "spec.volumes[].quantumDisk",
    rings: WEBHOOK,
    aspect: Aspect::Admission,
};

pub const UNRESOLVED_VOLUME: Description = Description {
    id: "WL-111",
    title: "The storage behind a volume cannot be told",
    summary: "A claim does not exist, is bound to a volume that does not exist or has no key, is filled from another volume, may still bind to registered storage, or an inline CSI volume does not say what it mounts. A pod of an environment starts only when it can be told that no weights are in it, or that they are verified.",
    remedy: "Create the claim and let it bind first, then create the pod again.",
    example: "spec.volumes[].persistentVolumeClaim.claimName of a claim that does not exist",
    rings: WEBHOOK,
    aspect: Aspect::Admission,
};

pub const REGISTERED_STORAGE_ELSEWHERE: Description = Description {
    id: "WL-112",
    title: "Registered storage is bound, re-declared or cloned",
    summary: "A claim binds or clones the storage of a WeightArtifact, or a PersistentVolume re-declares it for a claim, in a namespace where the artifact is not permitted. Which claim such a volume is bound to, by UID, is said by the cluster's own controllers alone. A clone or a snapshot is storage that nobody registered, and is refused everywhere but where admission is in Audit (docs/threat-model.md#copies-and-backups).",
    remedy: "Bind the storage in a namespace of <the permitted environments>, or ask <contact>. To copy it, register the target first and let a pod of an environment write the copy there.",
    example: "PersistentVolumeClaim spec.volumeName of a volume that holds weights",
    rings: ALL_RINGS,
    aspect: Aspect::Admission,
};

pub const NODE_STORAGE: Description = Description {
    id: "WL-113",
    title: "A directory that holds every volume of the node",
    summary: "A hostPath or local volume covers, or lies in, a directory through which the volumes of all pods of the node can be read: the root, /dev, /proc, /var/lib/kubelet, the state of the container runtime, or what the node itself starts programs from.",
    remedy: "Mount only the directory that is needed, outside <the node's own directories>; run node tools outside environment namespaces.",
    example: "spec.volumes[].hostPath.path: /var/lib/kubelet",
    rings: WEBHOOK,
    aspect: Aspect::Admission,
};

pub const NODE_ACCESS: Description = Description {
    id: "WL-114",
    title: "The node itself is reached",
    summary: "A pod reaches its node, and through it the weights of every pod that runs there: by a hostPath of a directory through which the volumes of all its pods can be read (as WL-113), by the process namespace of the node, by privilege, or by a capability that reaches other processes (ALL, BPF, CHECKPOINT_RESTORE, DAC_READ_SEARCH, PERFMON, SYS_ADMIN, SYS_BOOT, SYS_MODULE, SYS_PTRACE, SYS_RAWIO; NET_ADMIN with hostNetwork). Or a PersistentVolume is such a directory. It is asked in every namespace but kube-system and Weightlock's own. Service accounts that the chart's nodeAgents lists may. The chart's nodeAccess says whether it is warned of (Audit) or refused (Enforce): docs/node-access.md.",
    remedy: "Remove <what reaches the node>. A storage or network driver, or a collector of logs or metrics, is listed in nodeAgents of the chart; kubectl weightlock audit --suggest prints that value from what runs.",
    example: "spec.volumes[].hostPath.path: /var/lib/kubelet/pods in a namespace of no environment",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Always,
};

pub const IMAGE_BY_ID: Description = Description {
    id: "WL-115",
    title: "An image by its ID",
    summary: "A container or an image volume names its image by an ID that the node knows (sha256:…, without a repository), while images are registered as weights. It cannot be told which image that is. It is asked in every namespace but kube-system and Weightlock's own.",
    remedy: "Name the image by its repository, with a tag or a digest.",
    example: "spec.containers[].image: sha256:5c1e0b7d…",
    rings: &[Ring::ApiServer, Ring::Webhook],
    aspect: Aspect::Admission,
};

pub const IMAGE_NOT_PINNED: Description = Description {
    id: "WL-116",
    title: "Weights as the image of a container, without their digest",
    summary: "The image of a container is of a repository that is registered as weights, and is not named by a digest that a location of the artifact declares. Files in the image of a container are verified by nobody but the runtime, which compares them with that digest. Image volumes are verified like all others.",
    remedy: "Name the image by a digest that a location of WeightArtifact <name> declares, or mount it as an image volume.",
    example: "spec.containers[].image: registry.example.com/models/orion:v3",
    rings: WEBHOOK,
    aspect: Aspect::Admission,
};

pub const PLACED_UNBOUND: Description = Description {
    id: "WL-117",
    title: "A pod is placed before its claims are bound",
    summary: "A pod is created with spec.nodeName, or bound to a node (pods/binding), while a claim of it is not bound, is being deleted, or, for a generic ephemeral volume, was not made for it. Admission is asked about a pod when it is created and when it is placed, and not again after that, so what the claim would be bound to later nobody would decide. The scheduler of Kubernetes binds claims first.",
    remedy: "Leave out nodeName and let the scheduler place the pod, or let the claim bind first.",
    example: "spec.nodeName in a pod with a generic ephemeral volume",
    rings: WEBHOOK,
    aspect: Aspect::Admission,
};

pub const PROTECTION_REMOVED: Description = Description {
    id: "WL-118",
    title: "The protection of a claim in use is taken away",
    summary: "A claim of an environment loses the finalizer kubernetes.io/pvc-protection, or its controller, by somebody else than the cluster's own controllers. By these the cluster keeps a claim that a placed pod uses from being deleted; without them it could be made again as weights under a pod that was decided before.",
    remedy: "Delete the pods that use the claim, then the claim: the cluster removes the finalizer itself.",
    example: "kubectl patch pvc scratch -p '{\"metadata\":{\"finalizers\":null}}'",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Admission,
};

pub const UNREGISTERED_READ: Description = Description {
    id: "WL-120",
    title: "Unregistered volume",
    summary: "A pod that holds weights or asks for a GPU mounts storage that is no registered artifact. What is read there was verified by nobody. configMap, secret, projected, downwardAPI and emptyDir volumes are always allowed.",
    remedy: "Register the volume as a WeightArtifact, remove it, or have the environment set workloads.volumes.unregisteredReads.",
    example: "a second claim beside the weights",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const PERSISTENT_WRITE: Description = Description {
    id: "WL-121",
    title: "Writable persistent volume",
    summary: "A pod that holds weights or asks for a GPU can write to storage outside the pod. The node does the writing, so no network rule sees the bytes leave.",
    remedy: "Mount it with readOnly: true, use an emptyDir, or have the environment set workloads.volumes.persistentWrites: Allow.",
    example: "a claim mounted without readOnly beside the weights",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};
