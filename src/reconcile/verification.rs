//! What the verifiers in pods said of an artifact: counted for its status, and told once in events.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};

use super::{
    Context,
    error::ReconcileError,
    events::{self, Event, shorten, text},
};
use crate::{
    api::{Consumers, Verifications},
    domain::{
        PackedPod, World, consumers,
        verdict::{self, Verdict},
        world::Effort,
    },
};

/// Verifications that ended longer ago are not told any more: whoever led then told them.
const TOLD_WITHIN_SECONDS: i64 = 1800;
/// The longest reason that is stored in status, in bytes.
const LONGEST_FAILURE: usize = 1024;

/// The verifications that were told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reported(Arc<Mutex<BTreeSet<Told>>>);

/// One verification: artifact, UID of the pod, end.
type Told = (String, String, String);

impl Reported {
    fn contains(&self, told: &Told) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(told)
    }

    fn insert(&self, told: Told) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(told);
    }

    /// Forgets the verifications of an artifact in pods that are gone.
    fn retain(&self, artifact: &str, pods: &BTreeSet<&str>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(other, uid, _)| other != artifact || pods.contains(uid.as_str()));
    }
}

/// A pod that holds an artifact.
pub struct Holder<'a> {
    /// Namespace and name.
    pub name: String,
    /// The pod, as it is kept.
    pub pod: &'a PackedPod,
    /// How events name it.
    pub reference: ObjectReference,
    /// The service account it runs as.
    pub account: String,
    /// The node that runs it without asking anybody, if it is the mirror of a static pod.
    pub static_on: Option<String>,
    /// It has ended, and holds nothing any more.
    pub ended: bool,
    /// What its verifier said.
    pub verdict: Option<Verdict>,
    /// That its weights changed while it ran, as the sidecar found.
    pub drift: Option<Verdict>,
}

/// The pods that hold an artifact, ended ones included.
pub fn holders<'a>(
    world: &'a World,
    pods: &[(String, String)],
    artifact: &str,
    digest: Option<&str>,
) -> Vec<Holder<'a>> {
    let kept = pods.iter().filter_map(|key| Some((key, world.pods.get(key)?)));
    kept.map(|((namespace, name), kept)| {
        // One at a time: an artifact may be held by very many.
        let pod = kept.unpack();
        Holder {
            name: format!("{namespace}/{name}"),
            pod: kept,
            reference: events::pod_reference(&pod),
            account: consumers::service_account(&pod).into(),
            static_on: events::is_static(&pod).then(|| text(&pod, "/spec/nodeName").into()),
            ended: kept.ended(),
            verdict: digest.and_then(|digest| verdict::verdict(world, &pod, artifact, digest)),
            drift: digest.and_then(|digest| verdict::drift(&pod, artifact, digest)),
        }
    })
    .collect()
}

