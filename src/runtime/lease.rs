//! Leader election by a Lease.
//!
//! Times are measured with the local monotonic clock from when a change of the lease was *seen*, so clocks of different
//! nodes need not agree. Writes carry the resource version that was read, so of two candidates one gets a conflict.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio_util::sync::CancellationToken;

use super::RuntimeError;

/// How long a lease that is not renewed keeps others away. An API server or a node that is starved for some seconds must
/// not make leaders change: what a dead leader has written holds without it.
const DURATION: Duration = Duration::from_secs(30);
/// How long a leader that cannot renew goes on; well below [`DURATION`], so that it has stopped before another starts.
const RENEW_DEADLINE: Duration = Duration::from_secs(20);
/// How often a lease is renewed or looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// How long one call may take, so that another can follow on a new connection.
const CALL: Duration = Duration::from_secs(6);

/// A candidate for a lease.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    namespace: String,
    identity: String,
}

/// The lease as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    holder: Option<String>,
    duration: Duration,
    /// The version that was seen first at `since`.
    version: String,
    since: Instant,
}

/// What to do about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// It is ours: renew it.
    Renew,
    /// Nobody holds it, or its holder stopped renewing: take it.
    Take,
    /// Someone holds it; look again.
    Wait,
}

/// The pure decision: what a candidate does about the lease it sees.
fn step(seen: Option<&Seen>, identity: &str, now: Instant) -> Step {
    match seen {
        None => Step::Take,
        Some(seen) => match seen.holder.as_deref() {
            None | Some("") => Step::Take,
            Some(holder) if holder == identity => Step::Renew,
            Some(_) if now >= seen.since + seen.duration => Step::Take,
            Some(_) => Step::Wait,
        },
    }
}

impl Elector {
    /// A candidate named `identity` for the lease `namespace/name`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            namespace: namespace.into(),
            identity: identity.into(),
        }
    }

    /// Waits until the lease is ours. `None`: `shutdown` came first.
    pub async fn acquire(&self, shutdown: &CancellationToken) -> Option<Leadership<'_>> {
        let mut seen: Option<Seen> = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some((lease, at))) => {
                    tracing::info!(lease = %self.lease(), identity = %self.identity, "leading");
                    return Some(Leadership { elector: self, lease, renewed: at });
                }
                Ok(None) => tracing::debug!(holder = ?seen.as_ref().and_then(|seen| seen.holder.as_ref()), "following"),
                Err(error) => tracing::warn!(lease = %self.lease(), %error, "cannot read or take the lease"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = shutdown.cancelled() => return None,
            }
        }
    }

    /// Looks at the lease once, and takes it if it may. The time is from before the write, so that it never lies late.
    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<Option<(Lease, Instant)>, kube::Error> {
        let live = timely(self.api.get_opt(&self.name)).await?;
        let now = Instant::now();
        if let Some(live) = &live {
            let looked = look(live, now);
            if seen.as_ref().is_none_or(|seen| seen.version != looked.version) {
                *seen = Some(looked);
            }
        } else {
            *seen = None;
        }
        if step(seen.as_ref(), &self.identity, now) == Step::Wait {
            return Ok(None);
        }
        let wanted = claim(live, &self.namespace, &self.name, &self.identity);
        let written = if wanted.metadata.resource_version.is_some() {
            timely(self.api.replace(&self.name, &PostParams::default(), &wanted)).await
        } else {
            timely(self.api.create(&PostParams::default(), &wanted)).await
        };
        match written {
            Ok(lease) => Ok(Some((lease, now))),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A lease that is held. Dropping it without [`Leadership::release`] leaves it to run out.
pub struct Leadership<'a> {
    elector: &'a Elector,
    lease: Lease,
    renewed: Instant,
}

impl Leadership<'_> {
    /// Renews the lease for as long as that works.
    ///
    /// # Errors
    /// [`RuntimeError::LeaseLost`] when another candidate holds it or it could not be renewed in time. It returns
    /// before another candidate may lead, so whoever awaits it must stop all writing at once.
    pub async fn keep(&mut self) -> RuntimeError {
        loop {
            tokio::time::sleep(PERIOD).await;
            let deadline = self.renewed + RENEW_DEADLINE;
            let attempt = tokio::time::timeout_at(deadline.into(), self.renew()).await;
            let reason = match attempt {
                Ok(Ok(())) => continue,
                Ok(Err(Renewal::Taken(holder))) => format!("{holder} holds it"),
                Ok(Err(Renewal::Failed(error))) if Instant::now() < deadline => {
                    tracing::warn!(lease = %self.elector.lease(), %error, "cannot renew the lease, trying again");
                    continue;
                }
                Ok(Err(Renewal::Failed(error))) => {
                    format!("it could not be renewed within {RENEW_DEADLINE:?}: {error}")
                }
                Err(_) => format!("it could not be renewed within {RENEW_DEADLINE:?}: the API server did not answer"),
            };
            return RuntimeError::LeaseLost { lease: self.elector.lease(), reason };
        }
    }

    async fn renew(&mut self) -> Result<(), Renewal> {
        let now = Instant::now();
        let Elector { api, name, namespace, identity } = self.elector;
        let wanted = claim(Some(self.lease.clone()), namespace, name, identity);
        match timely(api.replace(name, &PostParams::default(), &wanted)).await {
            Ok(lease) => {
                self.lease = lease;
                self.renewed = now;
                Ok(())
            }
            // Someone wrote it, or it is gone. It is lost only if someone else holds it now.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                let live = timely(api.get_opt(name)).await.map_err(Renewal::Failed)?;
                let holder =
                    live.as_ref().and_then(|live| live.spec.as_ref()).and_then(|spec| spec.holder_identity.clone());
                match (live, holder) {
                    (Some(live), Some(holder)) if holder == *identity => {
                        self.lease = live;
                        Err(Renewal::Failed(kube::Error::Api(status)))
                    }
                    (_, Some(holder)) if !holder.is_empty() => Err(Renewal::Taken(holder)),
                    _ => Err(Renewal::Taken("nobody".into())),
                }
            }
            Err(error) => Err(Renewal::Failed(error)),
        }
    }

    /// Gives the lease up, so that another candidate need not wait for it to run out.
    pub async fn release(self) {
        let mut lease = self.lease;
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let Elector { api, name, .. } = self.elector;
        match timely(api.replace(name, &PostParams::default(), &lease)).await {
            Ok(_) => tracing::info!(lease = %self.elector.lease(), "lease released"),
            Err(error) => tracing::warn!(lease = %self.elector.lease(), %error, "lease not released; it runs out"),
        }
    }
}

