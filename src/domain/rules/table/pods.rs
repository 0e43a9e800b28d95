//! What pods of an environment may be, and how weights are verified in them: WL-2xx and WL-3xx.

use super::*;

pub const HOST_NAMESPACE: Description = Description {
    id: "WL-201",
    title: "Namespace of the node",
    summary: "A pod that holds weights, or any pod of an environment, uses the network, process or IPC namespace of its node, where no rule for pods applies and the files of other pods can be read.",
    remedy: "Remove spec.<field> Node tools run in a namespace of their own, which is in no environment.",
    example: "spec.hostNetwork: true",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const SHARED_PROCESS_NAMESPACE: Description = Description {
    id: "WL-202",
    title: "Shared process namespace",
    summary: "With shareProcessNamespace each container of the pod reads the files and memory of the others, mounts included.",
    remedy: "Remove spec.shareProcessNamespace.",
    example: "spec.shareProcessNamespace: true",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const PRIVILEGED: Description = Description {
    id: "WL-204",
    title: "Privileged container",
    summary: "A container of a pod that holds weights, or of any pod of an environment, is privileged (on Windows: a host process). It could do whatever the node can, and read the weights of its neighbours.",
    remedy: "Remove securityContext.privileged Node tools run in a namespace of their own, which is in no environment.",
    example: "securityContext.privileged: true",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const ADDED_CAPABILITY: Description = Description {
    id: "WL-205",
    title: "Added capability",
    summary: "A container of a pod that holds weights adds a Linux capability; only NET_BIND_SERVICE may be added. In the other pods of an environment those are refused that reach other pods of the node: ALL, BPF, CHECKPOINT_RESTORE, DAC_READ_SEARCH, NET_ADMIN, PERFMON, SYS_ADMIN, SYS_BOOT, SYS_MODULE, SYS_PTRACE and SYS_RAWIO.",
    remedy: "Remove <capability> from securityContext.capabilities.add Node tools run in a namespace of their own, which is in no environment.",
    example: "securityContext.capabilities.add: [SYS_ADMIN]",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const SECCOMP: Description = Description {
    id: "WL-206",
    title: "No seccomp filter",
    summary: "A container of a pod that holds weights runs without a seccomp filter. RuntimeDefault is set where nothing is; Localhost profiles, which node administrators install, pass.",
    remedy: "Set securityContext.seccompProfile.type: RuntimeDefault.",
    example: "securityContext.seccompProfile.type: Unconfined",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const PRIVILEGE_ESCALATION: Description = Description {
    id: "WL-207",
    title: "Privilege escalation",
    summary: "A container of a pod that holds weights asks for privilege escalation. Leaving the field unset passes: without added capabilities and with seccomp there is little to gain, and images that start as root would break otherwise.",
    remedy: "Remove securityContext.allowPrivilegeEscalation or set it to false.",
    example: "securityContext.allowPrivilegeEscalation: true",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const NET_RAW: Description = Description {
    id: "WL-208",
    title: "NET_RAW is kept",
    summary: "A container of a pod that holds weights keeps NET_RAW, with which it could forge packets of its neighbours. Weightlock drops it at creation.",
    remedy: "Add NET_RAW or ALL to securityContext.capabilities.drop.",
    example: "securityContext.capabilities.drop: []",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const PROC_MOUNT: Description = Description {
    id: "WL-209",
    title: "Unmasked /proc",
    summary: "A container of a pod that holds weights lifts the mask of /proc.",
    remedy: "Remove securityContext.procMount.",
    example: "securityContext.procMount: Unmasked",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const MANDATORY_ACCESS_CONTROL: Description = Description {
    id: "WL-210",
    title: "AppArmor or SELinux is lifted",
    summary: "A container of a pod that holds weights turns AppArmor off, or asks for an SELinux user, role or type beyond those of containers.",
    remedy: "Remove <field>.",
    example: "securityContext.appArmorProfile.type: Unconfined",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const VERIFIER_MISSING: Description = Description {
    id: "WL-301",
    title: "The verifier is missing",
    summary: "A pod mounts weights but has no init container weightlock-verify. Weightlock injects it at creation; something removed it, or the object did not pass the webhook that injects.",
    remedy: "Create the pod through the API server with the webhook inject.weightlock.dev in force; do not remove what it adds.",
    example: "spec.initContainers without weightlock-verify",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Verification,
};

pub const VERIFIER_ALTERED: Description = Description {
    id: "WL-302",
    title: "The verifier was altered",
    summary: "A protected field of the verifier (image, command, args, mounts of weights, security context, restart policy, hooks and probes) is not as Weightlock renders it.",
    remedy: "Leave the container weightlock-verify out: Weightlock injects it. Exclude it from whatever changes it.",
    example: "spec.initContainers[name=weightlock-verify].args: []",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Verification,
};

pub const PRECEDES_VERIFIER: Description = Description {
    id: "WL-303",
    title: "Something runs ahead of the verifier",
    summary: "An init container ahead of the verifier mounts weights, or its image is not in workloads.trustedInit of the environment.",
    remedy: "Put the container after weightlock-verify, or have the environment trust its image; it may not mount weights.",
    example: "spec.initContainers: [copy, weightlock-verify]",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Verification,
};

pub const WRITABLE_MOUNT: Description = Description {
    id: "WL-304",
    title: "Weights are mounted writable",
    summary: "A container mounts weights so that they could be changed after they were verified. Weightlock sets readOnly at creation.",
    remedy: "Set readOnly: true on the volumeMount.",
    example: "volumeMounts: [{name: weights, mountPath: /models, readOnly: false}]",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const RAW_BLOCK_DEVICE: Description = Description {
    id: "WL-305",
    title: "Weights as a raw block device",
    summary: "A container attaches weights as a block device, beneath the file system that the verifier reads.",
    remedy: "Mount the volume with volumeMounts instead of volumeDevices.",
    example: "volumeDevices: [{name: weights, devicePath: /dev/xvda}]",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const NOT_A_WRITER: Description = Description {
    id: "WL-306",
    title: "The pod may not write these weights",
    summary: "A pod mounts weights writable that are sealed, that are being sealed (spec.writes: Frozen), or of which it is no producer. Writable mounts of producers are not made read-only silently once the artifact is sealed: the job would fail later, in the middle of its work.",
    remedy: "Set readOnly: true on the volumeMount, and write to another volume that is a new WeightArtifact, whose producers include this pod.",
    example: "a training job that starts again on the volume of an artifact that was sealed",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const MOUNT_PROPAGATION: Description = Description {
    id: "WL-307",
    title: "A mount of weights propagates",
    summary: "With mount propagation another file system can appear over the weights after they were verified, or the weights outside the pod.",
    remedy: "Remove mountPropagation from the volumeMount.",
    example: "volumeMounts: [{name: weights, mountPath: /models, mountPropagation: HostToContainer}]",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const TAMPERED: Description = Description {
    id: "WL-308",
    title: "The weights were found tampered with",
    summary: "A WeightIncident holds the digest of these weights, or storage that overlaps theirs: a verifier found the bytes changed while a pod used them. Declaring the weights again or under another name does not change that.",
    remedy: "Find out who changed the storage, restore it from a copy that verifies, then clear the incident (kubectl weightlock clear <incident>), or ask <contact>.",
    example: "a pod that mounts a volume which is named in a WeightIncident",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const REVERIFIER_ALTERED: Description = Description {
    id: "WL-309",
    title: "The sidecar that verifies again is missing or altered",
    summary: "The environment verifies weights while pods run (spec.verification), and the sidecar container weightlock-reverify is missing, runs ahead of the verifier, or has a protected field that is not as Weightlock renders it. Weightlock injects it at creation.",
    remedy: "Leave the container weightlock-reverify out: Weightlock injects it. Exclude it from whatever changes it.",
    example: "spec.initContainers[name=weightlock-reverify].args: []",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Verification,
};

pub const DOWNLOAD_TARGET: Description = Description {
    id: "WL-311",
    title: "A download that is not well declared",
    summary: "An annotation weights.weightlock.dev/VOLUME: ARTIFACT says which weights a volume receives. The artifact has to exist and be sealed, the volume has to be an emptyDir of the pod, and an init container with an image of delivery.download has to fill it.",
    remedy: "Correct the annotation, or list the image of the downloader under delivery.download.images of the environment.",
    example: "metadata.annotations: {weights.weightlock.dev/models: orion}, where models is a claim",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const DOWNLOADER: Description = Description {
    id: "WL-312",
    title: "A downloader that is not ahead of the verifier",
    summary: "A container has an image of delivery.download.images, but is no init container, runs after the verifier, or fills a volume of which the pod does not say what it receives. What it wrote would be read unverified.",
    remedy: "Make it an init container ahead of all that are not trusted, and annotate the pod with weights.weightlock.dev/VOLUME: ARTIFACT.",
    example: "a storage-initializer in a pod without the annotation",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};
