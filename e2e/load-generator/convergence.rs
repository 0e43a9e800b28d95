//! How fast a thousand namespaces get their NetworkPolicies from a controller that starts cold, and that it writes nothing once
//! they have them.

use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::processes::{Processes, wait};
use super::report::Report;
use super::server::{ENVIRONMENTS, OWN_NAMESPACE, Server};
use super::step;

const NETWORK_ENVIRONMENTS: usize = 10;
const NAMESPACES: usize = 100;
/// Of each namespace: the default deny, name resolution, and the rule that is declared.
const POLICIES: usize = 3 * NAMESPACES * NETWORK_ENVIRONMENTS;
/// For how long nothing changes.
const UNCHANGED: Duration = Duration::from_secs(120);

pub async fn measure(arguments: &Arguments, server: &Server) -> Result<()> {
    let audit_log = arguments.audit_log.as_deref().context("--audit-log is missing")?;
    let scale = format!("{NETWORK_ENVIRONMENTS} environments with {NAMESPACES} namespaces each, {POLICIES} policies");
    let mut report = Report::new(scale);
    step("definitions, namespaces and environments");
    server.define().await?;
    let namespace = |name: String| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    server.put("POST", "/api/v1/namespaces", &namespace(OWN_NAMESPACE.into())).await?;
    let all = NETWORK_ENVIRONMENTS * NAMESPACES;
    let took =
        server.create_all("namespaces", all, |n| ("/api/v1/namespaces".into(), namespace(format!("ns-{n}")))).await?;
    report.created("namespaces", all, took);
    for number in 0..NETWORK_ENVIRONMENTS {
        server.put("POST", ENVIRONMENTS, &environment(number)).await?;
    }

    step("controller");
    let mut processes = Processes::new(arguments)?;
    let started = Instant::now();
    processes.start_controller()?;
    wait(600, "every policy and every environment Ready", async || Ok(in_place(server).await?.then_some(()))).await?;
    let took = started.elapsed();
    report.took("from the start of the controller to every policy", took);
    report.convergence(POLICIES, took);
    let settled = processes.controller_quiet(async || Ok(true)).await?;
    report.took("after that, until it writes nothing", settled);
    report.memory("controller", processes.controller_memory()?);

    step("nothing changes");
    let from = std::fs::metadata(audit_log)?.len();
    tokio::time::sleep(UNCHANGED).await;
    let before = writes(audit_log, 0)?.len();
    if before < POLICIES {
        bail!("the audit log has {before} writes of the controller, so it tells nothing");
    }
    let after = writes(audit_log, from)?;
    after.iter().for_each(|write| eprintln!("load: written: {write}"));
    report.writes(UNCHANGED.as_secs(), after.len());
    processes.end();
    report.print();
    Ok(())
}

fn environment(number: usize) -> Value {
    let members: Vec<Value> = (0..NAMESPACES)
        .map(|n| json!({"namespace": format!("ns-{}", number * NAMESPACES + n), "serviceAccounts": ["vllm"]}))
        .collect();
    let store = json!({"name": "store", "to": {"cidr": "10.20.0.0/24"}, "ports": [{"protocol": "TCP", "port": 443}]});
    json!({
        "apiVersion": "weightlock.dev/v1alpha1", "kind": "WeightEnvironment", "metadata": {"name": format!("env-{number}")},
        "spec": {
            "purpose": "Inference", "members": members, "network": {"egress": [store]},
            "modes": {"admission": "Enforce", "network": "Enforce", "verification": "Enforce", "egress": "Audit"},
        },
    })
}

async fn in_place(server: &Server) -> Result<bool> {
    // Of one page the API server says how many objects follow.
    let page = server.get("/apis/networking.k8s.io/v1/networkpolicies?limit=1").await?;
    if page["metadata"]["remainingItemCount"].as_u64() != Some(POLICIES as u64 - 1) {
        return Ok(false);
    }
    let environments = server.get(ENVIRONMENTS).await?;
    let ready = |environment: &Value| {
        let conditions = environment["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|found| found["type"] == "NetworkPoliciesApplied" && found["status"] == "True")
    };
    Ok(environments["items"].as_array().is_some_and(|items| items.iter().all(ready)))
}

/// Writes of the controller in the audit log after a position. Its Lease is renewed for as long as it leads.
fn writes(audit_log: &Path, from: u64) -> Result<Vec<String>> {
    let mut file = std::fs::File::open(audit_log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut written = Vec::new();
    for entry in serde_json::Deserializer::from_reader(std::io::BufReader::new(file)).into_iter::<Value>() {
        let entry = match entry {
            Ok(entry) => entry,
            // A line that is being written.
            Err(error) if error.is_eof() => break,
            Err(error) => return Err(error).context("the audit log"),
        };
        let user = entry["impersonatedUser"]["username"].as_str().unwrap_or_default();
        let write = ["create", "update", "patch", "delete"].iter().any(|verb| entry["verb"] == *verb);
        if user.ends_with(":weightlock-controller") && write && entry["objectRef"]["resource"] != "leases" {
            written.push(format!("{} {}", entry["verb"], entry["requestURI"]));
        }
    }
    Ok(written)
}
