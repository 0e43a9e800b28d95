//! `kubectl weightlock`.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use weightlock::cli::{Cli, Console, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut console = Console { input: &mut stdin(), out: &mut stdout(), err: &mut stderr() };
    match run(&cli, &mut console).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
