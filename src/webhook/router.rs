//! From HTTP to decisions and back. Pure: a test calls it without a socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request as HttpRequest, StatusCode, Version, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant as Deadline, timeout_at};
use tokio_util::sync::CancellationToken;

use super::case::Case;
use super::metrics::WebhookMetrics;
use super::review::{self, About, Review, ReviewError};
use super::warnings;
use crate::domain::admission::{self, Shaped};
use crate::domain::rules::Rule;
use crate::domain::{Decision, Request, Violation, World};
use crate::index::{Fresh, Index};

pub use crate::render::webhook_configuration::{
    AUDIT_BIND, AUDIT_MUTATE, AUDIT_VALIDATE, BIND, FORETELL, MUTATE, VALIDATE,
};

/// Size of the largest body that is read, in bytes: an object and its former self at the API server's limit of 3 MiB each.
pub const BODY_LIMIT: usize = 8 << 20;

/// Size of the largest body that is parsed where it arrives, in bytes.
const READ_AT_ONCE: usize = 64 << 10;

/// What the router decides with.
pub struct WebhookState {
    index: Index,
    fresh: Fresh,
    decider: Decider,
    deadline: Duration,
    permits: Arc<Semaphore>,
    metrics: WebhookMetrics,
}

/// The functions that decide: those of the domain, in the program.
#[derive(Clone, Copy)]
pub struct Decider {
    /// Shapes an object before it is decided on.
    pub shape: fn(&World, &Request<'_>) -> Shaped,
    /// Decides on the final object.
    pub decide: fn(&World, &Request<'_>) -> Decision,
    /// Tells what will be said of the pods of an object in a namespace.
    pub foretell: fn(&World, &Value, &str) -> Vec<String>,
}

impl Default for Decider {
    fn default() -> Self {
        Self { shape: admission::shape, decide: admission::decide, foretell: admission::foretell }
    }
}

/// Limits of the router.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long one request may take. Below the `timeoutSeconds` of the webhook configuration, so that it is our text
    /// that the author reads.
    pub deadline: Duration,
    /// How many requests may be in flight.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(2), concurrency: 64 }
    }
}

impl WebhookState {
    /// State of a router that decides on the world of an index, and on pods that are placed by what is read then.
    pub fn new(index: Index, fresh: Fresh, decider: Decider, limits: Limits, metrics: WebhookMetrics) -> Self {
        let permits = Arc::new(Semaphore::new(limits.concurrency));
        Self { index, fresh, decider, deadline: limits.deadline, permits, metrics }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Webhook {
    Mutate,
    Validate,
    Bind,
    Foretell,
}

#[derive(Clone, Copy)]
struct Endpoint {
    webhook: Webhook,
    audit: bool,
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self.webhook {
            Webhook::Mutate => "mutate",
            Webhook::Validate => "validate",
            Webhook::Bind => "bind",
            Webhook::Foretell => "foretell",
        }
    }
}

/// The router of the webhook.
pub fn router(state: Arc<WebhookState>) -> Router {
    let mut router = Router::new();
    for (path, webhook, audit) in [
        (MUTATE, Webhook::Mutate, false),
        (VALIDATE, Webhook::Validate, false),
        (BIND, Webhook::Bind, false),
        (AUDIT_MUTATE, Webhook::Mutate, true),
        (AUDIT_VALIDATE, Webhook::Validate, true),
        (AUDIT_BIND, Webhook::Bind, true),
        (FORETELL, Webhook::Foretell, true),
    ] {
        let endpoint = Endpoint { webhook, audit };
        let handler = move |State(state): State<Arc<WebhookState>>, request: HttpRequest<Body>| async move {
            answer(&state, endpoint, request.into_body()).await
        };
        router = router.route(path, post(handler));
    }
    router
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "there is nothing here; admission is at /mutate and /validate\n")
        })
        .with_state(state)
}

