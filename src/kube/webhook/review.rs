//! An AdmissionReview in, an AdmissionReview out (admission.k8s.io/v1). Pure: knows no socket, clock or chance.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thiserror::Error;

use crate::kube::inject::{self, DrainToken, Options, Outcome};
use crate::kube::patch;
use crate::secret::Secret;

/// Characters of a warning; the API server cuts longer ones.
const WARNING: usize = 256;
/// Warnings of one answer.
const WARNINGS: usize = 8;
/// Characters of a refusal's message.
const MESSAGE: usize = 4096;
/// Values of a review: a kilobyte each by the time that the patch is made, where `deploy/` gives the webhook 128 MiB. Large pods
/// have a few thousand.
const VALUES: usize = 20_000;
/// Characters of a uid.
const UID: usize = 256;

/// What becomes of a pod that cannot have a sidecar as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRefusal {
    /// It is not made: its owner learns why at once, and the pods before it go on.
    #[default]
    Deny,
    /// It is made without a sidecar, with a warning.
    Allow,
}

/// What the review came to, for the log and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// One of a few.
    pub kind: Kind,
    /// `shop/orders-5d8-`: namespace and name, or the beginning of the name that is to be.
    pub pod: String,
    /// Why it was refused, or left alone.
    pub message: String,
}

/// What a review came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The pod gets a sidecar.
    Injected,
    /// It has one, by the command line or by an earlier call for the same pod.
    Already,
    /// It is to have none.
    Untouched,
    /// It is no pod that is being made.
    Ignored,
    /// It cannot have one, and is not made.
    Denied,
    /// It cannot have one, and is made without.
    Without,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Injected, Self::Already, Self::Untouched, Self::Ignored, Self::Denied, Self::Without];

    /// For metrics and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Already => "already",
            Self::Untouched => "untouched",
            Self::Ignored => "ignored",
            Self::Denied => "denied",
            Self::Without => "without",
        }
    }
}

/// What is not an AdmissionReview that can be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// Made of more parts than any pod.
    #[error("more than 20000 values, which no pod has")]
    Large,
    /// JSON, but something else.
    #[error("not an AdmissionReview of admission.k8s.io")]
    Kind,
    /// Of a version that is not spoken.
    #[error("only admission.k8s.io/v1 is spoken; name v1 in admissionReviewVersions")]
    Version,
    /// Without a request, or without its uid.
    #[error("no request with a uid")]
    Request,
    /// A pod that is none.
    #[error("the request's object is not a pod")]
    Object,
}

/// Answers a review. `token` is the pod's, if it gets a sidecar.
///
/// # Errors
/// It cannot be answered: nobody knows what was asked.
pub fn answer(
    body: &[u8],
    options: &Options,
    on_refusal: OnRefusal,
    token: Secret,
) -> Result<(Value, Verdict), Malformed> {
    if values(body) > VALUES {
        return Err(Malformed::Large);
    }
    let review: Value = serde_json::from_slice(body).map_err(|error| Malformed::Json(error.to_string()))?;
    let version = review.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if review.get("kind").and_then(Value::as_str) != Some("AdmissionReview")
        || !version.starts_with("admission.k8s.io/")
    {
        return Err(Malformed::Kind);
    }
    if version != "admission.k8s.io/v1" {
        return Err(Malformed::Version);
    }
    let request = review.get("request").ok_or(Malformed::Request)?;
    let uid = text(request, "/uid").filter(|uid| !uid.is_empty() && uid.len() <= UID).ok_or(Malformed::Request)?;
    let (mut response, verdict) = decide(request, options, on_refusal, token)?;
    response["uid"] = uid.into();
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok((answer, verdict))
}

