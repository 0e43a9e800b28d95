//! Admission reviews: what the API server sends, and what it is answered.

use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};

use super::warnings;
use crate::domain::admission::BINDING;
use crate::domain::{Decision, Operation, Request, User};

const API_VERSION: &str = "admission.k8s.io/v1";

/// Why a body cannot be decided on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// It is no AdmissionReview at all, so there is nothing to answer with one.
    #[error("the body is no AdmissionReview: {0}")]
    NotAReview(String),
    /// It is of a version that is not spoken here.
    #[error("AdmissionReview of version \"{0}\" is not spoken here: set admissionReviewVersions to [\"v1\"]")]
    Version(String),
    /// It is a review, but what it asks cannot be read.
    #[error("{reason}")]
    Undecidable {
        /// The review to answer.
        uid: String,
        /// What it is about, as far as that can be read.
        about: About,
        /// What cannot be read.
        reason: String,
    },
}

/// Kind, namespace and name of the object that a message speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name, or the prefix of it.
    pub name: String,
}

/// A request for admission, with its objects as raw JSON.
#[derive(Clone, Debug)]
pub struct Review {
    /// Identifier that the answer repeats.
    pub uid: String,
    operation: Operation,
    raw: RawRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<R> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<R>,
}

/// Only what an answer needs. Everything else is skipped without recursion, however deep it is.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource: Value,
    #[serde(default)]
    namespace: Value,
    #[serde(default)]
    name: Value,
}

impl Outline {
    fn about(&self) -> About {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = self.resource.get("resource").and_then(Value::as_str).unwrap_or_default();
        About {
            kind: kind_of(resource).unwrap_or("object").to_owned(),
            namespace: text(&self.namespace),
            name: text(&self.name),
        }
    }
}

/// A connection to a pod speaks of the pod, not of its options, and what binds it to a node does, too.
fn kind_of(resource: &str) -> Option<&'static str> {
    match resource {
        "pods" | "bindings" => Some("Pod"),
        "services" => Some("Service"),
        _ => None,
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    kind: GroupVersionKind,
    #[serde(default)]
    resource: GroupVersionResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    user_info: UserInfo,
    #[serde(default)]
    object: Option<Value>,
    #[serde(default)]
    old_object: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct GroupVersionResource {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resource: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

impl Review {
    /// Reads a review.
    ///
    /// # Errors
    /// As [`ReviewError`] tells them; nested too deeply is [`ReviewError::Undecidable`].
    pub fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        let raw = match serde_json::from_slice::<RawReview<RawRequest>>(body) {
            Ok(review) => checked(review)?,
            Err(error) => {
                let outline = serde_json::from_slice::<RawReview<Outline>>(body)
                    .map_err(|_| ReviewError::NotAReview(error.to_string()))?;
                let outline = checked(outline)?;
                if outline.uid.is_empty() {
                    return Err(ReviewError::NotAReview("request.uid is missing".into()));
                }
                let (about, reason) = (outline.about(), format!("the request cannot be read: {error}."));
                return Err(ReviewError::Undecidable { uid: outline.uid, about, reason });
            }
        };
        if raw.uid.is_empty() {
            return Err(ReviewError::NotAReview("request.uid is missing".into()));
        }
        let undecidable =
            |reason: String| ReviewError::Undecidable { uid: raw.uid.clone(), about: raw.about(), reason };
        let operation = match raw.operation.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            "CONNECT" => Operation::Connect,
            other => return Err(undecidable(format!("request.operation \"{other}\" is not known."))),
        };
        if raw.resource.resource.is_empty() {
            return Err(undecidable("request.resource is missing.".into()));
        }
        Ok(Self { uid: raw.uid.clone(), operation, raw })
    }

    /// The request to place a pod on a node, as the rules see it, with the pod that it makes.
    pub fn placement<'a>(&'a self, placed: &'a Value) -> Request<'a> {
        let subresource = Some(BINDING);
        Request { resource: "pods", subresource, object: Some(placed), ..self.request() }
    }

    /// The request as the rules see it.
    pub fn request(&self) -> Request<'_> {
        let raw = &self.raw;
        Request {
            operation: self.operation,
            group: &raw.resource.group,
            resource: &raw.resource.resource,
            subresource: raw.sub_resource.as_deref().filter(|s| !s.is_empty()),
            namespace: &raw.namespace,
            name: raw.name(),
            user: User {
                name: &raw.user_info.username,
                groups: raw.user_info.groups.iter().flatten().map(String::as_str).collect(),
            },
            object: raw.object.as_ref().filter(|o| !o.is_null()),
            old_object: raw.old_object.as_ref().filter(|o| !o.is_null()),
        }
    }

    /// What a message speaks of.
    pub fn about(&self) -> About {
        self.raw.about()
    }
}

impl RawRequest {
    fn about(&self) -> About {
        About {
            kind: kind_of(&self.resource.resource).unwrap_or(&self.kind.kind).to_owned(),
            namespace: self.namespace.clone(),
            name: self.name().to_owned(),
        }
    }

    /// Name of the object; the prefix of its name while that is to be generated.
    fn name(&self) -> &str {
        let generated = || self.object.as_ref()?.pointer("/metadata/generateName")?.as_str();
        if self.name.is_empty() { generated().unwrap_or_default() } else { &self.name }
    }
}

