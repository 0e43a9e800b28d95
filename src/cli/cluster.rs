//! The cluster: which one, and how Weightlock is set up there.

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::error::CliError;
use crate::api::Mode;
use crate::domain::world::{GpuPodsOutside, Settings};

/// Which cluster, as with kubectl.
#[derive(Args, Clone, Debug, Default)]
pub struct ConnectionArgs {
    /// Path of the kubeconfig file.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the context in the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of objects that name none; the context's unless given.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Namespace that Weightlock is installed in.
    #[arg(long, global = true, value_name = "NAME", default_value = "weightlock-system")]
    pub weightlock_namespace: String,
}

/// A connection.
pub struct Connection {
    /// The client.
    pub client: Client,
    /// Namespace of objects that name none.
    pub namespace: String,
}

impl ConnectionArgs {
    /// Connects.
    ///
    /// # Errors
    /// Where there is no kubeconfig, or it does not name a cluster.
    pub async fn connect(&self) -> Result<Connection, CliError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let no_cluster = |error: &dyn std::error::Error| CliError::NoCluster(chain(error));
        let config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path).map_err(|error| no_cluster(&error))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| no_cluster(&error))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| no_cluster(&error))?,
            (None, None) => Config::infer().await.map_err(|error| no_cluster(&error))?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| no_cluster(&error))?;
        Ok(Connection { client, namespace })
    }

    /// The settings of the installation, read from the arguments of its webhook.
    ///
    /// # Errors
    /// Where Weightlock is not installed in the namespace that was given, or its Deployment cannot be read.
    pub async fn settings(&self, client: &Client) -> Result<Settings, CliError> {
        let namespace = &self.weightlock_namespace;
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let found = deployments
            .get_opt("weightlock-webhook")
            .await
            .map_err(|error| CliError::api(format!("read Deployment {namespace}/weightlock-webhook"), error))?;
        let not_there = |problem: &str| CliError::Value {
            option: "--weightlock-namespace",
            value: namespace.clone(),
            problem: format!("{problem}: name the namespace that Weightlock is installed in"),
        };
        let deployment = found.ok_or_else(|| not_there("has no Deployment weightlock-webhook"))?;
        let arguments: Vec<String> = deployment
            .spec
            .and_then(|spec| spec.template.spec)
            .into_iter()
            .flat_map(|spec| spec.containers)
            .flat_map(|container| container.args.unwrap_or_default())
            .collect();
        settings_of(&arguments, namespace).ok_or_else(|| not_there("has a webhook without --verifier-image"))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text += &format!(": {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// Settings as the arguments of the webhook give them; `None` if they name no verifier.
fn settings_of(arguments: &[String], own_namespace: &str) -> Option<Settings> {
    let mut settings =
        Settings { verifier_image: String::new(), own_namespace: own_namespace.into(), ..Settings::default() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, value),
            None if argument.starts_with("--") => (argument.as_str(), rest.clone().next().map_or("", String::as_str)),
            None => continue,
        };
        match name {
            "--verifier-image" => settings.verifier_image = value.into(),
            "--gpu-resource" => {
                settings.gpu_resources.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            }
            "--gpu-runtime-class" => {
                settings
                    .gpu_runtime_classes
                    .extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            }
            "--gpu-pods-outside-environments" => {
                settings.gpu_pods_outside = match value.to_ascii_lowercase().as_str() {
                    "allow" => GpuPodsOutside::Allow,
                    "deny" => GpuPodsOutside::Deny,
                    _ => GpuPodsOutside::Warn,
                };
            }
            "--node-access" => {
                let enforced = value.eq_ignore_ascii_case("enforce");
                settings.node_access = if enforced { Mode::Enforce } else { Mode::Audit };
            }
            "--node-agent" => {
                settings.node_agents.extend(value.split(',').filter_map(|agent| agent.parse().ok()));
            }
            _ => {}
        }
    }
    (!settings.verifier_image.is_empty()).then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_the_webhook_was_given() {
        let arguments = [
            "webhook",
            "--verifier-image=r.example.com/verify@sha256:00",
            "--gpu-resource",
            "example.com/npu",
            "--gpu-resource=a.example.com/x,b.example.com/y",
            "--gpu-pods-outside-environments=Deny",
            "--node-access=Enforce",
            "--node-agent=monitoring/node-exporter",
            "--log=info",
        ];
        let settings = settings_of(&arguments.map(String::from), "wl").unwrap();
        assert_eq!(settings.verifier_image, "r.example.com/verify@sha256:00");
        let gpus: Vec<_> = settings.gpu_resources.iter().map(String::as_str).collect();
        assert_eq!(gpus, ["a.example.com/x", "b.example.com/y", "example.com/npu"]);
        assert_eq!((settings.gpu_pods_outside, settings.own_namespace.as_str()), (GpuPodsOutside::Deny, "wl"));
        assert_eq!(settings.node_access, Mode::Enforce);
        assert!(settings.is_node_agent("monitoring", "node-exporter") && settings.node_agents.len() == 1);
        assert_eq!(settings_of(&["webhook".into()], "wl"), None);
    }
}
