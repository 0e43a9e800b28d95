//! The recipe for a WeightArtifact: resolve and pin its locations, count who holds it, say how things stand.

use std::time::Instant;

use k8s_openapi::jiff::Timestamp;

use super::{
    Context, Next,
    apply::Applied,
    conditions::{self, Wanted},
    elsewhere,
    error::ReconcileError,
    events,
    manifests::{self, Brought},
    members::name_some,
    reports, sealing, tampering, unreadable,
    verification::{self, Holder},
};
use crate::{
    api::{EffectivePermissions, LocationStatus, Verifications, WeightArtifact, WeightArtifactStatus},
    domain::{
        World, index_plan,
        world::{Artifact, LocationSource, Manifest},
    },
};

/// Brings the status of one artifact in line with what was found.
///
/// # Errors
/// The first that occurred.
pub async fn reconcile(context: &Context, name: &str) -> Result<Next, ReconcileError> {
    let Some(object) = context.observed.artifact(name) else { return Ok(None) };
    let (current, artifact) = unreadable::read_or_tell(context, &object).await?;
    if context.world.artifacts.get(name) != Some(&artifact) {
        return Ok(Some(Instant::now() + super::CATCH_UP));
    }
    let deleting = current.metadata.deletion_timestamp.is_some();
    if !deleting && context.writer.finalizer(&current, true).await? != Applied::Unchanged {
        return Ok(None);
    }

    let holders = verification::holders(&context.world, context.pods_with(name), name, artifact.digest.as_deref());
    let left: Vec<String> = holders.iter().filter(|holder| !holder.ended).map(|holder| holder.name.clone()).collect();
    if deleting && left.is_empty() {
        context.writer.finalizer(&current, false).await?;
        return Ok(None);
    }

    let left = if deleting { left.as_slice() } else { &[] };
    let brought = manifests::bring(context, &artifact).await;
    let status = status(context, &current, &artifact, &holders, left, brought.as_ref());
    context.writer.patch_status(&current, &status).await?;
    let reference = events::reference(&current);
    verification::tell(context, &reference, &holders).await?;
    let elsewhere = elsewhere::found(&context.world, &artifact, &holders);
    elsewhere::tell(context, &reference, &elsewhere).await?;
    reports::keep(context, reference.clone(), &elsewhere::findings(&elsewhere)).await?;
    tampering::handle(context, &artifact, &reference, &holders).await?;
    match brought {
        Some(Brought { error: Some(error), .. }) => Err(error),
        brought => Ok(brought.and_then(|brought| brought.next)),
    }
}

