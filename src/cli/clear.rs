//! `clear`: lets weights be mounted again that were found tampered with.

use std::io::Write;

use clap::Args;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::cluster::ConnectionArgs;
use super::error::CliError;
use super::register::failed;
use crate::api::WeightIncident;

/// Which incident is cleared.
#[derive(Args, Clone, Debug)]
pub struct ClearArgs {
    /// Name of the WeightIncident, as refusals and the condition Tampered name it.
    pub name: String,
}

/// Deletes the incident that was shown, and no later one of its name.
///
/// # Errors
/// Where there is none, or it may not be deleted.
pub async fn run(
    args: &ClearArgs,
    connection: &ConnectionArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    let connected = connection.connect().await?;
    let incidents: Api<WeightIncident> = Api::all(connected.client);
    let name = &args.name;
    let found =
        incidents.get_opt(name).await.map_err(|error| CliError::api(format!("read WeightIncident {name}"), error))?;
    let found = found.ok_or_else(|| {
        failed(format!("there is no WeightIncident {name}"), "List them: kubectl get weightincidents")
    })?;
    write!(err, "{}", describe(&found))?;
    let seen = Preconditions { uid: found.metadata.uid, resource_version: None };
    incidents
        .delete(name, &DeleteParams { preconditions: Some(seen), ..DeleteParams::default() })
        .await
        .map_err(|error| CliError::api(format!("delete WeightIncident {name}"), error))?;
    writeln!(out, "weightincident.weightlock.dev/{name} cleared")?;
    Ok(out.flush()?)
}

fn describe(incident: &WeightIncident) -> String {
    let spec = &incident.spec;
    format!(
        "WeightArtifact {:?} ({})\n  storage: {}\n  found in pod {}/{} on node {}\n  {}\nNew pods may mount it again; each verifies it before it starts.\n",
        spec.artifact,
        spec.manifest_digest,
        spec.backend_keys.join(", "),
        spec.pod.namespace,
        spec.pod.name,
        spec.pod.node,
        spec.message.trim().replace('\n', "\n  ")
    )
}
