//! The webhook's certificate in a cluster: a Secret that its pods mount, and the bundle in its configuration by which API
//! servers believe it. The bundle goes first and keeps the authorities before, so that at no moment a certificate is shown
//! that is not believed; and it is looked at again once the Secret is written, for whoever else is at it.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::cluster::{Cluster, Failure, Sent};
use super::{Held, Judgement, bundle, each, issue, judge};
use crate::secret::Secret;

/// Times that it is begun where somebody else is at it.
const TRIES: usize = 3;

/// What is to be kept good.
#[derive(Debug, Clone)]
pub struct Target {
    /// Names that the certificate must have.
    pub names: Vec<String>,
    /// Of the Secret.
    pub namespace: String,
    /// Its name.
    pub secret: String,
    /// The name of the `MutatingWebhookConfiguration`.
    pub configuration: String,
    /// How long a new certificate is valid.
    pub life: Duration,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Why a new certificate was made; `None` where the one that was there goes on.
    pub renewed: Option<String>,
    /// Whether the configuration's bundle was changed.
    pub bundled: bool,
    /// Until when the certificate is valid.
    pub until: SystemTime,
}

/// Makes sure of a good certificate that is believed.
///
/// # Errors
/// The API server is away, says no, or somebody else is at it.
pub async fn apply(cluster: &Cluster, target: &Target, now: SystemTime) -> Result<Done, Failure> {
    let mut more = TRIES;
    loop {
        more -= 1;
        match once(cluster, target, now).await {
            // What the other one has written is to be believed too, and may be all that is needed.
            Err(Failure::Conflict(_)) if more > 0 => {}
            ended => return ended,
        }
    }
}

async fn once(cluster: &Cluster, target: &Target, now: SystemTime) -> Result<Done, Failure> {
    let secrets = format!("/api/v1/namespaces/{}/secrets", target.namespace);
    let place = format!("{secrets}/{}", target.secret);
    let before = cluster.ask(Method::GET, &place, Sent::Nothing).await?;
    let held = before.as_ref().map(held);
    let hooks = Hooks::of(cluster, target).await?;
    let (renewed, good, until) = match held.as_ref().map(|held| (held, judge(held, &target.names, now))) {
        Some((held, Judgement::Good(until))) => (None, held.clone(), until),
        other => {
            let why = match other {
                Some((_, Judgement::Due(why))) => why,
                _ => "there was none".to_owned(),
            };
            // The certificate that is shown now first, then those that pods may still show: theirs are in the bundle,
            // whatever became of the Secret.
            let earlier = held.as_ref().map(|held| each(&held.authorities)).unwrap_or_default();
            let earlier = [&earlier[..earlier.len().min(1)], &hooks.believed[..], &earlier[..]].concat().concat();
            let new = issue(&target.names, now, target.life, &earlier)
                .map_err(|e| Failure::Local(format!("the certificate cannot be made: {e}; correct --service")))?;
            (Some(why), new, now + target.life)
        }
    };
    let mut bundled = hooks.believe(cluster, &good, now).await?;
    if renewed.is_some() {
        let secret = written(target, before.as_ref(), &good);
        let (method, path) = if before.is_some() { (Method::PUT, &place) } else { (Method::POST, &secrets) };
        let answer = cluster.ask(method, path, Sent::Json(&secret)).await?;
        if answer.is_none() {
            return Err(Failure::Conflict(place));
        }
        // Others may have written bundles since, with certificates that came too late, and left no room for this one.
        bundled |= Hooks::of(cluster, target).await?.believe(cluster, &good, now).await?;
    }
    Ok(Done { renewed, bundled, until })
}

/// The configuration as it is at the moment.
struct Hooks {
    path: String,
    version: Value,
    /// Of each webhook.
    bundles: Vec<String>,
    /// The authorities of them all, each once, as PEM.
    believed: Vec<String>,
}

impl Hooks {
    async fn of(cluster: &Cluster, target: &Target) -> Result<Self, Failure> {
        let path =
            format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}", target.configuration);
        let Some(there) = cluster.ask(Method::GET, &path, Sent::Nothing).await? else {
            return Err(Failure::Refused {
                what: format!("GET {path}"),
                status: 404,
                message: "there is no such configuration".to_owned(),
                remedy: "apply it first, or correct --configuration",
            });
        };
        let hooks = there["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bundles: Vec<String> = hooks.iter().map(|hook| decoded(&hook["clientConfig"]["caBundle"])).collect();
        let mut believed: Vec<String> = Vec::new();
        for authority in bundles.iter().flat_map(|bundle| each(bundle)) {
            if !believed.contains(&authority) {
                believed.push(authority);
            }
        }
        Ok(Self { path, version: there["metadata"]["resourceVersion"].clone(), bundles, believed })
    }

    /// Puts the bundle into each webhook that has another.
    async fn believe(&self, cluster: &Cluster, good: &Held, now: SystemTime) -> Result<bool, Failure> {
        let bundle = bundle(&each(&good.authorities), &self.believed.concat(), now);
        let value = STANDARD.encode(&bundle);
        let mut operations: Vec<Value> = (self.bundles.iter().enumerate())
            .filter(|(_, there)| **there != bundle)
            .map(|(index, _)| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": value}))
            .collect();
        if operations.is_empty() {
            return Ok(false);
        }
        // Of another version the webhooks may stand in another order.
        operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": self.version}));
        match cluster.ask(Method::PATCH, &self.path, Sent::Patch(&operations.into())).await {
            // A test that fails is told as what cannot be processed.
            Err(Failure::Refused { status: 422, .. }) | Ok(None) => Err(Failure::Conflict(self.path.clone())),
            other => other.map(|_| true),
        }
    }
}

/// The text of a value in base64; none where it is none.
fn decoded(value: &Value) -> String {
    let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

fn held(secret: &Value) -> Held {
    let text = |key: &str| decoded(&secret["data"][key]);
    Held { chain: text("tls.crt"), key: Secret::new(text("tls.key")), authorities: text("ca.crt") }
}

/// The Secret of a certificate, in place of the one that was there.
fn written(target: &Target, before: Option<&Value>, good: &Held) -> Value {
    let mut secret = before.cloned().unwrap_or_else(|| secret(&target.secret, &target.namespace, good));
    secret["data"] = data(good);
    secret
}

/// A new Secret, as a manifest.
pub fn secret(name: &str, namespace: &str, held: &Held) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "tidegate-webhook"}},
        "type": "kubernetes.io/tls",
        "data": data(held),
    })
}

fn data(held: &Held) -> Value {
    let encoded = |text: &str| STANDARD.encode(text);
    json!({
        "tls.crt": encoded(&held.chain),
        "tls.key": encoded(held.key.expose()),
        "ca.crt": encoded(&held.authorities),
    })
}
