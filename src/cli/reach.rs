//! `reach`: whether one end may connect to another, and which rule says so.

use std::io::Write;
use std::net::IpAddr;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use super::check::OutputFormat;
use super::cluster::ConnectionArgs;
use super::error::CliError;
use crate::api::Protocol;
use crate::domain::network::{Declaration, Destination, End, Reach, Side, reach};
use crate::index;

/// The connection that is asked about.
#[derive(Args, Clone, Debug)]
pub struct ReachArgs {
    /// Who connects: a pod as NAMESPACE/NAME or NAME, or an address.
    pub from: String,
    /// What is connected to: a pod, or an address. For a Service, ask about one of its pods.
    pub to: String,
    /// The port of the pod or address that is connected to (not of a Service before it), as PORT or PORT/PROTOCOL.
    pub port: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: OutputFormat,
}

/// Prints what both ends say, and returns whether the connection is declared.
///
/// # Errors
/// Where the cluster cannot be listed, there is no such pod, or an argument is none.
pub async fn run(args: &ReachArgs, connection: &ConnectionArgs, out: &mut dyn Write) -> Result<bool, CliError> {
    let destination = destination(&args.port)?;
    let connected = connection.connect().await?;
    let from = end(&connected.client, &connected.namespace, "from", &args.from).await?;
    let to = end(&connected.client, &connected.namespace, "to", &args.to).await?;
    let settings = connection.settings(&connected.client).await?;
    let world = index::snapshot(&connected.client, settings).await?;
    let found = reach(&world, &from, &to, destination).map_err(|error| CliError::Arguments(error.to_string()))?;
    match args.output {
        OutputFormat::Text => out.write_all(text(args, destination, &found).as_bytes())?,
        OutputFormat::Json => writeln!(out, "{:#}", json(&found))?,
    }
    out.flush()?;
    Ok(found.declaration() != Declaration::No)
}

fn destination(text: &str) -> Result<Destination, CliError> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let protocol = match protocol.to_ascii_uppercase().as_str() {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        _ => None,
    };
    match (port.parse::<u16>(), protocol) {
        (Ok(port), Some(protocol)) if port > 0 => Ok(Destination { protocol, port }),
        _ => Err(CliError::Value {
            option: "port",
            value: text.into(),
            problem: "is no port: write a number from 1 to 65535, and /UDP or /SCTP after it if it is not TCP".into(),
        }),
    }
}

/// A pod in the network of its node is known by its address alone, as to every policy.
async fn end(client: &Client, namespace: &str, option: &'static str, text: &str) -> Result<End, CliError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(End { pod: None, addresses: vec![address] });
    }
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found =
        pods.get_opt(name).await.map_err(|error| CliError::api(format!("read Pod {namespace}/{name}"), error))?;
    let Some(pod) = found else {
        let problem =
            "is no pod: name one as NAMESPACE/NAME, or give an address. `kubectl get pods -A` lists them".into();
        return Err(CliError::Value { option, value: text.into(), problem });
    };
    let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let listed = status.pod_ips.unwrap_or_default().into_iter().map(|address| address.ip);
    let addresses = listed.filter_map(|address| address.parse().ok()).collect();
    let labels = pod.metadata.labels.unwrap_or_default();
    Ok(End { pod: (!on_node).then(|| (namespace.to_owned(), labels)), addresses })
}

fn text(args: &ReachArgs, destination: Destination, reach: &Reach) -> String {
    let Destination { protocol, port } = destination;
    let verdict = match reach.declaration() {
        Declaration::Yes => "declared",
        Declaration::ByAddress => "declared, if the network plugin counts the addresses of pods as addresses",
        Declaration::No => "not declared",
    };
    let mut text = format!("{} to {}, {protocol:?} {port}: {verdict}\n", args.from, args.to);
    for (way, section, peer, (own, other), side) in [
        ("out of", "egress", "to", (&args.from, &args.to), &reach.from),
        ("into", "ingress", "from", (&args.to, &args.from), &reach.to),
    ] {
        text += &match side {
            Side::Free => format!("  {way} {own}: it is in no environment that enforces its network\n"),
            Side::Declared { environment, rule, .. } => {
                format!("  {way} {own}: {section} rule {rule:?} of WeightEnvironment {environment:?}\n")
            }
            Side::Undeclared { environment } => format!(
                "  {way} {own}: no {section} rule of WeightEnvironment {environment:?} is about it. Remedy: declare it in \
                 spec.network.{section}, with \"{peer}\" for {other} and port {port}\n",
            ),
        };
    }
    if reach.declaration() != Declaration::No {
        text += "Policies of others may allow less.\n";
    }
    text
}

fn json(reach: &Reach) -> serde_json::Value {
    let side = |side: &Side| match side {
        Side::Free => serde_json::json!({"environment": null}),
        Side::Declared { environment, rule, by_address } => {
            serde_json::json!({"environment": environment, "rule": rule, "byAddress": by_address})
        }
        Side::Undeclared { environment } => serde_json::json!({"environment": environment, "rule": null}),
    };
    let declared = match reach.declaration() {
        Declaration::Yes => "Yes",
        Declaration::ByAddress => "ByAddress",
        Declaration::No => "No",
    };
    serde_json::json!({"declared": declared, "from": side(&reach.from), "to": side(&reach.to)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_with_a_protocol() {
        let port = |text: &str| destination(text).map(|found| (found.protocol, found.port)).map_err(|e| e.to_string());
        assert_eq!(port("8080"), Ok((Protocol::TCP, 8080)));
        assert_eq!(port("53/udp"), Ok((Protocol::UDP, 53)));
        for text in ["0", "65536", "http", "53/icmp", ""] {
            assert!(port(text).unwrap_err().starts_with(&format!("port {text:?} is no port: write a number")));
        }
    }

    #[test]
    fn each_end_says_which_rule_or_what_to_declare() {
        let args = ReachArgs {
            from: "llm/vllm-0".into(),
            to: "store/db".into(),
            port: "5432".into(),
            output: OutputFormat::Text,
        };
        let declared = Side::Declared { environment: "prod".into(), rule: "db".into(), by_address: false };
        let said = |from: Side| text(&args, destination("5432").unwrap(), &Reach { from, to: Side::Free });
        assert_eq!(
            said(declared),
            "llm/vllm-0 to store/db, TCP 5432: declared\n  out of llm/vllm-0: egress rule \"db\" of WeightEnvironment \"prod\"\n  \
             into store/db: it is in no environment that enforces its network\nPolicies of others may allow less.\n"
        );
        let missing = said(Side::Undeclared { environment: "prod".into() });
        assert!(missing.starts_with("llm/vllm-0 to store/db, TCP 5432: not declared\n"), "{missing}");
        assert!(missing.contains("Remedy: declare it in spec.network.egress, with \"to\" for store/db and port 5432"));
    }
}
