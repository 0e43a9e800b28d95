//! The table of rules: one id, one text, one test and one line in the documentation each.
//!
//! `docs/rules.md` is rendered from here by [`markdown`]; a test compares it byte for byte.

mod markdown;
mod table;

pub use markdown::markdown;

/// A rule. Its id is never reused, not even when the rule is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A registered artifact is mounted where it is not permitted.
    NotPermittedHere,
    /// The service account is no member of the environment.
    ServiceAccountNotMember,
    /// The namespace is not, or no longer, the one that the environment pinned.
    NamespaceNotPinned,
    /// The artifact has no digest yet.
    OpenArtifact,
    /// Only a part of an artifact is mounted, so that it cannot be verified.
    PartialMount,
    /// The type of a volume is not known.
    UnknownVolumeType,
    /// It cannot be told which storage is behind a volume.
    UnresolvedVolume,
    /// Registered storage is bound, re-declared or cloned where it is not permitted.
    RegisteredStorageElsewhere,
    /// A directory of the node through which every volume of the node can be read.
    NodeStorage,
    /// The node itself is reached by a pod that is none of its agents.
    NodeAccess,
    /// A pod is placed on a node before its claims are bound.
    PlacedUnbound,
    /// The protection of a claim that is in use is taken away.
    ProtectionRemoved,
    /// A persistent volume that is no registered artifact.
    UnregisteredRead,
    /// A persistent volume that can be written to.
    PersistentWrite,
    /// A namespace of the node.
    HostNamespace,
    /// Containers share a process namespace.
    SharedProcessNamespace,
    /// A privileged container.
    Privileged,
    /// A capability beyond the safe set.
    AddedCapability,
    /// No seccomp filter.
    Seccomp,
    /// Privilege escalation is asked for.
    PrivilegeEscalation,
    /// NET_RAW is kept.
    NetRaw,
    /// The mask of /proc is lifted.
    ProcMount,
    /// No AppArmor confinement, or SELinux options that lift it.
    MandatoryAccessControl,
    /// The verifier is missing.
    VerifierMissing,
    /// The verifier is not as Weightlock renders it.
    VerifierAltered,
    /// Something runs ahead of the verifier that may not.
    PrecedesVerifier,
    /// Weights are mounted so that they can be written to.
    WritableMount,
    /// Weights are attached as a raw block device.
    RawBlockDevice,
    /// A pod writes weights that are sealed, or that it does not make.
    NotAWriter,
    /// A mount of weights propagates.
    MountPropagation,
    /// Weights that were found tampered with.
    Tampered,
    /// The sidecar that verifies again is missing or altered.
    ReverifierAltered,
    /// What a volume is said to receive by download cannot be.
    DownloadTarget,
    /// A downloader of weights where it may not be.
    Downloader,
    /// The image of a running pod is changed.
    ImageChanged,
    /// An ephemeral container is added.
    EphemeralContainer,
    /// A connection into a running pod.
    Connection,
    /// Somebody else than its node says what the containers of a pod did.
    ForgedStatus,
    /// Clients outside the cluster are led to pods of an environment.
    Published,
    /// Endpoints of an environment that somebody wrote by hand.
    EndpointsByHand,
    /// An image is named by its ID.
    ImageById,
    /// Weights as the image of a container, without their digest.
    ImageNotPinned,
    /// A GPU pod outside every environment.
    GpuPodOutside,
    /// Devices that others use are claimed.
    DeviceAdminAccess,
    /// A reserved name or annotation is misused.
    ReservedName,
    /// An object that Weightlock stands on is changed or deleted.
    OwnObject,
    /// A declaration is widened by somebody who may not open what it opens.
    Delegation,
    /// A policy opens more of the network than is declared.
    UndeclaredOpening,
    /// What is known of the cluster is not complete.
    NotSynced,
    /// The object cannot be read.
    Malformed,
}

/// What to do instead of a clone or a snapshot: the bytes of a copy that a pod writes are verified like all others.
pub const COPY_REMEDY: &str = "mount the registered storage itself, or register the target first and let a pod of an environment write the copy there";

/// Where a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Inside the API server, by ValidatingAdmissionPolicies: holds with every pod of Weightlock dead.
    ApiServer,
    /// The admission webhook of environment namespaces.
    Webhook,
    /// Watches: found after the fact and reported.
    Watch,
}