fn status(
    context: &Context,
    current: &WeightArtifact,
    artifact: &Artifact,
    holders: &[Holder<'_>],
    left: &[String],
    brought: Option<&Brought>,
) -> WeightArtifactStatus {
    let world = &context.world;
    let located: Vec<Located> = artifact.locations.iter().map(|location| locate(world, location)).collect();
    let (consumers, verifications) = verification::count(holders);
    let permitted: Vec<String> = world.environments_of(artifact).map(|environment| environment.name.clone()).collect();
    let absent: Vec<&str> =
        artifact.places().into_iter().filter(|name| !world.environments.contains_key(*name)).collect();
    let mut wanted = vec![
        accepted(artifact),
        locations_resolved(&located),
        sealing::condition(artifact, &sealing::writers(context, artifact)),
        enforced(index_plan::enforced(world, artifact), context.in_force.artifact(&artifact.name)),
        verified(artifact, &verifications),
        tampering::condition(world, artifact),
        elsewhere::condition(&elsewhere::found(world, artifact, holders)),
    ];
    wanted.extend(brought.map(|brought| brought.condition.clone()));
    wanted.push(ready(&wanted, &absent, left));
    let before = current.status.clone().unwrap_or_default();
    let known = (before.size_bytes, before.estimated_verification_seconds);
    let (size_bytes, estimated_verification_seconds) =
        verification::effort(known, size(&artifact.manifest).or(brought.and_then(|brought| brought.size)), holders);
    let generation = current.metadata.generation;
    WeightArtifactStatus {
        observed_generation: generation,
        size_bytes,
        estimated_verification_seconds,
        effective: Some(EffectivePermissions { permitted_environments: permitted }),
        locations: located.into_iter().map(|located| located.status).collect(),
        consumers: Some(consumers),
        verifications: Some(verifications),
        conditions: conditions::merge(&before.conditions, wanted, generation, Timestamp::now()),
    }
}

fn accepted(artifact: &Artifact) -> Wanted {
    const KIND: &str = "Accepted";
    match artifact.signature.as_ref().map_or(&[][..], |signature| &signature.problems) {
        [] => Wanted::yes(KIND, "Accepted", "The declaration is in force."),
        problems => {
            let text = format!(
                "The weights are protected, and no pod can verify them (exit code 10): {}. Remedy: correct or remove the authority; the verifier reads all of them before it reads a file.",
                problems.join("; ")
            );
            Wanted::no(KIND, "AuthorityUnusable", text)
        }
    }
}

/// Size of all files in bytes, where the manifest is in the declaration.
fn size(manifest: &Manifest) -> Option<i64> {
    match manifest {
        Manifest::Inline(files) if !files.is_empty() => {
            files.iter().try_fold(0i64, |sum, file| sum.checked_add(file.size))
        }
        _ => None,
    }
}

/// What was found of a location.
#[derive(Debug)]
struct Located {
    status: LocationStatus,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It leads elsewhere than it was pinned to.
    Moved,
    /// It leads nowhere yet.
    Pending,
    /// It is pinned.
    Pinned,
}

fn locate(world: &World, location: &crate::domain::world::ArtifactLocation) -> Located {
    let found = match &location.source {
        LocationSource::Key(key) => Ok(key.clone()),
        LocationSource::Claim(name) => world.key_of_claim(name),
    };
    let (key, problem, state) = match (&location.pinned, found) {
        (None, Ok(key)) => (Some(key), None, State::Pinned),
        (None, Err(reason)) => {
            (None, Some(format!("{reason}. It is resolved as soon as that changes")), State::Pending)
        }
        (Some(pinned), Ok(key)) if key == *pinned => (Some(key), None, State::Pinned),
        (Some(pinned), Ok(key)) => {
            let problem = format!(
                "it leads to {key} now, but was pinned to {pinned}; both are protected. \
                 Remedy: declare the new storage as a location of another name, and keep this one while the bytes are there"
            );
            (Some(pinned.clone()), Some(problem), State::Moved)
        }
        (Some(pinned), Err(reason)) => {
            let problem = format!("{reason}; the storage it was pinned to stays protected");
            (Some(pinned.clone()), Some(problem), State::Pinned)
        }
    };
    let problem = problem.map(|problem| events::shorten(&problem, 1024).to_string());
    Located {
        status: LocationStatus { name: location.name.clone(), backend_key: key.map(|key| key.0), problem },
        state,
    }
}

fn locations_resolved(located: &[Located]) -> Wanted {
    const KIND: &str = "LocationsResolved";
    let worst = located.iter().filter(|located| located.state != State::Pinned).min_by_key(|located| located.state);
    let Some(worst) = worst else {
        return Wanted::yes(KIND, "Resolved", "Each location is pinned to the canonical key of its storage.");
    };
    let text = format!(
        "Location {:?}: {}.",
        worst.status.name,
        worst.status.problem.as_deref().unwrap_or("it is not resolved")
    );
    Wanted::no(KIND, if worst.state == State::Moved { "LocationMoved" } else { "Pending" }, text)
}

fn enforced(wanted: bool, in_force: bool) -> Wanted {
    const KIND: &str = "Enforced";
    match (wanted, in_force) {
        (false, _) => {
            Wanted::no(KIND, "Audit", "Every environment that the artifact permits has spec.modes.admission: Audit.")
        }
        (true, false) => Wanted::no(
            KIND,
            "IndexBehind",
            "The policies inside the API server do not know the artifact as it is declared yet.",
        ),
        (true, true) => {
            Wanted::yes(KIND, "Enforced", "The API server itself refuses the weights where they are not permitted.")
        }
    }
}

fn verified(artifact: &Artifact, verifications: &Verifications) -> Wanted {
    const KIND: &str = "Verified";
    if artifact.digest.is_none() {
        return Wanted::no(KIND, "Open", "spec.manifestDigest is not set, so there is nothing to verify against.");
    }
    if let Some(failure) = &verifications.failure {
        let text = format!(
            "{} of the pods that exist failed to verify the weights; the first: {failure}",
            verifications.failed
        );
        return Wanted::no(KIND, "VerificationFailed", text);
    }
    if verifications.succeeded == 0 {
        return Wanted::unknown(KIND, "NotVerifiedYet", "No pod that exists has verified the weights.");
    }
    Wanted::yes(
        KIND,
        "ReportedByKubelet",
        "Based on the exit code of the verifier that Weightlock injected, for this digest, as kubelets reported it in the status of the pods. \
         A party that may write pods/status could forge it; confirmation by the container runtime is not part of this version.",
    )
}

fn ready(others: &[Wanted], absent: &[&str], left: &[String]) -> Wanted {
    if !left.is_empty() {
        let text = format!(
            "The deletion waits, and everything stays in force, until no pod that holds the weights is left: {}. Remedy: delete these pods.",
            name_some(left)
        );
        return Wanted::no("Ready", "WaitingForPods", text);
    }
    if let Some(tampered) = others.iter().find(|other| other.kind == "Tampered" && other.holds()) {
        return Wanted::no("Ready", "Tampered", tampered.message.clone());
    }
    if let Some(refused) = others.iter().find(|other| other.kind == "Accepted" && !other.holds()) {
        return Wanted::no("Ready", refused.reason, refused.message.clone());
    }
    if let Some(unresolved) = others.iter().find(|other| other.kind == "LocationsResolved" && !other.holds()) {
        return Wanted::no("Ready", unresolved.reason, unresolved.message.clone());
    }
    if let Some(manifest) = others.iter().find(|other| other.kind == "ManifestBrought" && !other.holds()) {
        return Wanted::no("Ready", manifest.reason, manifest.message.clone());
    }
    if !absent.is_empty() {
        let text = format!(
            "spec.permittedEnvironments and spec.producers name WeightEnvironments that do not exist: {}. The weights are protected; they may be mounted in the others.",
            absent.join(", ")
        );
        return Wanted::no("Ready", "EnvironmentMissing", text);
    }
    if let Some(behind) = others.iter().find(|other| other.kind == "Enforced" && other.reason == "IndexBehind") {
        return Wanted::no("Ready", behind.reason, behind.message.clone());
    }
    if let Some(written) = others.iter().find(|other| other.kind == "Sealed" && other.reason == "WriterRunning") {
        return Wanted::no("Ready", written.reason, written.message.clone());
    }
    if let Some(failed) = others.iter().find(|other| other.kind == "Verified" && other.reason == "VerificationFailed") {
        return Wanted::no("Ready", failed.reason, failed.message.clone());
    }
    Wanted::yes("Ready", "Ready", "The weights are protected wherever they were declared to be.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        BackendKey,
        world::{ArtifactLocation, Claim, ClaimName, Signature, Volume},
    };

    fn claim() -> ClaimName {
        ClaimName::new("serving", "orion")
    }

    fn location(pinned: Option<BackendKey>) -> ArtifactLocation {
        ArtifactLocation {
            name: "serving".into(),
            source: LocationSource::Claim(claim()),
            pinned,
            aliases: vec![],
            path: None,
        }
    }

    fn bound(handle: &str) -> World {
        let mut world = World::default();
        world.claims.insert(claim(), Claim { volume: Some("pv".into()), bound: true, ..Claim::default() });
        let key = Ok(BackendKey::csi("ebs.csi.aws.com", handle));
        world.volumes.insert("pv".into(), Volume { key, claim: Some(claim()) });
        world
    }

    #[test]
    fn a_claim_is_pinned_to_its_storage_when_it_is_first_resolved() {
        let located = locate(&bound("vol-1"), &location(None));
        assert_eq!(located.status.backend_key.as_deref(), Some("v1:csi:ebs.csi.aws.com:vol-1"));
        assert_eq!((located.status.problem, located.state), (None, State::Pinned));
    }

    #[test]
    fn a_claim_that_does_not_exist_is_pending() {
        let located = locate(&World::default(), &location(None));
        assert_eq!(located.status.backend_key, None);
        let condition = locations_resolved(&[located]);
        assert_eq!((condition.reason, condition.holds()), ("Pending", false));
        assert_eq!(
            condition.message,
            "Location \"serving\": claim serving/orion does not exist yet. It is resolved as soon as that changes."
        );
    }

    #[test]
    fn a_pin_stays_when_the_claim_is_gone_or_leads_elsewhere() {
        let pin = BackendKey::csi("ebs.csi.aws.com", "vol-1");
        let gone = locate(&World::default(), &location(Some(pin.clone())));
        assert_eq!((gone.status.backend_key.as_deref(), gone.state), (Some(pin.0.as_str()), State::Pinned));
        assert!(gone.status.problem.is_some_and(|problem| problem.ends_with("stays protected")));
        let moved = locate(&bound("vol-2"), &location(Some(pin.clone())));
        assert_eq!((moved.status.backend_key.as_deref(), moved.state), (Some(pin.0.as_str()), State::Moved));
        let condition = locations_resolved(&[moved]);
        assert_eq!(condition.reason, "LocationMoved");
        assert!(condition.message.contains("it leads to v1:csi:ebs.csi.aws.com:vol-2 now"), "{}", condition.message);
    }

    fn sealed() -> Artifact {
        Artifact {
            name: "orion".into(),
            digest: Some("sha256:0".into()),
            manifest: Manifest::Path("m".into()),
            signature: None,
            content: Default::default(),
            locations: vec![],
            permitted: Default::default(),
            producers: vec![],
            frozen: false,
            effort: None,
            contact: String::new(),
        }
    }

    #[test]
    fn verified_says_what_it_rests_on() {
        let mut artifact = Artifact { digest: None, ..sealed() };
        let count = |succeeded, failure: Option<&str>| Verifications {
            succeeded,
            failed: i32::from(failure.is_some()),
            failure: failure.map(Into::into),
        };
        assert_eq!(verified(&artifact, &count(3, None)).reason, "Open");
        artifact.digest = Some("sha256:0".into());
        assert_eq!(verified(&artifact, &count(0, None)).reason, "NotVerifiedYet");
        let good = verified(&artifact, &count(1, None));
        assert!(good.holds() && good.message.contains("as kubelets reported it"), "{}", good.message);
        let bad = verified(&artifact, &count(1, Some("pod a/b: w.bin differs")));
        assert_eq!((bad.reason, bad.holds()), ("VerificationFailed", false));
    }

    #[test]
    fn an_authority_that_cannot_be_used_is_a_condition() {
        let mut artifact = sealed();
        assert_eq!(accepted(&artifact).reason, "Accepted");
        let declared = crate::api::Signature { bundle_path: "model.sig".into(), authorities: vec![], allow: vec![] };
        let problems =
            vec!["spec.signature.authorities[old] has a publicKey.pem that cannot be used: it is an RSA key".into()];
        artifact.signature = Some(Signature { declared, problems });
        let condition = accepted(&artifact);
        assert_eq!((condition.reason, condition.holds()), ("AuthorityUnusable", false));
        let (said, ready) = (condition.message.clone(), ready(&[condition], &[], &[]));
        assert!(said.contains("authorities[old] has a publicKey.pem") && said.contains("Remedy: correct"), "{said}");
        assert_eq!((ready.reason, ready.message), ("AuthorityUnusable", said));
    }

    #[test]
    fn an_environment_that_does_not_exist_is_a_condition() {
        let resolved = Wanted::yes("LocationsResolved", "Resolved", "");
        let condition = ready(&[resolved], &["production"], &[]);
        assert_eq!((condition.reason, condition.holds()), ("EnvironmentMissing", false));
        assert!(condition.message.contains("do not exist: production."), "{}", condition.message);
    }
}