/// Numbers for status.
pub fn count(holders: &[Holder<'_>]) -> (Consumers, Verifications) {
    let number = |matching: &dyn Fn(&&Holder<'_>) -> bool| {
        i32::try_from(holders.iter().filter(matching).count()).unwrap_or(i32::MAX)
    };
    let succeeded = |holder: &&Holder<'_>| holder.verdict.as_ref().is_some_and(|verdict| verdict.succeeded);
    let failed = |holder: &&Holder<'_>| holder.verdict.as_ref().is_some_and(|verdict| !verdict.succeeded);
    let failure = holders.iter().find(failed).and_then(|holder| {
        let verdict = holder.verdict.as_ref()?;
        Some(shorten(&format!("pod {}: {}", holder.name, told(verdict)), LONGEST_FAILURE).to_string())
    });
    (
        Consumers {
            pods: number(&|holder| !holder.ended),
            verified: number(&|holder| !holder.ended && succeeded(holder)),
        },
        Verifications { succeeded: number(&succeeded), failed: number(&failed), failure },
    )
}

pub fn told(verdict: &Verdict) -> String {
    if verdict.message.is_empty() {
        return format!("the verifier exited with code {} and left no message", verdict.exit_code);
    }
    verdict.message.clone()
}

/// Makes an event on the pod and one on the artifact for each verification that was not told yet.
///
/// # Errors
/// If the API server refuses an event; the next run tries again.
pub async fn tell(context: &Context, artifact: &ObjectReference, holders: &[Holder<'_>]) -> Result<(), ReconcileError> {
    let name = artifact.name.clone().unwrap_or_default();
    let now = Timestamp::now();
    for holder in holders {
        let Some(verdict) = &holder.verdict else { continue };
        let told = (name.clone(), holder.pod.uid().to_string(), end_of(verdict));
        if context.memory.verified.contains(&told) {
            continue;
        }
        if is_recent(&verdict.finished, now) {
            for event in occurrences(artifact, holder, verdict) {
                context.writer.event(&event).await?;
            }
        }
        context.memory.verified.insert(told);
    }
    let pods: BTreeSet<&str> = holders.iter().map(|holder| holder.pod.uid()).collect();
    context.memory.verified.retain(&name, &pods);
    Ok(())
}

/// Tells one end of a verifier from another. Its time has whole seconds, within which a restarted verifier may have ended
/// otherwise.
pub fn end_of(verdict: &Verdict) -> String {
    format!("{} {}", verdict.finished, verdict.exit_code)
}

/// Bytes per second of a verification that took long enough to tell.
fn rate(verdict: &Verdict) -> Option<u64> {
    const LEAST_SECONDS: i64 = 3;
    let (_, read) = verdict.bytes?;
    let time = |text: &str| text.parse::<Timestamp>().ok().map(Timestamp::as_second);
    let seconds = time(&verdict.finished)? - time(&verdict.started)?;
    (seconds >= LEAST_SECONDS).then(|| read / seconds.unsigned_abs())
}

/// The size of an artifact in bytes, and about how many seconds its verification takes: as seen, as known before, or at
/// the rate that is assumed.
pub fn effort(
    before: (Option<i64>, Option<i64>),
    declared: Option<i64>,
    holders: &[Holder<'_>],
) -> (Option<i64>, Option<i64>) {
    let verdicts = || holders.iter().filter_map(|holder| holder.verdict.as_ref()).filter(|verdict| verdict.succeeded);
    let seen = verdicts().find_map(|verdict| i64::try_from(verdict.bytes?.0).ok());
    let Some(size) = declared.or(seen).or(before.0) else { return (None, None) };
    let bytes = u64::try_from(size).unwrap_or(0);
    let at = |rate| i64::try_from(Effort::at(bytes, rate).seconds).unwrap_or(i64::MAX);
    // The pods have rates of their own; the slowest is the one to expect.
    let seconds = match (verdicts().filter_map(rate).min(), before.1) {
        (Some(rate), Some(before)) if (at(rate) - before).abs() * 4 <= before => before,
        (Some(rate), _) => at(rate),
        (None, Some(before)) => before,
        (None, None) => at(Effort::ASSUMED_RATE),
    };
    (Some(size), Some(seconds))
}

fn is_recent(finished: &str, now: Timestamp) -> bool {
    finished.parse::<Timestamp>().is_ok_and(|time| now.as_second() - time.as_second() < TOLD_WITHIN_SECONDS)
}

fn occurrences(artifact: &ObjectReference, holder: &Holder<'_>, verdict: &Verdict) -> [Event; 2] {
    let name = artifact.name.as_deref().unwrap_or_default();
    let pod = &holder.reference;
    let reason = if verdict.succeeded { "VerificationSucceeded" } else { "VerificationFailed" };
    let event = |regarding: &ObjectReference, related: &ObjectReference| Event {
        regarding: regarding.clone(),
        related: Some(related.clone()),
        warning: !verdict.succeeded,
        reason,
        action: "Verify",
        note: format!("WeightArtifact {name:?} in pod {}: {}", holder.name, told(verdict)),
        occurrence: format!("{name} {} {}", pod.uid.as_deref().unwrap_or_default(), end_of(verdict)),
    };
    [event(pod, artifact), event(artifact, pod)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holder(pod: &PackedPod, ended: bool, exit_code: Option<i64>) -> Holder<'_> {
        let verdict = exit_code.map(|exit_code| Verdict {
            succeeded: exit_code == 0,
            exit_code,
            bytes: None,
            started: String::new(),
            message: if exit_code == 0 { String::new() } else { "Refused: w.bin differs".into() },
            finished: "2026-01-01T00:00:00Z".into(),
        });
        let whole = pod.unpack();
        Holder {
            name: text(&whole, "/metadata/name").into(),
            pod,
            reference: events::pod_reference(&whole),
            account: String::new(),
            static_on: None,
            ended,
            verdict,
            drift: None,
        }
    }

    #[test]
    fn ended_pods_are_no_consumers_but_their_verifications_count() {
        let pod = json!({"metadata": {"name": "serving/llm-0"}}).into();
        let holders = [
            holder(&pod, false, Some(0)),
            holder(&pod, false, None),
            holder(&pod, true, Some(0)),
            holder(&pod, true, Some(20)),
        ];
        let (consumers, verifications) = count(&holders);
        assert_eq!(consumers, Consumers { pods: 2, verified: 1 });
        assert_eq!((verifications.succeeded, verifications.failed), (2, 1));
        assert_eq!(verifications.failure.as_deref(), Some("pod serving/llm-0: Refused: w.bin differs"));
    }

    #[test]
    fn a_failure_is_told_on_the_pod_and_on_the_artifact() {
        let pod = json!({"metadata": {"namespace": "serving", "name": "llm-0", "uid": "u1"}}).into();
        let artifact =
            ObjectReference { kind: Some("WeightArtifact".into()), name: Some("orion".into()), ..Default::default() };
        let holder = holder(&pod, true, Some(20));
        let [on_pod, on_artifact] = occurrences(&artifact, &holder, holder.verdict.as_ref().unwrap());
        assert_eq!((on_pod.reason, on_pod.warning), ("VerificationFailed", true));
        assert_eq!(on_pod.regarding.namespace.as_deref(), Some("serving"));
        assert_eq!(on_artifact.regarding.name.as_deref(), Some("orion"));
        assert!(
            on_pod.note.starts_with("WeightArtifact \"orion\" in pod llm-0: Refused: w.bin differs"),
            "{}",
            on_pod.note
        );
    }

    #[test]
    fn the_effort_follows_what_was_seen() {
        let pod = json!({}).into();
        let took = |seconds: i64, bytes: u64| {
            let mut holder = holder(&pod, false, Some(0));
            let verdict = holder.verdict.as_mut().unwrap();
            verdict.bytes = Some((bytes, bytes));
            verdict.started = "2026-01-01T00:00:00Z".into();
            verdict.finished = format!("2026-01-01T00:00:{seconds:02}Z");
            holder
        };
        const GB: u64 = 1_000_000_000;
        let size = Some(6_000_000_000);
        // Nothing is known, then the size, then a rate.
        assert_eq!(effort((None, None), None, &[]), (None, None));
        assert_eq!(effort((None, None), size, &[]), (size, Some(20)));
        assert_eq!(effort((size, Some(20)), None, &[took(10, 6 * GB)]), (size, Some(10)));
        // The slowest counts, a small change does not, and neither does what was too short to tell.
        assert_eq!(effort((size, Some(10)), None, &[took(10, 6 * GB), took(30, 6 * GB)]), (size, Some(30)));
        assert_eq!(effort((size, Some(10)), None, &[took(12, 6 * GB)]), (size, Some(10)));
        assert_eq!(effort((size, Some(10)), None, &[took(1, 6 * GB)]), (size, Some(10)));
        // Once no pod is left, what was known stays.
        assert_eq!(effort((size, Some(10)), None, &[]), (size, Some(10)));
    }

    #[test]
    fn two_ends_within_one_second_are_two() {
        let pod = json!({"metadata": {"uid": "u1"}}).into();
        let end = |exit_code| end_of(holder(&pod, false, Some(exit_code)).verdict.as_ref().unwrap());
        assert_ne!(end(20), end(0));
    }

    #[test]
    fn what_ended_long_ago_is_not_told_again() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        assert!(is_recent("2026-01-01T00:45:00Z", now));
        assert!(!is_recent("2026-01-01T00:00:00Z", now));
        assert!(!is_recent("", now));
    }
}
