//! Findings as reports of OpenReports, where the cluster has these. What is found is in conditions and events all the same.

use k8s_openapi::api::core::v1::ObjectReference;

use super::{Context, error::ReconcileError, observed::by_name, policies::write};
use crate::render::report::{self, ClusterReport, Finding};

/// Keeps the report on one of our objects: there is one while there are findings.
///
/// # Errors
/// If the API server refuses it.
pub async fn keep(context: &Context, scope: ObjectReference, findings: &[Finding]) -> Result<(), ReconcileError> {
    let Some(reports) = context.observed.reports.served() else { return Ok(()) };
    if !findings.is_empty() {
        write(context, reports, &report::report(scope, findings)).await?;
    } else if by_name(reports, &report::name(&scope)).is_some() {
        context.writer.delete::<ClusterReport>(None, &report::name(&scope)).await?;
    }
    Ok(())
}
