//! `impact`: which running pods the first Enforce would refuse.

use std::io::Write;

use clap::Args;

use super::check::OutputFormat;
use super::cluster::ConnectionArgs;
use super::error::CliError;
use super::judge::{Verdict, count_by_rule, judge};
use crate::api::Mode;
use crate::domain::World;
use crate::domain::workload::Subject;
use crate::index;

/// What is looked at.
#[derive(Args, Clone, Debug)]
pub struct ImpactArgs {
    /// Look at this environment only. May be repeated.
    #[arg(long = "environment", value_name = "NAME")]
    pub environments: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: OutputFormat,
}

/// Prints the impact, and returns whether no pod would be refused.
///
/// # Errors
/// Where the cluster cannot be listed, or an environment that was named is not there.
pub async fn run(args: &ImpactArgs, connection: &ConnectionArgs, out: &mut dyn Write) -> Result<bool, CliError> {
    let connected = connection.connect().await?;
    let settings = connection.settings(&connected.client).await?;
    let world = index::snapshot(&connected.client, settings).await?;
    let verdicts = impact(&world, &args.environments)?;
    print(&verdicts, args.output, out)?;
    Ok(verdicts.iter().all(|verdict| verdict.allowed))
}

/// The verdicts on the running pods of environments, were admission and verification enforced there.
///
/// # Errors
/// Where an environment that was named is not there.
pub fn impact(world: &World, environments: &[String]) -> Result<Vec<Verdict>, CliError> {
    if let Some(absent) = environments.iter().find(|name| !world.environments.contains_key(*name)) {
        let known: Vec<_> = world.environments.keys().map(String::as_str).collect();
        return Err(CliError::Value {
            option: "--environment",
            value: absent.clone(),
            problem: format!("does not exist: name one of [{}]", known.join(", ")),
        });
    }
    let chosen = |name: &String| environments.is_empty() || environments.contains(name);
    let mut enforced = world.clone();
    for name in world.environments.keys().filter(|name| chosen(name)) {
        if let Some(environment) = enforced.environments.get_mut(name) {
            environment.modes.admission = Mode::Enforce;
            environment.modes.verification = Mode::Enforce;
        }
    }
    let mut verdicts = Vec::new();
    for ((namespace, name), pod) in &world.pods {
        let member = world
            .environments
            .iter()
            .any(|(environment, held)| chosen(environment) && held.members.iter().any(|m| m.namespace == *namespace));
        if member && !pod.ended() {
            verdicts.push(judge(&enforced, &Subject::running_pod(namespace, name, pod.unpack()), ""));
        }
    }
    Ok(verdicts)
}

fn print(verdicts: &[Verdict], format: OutputFormat, out: &mut dyn Write) -> Result<(), CliError> {
    let refused: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.allowed).collect();
    if format == OutputFormat::Json {
        let json = serde_json::json!({"pods": verdicts.len(), "refused": refused});
        writeln!(out, "{json:#}")?;
        return Ok(out.flush()?);
    }
    for verdict in &refused {
        writeln!(out, "{}\n", verdict.denial.trim_end())?;
    }
    writeln!(
        out,
        "{} of {} running pods in environment namespaces would be refused if they were made again under Enforce.",
        refused.len(),
        verdicts.len()
    )?;
    for (rule, pods) in count_by_rule(verdicts) {
        writeln!(
            out,
            "  {rule}: {pods} {}   (kubectl weightlock explain {rule})",
            if pods == 1 { "pod" } else { "pods" }
        )?;
    }
    if !refused.is_empty() {
        writeln!(out, "Running pods are not stopped by Enforce; the refusal comes when they are replaced.")?;
    }
    Ok(out.flush()?)
}
