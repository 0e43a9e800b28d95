//! What to do next with the webhook's certificates: a pure decision.

use std::collections::BTreeSet;

/// SHA-256 of a certificate, in hex.
pub type CertificateId = String;

/// How far ahead of its making the validity of a certificate begins, in seconds, for clocks that are behind.
pub const BACKDATE: i64 = 300;
/// How long an authority is trusted before it signs, in seconds: every API server has taken over the bundle by then.
pub const SETTLE: i64 = 600;
/// How long an authority stays trusted after the leaf of its successor was made, in seconds: every webhook serves it by then.
pub const OVERLAP: i64 = 3600;
/// Life of an authority, in seconds.
pub const AUTHORITY_LIFE: i64 = 365 * 24 * 3600;
/// Life of a serving certificate, in seconds.
pub const LEAF_LIFE: i64 = 90 * 24 * 3600;

/// A certificate, with times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Which one.
    pub id: CertificateId,
    /// Begin of its validity.
    pub not_before: i64,
    /// End of its validity.
    pub not_after: i64,
}

impl Validity {
    fn valid(&self, now: i64) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// When it is to be replaced: after two thirds of its life.
    fn renewal(&self) -> i64 {
        self.not_after - (self.not_after - self.not_before) / 3
    }
}

/// The serving certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its validity.
    pub validity: Validity,
    /// The authority that signed it.
    pub issuer: Validity,
    /// Whether it has exactly the names it should have.
    pub named: bool,
}

/// What is there. What could not be read, or does not belong together, is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The authority that signs.
    pub signer: Option<Validity>,
    /// The authority that will sign next.
    pub next: Option<Validity>,
    /// Authorities that no longer sign and are still trusted.
    pub retired: Vec<Validity>,
    /// The serving certificate.
    pub leaf: Option<Leaf>,
    /// The authorities that every webhook configuration trusts; `None` while no configuration has a webhook.
    pub published: Option<BTreeSet<CertificateId>>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make an authority that signs at once: there is none that can.
    CreateAuthority,
    /// Make the authority that will sign next.
    PrepareAuthority,
    /// Write the bundle to every webhook configuration.
    Publish,
    /// Make the next authority the one that signs.
    Promote,
    /// Make a serving certificate.
    IssueLeaf,
    /// Trust retired authorities no longer.
    Drop,
    /// Nothing, until this time or a change.
    Wait(i64),
}

impl State {
    /// The authorities that have to be trusted.
    pub fn bundle(&self) -> BTreeSet<CertificateId> {
        let issuer = self.leaf.as_ref().map(|leaf| &leaf.issuer);
        let all = self.signer.iter().chain(&self.next).chain(&self.retired).chain(issuer);
        all.map(|authority| authority.id.clone()).collect()
    }

    fn trusts(&self, authority: &Validity) -> bool {
        self.published.as_ref().is_none_or(|published| published.contains(&authority.id))
    }
}

