//! The load generator behind `e2e/load`: fills a real API server with synthetic objects, runs the controller and the webhook
//! of the project on it, and measures what they cost.
//!
//! It runs in the network namespace of the control plane, so that no forwarder is in the way of what is measured.

mod admission;
mod arguments;
mod convergence;
mod decision;
mod freshness;
mod idle;
mod objects;
mod processes;
mod report;
mod server;
mod statistics;
mod tls;
mod webhook;

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use weightlock::domain::world::Settings;
use weightlock::index::{Index, Scope};

use arguments::Arguments;
use objects::Plan;
use processes::Processes;
use report::Report;
use server::Server;

/// Image of the verifier, as it is injected. Nothing pulls it.
const VERIFIER: &str = "registry.example.com/weightlock/weightlock-verify@sha256:5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e0b7d2f5c1e";

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("the provider of cryptography was installed twice"))?;
    // One thread asks and the other answers for the API server and the webhook: there are two cores.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let server = Server::connect(&arguments.kubeconfig).await?;
    if arguments.convergence {
        return convergence::measure(arguments, &server).await;
    }
    let plan = Plan::new(arguments.scale);
    let mut report = Report::new(plan.scale());

    step("definitions and namespaces");
    server.prepare(&plan, &arguments.address).await?;
    for (what, count, object) in plan.bulk() {
        let took = server.create_all(what, count, object).await?;
        report.created(what, count, took);
    }

    step("webhook and controller");
    let mut processes = Processes::new(arguments)?;
    let started = Instant::now();
    processes.start_controller()?;
    let authority = processes.certificate(&server).await?;
    processes.start_webhook()?;
    processes.webhook_ready().await.context("the webhook did not get ready")?;
    report.took("webhook lists and indexes everything", started.elapsed());
    report.memory("webhook after its first listing", processes.webhook_memory()?);
    let settled = processes.controller_settled(&server, &plan).await?;
    report.took("controller has pinned all and written the index", settled);
    report.memory("controller", processes.controller_memory()?);

    step("decisions in process");
    let settings = Settings { verifier_image: VERIFIER.into(), ..Settings::default() };
    let (index, watches) = Index::start(server.client().clone(), settings, Scope::Webhook);
    let watching = tokio::spawn(watches);
    while !index.synced() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    decision::measure(&index.world(), &plan, arguments, &mut report)?;
    watching.abort();
    drop(index);

    // From here on the controller sleeps: what is measured takes its configurations away, and it would put them back.
    processes.pause_controller()?;
    step("webhook alone over TLS");
    webhook::measure(arguments, &authority, &plan, &mut report).await?;
    report.memory("webhook after that load", processes.webhook_memory()?);
    step("changes");
    freshness::measure(arguments, &authority, &server, &plan, &mut report).await?;
    step("admission end to end");
    admission::measure(arguments, &server, &processes, &plan, &mut report).await?;
    report.memory("webhook at the end", processes.webhook_memory()?);
    processes.end();
    report.print();
    Ok(())
}

fn step(what: &str) {
    eprintln!("load: {what}");
}