impl Ring {
    /// How the documentation calls it.
    pub fn title(self) -> &'static str {
        match self {
            Ring::ApiServer => "API server",
            Ring::Webhook => "webhook",
            Ring::Watch => "watch",
        }
    }
}

/// Which of an environment's modes a rule follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// `modes.admission`: in Audit the text is a warning.
    Admission,
    /// `modes.verification` too: in Audit no verifier is injected, so none is required.
    Verification,
    /// No mode: always refused.
    Always,
}

/// What there is to say about a rule.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The id that is printed, `WL-nnn`.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What is refused, and why.
    pub summary: &'static str,
    /// What to do, with `<…>` where a denial names the thing itself.
    pub remedy: &'static str,
    /// Part of an object that breaks the rule.
    pub example: &'static str,
    /// Where it is decided.
    pub rings: &'static [Ring],
    /// Which mode it follows.
    pub aspect: Aspect,
}

impl Rule {
    /// The id that is printed, `WL-nnn`.
    pub fn id(self) -> &'static str {
        self.describe().id
    }

    /// A few words that name the rule.
    pub fn title(self) -> &'static str {
        self.describe().title
    }

    /// All there is to say about the rule.
    pub fn describe(self) -> &'static Description {
        table::describe(self)
    }

    /// The anchor in `docs/rules.md`, such as `wl-101`.
    pub fn anchor(self) -> String {
        self.id().to_ascii_lowercase()
    }
}

const ALL: &[Rule] = &[
    Rule::NotPermittedHere,
    Rule::ServiceAccountNotMember,
    Rule::NamespaceNotPinned,
    Rule::OpenArtifact,
    Rule::PartialMount,
    Rule::UnknownVolumeType,
    Rule::UnresolvedVolume,
    Rule::RegisteredStorageElsewhere,
    Rule::NodeStorage,
    Rule::NodeAccess,
    Rule::ImageById,
    Rule::ImageNotPinned,
    Rule::PlacedUnbound,
    Rule::ProtectionRemoved,
    Rule::UnregisteredRead,
    Rule::PersistentWrite,
    Rule::HostNamespace,
    Rule::SharedProcessNamespace,
    Rule::Privileged,
    Rule::AddedCapability,
    Rule::Seccomp,
    Rule::PrivilegeEscalation,
    Rule::NetRaw,
    Rule::ProcMount,
    Rule::MandatoryAccessControl,
    Rule::VerifierMissing,
    Rule::VerifierAltered,
    Rule::PrecedesVerifier,
    Rule::WritableMount,
    Rule::RawBlockDevice,
    Rule::NotAWriter,
    Rule::MountPropagation,
    Rule::Tampered,
    Rule::ReverifierAltered,
    Rule::DownloadTarget,
    Rule::Downloader,
    Rule::ImageChanged,
    Rule::EphemeralContainer,
    Rule::Connection,
    Rule::ForgedStatus,
    Rule::Published,
    Rule::EndpointsByHand,
    Rule::GpuPodOutside,
    Rule::DeviceAdminAccess,
    Rule::ReservedName,
    Rule::OwnObject,
    Rule::Delegation,
    Rule::UndeclaredOpening,
    Rule::NotSynced,
    Rule::Malformed,
];

/// Every rule, by id.
pub fn all() -> &'static [Rule] {
    ALL
}

/// The rule with this id.
pub fn by_id(id: &str) -> Option<Rule> {
    all().iter().copied().find(|rule| rule.id().eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_sorted_and_well_formed() {
        let ids: Vec<&str> = all().iter().map(|rule| rule.id()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an id is used twice: {ids:?}");
        assert!(ids.is_sorted(), "{ids:?}");
        for id in ids {
            let digits = id.strip_prefix("WL-").unwrap();
            assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()), "{id}");
        }
    }

    #[test]
    fn every_rule_is_in_the_table_once() {
        let rules: BTreeSet<Rule> = all().iter().copied().collect();
        assert_eq!(rules.len(), all().len());
        assert_eq!(all().last(), Some(&Rule::Malformed));
        assert_eq!(all().len(), Rule::Malformed as usize + 1, "a rule is missing from rules::all()");
    }

    #[test]
    fn a_rule_is_found_by_its_id() {
        assert_eq!(by_id("wl-101"), Some(Rule::NotPermittedHere));
        assert_eq!(by_id("WL-000"), None);
        assert_eq!(Rule::Privileged.anchor(), "wl-204");
    }
}
