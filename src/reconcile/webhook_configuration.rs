//! The webhook configurations, together with the certificates that they trust.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::Api;

use super::apply::{Applied, ObjectId};
use super::certificate::step::CertificateId;
use super::certificate::{self, Progress};
use super::error::ReconcileError;
use super::{Context, Next};
use crate::domain::webhook_scope::webhook_scope;
use crate::render::webhook_configuration::{NAME, Target, mutating, validating};

/// How often the bundle may be published in one run. A rotation publishes twice.
const ROUNDS: usize = 4;

/// Brings certificates and configurations in line, in the order that keeps the webhook trusted throughout.
///
/// # Errors
/// If the certificates do not come about, or a configuration cannot be written. Where only the certificates fail, the
/// namespaces are still written: a new environment is covered, and refuses what it cannot decide.
pub async fn reconcile(context: &Context) -> Result<Next, ReconcileError> {
    for _ in 0..ROUNDS {
        let live = read(context).await?;
        let progress = match certificate::advance(context, live.trusted()).await {
            Ok(progress) => progress,
            Err(error) => {
                write(context, live.bundle()).await?;
                return Err(error);
            }
        };
        let (bundle, settled) = match progress {
            Progress::Publish(bundle) => (bundle, None),
            Progress::Settled(bundle, again) => (bundle, Some(again)),
        };
        let deferred = write(context, bundle.as_bytes()).await?;
        if deferred.is_some() || settled.is_some() {
            return Ok(deferred.into_iter().chain(settled).min());
        }
    }
    let object = ObjectId::new("ValidatingWebhookConfiguration", None, NAME);
    Err(ReconcileError::Plan { object, reason: "the certificates and the configurations do not settle".into() })
}

/// Writes both; says when to look again where a rival keeps changing one.
async fn write(context: &Context, ca_bundle: &[u8]) -> Result<Next, ReconcileError> {
    let scope = webhook_scope(&context.world);
    let target = Target { namespace: &context.world.settings.own_namespace, ca_bundle };
    // What shapes a pod comes before what refuses one that has no shape; one failing must not keep back the other.
    let first = context.writer.apply(&mutating(&scope, &target)).await;
    let second = context.writer.apply(&validating(&scope, &target)).await;
    let later = [first?, second?].into_iter().filter_map(|applied| match applied {
        Applied::Deferred(at) => Some(at),
        _ => None,
    });
    Ok(later.min())
}

/// Where the API server calls, per webhook of the live configurations.
struct Live(Vec<WebhookClientConfig>);

async fn read(context: &Context) -> Result<Live, ReconcileError> {
    let client = context.writer.client();
    let failed = |kind: &'static str| move |error| ReconcileError::api("get", ObjectId::new(kind, None, NAME), error);
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone())
        .get_opt(NAME)
        .await
        .map_err(failed("MutatingWebhookConfiguration"))?;
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone())
        .get_opt(NAME)
        .await
        .map_err(failed("ValidatingWebhookConfiguration"))?;
    let mutating = mutating.and_then(|c| c.webhooks).unwrap_or_default().into_iter().map(|w| w.client_config);
    let validating = validating.and_then(|c| c.webhooks).unwrap_or_default().into_iter().map(|w| w.client_config);
    Ok(Live(mutating.chain(validating).collect()))
}

impl Live {
    /// The authorities that every webhook trusts; `None` where there is no webhook.
    fn trusted(&self) -> Option<BTreeSet<CertificateId>> {
        let each = self.0.iter().map(|w| w.ca_bundle.as_ref().map(|b| certificate::trusted(&b.0)).unwrap_or_default());
        each.reduce(|a, b| a.intersection(&b).cloned().collect())
    }

    /// A bundle that is in use.
    fn bundle(&self) -> &[u8] {
        self.0.iter().find_map(|w| w.ca_bundle.as_ref()).map(|b| b.0.as_slice()).unwrap_or_default()
    }
}
