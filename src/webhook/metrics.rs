//! What the webhook counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Metrics of the webhook. Clones share their values.
#[derive(Clone)]
pub struct WebhookMetrics {
    requests: Family<RequestLabels, Counter>,
    rules: Family<RuleLabels, Counter>,
    duration: Family<WebhookLabels, Histogram>,
    /// End of life of the serving certificate in seconds since 1970; 0 while there is none.
    pub certificate_expiry: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    webhook: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
    effect: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: &'static str,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            rules: Family::default(),
            duration: Family::new_with_constructor(|| {
                Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0])
            }),
            certificate_expiry: Gauge::default(),
        }
    }
}

impl WebhookMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "weightlock_admission_requests",
            "Admission requests by webhook and verdict",
            self.requests.clone(),
        );
        registry.register(
            "weightlock_admission_rules",
            "Broken rules, by effect: denied or warned",
            self.rules.clone(),
        );
        registry.register("weightlock_admission_duration_seconds", "Time to answer, by webhook", self.duration.clone());
        registry.register(
            "weightlock_webhook_certificate_expiry_timestamp_seconds",
            "End of life of the serving certificate; 0 while there is none",
            self.certificate_expiry.clone(),
        );
    }

    pub(super) fn request(&self, webhook: &'static str, verdict: &'static str, took: std::time::Duration) {
        self.requests.get_or_create(&RequestLabels { webhook, verdict }).inc();
        self.duration.get_or_create(&WebhookLabels { webhook }).observe(took.as_secs_f64());
    }

    pub(super) fn rule(&self, rule: &str, effect: &'static str) {
        self.rules.get_or_create(&RuleLabels { rule: rule.to_owned(), effect }).inc();
    }
}
