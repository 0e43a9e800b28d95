//! What can go wrong while the cluster is brought in line, and when to try again.

use std::time::Duration;

use super::apply::ObjectId;

/// An error of one recipe. It concerns one object; other objects are reconciled regardless.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or could not be reached.
    #[error("cannot {verb} {object}: {}", describe(source))]
    Api {
        /// What was attempted, as a verb.
        verb: &'static str,
        /// The object concerned.
        object: ObjectId,
        /// What the client reported.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object of the wanted name exists and was not made by Weightlock.
    #[error(
        "{object} exists and is not Weightlock's (made by {manager}): names that begin with \"weightlock\" are reserved. \
         Remedy: delete or rename it; Weightlock then writes its own"
    )]
    NotOurs {
        /// The object concerned.
        object: ObjectId,
        /// The field manager that made it, as far as it is known.
        manager: String,
    },
    /// The plan cannot be computed, so what is in the cluster stays as it is.
    #[error("cannot compute what {object} should be, so what is there stays: {reason}")]
    Plan {
        /// The object concerned.
        object: ObjectId,
        /// Why.
        reason: String,
    },
    /// An object in the cluster cannot be read as its type.
    #[error("cannot read {object}: {reason}")]
    Unreadable {
        /// The object concerned.
        object: ObjectId,
        /// Why.
        reason: String,
    },
    /// What was rendered is not a valid object. This is a defect of Weightlock.
    #[error("{object} was rendered wrongly: {reason}. This is a defect of Weightlock: please report it")]
    Rendered {
        /// The object concerned.
        object: ObjectId,
        /// Why.
        reason: String,
    },
    /// This process is not, or no longer, the leader.
    #[error("not the leader: {object} is left alone")]
    NotLeading {
        /// The object concerned.
        object: ObjectId,
    },
}

/// When a recipe that failed is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Soon, with exponential back-off: the API server was busy, a write raced with another.
    Retry,
    /// When something in the cluster changes; tried again now and then, in case the change is not one that is watched.
    Wait,
    /// Rarely: a defect, or a permission that was not granted. It is logged as an error.
    Bug,
}

impl Category {
    /// How long to wait before attempt number `attempt` (from 1).
    pub fn delay(self, attempt: u32) -> Duration {
        match self {
            Category::Retry => Duration::from_millis(250 << attempt.clamp(1, 8).saturating_sub(1)),
            Category::Wait => Duration::from_secs(30),
            Category::Bug => Duration::from_secs(120),
        }
    }

    /// The word for it in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Category::Retry => "retry",
            Category::Wait => "wait",
            Category::Bug => "bug",
        }
    }
}

impl ReconcileError {
    /// Wraps an error of the client.
    pub fn api(verb: &'static str, object: ObjectId, source: kube::Error) -> Self {
        Self::Api { verb, object, source: Box::new(source) }
    }

    /// When it is worth another try.
    pub fn category(&self) -> Category {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => match status.code {
                    404 => Category::Wait,
                    403 if is_terminating(status) => Category::Wait,
                    400 | 401 | 403 | 405 | 413 | 415 | 422 => Category::Bug,
                    _ => Category::Retry,
                },
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => Category::Bug,
                _ => Category::Retry,
            },
            Self::NotOurs { .. } | Self::Plan { .. } | Self::Unreadable { .. } => Category::Wait,
            Self::NotLeading { .. } => Category::Retry,
            Self::Rendered { .. } => Category::Bug,
        }
    }

    /// Whether the API server does not have something. Of an object without a namespace, which may be missing, that is its kind.
    pub fn is_not_found(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404)
    }

    /// The object concerned.
    pub fn object(&self) -> &ObjectId {
        match self {
            Self::Api { object, .. }
            | Self::NotOurs { object, .. }
            | Self::Plan { object, .. }
            | Self::Unreadable { object, .. }
            | Self::Rendered { object, .. }
            | Self::NotLeading { object } => object,
        }
    }
}

/// Whether the refusal only says that the namespace is going away.
fn is_terminating(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> ReconcileError {
        let status = kube::core::Status::failure("no", "Because").with_code(code);
        ReconcileError::api("apply", ObjectId::new("NetworkPolicy", Some("a"), "b"), kube::Error::Api(status.boxed()))
    }

    #[test]
    fn conflicts_are_retried_and_refusals_are_not() {
        assert_eq!(refused(409).category(), Category::Retry);
        assert_eq!(refused(503).category(), Category::Retry);
        assert_eq!(refused(404).category(), Category::Wait);
        assert_eq!(refused(403).category(), Category::Bug);
        assert_eq!(refused(422).category(), Category::Bug);
        assert_eq!(refused(403).to_string(), "cannot apply NetworkPolicy a/b: no (403)");
    }

    #[test]
    fn a_namespace_that_is_going_away_is_waited_for() {
        let status: kube::core::Status = serde_json::from_value(serde_json::json!({"code": 403, "reason": "Forbidden",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]}}))
        .unwrap();
        let id = ObjectId::new("NetworkPolicy", Some("a"), "b");
        assert_eq!(ReconcileError::api("apply", id, kube::Error::Api(status.boxed())).category(), Category::Wait);
    }

    #[test]
    fn retries_back_off_to_half_a_minute() {
        assert_eq!(Category::Retry.delay(1), Duration::from_millis(250));
        assert_eq!(Category::Retry.delay(2), Duration::from_millis(500));
        assert_eq!(Category::Retry.delay(40), Duration::from_secs(32));
    }
}
