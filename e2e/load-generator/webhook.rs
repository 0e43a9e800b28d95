//! The webhook alone: reviews over TLS on as many connections as there are clients, each with one request in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::body::Bytes;
use serde_json::Value;

use super::arguments::Arguments;
use super::decision::{Sample, samples};
use super::objects::Plan;
use super::report::Report;
use super::statistics::Durations;
use super::tls::Connection;

/// How many clients there are.
const CLIENTS: [usize; 4] = [1, 4, 16, 48];

pub async fn measure(arguments: &Arguments, authority: &[u8], plan: &Plan, report: &mut Report) -> Result<()> {
    let written = samples(plan);
    let mutations = Arc::new(bodies(&written));
    // The pods that come to validation are those that mutation made.
    let shaped = Arc::new(shaped(arguments, authority, written).await?);
    for (path, reviews) in [("/mutate", &mutations), ("/validate", &shaped)] {
        for clients in CLIENTS {
            let span = Duration::from_secs(arguments.seconds);
            // To get warm.
            run(arguments, authority, path, reviews, clients, span / 5).await?;
            let (durations, took) = run(arguments, authority, path, reviews, clients, span).await?;
            report.webhook(path, clients, &durations, took);
        }
    }
    Ok(())
}

fn bodies(samples: &[Sample]) -> Vec<Bytes> {
    samples.iter().map(|sample| Bytes::from(sample.review().to_string())).collect()
}

async fn shaped(arguments: &Arguments, authority: &[u8], samples: Vec<Sample>) -> Result<Vec<Bytes>> {
    let mut connection = Connection::open(&arguments.address, authority).await?;
    let mut shaped = Vec::new();
    for mut sample in samples {
        let answer = connection.post("/mutate", Bytes::from(sample.review().to_string())).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        if let Some(patch) = answer["response"]["patch"].as_str() {
            use base64::Engine;
            let patch = base64::engine::general_purpose::STANDARD.decode(patch)?;
            json_patch::patch(&mut sample.object, &serde_json::from_slice::<json_patch::Patch>(&patch)?)?;
        }
        let review = Bytes::from(sample.review().to_string());
        let answer: Value = serde_json::from_slice(&connection.post("/validate", review.clone()).await?)?;
        ensure!(answer["response"]["allowed"] == sample.allowed, "{}: {answer}", sample.kind);
        shaped.push(review);
    }
    Ok(shaped)
}

async fn run(
    arguments: &Arguments,
    authority: &[u8],
    path: &'static str,
    reviews: &Arc<Vec<Bytes>>,
    clients: usize,
    span: Duration,
) -> Result<(Durations, Duration)> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(&arguments.address, authority).await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(client, mut connection)| {
            let reviews = Arc::clone(reviews);
            tokio::spawn(async move {
                let mut durations = Durations::new()?;
                let mut next = client * 37;
                while started.elapsed() < span {
                    let review = reviews[next % reviews.len()].clone();
                    next += 1;
                    let at = Instant::now();
                    connection.post(path, review).await?;
                    durations.add(at.elapsed());
                }
                anyhow::Ok(durations)
            })
        })
        .collect();
    let mut all = Durations::new()?;
    for task in tasks {
        all.merge(&task.await??)?;
    }
    Ok((all, started.elapsed()))
}