/// A router that, once `draining`, asks clients to leave: on HTTP/1.1 a connection that we close while it is idle may be
/// closed just as a request is written to it, and that request fails.
pub fn leaving(router: Router, draining: CancellationToken) -> Router {
    router.layer(from_fn(move |request: HttpRequest<Body>, next: Next| {
        let last = draining.is_cancelled() && request.version() < Version::HTTP_2;
        async move {
            let mut response = next.run(request).await;
            if last {
                response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            }
            response
        }
    }))
}

/// What became of a request.
struct Outcome {
    verdict: &'static str,
    response: Response,
}

async fn answer(state: &Arc<WebhookState>, endpoint: Endpoint, body: Body) -> Response {
    let started = Instant::now();
    let outcome = match Arc::clone(&state.permits).try_acquire_owned() {
        Ok(permit) => admit(state, endpoint, body, permit).await,
        // The API server's client repeats such a request by itself while its own time lasts.
        Err(_) => plain("shed", StatusCode::TOO_MANY_REQUESTS, "too many admission requests are in flight; try again"),
    };
    state.metrics.request(endpoint.name(), outcome.verdict, started.elapsed());
    let mut response = outcome.response;
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

async fn admit(state: &Arc<WebhookState>, endpoint: Endpoint, body: Body, permit: OwnedSemaphorePermit) -> Outcome {
    let deadline = Deadline::now() + state.deadline;
    let body = match timeout_at(deadline, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the body is larger than {BODY_LIMIT} bytes");
            return plain("bad_request", StatusCode::PAYLOAD_TOO_LARGE, &text);
        }
        Ok(Err(error)) => {
            return plain("bad_request", StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}"));
        }
        Err(_) => return plain("bad_request", StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
    };
    // What is as small as nearly all reviews is read faster than another thread is woken.
    let parsed = match body.len() {
        0..=READ_AT_ONCE => Ok(Review::parse(&body)),
        _ => spawn_blocking(move || Review::parse(&body)).await,
    };
    let review = match parsed {
        Ok(Ok(review)) => review,
        Ok(Err(ReviewError::Undecidable { uid, about, reason })) => {
            let violation = Violation {
                rule: Rule::Malformed,
                fact: reason,
                remedy: "send an object that the API server's own schema accepts; if it does, report this to the \
                         maintainers of Weightlock."
                    .into(),
            };
            return undecided(state, endpoint, &uid, &about, violation);
        }
        Ok(Err(error)) => return plain("bad_request", StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error) => return plain("failed", StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let review = Arc::new(review);
    // What is read has half of the time; then there is enough left to decide, and to say why it could not be.
    let reading = Case::read(state.index.world(), &state.fresh, Arc::clone(&review), endpoint.webhook == Webhook::Bind);
    let case = match timeout_at(Deadline::now() + state.deadline / 2, reading).await {
        Ok(Ok(case)) => case,
        Ok(Err(why)) => return undecided(state, endpoint, &review.uid, &review.about(), unread(why)),
        Err(_) => {
            let why = "the API server did not answer in time".to_owned();
            return undecided(state, endpoint, &review.uid, &review.about(), unread(why));
        }
    };
    let deciding = {
        let state = Arc::clone(state);
        spawn_blocking(move || {
            // Held until the thread is free again, even where nobody waits for it any more.
            let _permit = permit;
            decide(&state, endpoint, &case)
        })
    };
    match timeout_at(deadline, deciding).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => plain("failed", StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(_) => {
            let violation = Violation {
                rule: Rule::NotSynced,
                fact: format!("the decision took longer than {} ms.", state.deadline.as_millis()),
                remedy: "try again; if it stays so, look at the logs and the load of the webhook's pods \
                         (docs/recovery.md)."
                    .into(),
            };
            undecided(state, endpoint, &review.uid, &review.about(), violation)
        }
    }
}

/// What is said where the objects that a decision rests on cannot be read.
fn unread(why: String) -> Violation {
    Violation {
        rule: Rule::NotSynced,
        fact: format!("a pod is placed on a node only after its claims were read again, and {why}."),
        remedy:
            "none is needed at first: the scheduler tries again by itself; if it stays so, look at the logs of the \
                 webhook's pods (docs/recovery.md)."
                .into(),
    }
}

fn decide(state: &WebhookState, endpoint: Endpoint, case: &Case) -> Outcome {
    let (world, review, request) = (&case.world, &case.review, case.request());
    if !world.unsynced.is_empty() {
        let kinds: Vec<&str> = world.unsynced.iter().copied().collect();
        let violation = Violation {
            rule: Rule::NotSynced,
            fact: format!("the webhook has not yet listed {}, so it cannot tell what is permitted.", kinds.join(", ")),
            remedy: "try again in a few seconds; if it stays so, look at the logs of the webhook's pods \
                     (docs/recovery.md)."
                .into(),
        };
        return undecided(state, endpoint, &review.uid, &review.about(), violation);
    }
    match endpoint.webhook {
        Webhook::Mutate => {
            let shaped = (state.decider.shape)(world, &request);
            match (request.object, shaped.object) {
                (Some(from), Some(to)) => reply("patched", &review::patch(&review.uid, from, &to, &shaped.warnings)),
                _ => reply("allowed", &review::allow(&review.uid, &shaped.warnings)),
            }
        }
        Webhook::Validate | Webhook::Bind => {
            let decision = (state.decider.decide)(world, &request);
            for rule in decision.warnings.iter().filter_map(|w| warnings::rule_of(w)) {
                state.metrics.rule(rule, "warned");
            }
            if decision.allowed() {
                let verdict = if decision.warnings.is_empty() { "allowed" } else { "warned" };
                return reply(verdict, &review::allow(&review.uid, &decision.warnings));
            }
            deny(state, "denied", &review.uid, &review.about(), &decision)
        }
        Webhook::Foretell => {
            let told = request.object.map(|object| (state.decider.foretell)(world, object, request.namespace));
            let told = told.unwrap_or_default();
            for rule in told.iter().filter_map(|text| warnings::rule_of(text)) {
                state.metrics.rule(rule, "foretold");
            }
            let verdict = if told.is_empty() { "allowed" } else { "warned" };
            reply(verdict, &review::allow(&review.uid, &told))
        }
    }
}

/// The answer where there is no decision: a denial, or a warning where an environment is in Audit mode and an outage of
/// ours must not be felt.
fn undecided(state: &WebhookState, endpoint: Endpoint, uid: &str, about: &About, violation: Violation) -> Outcome {
    if endpoint.audit {
        state.metrics.rule(violation.rule.id(), "warned");
        return reply("undecided", &review::allow(uid, &[violation.to_string()]));
    }
    deny(state, "undecided", uid, about, &Decision { violations: vec![violation], warnings: Vec::new() })
}

fn deny(
    state: &WebhookState,
    verdict: &'static str,
    uid: &str,
    About { kind, namespace, name }: &About,
    decision: &Decision,
) -> Outcome {
    for violation in &decision.violations {
        state.metrics.rule(violation.rule.id(), "denied");
        tracing::info!(uid, kind, namespace, name, rule = violation.rule.id(), fact = violation.fact, "denied");
    }
    let text = admission::denial_text(kind, namespace, name, decision);
    reply(verdict, &review::deny(uid, decision, &text))
}

fn reply(verdict: &'static str, review: &Value) -> Outcome {
    let body = Bytes::from(review.to_string());
    Outcome { verdict, response: ([(header::CONTENT_TYPE, "application/json")], body).into_response() }
}

/// An answer that is no review. It is a `Status`, whose message the API server passes on.
fn plain(verdict: &'static str, code: StatusCode, message: &str) -> Outcome {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(),
        "message": format!("weightlock: {message}"),
    });
    let body = Bytes::from(status.to_string());
    Outcome { verdict, response: (code, [(header::CONTENT_TYPE, "application/json")], body).into_response() }
}