/// How many values a text of JSON has at most, found without making any: each but the first of its brackets follows a comma.
/// What stands in a string is none.
fn values(body: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn decide(
    request: &Value,
    options: &Options,
    on_refusal: OnRefusal,
    token: Secret,
) -> Result<(Value, Verdict), Malformed> {
    let allowed = |kind: Kind, pod: String| (json!({"allowed": true}), Verdict { kind, pod, message: String::new() });
    let is_pod =
        text(request, "/kind/kind") == Some("Pod") && text(request, "/kind/group").unwrap_or_default().is_empty();
    let whole = text(request, "/subResource").unwrap_or_default().is_empty();
    if !is_pod || !whole || text(request, "/operation") != Some("CREATE") {
        return Ok(allowed(Kind::Ignored, String::new()));
    }
    let object = request.get("object").filter(|object| object.get("spec").is_some_and(Value::is_object));
    let object = object.ok_or(Malformed::Object)?;
    let pod = named(request, object);
    if is_injected(object) {
        return Ok(allowed(Kind::Already, pod));
    }
    let options = Options { drain_token: DrainToken::Fresh(token), ..options.clone() };
    match inject::inject(&whole_pod(request, object), &[], &options) {
        Outcome::Injected { object: wanted, notes } => {
            let operations = serde_json::to_vec(&patch::between(object, &like(object, wanted))).unwrap_or_default();
            let warnings: Vec<String> = notes
                .iter()
                .take(WARNINGS)
                .map(|note| cut(&format!("tidegate: {}: {}", note.path, note.text), WARNING))
                .collect();
            let mut response = json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations)});
            if !warnings.is_empty() {
                response["warnings"] = warnings.into();
            }
            Ok((response, Verdict { kind: Kind::Injected, pod, message: String::new() }))
        }
        Outcome::Untouched(reason) => {
            let (response, verdict) = allowed(Kind::Untouched, pod);
            Ok((response, Verdict { message: reason.to_string(), ..verdict }))
        }
        Outcome::Refused(refusals) => {
            let each =
                refusals.iter().map(|refusal| format!("{}: {}; {}", refusal.path, refusal.wrong, refusal.remedy));
            let why = each.collect::<Vec<_>>().join(" | ");
            let way_out = ", or make it without a sidecar by the annotation tidegate.dev/inject: disabled";
            let message = cut(&format!("pod {pod} cannot have the sidecar: {why}"), MESSAGE - way_out.len());
            Ok(match on_refusal {
                OnRefusal::Deny => {
                    // Some remedies are just that.
                    let way_out = if message.contains("tidegate.dev/inject: disabled") { "" } else { way_out };
                    let status = json!({"code": 403, "reason": "Forbidden", "message": format!("{message}{way_out}")});
                    let verdict = Verdict { kind: Kind::Denied, pod, message };
                    (json!({"allowed": false, "status": status}), verdict)
                }
                OnRefusal::Allow => {
                    let warning = cut(&format!("tidegate: made without the sidecar: {why}"), WARNING);
                    let verdict = Verdict { kind: Kind::Without, pod, message };
                    (json!({"allowed": true, "warnings": [warning]}), verdict)
                }
            })
        }
    }
}

/// `shop/orders-5d8-`.
fn named(request: &Value, object: &Value) -> String {
    let name = ["/metadata/name", "/metadata/generateName"].iter().find_map(|pointer| text(object, pointer));
    let namespace = text(request, "/namespace").unwrap_or_default();
    let told = format!("{namespace}/{}", name.or_else(|| text(request, "/name")).unwrap_or_default());
    cut(&told.escape_debug().to_string(), WARNING)
}

/// The pod with what its template has and the object of a review may leave out.
fn whole_pod(request: &Value, object: &Value) -> Value {
    let mut pod = object.clone();
    if let Some(fields) = pod.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| "v1".into());
        fields.entry("kind").or_insert_with(|| "Pod".into());
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let (Some(metadata), Some(namespace)) = (metadata.as_object_mut(), text(request, "/namespace")) {
            metadata.entry("namespace").or_insert_with(|| namespace.into());
        }
    }
    pod
}

/// `wanted` without what [`whole_pod`] had added.
fn like(object: &Value, mut wanted: Value) -> Value {
    if let Some(fields) = wanted.as_object_mut() {
        for added in ["apiVersion", "kind"] {
            if object.get(added).is_none() {
                fields.remove(added);
            }
        }
        if text(object, "/metadata/namespace").is_none()
            && let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("namespace");
        }
    }
    wanted
}

/// Whether the sidecar is in, put there by the command line or by an earlier call for the same pod (`reinvocationPolicy`).
fn is_injected(pod: &Value) -> bool {
    let named = |list: &str| {
        let containers = pod.pointer(list).and_then(Value::as_array);
        containers.is_some_and(|all| all.iter().any(|one| text(one, "/name") == Some("tidegate")))
    };
    text(pod, "/metadata/annotations/tidegate.dev~1injected").is_some()
        && (named("/spec/initContainers") || named("/spec/containers"))
}

/// The text's beginning, in so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