enum Renewal {
    Taken(String),
    Failed(kube::Error),
}

/// No single call may hang past the point where a renewal could still be tried again.
async fn timely<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(CALL, call)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service(format!("no answer within {CALL:?}").into())))
}

fn look(lease: &Lease, now: Instant) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        holder: spec.holder_identity,
        duration: seconds.map_or(DURATION, Duration::from_secs),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        since: now,
    }
}

/// The lease as `identity` writes it: over what was read (with its resource version), or a new one.
fn claim(live: Option<Lease>, namespace: &str, name: &str, identity: &str) -> Lease {
    let mut lease = live.unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        spec: None,
    });
    lease.metadata.managed_fields = None;
    let now = MicroTime(Timestamp::now());
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if spec.holder_identity.as_deref() != Some(identity) {
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        spec.acquire_time = Some(now.clone());
    }
    spec.holder_identity = Some(identity.into());
    spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    spec.renew_time = Some(now);
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, since: Instant) -> Seen {
        Seen { holder: Some(holder.into()), duration: DURATION, version: "7".into(), since }
    }

    #[test]
    fn a_free_lease_is_taken() {
        let now = Instant::now();
        assert_eq!(step(None, "me", now), Step::Take);
        assert_eq!(step(Some(&Seen { holder: None, ..seen("", now) }), "me", now), Step::Take);
        assert_eq!(step(Some(&seen("", now)), "me", now), Step::Take);
    }

    #[test]
    fn a_held_lease_is_left_until_its_holder_was_silent_for_its_duration() {
        let now = Instant::now();
        assert_eq!(step(Some(&seen("other", now)), "me", now), Step::Wait);
        assert_eq!(step(Some(&seen("other", now)), "me", now + DURATION - Duration::from_millis(1)), Step::Wait);
        assert_eq!(step(Some(&seen("other", now)), "me", now + DURATION), Step::Take);
    }

    #[test]
    fn our_own_lease_is_renewed_even_if_it_has_run_out() {
        let now = Instant::now();
        assert_eq!(step(Some(&seen("me", now)), "me", now + 2 * DURATION), Step::Renew);
    }

    #[test]
    fn a_leader_stops_before_another_may_start() {
        // A call that is in flight at the deadline ends within CALL of it.
        assert!(RENEW_DEADLINE + CALL < DURATION);
    }

    #[test]
    fn a_claim_keeps_the_resource_version_and_counts_transitions() {
        let mut first = claim(None, "ns", "lease", "a");
        first.metadata.resource_version = Some("12".into());
        let second = claim(Some(first.clone()), "ns", "lease", "b");
        assert_eq!(second.metadata.resource_version.as_deref(), Some("12"));
        let (first, second) = (first.spec.unwrap(), second.spec.unwrap());
        assert_eq!((first.lease_transitions, second.lease_transitions), (Some(1), Some(2)));
        assert_eq!(second.holder_identity.as_deref(), Some("b"));
        let again =
            claim(Some(Lease { spec: Some(second.clone()), ..Lease::default() }), "ns", "lease", "b").spec.unwrap();
        assert_eq!((again.lease_transitions, again.acquire_time), (Some(2), second.acquire_time));
    }
}
