//! `audit`: which running pods reach their node (WL-114), and the value of `nodeAgents` that lets them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::check::OutputFormat;
use super::cluster::ConnectionArgs;
use super::error::CliError;
use super::judge::judge;
use crate::api::Mode;
use crate::domain::workload::Subject;
use crate::domain::world::{NodeAgent, Settings};
use crate::domain::{Rule, World, consumers};
use crate::index;

/// What is printed.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// Print the value of nodeAgents, for the chart, that lets all that runs reach its node as it does now. Read it before you use it.
    #[arg(long)]
    pub suggest: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text", conflicts_with = "suggest")]
    pub output: OutputFormat,
}

/// Pods of one service account that reach their node.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reaching {
    /// Whether nodeAgents of the installation lists the service account.
    pub listed: bool,
    /// Names of the pods.
    pub pods: BTreeSet<String>,
    /// What they reach the node by.
    pub facts: BTreeSet<String>,
}

/// Prints which pods would be refused, or the value of nodeAgents; returns whether none would be.
///
/// # Errors
/// Where the cluster cannot be listed.
pub async fn run(args: &AuditArgs, connection: &ConnectionArgs, out: &mut dyn Write) -> Result<bool, CliError> {
    let connected = connection.connect().await?;
    let settings = connection.settings(&connected.client).await?;
    let world = index::snapshot(&connected.client, settings).await?;
    let found = audit(&world);
    match (args.suggest, args.output) {
        (true, _) => out.write_all(suggestion(&world.settings, &found).as_bytes())?,
        (false, OutputFormat::Json) => writeln!(out, "{:#}", json(&world.settings, &found))?,
        (false, OutputFormat::Text) => out.write_all(report(&world.settings, &found).as_bytes())?,
    }
    out.flush()?;
    Ok(args.suggest || found.values().all(|reaching| reaching.listed))
}

/// The running pods that reach their node, by service account. Those of the cluster's own namespaces may, and are not
/// among them, nor are pods of environments in force: other rules hold there, which `impact` asks.
pub fn audit(world: &World) -> BTreeMap<NodeAgent, Reaching> {
    let mut strict = world.clone();
    strict.settings.node_access = Mode::Enforce;
    strict.settings.node_agents.clear();
    let mut found: BTreeMap<NodeAgent, Reaching> = BTreeMap::new();
    for ((namespace, name), pod) in &world.pods {
        if pod.ended() {
            continue;
        }
        let pod = pod.unpack();
        let service_account = consumers::service_account(&pod).to_owned();
        let verdict = judge(&strict, &Subject::running_pod(namespace, name, pod), "");
        let facts: Vec<String> = verdict
            .violations
            .into_iter()
            .filter(|violation| violation.rule == Rule::NodeAccess.id())
            .map(|violation| violation.fact)
            .collect();
        if facts.is_empty() {
            continue;
        }
        let agent = NodeAgent { namespace: namespace.clone(), service_account };
        let listed = world.settings.node_agents.contains(&agent);
        let reaching = found.entry(agent).or_default();
        reaching.listed = listed;
        reaching.pods.insert(name.clone());
        reaching.facts.extend(facts);
    }
    found
}

/// Where pods of many kinds share an account, the rest is counted.
const SHOWN: usize = 6;

fn shown(items: &BTreeSet<String>, separator: &str) -> String {
    let mut text = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(separator);
    if items.len() > SHOWN {
        text += &format!("{separator}and {} more", items.len() - SHOWN);
    }
    text
}

fn report(settings: &Settings, found: &BTreeMap<NodeAgent, Reaching>) -> String {
    let mut text = String::new();
    for (agent, reaching) in found.iter().filter(|(_, reaching)| !reaching.listed) {
        text += &format!("{agent}: {}\n  {}\n\n", shown(&reaching.pods, ", "), shown(&reaching.facts, "\n  "));
    }
    let (refused, accounts) = count(found);
    let says = match settings.node_access {
        Mode::Audit => "nodeAccess is Audit: they are warned of, and would be refused under Enforce",
        Mode::Enforce => "nodeAccess is Enforce: they run on, and are refused when they are made again",
    };
    text += &format!(
        "{refused} running pods of {accounts} service accounts reach their node and are not in nodeAgents ({}). {says}.\n",
        Rule::NodeAccess.id()
    );
    if refused > 0 {
        text += "kubectl weightlock audit --suggest prints a value of nodeAgents that lets them.\n";
    }
    text
}

fn count(found: &BTreeMap<NodeAgent, Reaching>) -> (usize, usize) {
    let unlisted: Vec<_> = found.values().filter(|reaching| !reaching.listed).collect();
    (unlisted.iter().map(|reaching| reaching.pods.len()).sum(), unlisted.len())
}