/// The next step at a time (seconds since 1970).
///
/// An authority signs only when every configuration trusts it, and is trusted until what it signed is gone, so that the
/// API server can verify the webhook at every moment in between.
pub fn next_step(now: i64, state: &State) -> Step {
    let Some(signer) = state.signer.as_ref().filter(|signer| signer.valid(now)) else {
        return Step::CreateAuthority;
    };
    let mut wake = signer.renewal();

    let current = state.leaf.as_ref().filter(|leaf| {
        leaf.named && leaf.issuer.id == signer.id && leaf.validity.valid(now) && now < leaf.validity.renewal()
    });
    let Some(leaf) = current else {
        return if state.trusts(signer) { Step::IssueLeaf } else { Step::Publish };
    };
    wake = wake.min(leaf.validity.renewal());

    if now >= signer.renewal() {
        match state.next.as_ref().filter(|next| next.valid(now)) {
            None => return Step::PrepareAuthority,
            Some(next) if !state.trusts(next) => return Step::Publish,
            Some(next) => {
                let ready = next.not_before + BACKDATE + SETTLE;
                if now >= ready {
                    return Step::Promote;
                }
                wake = ready;
            }
        }
    }
    if !state.retired.is_empty() {
        let over = leaf.validity.not_before + BACKDATE + OVERLAP;
        if now >= over {
            return Step::Drop;
        }
        wake = wake.min(over);
    }
    if state.published.as_ref().is_some_and(|published| *published != state.bundle()) {
        return Step::Publish;
    }
    Step::Wait(wake)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 2_000_000_000;

    fn authority(id: &str, made: i64) -> Validity {
        Validity { id: id.into(), not_before: made - BACKDATE, not_after: made - BACKDATE + AUTHORITY_LIFE }
    }

    fn leaf(issuer: &Validity, made: i64) -> Leaf {
        let validity =
            Validity { id: "leaf".into(), not_before: made - BACKDATE, not_after: made - BACKDATE + LEAF_LIFE };
        Leaf { validity, issuer: issuer.clone(), named: true }
    }

    fn published(ids: &[&str]) -> Option<BTreeSet<CertificateId>> {
        Some(ids.iter().map(|id| id.to_string()).collect())
    }

    fn settled() -> State {
        let signer = authority("a", NOW);
        State { leaf: Some(leaf(&signer, NOW)), signer: Some(signer), published: published(&["a"]), ..State::default() }
    }

    #[test]
    fn table() {
        let day = 24 * 3600;
        let old = authority("a", NOW - 300 * day);
        let next = |made| Some(authority("b", made));
        let aged = |change: &dyn Fn(&mut State)| {
            let mut state = State {
                signer: Some(old.clone()),
                leaf: Some(leaf(&old, NOW)),
                published: published(&["a"]),
                ..State::default()
            };
            change(&mut state);
            state
        };
        let with = |change: &dyn Fn(&mut State)| {
            let mut state = settled();
            change(&mut state);
            state
        };
        let cases: Vec<(&str, State, Step)> = vec![
            ("nothing is there", State::default(), Step::CreateAuthority),
            (
                "an authority and no configuration: the leaf can be made",
                State { signer: Some(authority("a", NOW)), ..State::default() },
                Step::IssueLeaf,
            ),
            ("settled", settled(), Step::Wait(NOW - BACKDATE + LEAF_LIFE - LEAF_LIFE / 3)),
            ("the leaf is gone", with(&|s| s.leaf = None), Step::IssueLeaf),
            ("the leaf has other names", with(&|s| s.leaf.iter_mut().for_each(|l| l.named = false)), Step::IssueLeaf),
            (
                "the leaf is past two thirds of its life",
                with(&|s| s.leaf = s.signer.as_ref().map(|a| leaf(a, NOW - 61 * day))),
                Step::IssueLeaf,
            ),
            (
                "the leaf is not valid yet",
                with(&|s| s.leaf = s.signer.as_ref().map(|a| leaf(a, NOW + day))),
                Step::IssueLeaf,
            ),
            (
                "the authority was lost: the new one is published before it signs",
                with(&|s| s.signer = Some(authority("c", NOW))),
                Step::Publish,
            ),
            (
                "and signs once it is",
                with(&|s| {
                    s.signer = Some(authority("c", NOW));
                    s.published = published(&["a", "c"]);
                }),
                Step::IssueLeaf,
            ),
            (
                "the authority has expired",
                with(&|s| s.signer = Some(authority("a", NOW - 366 * day))),
                Step::CreateAuthority,
            ),
            ("a rival emptied the bundle", with(&|s| s.published = published(&[])), Step::Publish),
            ("a rival added to the bundle", with(&|s| s.published = published(&["a", "x"])), Step::Publish),
            ("the authority is past two thirds of its life", aged(&|_| ()), Step::PrepareAuthority),
            ("the next one is published first", aged(&|s| s.next = next(NOW)), Step::Publish),
            (
                "then it settles",
                aged(&|s| {
                    s.next = next(NOW);
                    s.published = published(&["a", "b"]);
                }),
                Step::Wait(NOW + SETTLE),
            ),
            (
                "then it signs",
                aged(&|s| {
                    s.next = next(NOW - SETTLE);
                    s.published = published(&["a", "b"]);
                }),
                Step::Promote,
            ),
            (
                "once promoted it makes the leaf",
                aged(&|s| {
                    s.signer = next(NOW - SETTLE);
                    s.retired = vec![old.clone()];
                    s.published = published(&["a", "b"]);
                }),
                Step::IssueLeaf,
            ),
            (
                "the old one stays trusted while its leaf may still be served",
                aged(&|s| {
                    s.signer = next(NOW - SETTLE);
                    s.leaf = s.signer.as_ref().map(|a| leaf(a, NOW));
                    s.retired = vec![old.clone()];
                    s.published = published(&["a", "b"]);
                }),
                Step::Wait(NOW + OVERLAP),
            ),
            (
                "and is dropped afterwards",
                aged(&|s| {
                    s.signer = next(NOW - 2 * OVERLAP);
                    s.leaf = s.signer.as_ref().map(|a| leaf(a, NOW - OVERLAP));
                    s.retired = vec![old.clone()];
                    s.published = published(&["a", "b"]);
                }),
                Step::Drop,
            ),
            (
                "and taken out of the bundle",
                aged(&|s| {
                    s.signer = next(NOW - 2 * OVERLAP);
                    s.leaf = s.signer.as_ref().map(|a| leaf(a, NOW - OVERLAP));
                    s.published = published(&["a", "b"]);
                }),
                Step::Publish,
            ),
        ];
        for (name, state, expected) in cases {
            assert_eq!(next_step(NOW, &state), expected, "{name}");
        }
    }

    /// Two years, hour by hour: what the webhooks serve is trusted by what the API servers hold, at every moment.
    #[test]
    fn trust_never_breaks() {
        let mut state = State::default();
        let mut made = 0;
        let mut rotations = BTreeSet::new();
        let mut now = NOW;
        let mut served: Option<Leaf> = None;
        while now < NOW + 2 * AUTHORITY_LIFE {
            let mut steps = 0;
            loop {
                steps += 1;
                assert!(steps < 10, "no end of steps at {now}: {state:?}");
                match next_step(now, &state) {
                    Step::CreateAuthority | Step::PrepareAuthority => {
                        made += 1;
                        let new = Some(authority(&format!("ca{made}"), now));
                        if state.signer.is_none() { state.signer = new } else { state.next = new }
                    }
                    Step::Publish => state.published = Some(state.bundle()),
                    Step::Promote => {
                        state.retired.extend(state.signer.take());
                        state.signer = state.next.take();
                    }
                    Step::IssueLeaf => {
                        state.leaf = state.signer.as_ref().map(|signer| leaf(signer, now));
                        rotations.insert(now);
                    }
                    Step::Drop => state.retired.clear(),
                    Step::Wait(until) => {
                        assert!(until > now);
                        break;
                    }
                }
                state.published.get_or_insert_with(|| state.signer.iter().map(|s| s.id.clone()).collect());
                // The webhooks still serve what they served an hour ago.
                let published = state.published.clone().unwrap_or_default();
                if let Some(served) = &served {
                    assert!(
                        published.contains(&served.issuer.id),
                        "at {now}: {served:?} is not trusted by {published:?}"
                    );
                    assert!(served.validity.valid(now));
                }
                if let Some(leaf) = &state.leaf {
                    assert!(published.contains(&leaf.issuer.id));
                }
            }
            served = state.leaf.clone();
            now += 3600;
        }
        assert!(made >= 3, "{made} authorities");
        assert!(rotations.len() >= 12, "{} leaves", rotations.len());
    }
}
