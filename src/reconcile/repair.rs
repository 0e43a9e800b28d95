//! How often what is ours had to be put back, and by whom it was changed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::apply::ObjectId;

/// After this long without drift an object counts as undisturbed again.
const QUIET: Duration = Duration::from_secs(600);
/// So many repairs within [`QUIET`] of one another make a contest.
const CONTEST: u32 = 3;
/// The longest wait before a repair.
const LONGEST: Duration = Duration::from_secs(300);

/// When to put an object back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At once.
    Now,
    /// Not before this time.
    Later(Instant),
}

/// An object that someone keeps changing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// The object.
    pub object: ObjectId,
    /// The field manager that changes it; `None` if it deletes it, which leaves no trace of who.
    pub manager: Option<String>,
    /// How often it was put back.
    pub repairs: u32,
    /// When it counts as undisturbed, if nothing more happens.
    pub until: Instant,
}

#[derive(Debug)]
struct Record {
    repairs: u32,
    last: Instant,
    next: Instant,
    manager: Option<String>,
}

/// The repairs of all objects.
#[derive(Debug, Default)]
pub struct Repairs(HashMap<ObjectId, Record>);

impl Repairs {
    /// Notes that an object was changed by `manager` and says when to put it back: at once the first time, later and
    /// later if it happens again.
    pub fn drift(&mut self, id: &ObjectId, manager: Option<String>, now: Instant) -> Verdict {
        let Some(record) = self.0.get_mut(id).filter(|record| now < record.last + QUIET) else {
            let next = now + Duration::from_secs(1);
            self.0.insert(id.clone(), Record { repairs: 1, last: now, next, manager });
            return Verdict::Now;
        };
        record.manager = manager.or(record.manager.take());
        if now < record.next {
            return Verdict::Later(record.next);
        }
        let pause = Duration::from_secs(1u64 << record.repairs.min(9)).min(LONGEST);
        record.repairs += 1;
        record.last = now;
        record.next = now + pause;
        Verdict::Now
    }

    /// Notes that an object was found as it should be.
    pub fn quiet(&mut self, id: &ObjectId, now: Instant) {
        if self.0.get(id).is_some_and(|record| now >= record.last + QUIET) {
            self.0.remove(id);
        }
    }

    /// Forgets an object that is no longer wanted.
    pub fn forget(&mut self, id: &ObjectId) {
        self.0.remove(id);
    }

    /// The contested ones among these objects, in their order.
    pub fn contests<'a>(&self, ids: impl IntoIterator<Item = &'a ObjectId>, now: Instant) -> Vec<Contest> {
        ids.into_iter()
            .filter_map(|id| self.0.get(id).map(|record| (id, record)))
            .filter(|(_, record)| record.repairs >= CONTEST && now < record.last + QUIET)
            .map(|(id, record)| Contest {
                object: id.clone(),
                manager: record.manager.clone(),
                repairs: record.repairs,
                until: record.last + QUIET,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ObjectId {
        ObjectId::new("NetworkPolicy", Some("a"), "b")
    }

    #[test]
    fn the_first_repair_is_at_once_and_later_ones_back_off() {
        let (mut repairs, start) = (Repairs::default(), Instant::now());
        assert_eq!(repairs.drift(&id(), None, start), Verdict::Now);
        assert_eq!(repairs.drift(&id(), None, start), Verdict::Later(start + Duration::from_secs(1)));
        let second = start + Duration::from_secs(1);
        assert_eq!(repairs.drift(&id(), None, second), Verdict::Now);
        assert_eq!(repairs.drift(&id(), None, second), Verdict::Later(second + Duration::from_secs(2)));
    }

    #[test]
    fn the_pause_is_bounded() {
        let (mut repairs, mut now) = (Repairs::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(repairs.drift(&id(), None, now), Verdict::Now);
            now += LONGEST;
        }
    }

    #[test]
    fn a_rival_is_named_from_the_third_repair_until_it_stays_away() {
        let (mut repairs, mut now) = (Repairs::default(), Instant::now());
        for round in 1..=3 {
            assert_eq!(repairs.contests([&id()], now), [], "round {round}");
            repairs.drift(&id(), Some("kubectl-edit".into()), now);
            now += Duration::from_secs(5);
        }
        let contests = repairs.contests([&id()], now);
        assert_eq!(contests.len(), 1);
        assert_eq!((contests[0].manager.as_deref(), contests[0].repairs), (Some("kubectl-edit"), 3));
        now += QUIET;
        assert_eq!(repairs.contests([&id()], now), []);
        repairs.quiet(&id(), now);
        assert_eq!(repairs.drift(&id(), None, now), Verdict::Now);
    }
}
