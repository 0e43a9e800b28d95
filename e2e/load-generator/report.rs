//! What is printed: every figure, and whether the targets are met.

use std::time::Duration;

use super::processes::Memory;
use super::statistics::{Durations, Interval, median_interval};

/// Collects lines and prints them in the end.
pub struct Report {
    sections: Vec<(&'static str, Vec<String>)>,
    targets: Vec<String>,
}

impl Report {
    pub fn new(scale: String) -> Self {
        Self { sections: vec![("Scale", vec![scale, loads()])], targets: Vec::new() }
    }

    fn line(&mut self, section: &'static str, text: String) {
        eprintln!("load: {section}: {text}");
        match self.sections.iter_mut().find(|(name, _)| *name == section) {
            Some((_, lines)) => lines.push(text),
            None => self.sections.push((section, vec![text])),
        }
    }

    /// A figure that has a target which it must not exceed. Gives how it stands.
    fn target(&mut self, what: &str, found: f64, target: f64, unit: &str) {
        let verdict = if found <= target { "met" } else { "MISSED" };
        let ratio = found / target;
        self.targets
            .push(format!("{what:<46} {found:>9.3} {unit:<4} target {target:>7.3}  ratio {ratio:>6.3}  {verdict}"));
    }

    pub fn created(&mut self, what: &str, count: usize, took: Duration) {
        let rate = count as f64 / took.as_secs_f64();
        self.line(
            "Creation through the API server",
            format!("{count:>7} {what:<24} {:>7.1} s {rate:>7.0}/s", took.as_secs_f64()),
        );
    }

    pub fn took(&mut self, what: &str, took: Duration) {
        self.line("Start", format!("{what:<50} {:>7.1} s", took.as_secs_f64()));
    }

    pub fn convergence(&mut self, policies: usize, took: Duration) {
        self.target(&format!("{policies} policies in place after a cold start"), took.as_secs_f64(), 60.0, "s");
    }

    pub fn writes(&mut self, seconds: u64, counted: usize) {
        self.none(&format!("writes in {seconds} s without a change"), counted as f64);
    }

    /// A count that is to be zero, so that there is no ratio.
    fn none(&mut self, what: &str, counted: f64) {
        let verdict = if counted == 0.0 { "met" } else { "MISSED" };
        self.targets.push(format!("{what:<46} {counted:>9} {:<4} target {:>7}  ratio      -  {verdict}", "", 0));
    }

    pub fn memory(&mut self, what: &str, memory: Memory) {
        self.line("Memory (resident)", format!("{what:<40} {:>7.1} MiB, peak {:>7.1} MiB", memory.now, memory.peak));
        if what == "webhook at the end" {
            self.target("webhook memory, peak", memory.peak, 100.0, "MiB");
        }
    }

    pub fn decision(&mut self, what: &str, durations: &Durations) {
        self.line("Decision in process", format!("{what:<36} {}", quantiles(durations, 1e6, "us")));
        if what == "decide, all" {
            self.target("decision in process, p99", durations.quantile(0.99).as_secs_f64() * 1e6, 100.0, "us");
        }
    }

    pub fn webhook(&mut self, path: &str, clients: usize, durations: &Durations, took: Duration) {
        let rate = durations.count() as f64 / took.as_secs_f64();
        let text = format!("{path:<9} {clients:>3} in flight {rate:>7.0}/s  {}", quantiles(durations, 1e3, "ms"));
        self.line("Webhook alone, TLS, HTTP/1.1", text);
    }

    pub fn change(&mut self, what: &str, durations: &Durations) {
        self.line("From a change in the API to decisions", format!("{what:<36} {}", quantiles(durations, 1e3, "ms")));
        if what == "from the answer to the decision" {
            self.target("change to the index, p99", durations.quantile(0.99).as_secs_f64() * 1e3, 50.0, "ms");
        }
    }

    pub fn calls(&mut self, unrelated: u32, calls: f64, per_pod: f64) {
        self.line(
            "Calls of the webhook",
            format!("{calls} for {unrelated} unrelated pods, {per_pod} for each pod of an environment"),
        );
        self.none("webhook calls for unrelated pods", calls);
    }

    pub fn admission(
        &mut self,
        what: &'static str,
        target: f64,
        with: &Durations,
        without: &Durations,
        differences: &[f64],
    ) {
        const SECTION: &str = "Admission end to end, dry-run creation";
        self.line(SECTION, format!("{what:<22} with us    {}", quantiles(with, 1e3, "ms")));
        self.line(SECTION, format!("{what:<22} without us {}", quantiles(without, 1e3, "ms")));
        let ratio = with.quantile(0.5).as_secs_f64() / without.quantile(0.5).as_secs_f64();
        match median_interval(differences) {
            Some(Interval { low, median, high }) => {
                let pairs = differences.len();
                self.line(SECTION, format!("{what:<22} difference {median:.3} ms, 95 % of {pairs} pairs: {low:.3} to {high:.3} ms; ratio of medians {ratio:.3}"));
                self.target(&format!("{what}: added at the median"), median, target, "ms");
            }
            None => {
                self.line(SECTION, format!("{what:<22} too few pairs for an interval; ratio of medians {ratio:.3}"))
            }
        }
    }

    /// What asking costs at all, beside what ours adds.
    pub fn idle(&mut self, what: &str, durations: &Durations, idling: &[f64], ours: &[f64]) {
        const SECTION: &str = "Admission end to end, dry-run creation";
        self.line(SECTION, format!("{what:<32} {}", quantiles(durations, 1e3, "ms")));
        if let (Some(Interval { low, median, high }), Some(ours)) = (median_interval(idling), median_interval(ours)) {
            let ratio = ours.median / median;
            self.line(SECTION, format!("{what:<32} difference {median:.3} ms, 95 %: {low:.3} to {high:.3} ms; what we add is {ratio:.2} times that"));
        }
    }

    /// What the API server needs more for each request, in milliseconds on a processor.
    pub fn processor(&mut self, what: &str, differences: &[f64]) {
        if let Some(Interval { low, median, high }) = median_interval(differences) {
            let text = format!("{what:<32} difference {median:.3} ms, 95 %: {low:.3} to {high:.3} ms");
            self.line("Time of the API server on a processor, each request", text);
        }
    }

    pub fn print(mut self) {
        self.line("Scale", loads());
        for (section, lines) in &self.sections {
            println!("\n{section}");
            lines.iter().for_each(|line| println!("  {line}"));
        }
        println!("\nTargets");
        self.targets.iter().for_each(|line| println!("  {line}"));
    }
}

fn quantiles(durations: &Durations, per_second: f64, unit: &str) -> String {
    let at = |part: f64| durations.quantile(part).as_secs_f64() * per_second;
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    format!("p50 {p50:>8.2}  p99 {p99:>8.2}  p99.9 {p999:>8.2} {unit}  of {}", durations.count())
}

/// What else the machine does.
fn loads() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load average {}", text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
