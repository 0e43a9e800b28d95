//! Re-verification: the same check again and again while the server runs, in the background.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::args::{ManifestArg, ReportFormat, Target};
use super::engine::{self, Verification};
use super::finding::Findings;
use super::open::brought;
use super::pool::How;
use super::progress::{Progress, duration, size};
use super::report::{self, Outcome, Report};
use super::{Surroundings, finish};

/// After a pass that could not decide, the next comes no later than this.
const RETRY: Duration = Duration::from_secs(60);

/// How often, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// Time between the end of a pass and the beginning of the next; before the first too, since the volume was verified then.
    pub every: Duration,
    /// Bytes per second that are not exceeded.
    pub max_bytes_per_second: NonZeroU64,
}

/// Verifies until something is not as it was ([`super::finding::exit::DRIFT`]), or until two passes in a row could not decide.
///
/// A signal to stop ends it with 0 as long as every pass has verified; after one that could not, with the signal's own code.
pub fn run(targets: &[Target], again: Again, format: ReportFormat, around: &mut Surroundings<'_>) -> u8 {
    let Again { every, max_bytes_per_second } = again;
    // Where the priority cannot be lowered, the limit of bytes still holds.
    let _ = rustix::process::nice(19);
    let pace = format!("every {}, at most {}/s", duration(every), size(max_bytes_per_second.get()));
    let waiting = format!("Re-verification {pace}: no pass has ended yet.\n");
    report::write_termination_message(around.termination_log, &waiting);
    around.stoppable.store(true, Ordering::SeqCst);
    let _ = around.stderr.write_all(waiting.as_bytes());
    let targets = match held(targets) {
        Ok(targets) => targets,
        Err(findings) => {
            around.stoppable.store(false, Ordering::SeqCst);
            let verification = Verification { findings, ..Verification::default() };
            return finish(&Report::new(verification, Duration::ZERO), format, around);
        }
    };
    let mut undecided = false;
    loop {
        std::thread::sleep(if undecided { every.min(RETRY) } else { every });
        let started = Instant::now();
        let how = How::background(max_bytes_per_second);
        let verification = engine::verify_as(&targets, &how, &mut Progress::silent());
        let report = Report::again(verification, started.elapsed());
        let outcome = report.outcome();
        if outcome != Outcome::Verified {
            around.stoppable.store(false, Ordering::SeqCst);
        }
        let code = finish(&report, format, around);
        match outcome {
            // The result that cannot be written is a failure too.
            Outcome::Verified if code == 0 => {
                undecided = false;
                around.stoppable.store(true, Ordering::SeqCst);
            }
            Outcome::Undecided if !undecided => {
                undecided = true;
                let retry = duration(every.min(RETRY));
                let _ = writeln!(around.stderr, "weightlock-verify: tried once more in {retry}; then this ends it");
            }
            _ => return code,
        }
    }
}

/// The targets as every pass looks at them: without signatures, and with the manifests that were brought to the pod as they
/// are now.
///
/// An object of the pod's namespace carries those. Who changes it later, changes nothing in the volume, so it must not pass
/// for drift, which blocks the weights everywhere.
fn held(targets: &[Target]) -> Result<Vec<Target>, Findings> {
    let mut findings = Findings::default();
    let mut held = Vec::new();
    for target in targets {
        let mut target = target.clone().without_signature();
        if let ManifestArg::Shards(directory) = &target.manifest {
            let mut text = Vec::new();
            let Some(manifest) = brought(&target, directory, &mut findings) else { continue };
            // Neither fails: writing to memory does not, and JSON is UTF-8.
            let _ = manifest.write_canonical(&mut text);
            target.manifest = ManifestArg::Inline(String::from_utf8(text).unwrap_or_default());
        }
        held.push(target);
    }
    if findings.is_empty() { Ok(held) } else { Err(findings) }
}
