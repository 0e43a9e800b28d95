//! `kubectl weightlock`: the rules and the verifier at hand. It has no rules of its own: what it says is what
//! [`crate::domain`] and [`crate::verifier`] say.
//!
//! Exit codes: 0 for yes, 1 for "refused", 2 for an error; `digest` and `verify` have those of the verifier
//! ([`crate::verifier::finding::exit`]).

pub mod access;
pub mod audit;
pub mod check;
pub mod clear;
pub mod cluster;
pub mod declare;
pub mod digest;
pub mod error;
pub mod explain;
pub mod impact;
pub mod judge;
pub mod keys;
pub mod manifests;
pub mod reach;
pub mod register;
pub mod register_job;
pub mod seal;
pub mod shards;
pub mod sign;
pub mod verify;

use std::io::{Read, Write};

use clap::{Parser, Subcommand};

use cluster::ConnectionArgs;
pub use error::CliError;

/// Model-weight segmentation for Kubernetes, at hand.
#[derive(Parser, Debug)]
#[command(name = "kubectl weightlock", bin_name = "kubectl weightlock", version, about)]
pub struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say what admission would say of manifests. Exit code: 0 allowed, 1 refused, 2 error.
    Check(check::CheckArgs),
    /// Say which running pods the first Enforce would refuse. Exit code: 0 none, 1 some, 2 error.
    Impact(impact::ImpactArgs),
    /// Say which running pods reach their node without being its agents. Exit code: 0 none, 1 some, 2 error.
    Audit(audit::AuditArgs),
    /// Say who could reach the weights of environments past admission, by what RBAC grants.
    Access(access::AccessArgs),
    /// Say whether one end may connect to another, and which rule declares it. Exit code: 0 declared, 1 not, 2 error.
    Reach(reach::ReachArgs),
    /// Explain a rule, or list all of them.
    Explain {
        /// The rule, such as WL-101.
        rule: Option<String>,
    },
    /// Hash a directory and print its WeightArtifact: manifest, digest and all.
    Digest(digest::DigestArgs),
    /// Hash a claim from within the cluster and declare it.
    Register(register::RegisterArgs),
    /// Hash an open artifact from within the cluster and set its digest, once nobody writes it any more.
    Seal(seal::SealArgs),
    /// Let weights be mounted again that were found tampered with.
    Clear(clear::ClearArgs),
    /// Sign a directory: OpenSSF Model Signing (OMS) v1.0.
    Sign(sign::SignArgs),
    /// Verify a directory against a digest, a signature or both, as the init container does. Exit codes are those of
    /// weightlock-verify.
    Verify(verify::VerifyArgs),
}

/// What a command reads and writes.
pub struct Console<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output: results.
    pub out: &'a mut dyn Write,
    /// Standard error: progress.
    pub err: &'a mut dyn Write,
}

/// Runs a command, and returns its exit code.
///
/// # Errors
/// Where the command could not do what it was asked for. [`CliError::exit_code`] then is the exit code.
pub async fn run(cli: &Cli, console: &mut Console<'_>) -> Result<u8, CliError> {
    let refused = |allowed: bool| u8::from(!allowed);
    match &cli.command {
        Command::Check(args) => {
            check::run(args, &cli.connection, console.input, console.out, console.err).await.map(refused)
        }
        Command::Impact(args) => impact::run(args, &cli.connection, console.out).await.map(refused),
        Command::Audit(args) => audit::run(args, &cli.connection, console.out).await.map(refused),
        Command::Access(args) => access::run(args, &cli.connection, console.out).await.map(|()| 0),
        Command::Reach(args) => reach::run(args, &cli.connection, console.out).await.map(refused),
        Command::Explain { rule } => {
            console.out.write_all(explain::explain(rule.as_deref())?.as_bytes())?;
            Ok(0)
        }
        Command::Digest(args) => digest::run(args, console.out, console.err).map(|()| 0),
        Command::Register(args) => register::run(args, &cli.connection, console.out, console.err).await.map(|()| 0),
        Command::Seal(args) => seal::run(args, &cli.connection, console.out, console.err).await.map(|()| 0),
        Command::Clear(args) => clear::run(args, &cli.connection, console.out, console.err).await.map(|()| 0),
        Command::Sign(args) => sign::run(args, console.out, console.err).map(|()| 0),
        Command::Verify(args) => verify::run(args, console.out, console.err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
