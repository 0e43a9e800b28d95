//! Progress: log lines in a pod, a bar on a terminal.

use std::io::Write;
use std::time::{Duration, Instant};

/// At most one line in this time in a log.
pub const LOG_INTERVAL: Duration = Duration::from_secs(2);
const BAR_INTERVAL: Duration = Duration::from_millis(200);
const BAR_WIDTH: u64 = 24;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Silent,
    /// A line at most every two seconds.
    Lines,
    /// One line that is written again and again.
    Bar,
}

/// Counts bytes and says how far it is.
pub struct Progress<'a> {
    style: Style,
    target: Option<&'a mut dyn Write>,
    label: String,
    total: u64,
    done: u64,
    started: Instant,
    shown: Instant,
}

impl<'a> Progress<'a> {
    /// Progress that is shown on `target`.
    pub fn new(style: Style, target: &'a mut dyn Write) -> Self {
        Self { target: Some(target), style, ..Self::silent() }
    }

    /// Progress that is not shown.
    pub fn silent() -> Self {
        let now = Instant::now();
        Self { style: Style::Silent, target: None, label: String::new(), total: 0, done: 0, started: now, shown: now }
    }

    /// Begins to count to `total` bytes.
    pub fn begin(&mut self, label: &str, total: u64) {
        let now = Instant::now();
        (self.total, self.done, self.started, self.shown) = (total, 0, now, now);
        label.clone_into(&mut self.label);
    }

    /// Bytes counted since [`Self::begin`].
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Counts up to so many bytes. To be called a few times a second, also where nothing was read.
    pub fn reach(&mut self, bytes: u64) {
        self.done = bytes;
        let interval = match self.style {
            Style::Silent => return,
            Style::Lines => LOG_INTERVAL,
            Style::Bar => BAR_INTERVAL,
        };
        if self.shown.elapsed() >= interval {
            self.shown = Instant::now();
            self.show();
        }
    }

    /// Time since [`Self::begin`].
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Clears the bar.
    pub fn end(&mut self) {
        if let (Style::Bar, Some(target)) = (self.style, &mut self.target) {
            let _ = write!(target, "\r\x1b[K").and_then(|()| target.flush());
        }
    }

    // Progress that cannot be shown does not change what is verified.
    fn show(&mut self) {
        let text = describe(&self.label, self.done, self.total, self.started.elapsed());
        let Some(target) = &mut self.target else { return };
        let _ = match self.style {
            Style::Silent => Ok(()),
            Style::Lines => writeln!(target, "{text}"),
            Style::Bar => {
                let full = (self.done.saturating_mul(BAR_WIDTH)).checked_div(self.total).unwrap_or(0).min(BAR_WIDTH);
                let (full, rest) = ("#".repeat(full as usize), "-".repeat((BAR_WIDTH - full) as usize));
                write!(target, "\r[{full}{rest}] {text}\x1b[K").and_then(|()| target.flush())
            }
        };
    }
}

fn describe(label: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
    let left = if rate > 0.0 {
        format!("{} left", duration(Duration::from_secs_f64((total.saturating_sub(done)) as f64 / rate)))
    } else {
        "time left unknown".into()
    };
    format!("{label}: {} of {} ({percent}%), {}/s, {left}", size(done), size(total), size(rate as u64))
}

/// A number of bytes for people, in binary units: `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A length of time for people: `0.4s`, `59s`, `1m40s`, `2h05m`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_bytes_rate_and_time_left() {
        let line = describe("orion", 12 << 30, 120 << 30, Duration::from_secs(10));
        assert_eq!(line, "orion: 12.0 GiB of 120.0 GiB (10%), 1.2 GiB/s, 1m30s left");
        assert_eq!(describe("orion", 0, 10, Duration::ZERO), "orion: 0 B of 10 B (0%), 0 B/s, time left unknown");
        assert_eq!(describe("orion", 0, 0, Duration::ZERO), "orion: 0 B of 0 B (100%), 0 B/s, time left unknown");
    }

    #[test]
    fn sizes_and_times_are_readable() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, (1 << 30) - 1, u64::MAX].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 GiB", "16.0 EiB"]
        );
        assert_eq!(
            [0.4, 59.9, 100.0, 7500.0].map(|seconds| duration(Duration::from_secs_f64(seconds))),
            ["0.4s", "59s", "1m40s", "2h05m"]
        );
    }

    #[test]
    fn a_log_gets_no_more_than_one_line_in_two_seconds() {
        let mut log = Vec::new();
        let mut progress = Progress::new(Style::Lines, &mut log);
        progress.begin("a", 100);
        (1..=50).for_each(|bytes| progress.reach(bytes));
        progress.shown -= LOG_INTERVAL;
        (51..=100).for_each(|bytes| progress.reach(bytes));
        progress.end();
        let log = String::from_utf8(log).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.starts_with("a: 51 B of 100 B (51%), "), "{log}");
    }
}
