//! Quantiles by hdrhistogram, and what is said of pairs.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// Durations in nanoseconds, to three digits.
pub struct Durations(Histogram<u64>);

impl Durations {
    /// None yet; up to a minute each.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 60_000_000_000, 3)?))
    }

    /// Adds one; more than a minute counts as a minute.
    pub fn add(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that this part of them does not exceed.
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(part))
    }
}

/// The median of differences, and the interval in which the true one lies with a probability of at least 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

/// The interval between order statistics: each difference is above the true median with probability 1/2, whatever their
/// distribution. `None` where there are too few for 95 %, which are 5.
pub fn median_interval(differences: &[f64]) -> Option<Interval> {
    let mut sorted = differences.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let mut chance = 0.5f64.powi(i32::try_from(count).ok()?);
    // The probability that at most `below` of them are on one side.
    let (mut tail, mut below) = (0.0, 0);
    loop {
        tail += chance;
        if tail > 0.025 {
            break;
        }
        chance *= (count - below) as f64 / (below + 1) as f64;
        below += 1;
    }
    let outer = below.checked_sub(1)?;
    Some(Interval { low: sorted[outer], median: median(&sorted)?, high: sorted[count - 1 - outer] })
}

/// The median; of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted.get(middle).copied(),
        _ => Some((sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From tables of the sign test: of 20 the 6th and the 15th (95.9 %), of 24 the 7th and the 18th (97.7 %), of 6 all.
    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        let numbers = |count: u32| (1..=count).rev().map(f64::from).collect::<Vec<_>>();
        assert_eq!(median_interval(&numbers(20)), Some(Interval { low: 6.0, median: 10.5, high: 15.0 }));
        assert_eq!(median_interval(&numbers(24)), Some(Interval { low: 7.0, median: 12.5, high: 18.0 }));
        assert_eq!(median_interval(&numbers(6)), Some(Interval { low: 1.0, median: 3.5, high: 6.0 }));
        assert_eq!(median_interval(&numbers(5)), None);
    }

    #[test]
    fn quantiles_are_of_all_that_was_added() {
        let mut durations = Durations::new().unwrap();
        for micros in 1..=1000 {
            durations.add(Duration::from_micros(micros));
        }
        let mut other = Durations::new().unwrap();
        other.add(Duration::from_secs(100));
        durations.merge(&other).unwrap();
        assert_eq!(durations.count(), 1001);
        let near = |part: f64, micros: f64| {
            let found = durations.quantile(part).as_secs_f64() * 1e6;
            assert!((found / micros - 1.0).abs() < 0.002, "{part}: {found}");
        };
        near(0.5, 501.0);
        near(0.99, 991.0);
        near(1.0, 60e6);
    }
}
