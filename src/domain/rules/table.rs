//! The text of each rule.

mod cluster;
mod pods;
mod volumes;

use super::{Aspect, Description, Ring, Rule};

const WEBHOOK: &[Ring] = &[Ring::Webhook];
const WEBHOOK_WATCH: &[Ring] = &[Ring::Webhook, Ring::Watch];
const ALL_RINGS: &[Ring] = &[Ring::ApiServer, Ring::Webhook, Ring::Watch];

pub(super) fn describe(rule: Rule) -> &'static Description {
    match rule {
        Rule::NotPermittedHere => &volumes::NOT_PERMITTED_HERE,
        Rule::ServiceAccountNotMember => &volumes::SERVICE_ACCOUNT_NOT_MEMBER,
        Rule::NamespaceNotPinned => &volumes::NAMESPACE_NOT_PINNED,
        Rule::OpenArtifact => &volumes::OPEN_ARTIFACT,
        Rule::PartialMount => &volumes::PARTIAL_MOUNT,
        Rule::UnknownVolumeType => &volumes::UNKNOWN_VOLUME_TYPE,
        Rule::UnresolvedVolume => &volumes::UNRESOLVED_VOLUME,
        Rule::RegisteredStorageElsewhere => &volumes::REGISTERED_STORAGE_ELSEWHERE,
        Rule::NodeStorage => &volumes::NODE_STORAGE,
        Rule::NodeAccess => &volumes::NODE_ACCESS,
        Rule::ImageById => &volumes::IMAGE_BY_ID,
        Rule::ImageNotPinned => &volumes::IMAGE_NOT_PINNED,
        Rule::PlacedUnbound => &volumes::PLACED_UNBOUND,
        Rule::ProtectionRemoved => &volumes::PROTECTION_REMOVED,
        Rule::UnregisteredRead => &volumes::UNREGISTERED_READ,
        Rule::PersistentWrite => &volumes::PERSISTENT_WRITE,
        Rule::HostNamespace => &pods::HOST_NAMESPACE,
        Rule::SharedProcessNamespace => &pods::SHARED_PROCESS_NAMESPACE,
        Rule::Privileged => &pods::PRIVILEGED,
        Rule::AddedCapability => &pods::ADDED_CAPABILITY,
        Rule::Seccomp => &pods::SECCOMP,
        Rule::PrivilegeEscalation => &pods::PRIVILEGE_ESCALATION,
        Rule::NetRaw => &pods::NET_RAW,
        Rule::ProcMount => &pods::PROC_MOUNT,
        Rule::MandatoryAccessControl => &pods::MANDATORY_ACCESS_CONTROL,
        Rule::VerifierMissing => &pods::VERIFIER_MISSING,
        Rule::VerifierAltered => &pods::VERIFIER_ALTERED,
        Rule::PrecedesVerifier => &pods::PRECEDES_VERIFIER,
        Rule::WritableMount => &pods::WRITABLE_MOUNT,
        Rule::RawBlockDevice => &pods::RAW_BLOCK_DEVICE,
        Rule::NotAWriter => &pods::NOT_A_WRITER,
        Rule::MountPropagation => &pods::MOUNT_PROPAGATION,
        Rule::Tampered => &pods::TAMPERED,
        Rule::ReverifierAltered => &pods::REVERIFIER_ALTERED,
        Rule::DownloadTarget => &pods::DOWNLOAD_TARGET,
        Rule::Downloader => &pods::DOWNLOADER,
        Rule::ImageChanged => &cluster::IMAGE_CHANGED,
        Rule::EphemeralContainer => &cluster::EPHEMERAL_CONTAINER,
        Rule::Connection => &cluster::CONNECTION,
        Rule::ForgedStatus => &cluster::FORGED_STATUS,
        Rule::Published => &cluster::PUBLISHED,
        Rule::EndpointsByHand => &cluster::ENDPOINTS_BY_HAND,
        Rule::GpuPodOutside => &cluster::GPU_POD_OUTSIDE,
        Rule::DeviceAdminAccess => &cluster::DEVICE_ADMIN_ACCESS,
        Rule::ReservedName => &cluster::RESERVED_NAME,
        Rule::OwnObject => &cluster::OWN_OBJECT,
        Rule::Delegation => &cluster::DELEGATION,
        Rule::UndeclaredOpening => &cluster::UNDECLARED_OPENING,
        Rule::NotSynced => &cluster::NOT_SYNCED,
        Rule::Malformed => &cluster::MALFORMED,
    }
}