fn checked<R>(review: RawReview<R>) -> Result<R, ReviewError> {
    if review.kind != "AdmissionReview" {
        return Err(ReviewError::NotAReview(format!("kind is \"{}\"", review.kind)));
    }
    if review.api_version != API_VERSION {
        return Err(ReviewError::Version(review.api_version));
    }
    review.request.ok_or_else(|| ReviewError::NotAReview("request is missing".into()))
}

/// The answer that changes nothing and forbids nothing.
pub fn allow(uid: &str, warning_texts: &[String]) -> Value {
    answer(uid, json!({"allowed": true}), warning_texts)
}

/// The answer that changes the object from one form to another.
pub fn patch(uid: &str, from: &Value, to: &Value, warning_texts: &[String]) -> Value {
    let patch = json!(json_patch::diff(from, to)).to_string();
    let encoded = base64::engine::general_purpose::STANDARD.encode(patch);
    answer(uid, json!({"allowed": true, "patchType": "JSONPatch", "patch": encoded}), warning_texts)
}

/// The answer that refuses, with the text that its author is to read.
pub fn deny(uid: &str, decision: &Decision, text: &str) -> Value {
    let rules: Vec<&str> = decision.violations.iter().map(|v| v.rule.id()).collect();
    let response = json!({
        "allowed": false,
        "status": {"code": 403, "reason": "Forbidden", "message": text},
        "auditAnnotations": {"rules": unique(&rules).join(",")},
    });
    answer(uid, response, &decision.warnings)
}

fn answer(uid: &str, mut response: Value, warning_texts: &[String]) -> Value {
    response["uid"] = uid.into();
    let warnings = warnings::split(warning_texts);
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
        let rules: Vec<&str> = warning_texts.iter().filter_map(|w| warnings::rule_of(w)).collect();
        if !rules.is_empty() {
            response["auditAnnotations"]["warned"] = unique(&rules).join(",").into();
        }
    }
    json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
}

fn unique<'a>(rules: &[&'a str]) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for rule in rules {
        if !seen.contains(rule) {
            seen.push(*rule);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: Value) -> Vec<u8> {
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
    }

    #[test]
    fn a_request_is_read_with_its_objects_as_they_stand() {
        let body = review(json!({
            "uid": "u1", "operation": "UPDATE", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "subResource": "ephemeralcontainers",
            "namespace": "llm", "name": "p", "userInfo": {"username": "eve", "groups": ["a", "b"]},
            "object": {"spec": {"fieldOfTomorrow": [1]}}, "oldObject": null,
        }));
        let review = Review::parse(&body).unwrap();
        let request = review.request();
        assert_eq!((request.operation, request.resource, request.namespace), (Operation::Update, "pods", "llm"));
        assert_eq!((request.subresource, request.name, request.user.name), (Some("ephemeralcontainers"), "p", "eve"));
        assert_eq!(request.user.groups, ["a", "b"]);
        assert_eq!(request.object.unwrap()["spec"]["fieldOfTomorrow"][0], 1);
        assert!(request.old_object.is_none());
    }

    #[test]
    fn a_generated_name_stands_in_for_the_name() {
        let body = review(json!({"uid": "u", "operation": "CREATE", "resource": {"resource": "pods"},
            "object": {"metadata": {"generateName": "web-"}}}));
        assert_eq!(Review::parse(&body).unwrap().request().name, "web-");
    }

    #[test]
    fn what_is_no_review_says_what_is_wrong() {
        for (body, expected) in [
            (&b"\xff\x00garbage"[..], "the body is no AdmissionReview: expected value at line 1 column 1"),
            (b"{}", "the body is no AdmissionReview: kind is \"\""),
            (b"[]", "the body is no AdmissionReview: "),
            (br#"{"kind":"Pod","apiVersion":"v1"}"#, "the body is no AdmissionReview: kind is \"Pod\""),
            (br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#, "request is missing"),
            (
                br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"operation":"CREATE"}}"#,
                "request.uid is missing",
            ),
            (
                br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":7}}"#,
                "7", // the version of a review that cannot even be outlined is not looked at
            ),
        ] {
            let error = Review::parse(body).unwrap_err();
            assert!(matches!(error, ReviewError::NotAReview(_)), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let body = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}"#;
        assert_eq!(Review::parse(body).unwrap_err(), ReviewError::Version("admission.k8s.io/v1beta1".into()));
    }

    #[test]
    fn what_cannot_be_read_of_a_review_is_undecidable_under_its_uid() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        let deep = format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"object":{deep},"uid":"u"}}}}"#
        );
        for (body, expected) in [
            (deep.into_bytes(), "recursion limit exceeded"),
            (review(json!({"uid": "u", "operation": "MERGE"})), "request.operation \"MERGE\" is not known."),
            (review(json!({"uid": "u", "operation": "CREATE"})), "request.resource is missing"),
            (review(json!({"uid": "u", "namespace": 5})), "invalid type: integer `5`"),
        ] {
            let ReviewError::Undecidable { uid, reason, .. } = Review::parse(&body).unwrap_err() else { panic!() };
            assert_eq!(uid, "u");
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