fn json(settings: &Settings, found: &BTreeMap<NodeAgent, Reaching>) -> Value {
    let accounts: Vec<Value> = found
        .iter()
        .map(|(agent, reaching)| {
            serde_json::json!({
                "namespace": agent.namespace, "serviceAccount": agent.service_account,
                "listed": reaching.listed, "pods": reaching.pods, "facts": reaching.facts,
            })
        })
        .collect();
    serde_json::json!({
        "nodeAccess": if settings.node_access == Mode::Enforce { "Enforce" } else { "Audit" },
        "refused": count(found).0,
        "serviceAccounts": accounts,
    })
}

/// The value for the chart: what is listed now, and what runs.
fn suggestion(settings: &Settings, found: &BTreeMap<NodeAgent, Reaching>) -> String {
    let mut text = String::from(
        "# Who reaches a node reads the weights of every pod on it, and who may make pods in a namespace can use each of its\n\
         # service accounts. Take out what is not an agent of the node.\n",
    );
    let agents: BTreeSet<&NodeAgent> = found.keys().chain(&settings.node_agents).collect();
    if agents.is_empty() {
        return text + "nodeAgents: []\n";
    }
    text += "nodeAgents:\n";
    for agent in agents {
        match found.get(agent) {
            Some(reaching) => {
                text += &format!("# {}\n", shown(&reaching.pods, ", "));
                for fact in reaching.facts.iter().take(SHOWN) {
                    text += &format!("#   {fact}\n");
                }
            }
            None => text += "# Listed now, but no pod that runs needs it.\n",
        }
        if agent.service_account == "default" {
            text +=
                "# Every pod there that names no service account has this one: give the agent one of its own first.\n";
        }
        // Quoted, since a name can be one that YAML takes for a number.
        text += &format!("- namespace: {:?}\n  serviceAccount: {:?}\n", agent.namespace, agent.service_account);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn world() -> World {
        let pod = |namespace: &str, name: &str, spec: Value| {
            let mut spec = spec;
            spec["containers"] = json!([{"name": "c", "image": "i"}]);
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name}, "spec": spec})
        };
        let host = |account: &str, path: &str| json!({"serviceAccountName": account, "volumes": [{"name": "v", "hostPath": {"path": path}}]});
        let mut done = pod("ci", "done", host("runner", "/"));
        done["status"] = json!({"phase": "Succeeded"});
        let mut settings = Settings::default();
        settings.node_agents.extend(["storage/csi", "gone/agent"].map(|agent| agent.parse().unwrap()));
        let objects = vec![
            pod("monitoring", "exporter-a", host("exporter", "/")),
            pod("monitoring", "exporter-b", json!({"serviceAccountName": "exporter", "hostPID": true})),
            pod("storage", "csi-a", host("csi", "/var/lib/kubelet")),
            pod("tools", "debug", json!({"hostPID": true})),
            pod("shop", "web", host("web", "/var/log")),
            pod("kube-system", "kube-proxy", host("kube-proxy", "/")),
            done,
        ];
        index::from_objects(objects, settings).unwrap()
    }

    #[test]
    fn what_runs_and_reaches_its_node_is_found_by_service_account() {
        let found = audit(&world());
        let names: Vec<String> = found.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["monitoring/exporter", "storage/csi", "tools/default"]);
        let exporter = &found[&"monitoring/exporter".parse().unwrap()];
        assert!(!exporter.listed && exporter.pods.len() == 2 && exporter.facts.len() == 2, "{exporter:?}");
        assert!(found[&"storage/csi".parse().unwrap()].listed);
        let text = report(&world().settings, &found);
        assert!(text.starts_with("monitoring/exporter: exporter-a, exporter-b\n"), "{text}");
        assert!(text.contains("3 running pods of 2 service accounts") && !text.contains("storage/csi"), "{text}");
        assert_eq!(json(&world().settings, &found)["refused"], json!(3));
    }

    #[test]
    fn the_suggestion_is_a_value_of_the_chart_with_which_nothing_is_refused() {
        let mut world = world();
        let text = suggestion(&world.settings, &audit(&world));
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        let agents = value["nodeAgents"].as_array().unwrap();
        let agents: Vec<String> = agents
            .iter()
            .map(|a| format!("{}/{}", a["namespace"].as_str().unwrap(), a["serviceAccount"].as_str().unwrap()))
            .collect();
        assert_eq!(agents, ["gone/agent", "monitoring/exporter", "storage/csi", "tools/default"]);
        assert!(text.contains("# Listed now, but no pod that runs needs it.\n- namespace: \"gone\""), "{text}");
        assert!(text.contains("give the agent one of its own first.\n- namespace: \"tools\""), "{text}");
        world.settings.node_agents = agents.iter().map(|agent| agent.parse().unwrap()).collect();
        assert!(audit(&world).values().all(|reaching| reaching.listed));
    }

    #[test]
    fn where_nothing_reaches_its_node_the_list_is_empty() {
        let text = suggestion(&Settings::default(), &BTreeMap::new());
        assert!(text.ends_with("\nnodeAgents: []\n"), "{text}");
    }
}
