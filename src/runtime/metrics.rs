//! Metrics in the OpenMetrics text format.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The registry of the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Registers metrics; their names begin with `weightlock_`.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// If a metric cannot be formatted.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(out)
    }
}

/// Labels of [`Writes`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    kind: String,
    verb: &'static str,
}

/// Counts what is written to the API server (`weightlock_writes_total`). In steady state it does not move.
#[derive(Clone, Default)]
pub struct Writes(Family<WriteLabels, Counter>);

impl Writes {
    /// A counter registered with `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let writes = Self::default();
        metrics.register(|registry| {
            registry.register("weightlock_writes", "Writes to the API server, by kind and verb", writes.0.clone());
        });
        writes
    }

    /// Counts one write.
    pub fn count(&self, kind: &str, verb: &'static str) {
        self.0.get_or_create(&WriteLabels { kind: kind.into(), verb }).inc();
    }
}

/// Labels of [`Reconciles`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    kind: String,
    result: &'static str,
}

/// Counts runs of recipes by kind and result (`weightlock_reconciles_total`), and says who leads (`weightlock_leader`).
#[derive(Clone, Default)]
pub struct Reconciles {
    runs: Family<ReconcileLabels, Counter>,
    /// 1 while this process is the leader.
    pub leader: Gauge,
}

impl Reconciles {
    /// Counters registered with `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let reconciles = Self::default();
        metrics.register(|registry| {
            registry.register("weightlock_reconciles", "Runs of recipes, by kind and result", reconciles.runs.clone());
            registry.register("weightlock_leader", "1 while this process is the leader", reconciles.leader.clone());
        });
        reconciles
    }

    /// Counts one run.
    pub fn count(&self, kind: &str, result: &'static str) {
        self.runs.get_or_create(&ReconcileLabels { kind: kind.into(), result }).inc();
    }
}

/// Labels of [`Access`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AccessLabels {
    environment: String,
    way: &'static str,
}

/// How many subjects could reach the weights of an environment past admission, by way (`weightlock_access_subjects`).
#[derive(Clone, Default)]
pub struct Access(Family<AccessLabels, Gauge>);

impl Access {
    /// Gauges registered with `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let access = Self::default();
        metrics.register(|registry| {
            let help = "Subjects whose rights let them past admission, by environment and way";
            registry.register("weightlock_access_subjects", help, access.0.clone());
        });
        access
    }

    /// What was found for an environment: every way, with how many there are.
    pub fn set(&self, environment: &str, found: impl IntoIterator<Item = (&'static str, usize)>) {
        for (way, subjects) in found {
            let labels = AccessLabels { environment: environment.into(), way };
            self.0.get_or_create(&labels).set(i64::try_from(subjects).unwrap_or(i64::MAX));
        }
    }

    /// The environment is gone.
    pub fn forget(&self, environment: &str, ways: impl IntoIterator<Item = &'static str>) {
        for way in ways {
            self.0.remove(&AccessLabels { environment: environment.into(), way });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_exposed_by_kind_and_verb() {
        let metrics = Metrics::default();
        let writes = Writes::new(&metrics);
        writes.count("NetworkPolicy", "apply");
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"weightlock_writes_total{kind="NetworkPolicy",verb="apply"} 1"#), "{text}");
    }
}
