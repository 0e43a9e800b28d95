//! What is done to running pods and to the cluster around them: WL-4xx and above.

use super::*;

pub const IMAGE_CHANGED: Description = Description {
    id: "WL-401",
    title: "The image of a running pod is changed",
    summary: "An update puts another image into a pod of an environment. It would read weights that were verified for another program.",
    remedy: "Change the workload's template: it makes a new pod, which is decided and verified anew.",
    example: "kubectl set image pod/vllm-0 vllm=other",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const EPHEMERAL_CONTAINER: Description = Description {
    id: "WL-402",
    title: "Ephemeral container",
    summary: "An ephemeral container in a pod of an environment reads what the pod reads.",
    remedy: "Debug in a namespace outside the environment, with a copy of the pod that mounts no weights.",
    example: "kubectl debug -it vllm-0 --image=busybox",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const CONNECTION: Description = Description {
    id: "WL-403",
    title: "Connection into a pod",
    summary: "exec, attach, port-forward and proxy into pods and services of an environment are refused (workloads.debug: Deny): through them weights leave past every network rule. So are the same through the proxy of a node.",
    remedy: "Read logs and metrics instead, or reach the pod through the environment's declared ingress.",
    example: "kubectl exec -it vllm-0 -- sh",
    rings: &[Ring::ApiServer, Ring::Webhook],
    aspect: Aspect::Admission,
};

pub const FORGED_STATUS: Description = Description {
    id: "WL-404",
    title: "The status of a pod is written by somebody else than its node",
    summary: "In an environment the statuses of containers (status.containerStatuses, initContainerStatuses, ephemeralContainerStatuses) are written by the node of the pod alone: the verdict of a verifier counts from there. That a pod has ended is said by its node and by the cluster's own controllers. Conditions and all else of a status stay free.",
    remedy: "Leave the status of containers to the node; to end a pod, delete it.",
    example: "kubectl patch pod vllm-0 --subresource=status -p '{\"status\":{\"initContainerStatuses\":[…]}}'",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Admission,
};

pub const PUBLISHED: Description = Description {
    id: "WL-405",
    title: "Pods of an environment are published",
    summary: "In an environment a Service of type NodePort or LoadBalancer, or with externalIPs, lets clients outside the cluster in. Their connections come from a node, which many CNIs let through a default deny. It passes where network.ingress of the environment names clients by cidr and externalTrafficPolicy is Local, so that their own addresses are compared. An Ingress, a route (Gateway API, OpenShift) or a ReferenceGrant leads clients in through a proxy; it passes where network.ingress names any peer outside the environment.",
    remedy: "Use type ClusterIP and a proxy that network.ingress of the WeightEnvironment names; or have network.ingress name the clients by cidr, and set externalTrafficPolicy: Local.",
    example: "a Service with spec.type: NodePort",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Admission,
};

pub const ENDPOINTS_BY_HAND: Description = Description {
    id: "WL-406",
    title: "Endpoints by hand",
    summary: "In an environment a Service has no selector, or an EndpointSlice or Endpoints object is written by somebody else than the controllers of the cluster. It leads clients that trust the Service to any address, or to pods that it does not show. Services of type ExternalName pass.",
    remedy: "Give the Service a selector; for a place outside the environment use type ExternalName, and have network.egress name it.",
    example: "a Service without spec.selector",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Admission,
};

pub const GPU_POD_OUTSIDE: Description = Description {
    id: "WL-501",
    title: "GPU pod outside every environment",
    summary: "A pod asks for a GPU in a namespace of no environment, or gets one without a request: by a variable of its containers (NVIDIA_VISIBLE_DEVICES, AMD_VISIBLE_DEVICES, HABANA_VISIBLE_DEVICES), a runtime class of a vendor (nvidia, nvidia-cdi, nvidia-legacy, amd, habana) or an annotation of the Container Device Interface (cdi.k8s.io/…). Or a ResourceClaim or ResourceClaimTemplate there is for a device class of a vendor (gpu.nvidia.com, mig.nvidia.com, vfio.gpu.nvidia.com, gpu.amd.com, gpu.intel.com, gaudi.intel.com, tpu.google.com). Service accounts that the chart's nodeAgents lists may. The installation says whether that is allowed, warned of or refused (gpuPodsOutsideEnvironments).",
    remedy: "Run it in a namespace of a WeightEnvironment, or add the namespace to one. For one that needs no GPU: remove what gives it one, or set the variable to void.",
    example: "resources.limits: {nvidia.com/gpu: 1} in a namespace of no environment",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Always,
};

pub const DEVICE_ADMIN_ACCESS: Description = Description {
    id: "WL-502",
    title: "Devices in use are claimed",
    summary: "A ResourceClaim or ResourceClaimTemplate asks for adminAccess: its pods reach devices that other pods use, and what is in their memory. It is asked in every namespace but kube-system, Weightlock's own, and those with service accounts that the chart's nodeAgents lists. The chart's nodeAccess says whether it is warned of (Audit) or refused (Enforce): docs/node-access.md.",
    remedy: "Leave out adminAccess. The namespace of an agent of the node, one that monitors devices, is listed in nodeAgents of the chart.",
    example: "spec.devices.requests[].exactly.adminAccess: true",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Always,
};

pub const RESERVED_NAME: Description = Description {
    id: "WL-601",
    title: "Reserved name or annotation",
    summary: "The container names weightlock-verify and weightlock-reverify and the volume name weightlock-manifest belong to the verifier, and the annotation kubernetes.io/egress-bandwidth of a pod in an environment with modes.egress: Enforce to the environment. The annotations weights.weightlock.dev/VOLUME of a pod stay what they were when it was made. Nobody writes these annotations by way of pods/status, which the webhook is not asked about.",
    remedy: "Rename the container or volume; leave the annotation to Weightlock.",
    example: "spec.containers[].name: weightlock-verify",
    rings: &[Ring::ApiServer, Ring::Webhook, Ring::Watch],
    aspect: Aspect::Admission,
};

pub const OWN_OBJECT: Description = Description {
    id: "WL-602",
    title: "An object of Weightlock",
    summary: "A definition of Weightlock's custom resources is deleted while its policies are in force, or a WeightIndex, a WeightIncident, a NetworkPolicy of an environment, the Lease of the controller or a Secret with the certificate of the webhook is written by someone else than the controller. Or somebody whom the administrators of the chart do not list changes what Weightlock runs with: the workloads, service accounts, Secrets, Services, roles and policies of its namespace, its cluster roles, and the ClusterNetworkPolicies of environments. Policies whose parameters are gone refuse all that they match.",
    remedy: "To change what is protected, change WeightArtifacts and WeightEnvironments; to uninstall, delete the ValidatingAdmissionPolicyBindings of Weightlock first.",
    example: "kubectl delete crd weightindexes.weightlock.dev",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Always,
};

pub const DELEGATION: Description = Description {
    id: "WL-603",
    title: "A declaration is widened without the right to",
    summary: "To let weights into an environment takes the verb permit on that WeightEnvironment. To bring one of its modes from Enforce to Audit, or to delete it while it enforces, takes lower on it; to accept a namespace that was made again, pin. To delete a WeightArtifact, to take a location from it, or the last environment that is enforced, takes lower on it; to replace what the controller pinned in its status, pin. Who may only create and update declarations cannot open anything by them.",
    remedy: "Have a ClusterRole grant the verb (docs/delegation.md), or leave the change to who has it: kubectl auth can-i permit weightenvironments.weightlock.dev/<name>.",
    example: "a team with update on weightartifacts lists environment research in one of them",
    rings: &[Ring::ApiServer],
    aspect: Aspect::Always,
};

pub const UNDECLARED_OPENING: Description = Description {
    id: "WL-701",
    title: "A policy opens more of the network than is declared",
    summary: "Policies add up: whatever one of them allows is allowed. A NetworkPolicy, a CiliumNetworkPolicy or a NetworkPolicy of Calico in a namespace of an environment may allow what spec.network of the environment declares and nothing else; one that only denies always may. What cannot be compared (a port by its name, namespaces by labels that others may set, a field that Weightlock does not know) counts as more. Policies that are there already make the condition NetworkContained of the environment false (NetworkPolicies only). Where modes.network is Audit nothing is denied, and nothing is asked.",
    remedy: "Declare it in spec.network of WeightEnvironment <name>, or write what is declared: peers and port numbers, one by one.",
    example: "spec.egress: [{}]",
    rings: WEBHOOK_WATCH,
    aspect: Aspect::Admission,
};

pub const NOT_SYNCED: Description = Description {
    id: "WL-901",
    title: "Cannot decide yet",
    summary: "What is known of the cluster is not complete: a listing has not arrived, or a WeightArtifact cannot be read, so that unregistered storage cannot be told from registered storage. What cannot be decided is refused.",
    remedy: "Retry in a few seconds; if it stays, look at the log of weightlock-webhook and at the named WeightArtifact.",
    example: "right after the webhook started",
    rings: WEBHOOK,
    aspect: Aspect::Always,
};

pub const MALFORMED: Description = Description {
    id: "WL-902",
    title: "The object cannot be read",
    summary: "A field that the decision depends on is missing or of the wrong type.",
    remedy: "Correct <field>.",
    example: "spec.containers: {}",
    rings: WEBHOOK,
    aspect: Aspect::Always,
};
