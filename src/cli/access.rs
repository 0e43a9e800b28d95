//! `access`: who could reach weights past admission.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, Resource};

use super::check::OutputFormat;
use super::cluster::ConnectionArgs;
use super::error::CliError;
use crate::domain::access::{Could, who_could};
use crate::domain::network;
use crate::index::{self, convert::grants};

/// Of which environments, and how it is printed.
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// A WeightEnvironment; all of them unless given.
    pub environment: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: OutputFormat,
}

/// Prints who could, by environment and way.
///
/// # Errors
/// Where the cluster cannot be listed, or there is no such environment.
pub async fn run(args: &AccessArgs, connection: &ConnectionArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let connected = connection.connect().await?;
    let settings = connection.settings(&connected.client).await?;
    let world = index::snapshot(&connected.client, settings).await?;
    if let Some(name) = args.environment.as_ref().filter(|name| !world.environments.contains_key(*name)) {
        return Err(CliError::Value {
            option: "environment",
            value: name.clone(),
            problem: "is no WeightEnvironment of this cluster".into(),
        });
    }
    let mut roles = listed::<ClusterRole>(&connected.client).await?;
    roles.extend(listed::<Role>(&connected.client).await?);
    let mut bindings = listed::<ClusterRoleBinding>(&connected.client).await?;
    bindings.extend(listed::<RoleBinding>(&connected.client).await?);
    let (roles, bindings) = (grants(&roles), grants(&bindings));
    let wanted = world.environments.values().filter(|e| args.environment.as_ref().is_none_or(|name| *name == e.name));
    let found: BTreeMap<&str, Could> = wanted
        .map(|environment| {
            let namespaces: Vec<&str> = network::accepted(&world, environment).collect();
            (environment.name.as_str(), who_could(&roles, &bindings, &world.settings, &namespaces))
        })
        .collect();
    match args.output {
        OutputFormat::Text => out.write_all(text(&found).as_bytes())?,
        OutputFormat::Json => {
            let named: BTreeMap<_, BTreeMap<_, _>> = found
                .iter()
                .map(|(name, could)| (name, could.iter().map(|(way, who)| (way.name(), who)).collect()))
                .collect();
            writeln!(out, "{:#}", serde_json::json!(named))?;
        }
    }
    Ok(out.flush()?)
}

async fn listed<K: Resource<DynamicType = ()>>(client: &Client) -> Result<Vec<DynamicObject>, CliError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<K>(&()));
    let listed = api.list(&ListParams::default()).await;
    Ok(listed.map_err(|error| CliError::api(format!("list {}", K::plural(&())), error))?.items)
}

fn text(found: &BTreeMap<&str, Could>) -> String {
    let mut text = String::new();
    for (environment, could) in found {
        text += &format!("WeightEnvironment {environment:?}\n");
        if could.is_empty() {
            text += "  no role lets anybody past admission, the cluster's own controllers apart\n";
        }
        for (way, who) in could {
            text += &format!("  {}: who could {}\n", way.name(), way.means());
            for subject in who {
                text += &format!("    {subject}\n");
            }
        }
    }
    text
}
