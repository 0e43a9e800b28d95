//! The init container that verifies weights before anything reads them.

use std::io::{IsTerminal as _, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use weightlock::verifier::finding::exit;
use weightlock::verifier::progress::Style;
use weightlock::verifier::{Surroundings, run};

fn main() -> ExitCode {
    let stoppable = Arc::new(AtomicBool::new(false));
    let always = Arc::new(AtomicBool::new(true));
    // As process 1 of its container it would not be ended by signals that it does not handle. What is registered first decides.
    for (signal, code, condition) in [
        (SIGTERM, exit::VERIFIED, &stoppable),
        (SIGTERM, exit::TERMINATED, &always),
        (SIGINT, exit::INTERRUPTED, &always),
    ] {
        if let Err(error) = signal_hook::flag::register_conditional_shutdown(signal, code.into(), condition.clone()) {
            eprintln!("weightlock-verify: signal {signal} cannot be handled: {error}");
            return ExitCode::from(exit::USAGE);
        }
    }
    let style = if stderr().is_terminal() { Style::Bar } else { Style::Lines };
    let mut around = Surroundings {
        stdout: &mut stdout().lock(),
        stderr: &mut stderr().lock(),
        style,
        termination_log: Path::new("/dev/termination-log"),
        stoppable: &stoppable,
    };
    ExitCode::from(run(std::env::args_os().skip(1), &mut around))
}
