//! `weightlock-verify`: are these exactly the bytes that the digest pins?
//!
//! It exits 0 only if every artifact it was given is complete, unchanged and free of anything else; whatever it cannot
//! decide has an exit code of its own ([`finding::exit`]).

pub mod again;
pub mod algorithm;
pub mod args;
pub mod beneath;
pub mod content;
pub mod engine;
pub mod finding;
pub mod formats;
pub mod hash;
pub mod huggingface;
pub mod inode;
mod listed;
pub mod look;
pub mod manifest;
pub mod oms;
mod open;
pub mod pool;
pub mod progress;
pub mod read;
pub mod report;
pub mod shards;
pub mod signed;
pub mod store;
pub mod subtree;
mod texts;
pub mod transcript;
pub mod walk;

use std::ffi::OsString;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use args::{Command, DigestArgs, ReportFormat, Target};
use finding::exit;
use pool::How;
use progress::{Progress, Style};
use report::Report;

/// What the process has around it.
pub struct Surroundings<'a> {
    /// Where the result goes.
    pub stdout: &'a mut dyn Write,
    /// Where progress and errors go.
    pub stderr: &'a mut dyn Write,
    /// How progress is shown.
    pub style: Style,
    /// Where the kubelet reads the termination message.
    pub termination_log: &'a Path,
    /// Set while being told to stop is no failure: in re-verification, as long as every pass has verified.
    pub stoppable: &'a AtomicBool,
}

/// Runs `weightlock-verify` with these arguments, the name of the program left out, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, around: &mut Surroundings<'_>) -> u8 {
    let command = match args::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            let message = format!("Undecided (exit code {}): wrong arguments: {error}\n", exit::USAGE);
            report::write_termination_message(around.termination_log, &message);
            let _ = around.stderr.write_all(message.as_bytes());
            return exit::USAGE;
        }
    };
    match command {
        Command::Help => print(around, args::HELP, exit::VERIFIED),
        Command::Version => {
            print(around, concat!("weightlock-verify ", env!("CARGO_PKG_VERSION"), "\n"), exit::VERIFIED)
        }
        Command::Verify { targets, report, threads, again: None } => verify(&targets, report, threads, around),
        Command::Verify { targets, report, again: Some(again), .. } => again::run(&targets, again, report, around),
        Command::Digest(args) => digest(&args, around),
    }
}

fn print(around: &mut Surroundings<'_>, text: &str, code: u8) -> u8 {
    match around.stdout.write_all(text.as_bytes()).and_then(|()| around.stdout.flush()) {
        Ok(()) => code,
        Err(error) => {
            let _ = writeln!(around.stderr, "weightlock-verify: the result cannot be written: {error}");
            if code == exit::VERIFIED { exit::OUTPUT } else { code }
        }
    }
}

/// Verifies targets, reports, and returns the exit code.
pub fn verify(
    targets: &[Target],
    format: ReportFormat,
    threads: Option<NonZeroUsize>,
    around: &mut Surroundings<'_>,
) -> u8 {
    report::write_termination_message(around.termination_log, report::UNFINISHED);
    let started = Instant::now();
    let how = How::on(threads);
    let verification = engine::verify_as(targets, &how, &mut Progress::new(around.style, around.stderr));
    finish(&Report::new(verification, started.elapsed()), format, around)
}

/// Reports what was found, and returns the exit code.
pub fn finish(report: &Report, format: ReportFormat, around: &mut Surroundings<'_>) -> u8 {
    let text = report.text();
    report::write_termination_message(around.termination_log, &text);
    let printed = match format {
        ReportFormat::Text => Ok(text),
        ReportFormat::Json => report.json().map(|json| json + "\n"),
    };
    match printed {
        Ok(printed) => print(around, &printed, report.exit_code()),
        Err(error) => {
            let _ = writeln!(around.stderr, "weightlock-verify: the report cannot be made: {error}");
            exit::OUTPUT
        }
    }
}

fn digest(args: &DigestArgs, around: &mut Surroundings<'_>) -> u8 {
    report::write_termination_message(around.termination_log, report::UNFINISHED);
    let started = Instant::now();
    let target = args.manifest.as_deref().filter(|_| args.write_manifest);
    if let Some(manifest) = target {
        store::remove_leftover(&args.root, args.path.as_deref(), manifest);
    }
    let manifest = match engine::digest("(new)", args, &mut Progress::new(around.style, around.stderr)) {
        Ok(manifest) => manifest,
        Err(findings) => {
            let report = Report::without_manifest(findings, started.elapsed());
            return finish(&report, ReportFormat::Text, around);
        }
    };
    if let Some(target) = target
        && let Err(error) = store::write(&args.root, args.path.as_deref(), target, &manifest)
    {
        let message = format!("Not hashed (exit code {}): the manifest cannot be written: {error}\n", exit::OUTPUT);
        report::write_termination_message(around.termination_log, &message);
        let _ = around.stderr.write_all(message.as_bytes());
        return exit::OUTPUT;
    }
    let summary = transcript::summary(&manifest);
    let message = format!("Hashed: {} files, {}, {}\n", summary.files, progress::size(summary.bytes), summary.digest);
    report::write_termination_message(around.termination_log, &message);
    match transcript::write(&manifest, target.is_none(), around.stdout) {
        Ok(()) => exit::VERIFIED,
        Err(error) => {
            let _ = writeln!(around.stderr, "weightlock-verify: the manifest cannot be printed: {error}");
            exit::OUTPUT
        }
    }
}
