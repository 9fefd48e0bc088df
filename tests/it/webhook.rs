//! `tidegate webhook` as API servers ask it: the binary itself, over real TLS.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use crate::metrics::the_documented_of_webhooks;
use crate::support::authority::{Authority, Issued};
use crate::support::eventually;
use crate::support::raw::{self, Answer};
use crate::support::sidecar::TIDEGATE;
use crate::support::tls::Tls;

/// A pod of a Deployment, as the ReplicaSet controller asks for it.
const POD: &str = include_str!("../data/admission/pod.json");

/// A running webhook, killed on drop.
struct Webhook {
    child: Child,
    address: SocketAddr,
    ops: SocketAddr,
    /// Lines of its log after the first.
    log: Arc<Mutex<Vec<String>>>,
}

impl Webhook {
    fn start(issued: &Issued, more: &[&str]) -> Self {
        let mut child = command(issued, more).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut told = Vec::new();
        let listening = lines.by_ref().find_map(|line| {
            told.push(line.clone());
            serde_json::from_str::<Value>(&line).ok().filter(|line| line["message"] == "listening")
        });
        let Some(line) = listening else { panic!("it does not listen: {told:#?}") };
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        std::thread::spawn(move || lines.for_each(|line| kept.lock().unwrap().push(line)));
        let ops = line["ops"].as_str().unwrap().trim_start_matches("Some(").trim_end_matches(')').parse().unwrap();
        Self { child, address: line["webhook"].as_str().unwrap().parse().unwrap(), ops, log }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually(Duration::from_secs(30), "the webhook ends", async || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = raw::get(self.ops, "/metrics").await.unwrap().text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().parse().unwrap()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn command(issued: &Issued, more: &[&str]) -> Command {
    let mut command = Command::new(TIDEGATE);
    command
        .args(["webhook", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--delay", "0s"])
        .args(["--tls-cert", &issued.certificate, "--tls-key", &issued.key])
        .args(more)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn request(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /mutate?timeout=10s HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

async fn ask(webhook: &Webhook, tls: &Tls, body: &str) -> Answer {
    let mut client = tls.client(webhook.address).await.unwrap();
    client.send(request(body)).await.unwrap();
    client.answer().await.unwrap()
}

#[tokio::test]
async fn pods_are_patched_over_tls_and_counted() {
    let authority = Authority::new();
    let webhook = Webhook::start(&authority.issue("server", 2), &[]);
    let tls = Tls::new(&authority, None, &["h2", "http/1.1"]);
    let answer = ask(&webhook, &tls, POD).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let response = &answer.json()["response"];
    assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    let patch = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    let added = patch.as_array().unwrap().iter().find(|operation| operation["path"] == "/spec/initContainers");
    assert_eq!(added.unwrap()["value"][0]["name"], "tidegate", "{patch:#}");
    // Two pods never share a token.
    let token = |patch: &Value| {
        let text = patch.to_string();
        text.split("TIDEGATE_OPS__DRAIN_TOKEN\",\"value\":\"").nth(1).unwrap()[..32].to_owned()
    };
    let other = ask(&webhook, &tls, POD).await.json();
    let other = base64::engine::general_purpose::STANDARD.decode(other["response"]["patch"].as_str().unwrap()).unwrap();
    assert_ne!(token(&patch), token(&serde_json::from_slice(&other).unwrap()));

    let left = POD.replace("\"labels\": {", "\"labels\": { \"tidegate.dev/inject\": \"disabled\",");
    let answer = ask(&webhook, &tls, &left).await.json();
    assert_eq!((answer["response"]["allowed"].as_bool(), answer["response"].get("patch")), (Some(true), None));
    eventually(Duration::from_secs(20), "the log says why a pod was left alone", async || {
        webhook.log.lock().unwrap().iter().any(|line| line.contains("\"why\":\"tidegate.dev/inject is disabled\""))
    })
    .await;

    let denied = POD.replace("\"restartPolicy\"", "\"hostNetwork\": true, \"restartPolicy\"");
    let answer = ask(&webhook, &tls, &denied).await.json();
    assert_eq!(answer["response"]["allowed"], false);
    assert!(answer["response"]["status"]["message"].as_str().unwrap().contains("hostNetwork"), "{answer}");
    assert_eq!(webhook.metric("tidegate_webhook_reviews_total{outcome=\"injected\"}").await, 2.0);
    assert_eq!(webhook.metric("tidegate_webhook_reviews_total{outcome=\"denied\"}").await, 1.0);
    let left = webhook.metric("tidegate_tls_certificate_expiry_seconds{listener=\"webhook\"}").await;
    assert!((1.0..=2.0 * 86_400.0).contains(&left), "{left}");
    the_documented_of_webhooks(&raw::get(webhook.ops, "/metrics").await.unwrap().text());
}

#[tokio::test]
async fn garbage_is_refused_with_its_reason() {
    let authority = Authority::new();
    let webhook = Webhook::start(&authority.issue("server", 2), &[]);
    let tls = Tls::new(&authority, None, &[]);
    for (body, part) in [
        ("{", "not JSON"),
        ("[]", "not an AdmissionReview"),
        ("{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1beta1\"}", "admissionReviewVersions"),
        ("{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"request\":{}}", "uid"),
    ] {
        let answer = ask(&webhook, &tls, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    assert_eq!(webhook.metric("tidegate_webhook_reviews_total{outcome=\"malformed\"}").await, 4.0);
    for (head, status) in [
        ("GET /mutate HTTP/1.1\r\nHost: w\r\n\r\n", 405),
        ("POST /healthz HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /other HTTP/1.1\r\nHost: w\r\n\r\n", 404),
        ("POST /mutate HTTP/1.1\r\nHost: w\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415),
        ("POST /mutate HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\nContent-Length: 3145729\r\n\r\n", 413),
    ] {
        let mut client = tls.client(webhook.address).await.unwrap();
        client.send(head).await.unwrap();
        assert_eq!(client.answer().await.unwrap().status, status, "{head}");
    }
    // Larger than it said it would be.
    let mut client = tls.client(webhook.address).await.unwrap();
    client
        .send(
            "POST /mutate HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    for _ in 0..4 {
        if client.send(&chunk).await.is_err() {
            break;
        }
    }
    assert_eq!(client.answer().await.unwrap().status, 413);
    assert_eq!(raw::post(webhook.ops, "/mutate", POD).await.unwrap().status, 404, "reviews need TLS");
}

/// A pod cannot end the webhook by its size, within the memory that `deploy/` gives it.
#[tokio::test]
async fn pods_as_large_as_they_may_be_fit_into_the_memory() {
    let authority = Authority::new();
    let webhook = Webhook::start(&authority.issue("server", 2), &[]);
    let tls = Tls::new(&authority, None, &[]);
    let mut review: Value = serde_json::from_str(POD).unwrap();
    let variable = |n: usize| serde_json::json!({ "name": format!("V{n}"), "value": "x".repeat(400) });
    let env: Vec<Value> = (0..6000).map(variable).collect();
    review["request"]["object"]["spec"]["containers"][0]["env"] = env.into();
    let body = review.to_string();
    assert!((2_000_000..3 * 1024 * 1024).contains(&body.len()), "{}", body.len());
    let asked = (0..8).map(|_| ask(&webhook, &tls, &body));
    let statuses: Vec<u16> = futures_util::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", webhook.child.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(most < 128 * 1024, "{most} KiB");
    let manifest = include_str!("../../deploy/kustomize/base/webhook.yaml");
    assert!(manifest.contains("limits: { memory: 128Mi }"), "another limit: {manifest}");
}

#[tokio::test]
async fn a_client_that_stalls_is_parted_from_and_keeps_nobody_waiting() {
    let authority = Authority::new();
    let webhook = Webhook::start(&authority.issue("server", 2), &[]);
    let tls = Tls::new(&authority, None, &[]);
    let mut slow = tls.client(webhook.address).await.unwrap();
    slow.send("POST /mutate HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        .await
        .unwrap();
    assert_eq!(ask(&webhook, &tls, POD).await.status, 200);
    if let Ok(answer) = slow.answer().await {
        assert_eq!(answer.status, 408);
    }
}

#[tokio::test]
async fn probes_follow_the_certificate_and_the_end() {
    let authority = Authority::new();
    let issued = authority.issue("server", 2);
    let mut webhook = Webhook::start(&issued, &["--delay", "3s"]);
    let tls = Tls::new(&authority, None, &[]);
    assert_eq!(tls.client(webhook.address).await.unwrap().get("/readyz").await.unwrap().status, 200);
    let ready = raw::get(webhook.ops, "/readyz").await.unwrap();
    assert!(ready.status == 200 && ready.text().starts_with("ok; the certificate expires at 2"), "{}", ready.text());
    assert_eq!(raw::get(webhook.ops, "/healthz").await.unwrap().text(), "ok\n");

    let mut kept = tls.client(webhook.address).await.unwrap();
    webhook.signal("TERM");
    eventually(Duration::from_secs(20), "readiness follows the end", async || {
        raw::get(webhook.ops, "/readyz").await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    kept.send(request(POD)).await.unwrap();
    let answer = kept.answer().await.unwrap();
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    assert!(webhook.ended().await.success());
}

#[tokio::test]
async fn new_certificates_are_shown_without_a_restart() {
    let (before, after) = (Authority::new(), Authority::new());
    let issued = before.issue("server", 2);
    let webhook = Webhook::start(&issued, &[]);
    let renewed = after.issue("server", 2);
    std::fs::copy(&renewed.certificate, &issued.certificate).unwrap();
    std::fs::copy(&renewed.key, &issued.key).unwrap();
    let tls = Tls::new(&after, None, &[]);
    eventually(Duration::from_secs(30), "the new certificate is in force", async || {
        tls.client(webhook.address).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn clients_of_a_named_authority_alone_are_answered() {
    let authority = Authority::new();
    let ca = authority.certificate();
    let webhook = Webhook::start(&authority.issue("server", 2), &["--client-ca", &ca]);
    let known = Tls::new(&authority, Some(&authority.issue("client", 2)), &[]);
    assert_eq!(ask(&webhook, &known, POD).await.status, 200);
    let stranger = Tls::new(&authority, None, &[]);
    let refused = async {
        let mut client = stranger.client(webhook.address).await?;
        client.send(request(POD)).await?;
        client.answer().await
    };
    assert!(refused.await.is_err());
}

#[tokio::test]
async fn a_start_that_cannot_be_is_refused_at_once() {
    let authority = Authority::new();
    let issued = authority.issue("server", 2);
    let run = |more: &[&str]| {
        let began = Instant::now();
        let output = command(&issued, more).stderr(Stdio::piped()).output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["--tls-key", "/nowhere/tls.key"]);
    assert!(code == Some(64) && said.contains("/nowhere/tls.key: no such file"), "{said}");
    let other = authority.issue("other", 2);
    let (code, said) = run(&["--tls-key", &other.key]);
    assert!(code == Some(64) && said.contains("key"), "{said}");
    let (code, said) = run(&["--drain-token", "0123456789abcdef"]);
    assert!(code == Some(64) && said.contains("each pod gets a token of its own"), "{said}");
    assert!(!said.contains("0123456789abcdef"), "{said}");
    let (_, help) = run(&["--help"]);
    assert!(!help.contains("--drain-token"), "what is not taken is not offered");
    let (code, said) = run(&["--ops", "nowhere"]);
    assert!(code == Some(64) && said.contains("0.0.0.0:8014 or none"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, said) = run(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(code == Some(69), "{said}");
}
