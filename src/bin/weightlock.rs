//! The operator: `controller`, `webhook`, `uninstall` and `crds`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weightlock::{
    api, reconcile,
    runtime::{InstallationArgs, Process, ProcessArgs},
    webhook::{self, WebhookArgs},
};

#[derive(Parser)]
#[command(name = "weightlock", version, about = "Model-weight segmentation for Kubernetes")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write policies, webhook configurations and status for the declared artifacts and environments.
    Controller {
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Decide on pods when the API server asks.
    Webhook {
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        installation: InstallationArgs,
        #[command(flatten)]
        webhook: WebhookArgs,
    },
    /// Take away what would outlive Weightlock and stand in the way; declarations and NetworkPolicies stay.
    Uninstall {
        #[command(flatten)]
        process: ProcessArgs,
        /// Namespace that Weightlock runs in.
        #[arg(long, env = "POD_NAMESPACE", default_value = "weightlock-system")]
        own_namespace: String,
    },
    /// Print the custom resource definitions as YAML.
    Crds,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Controller { process, installation } => run(async move {
            let process = Process::start(&process).await?;
            reconcile::run(&process, installation.settings()).await?;
            Ok(())
        }),
        Command::Webhook { process, installation, webhook } => run(async move {
            let process = Process::start(&process).await?;
            webhook::run(&process, installation.settings(), &webhook).await?;
            Ok(())
        }),
        Command::Uninstall { process, own_namespace } => run(async move {
            let process = Process::start(&process).await?;
            Ok(reconcile::uninstall::run(&process, &own_namespace).await?)
        }),
        Command::Crds => crds(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weightlock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(service: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(service)
}

fn crds() -> anyhow::Result<()> {
    for definition in api::definitions() {
        println!("---\n{}", serde_saphyr::to_string(&definition)?.trim_end());
    }
    Ok(())
}
