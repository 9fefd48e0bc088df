//! Clients' certificates: who is let in, and what the app is told of them.

use std::time::Duration;

use super::{start, tls, told};
use crate::support::app::App;
use crate::support::authority::{Authority, Issued};
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Tls, curl};

const NAMES: &str = "URI:spiffe://cluster.local/ns/shop/sa/web,DNS:web.shop,DNS:www.shop";

/// What is told of a certificate; its hash by openssl's own reckoning.
fn element(issued: &Issued, rest: &str) -> String {
    let output = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &issued.certificate])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let hash = text.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    format!("Hash={hash};{rest}")
}

/// Whether a request over a new connection is answered.
async fn served(tls: &Tls, sidecar: &Sidecar) -> bool {
    // With TLS 1.3 a client learns only after its own handshake that it was refused.
    let Ok(mut client) = tls.client(sidecar.proxy()).await else { return false };
    client.get("/").await.is_ok()
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_are_served_where_one_is_required() {
    let (app, authority, stranger) = (App::start().await, Authority::new(), Authority::new());
    let (ca, server) = (authority.certificate(), authority.issue("server", 2));
    let sidecar = start(app.address, &tls(&server, &format!("client_ca: '{ca}'")), "");
    let ours = authority.issue_for("client", "/O=Shop, Inc./CN=wéb \"1\"", NAMES, 2);
    let (code, body) =
        curl(sidecar.proxy(), "/echo", &["--cacert", &ca, "--cert", &ours.certificate, "--key", &ours.key]).await;
    assert_eq!(code, 0);
    let echo: serde_json::Value = serde_json::from_str(&body).unwrap();
    let fields = echo["headers"].as_array().unwrap();
    let field = fields.iter().find(|field| field[0] == "x-forwarded-client-cert").unwrap();
    let rest = "Subject=\"CN=w\\C3\\A9b \\221\\22,O=Shop\\, Inc.\";\
                URI=spiffe://cluster.local/ns/shop/sa/web;DNS=web.shop;DNS=www.shop";
    assert_eq!(field[1], element(&ours, rest).as_str());

    let (expired, unknown) = (authority.issue("expired", -1), stranger.issue("unknown", 2));
    for (identity, reason) in
        [(None, "no_certificate"), (Some(&expired), "expired_certificate"), (Some(&unknown), "unknown_authority")]
    {
        assert!(!served(&Tls::new(&authority, identity, &[]), &sidecar).await, "{reason}");
        eventually(Duration::from_secs(10), reason, async || {
            sidecar.metric("tidegate_tls_handshakes_total", &format!("\"{reason}\"")).await == 1.0
        })
        .await;
    }
    assert_eq!(app.accepted(), 1, "nothing of them reaches the app");
}

#[tokio::test]
async fn where_one_is_requested_those_without_are_served_and_those_with_a_wrong_one_are_not() {
    let (app, authority, stranger) = (App::start().await, Authority::new(), Authority::new());
    let (ca, server) = (authority.certificate(), authority.issue("server", 2));
    let sidecar = start(app.address, &tls(&server, &format!("client_ca: '{ca}', client_auth: request")), "");
    let unknown = stranger.issue("unknown", 2);
    assert!(!served(&Tls::new(&authority, Some(&unknown), &[]), &sidecar).await);
    let forged = "GET /echo HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: Hash=00;Subject=\"CN=admin\"\r\n\
                  x-forwarded-client-cert: Hash=01\r\n\r\n";
    let mut without = Tls::new(&authority, None, &[]).client(sidecar.proxy()).await.unwrap();
    without.send(forged).await.unwrap();
    assert_eq!(told(&without.answer().await.unwrap(), "x-forwarded-client-cert"), Vec::<String>::new());
    let ours = authority.issue_for("client", "/CN=web", "DNS:web.shop", 2);
    let mut with = Tls::new(&authority, Some(&ours), &[]).client(sidecar.proxy()).await.unwrap();
    with.send(forged).await.unwrap();
    let expected = [element(&ours, "Subject=\"CN=web\";DNS=web.shop")];
    assert_eq!(told(&with.answer().await.unwrap(), "x-forwarded-client-cert"), expected);
    with.send(forged.replace("Host: a", "Host: a\r\nConnection: x-forwarded-client-cert")).await.unwrap();
    assert_eq!(told(&with.answer().await.unwrap(), "x-forwarded-client-cert"), expected, "nor can it be named away");
}

#[tokio::test]
async fn what_a_proxy_before_us_says_of_certificates_counts_only_where_it_is_trusted() {
    let app = App::start().await;
    let request = "GET /echo HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: Hash=00\r\n\r\n";
    for (policy, expected) in [("append", &["Hash=00"][..]), ("replace", &[])] {
        let sidecar = Sidecar::start(app.address, &format!("forwarded: {policy}"));
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        client.send(request).await.unwrap();
        assert_eq!(told(&client.answer().await.unwrap(), "x-forwarded-client-cert"), expected, "{policy}");
    }
}

#[tokio::test]
async fn a_session_is_resumed_with_the_certificate_that_began_it_and_not_beyond_its_authority() {
    let (app, first, second) = (App::start().await, Authority::new(), Authority::new());
    let server = first.issue("server", 2);
    let authorities = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(first.certificate(), authorities.path()).unwrap();
    let more = format!("client_ca: '{}'", authorities.path().display());
    let sidecar = start(app.address, &tls(&server, &more), "");
    let (ours, theirs) = (first.issue("client", 2), second.issue("client", 2));
    let tls = Tls::new(&first, Some(&ours), &[]);
    for _ in 0..2 {
        let answer = tls.client(sidecar.proxy()).await.unwrap().get("/echo").await.unwrap();
        assert_eq!(
            told(&answer, "x-forwarded-client-cert"),
            [element(&ours, "Subject=\"CN=localhost\";DNS=localhost")]
        );
    }
    assert_eq!(sidecar.metric("tidegate_tls_handshakes_total", "\"resumed\"").await, 1.0);
    assert!(!served(&Tls::new(&first, Some(&theirs), &[]), &sidecar).await);

    std::fs::copy(second.certificate(), authorities.path()).unwrap();
    eventually(Duration::from_secs(20), "the new authority counts", async || {
        served(&Tls::new(&first, Some(&theirs), &[]), &sidecar).await
    })
    .await;
    assert!(!served(&tls, &sidecar).await, "a ticket does not carry a client over a change of authorities");
}

#[tokio::test]
async fn ops_asks_for_certificates_too() {
    let (app, authority) = (App::start().await, Authority::new());
    let tls = tls(&authority.issue("server", 2), &format!("client_ca: '{}'", authority.certificate()));
    let sidecar = Sidecar::start(app.address, &format!("ops: {{ listen: ['127.0.0.1:0'], {tls} }}"));
    let ours = authority.issue("client", 2);
    let ca = authority.certificate();
    let (code, body) =
        curl(sidecar.ops, "/healthz", &["--cacert", &ca, "--cert", &ours.certificate, "--key", &ours.key]).await;
    assert_eq!((code, body.as_str()), (0, "ok\n"));
    assert_ne!(curl(sidecar.ops, "/healthz", &["--cacert", &ca]).await.0, 0);
    assert_eq!(raw::get(sidecar.ops, "/healthz").await.unwrap().status, 400, "no HTTP without TLS");
}
