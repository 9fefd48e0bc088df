//! Redis behind TLS, alone and behind Sentinels.

use std::process::Command;
use std::time::Duration;

use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;

use crate::support::authority::{Authority, Issued};
use crate::support::deployment::{PATIENCE, Server};
use crate::support::flags::{Flags, Writer, quick, settings};
use crate::support::sidecar::TIDEGATE;

/// Arguments of a server that shows `issued`; `clients` is whether it asks for certificates too.
fn secured<'a>(authority: &'a str, issued: &'a Issued, clients: &'a str) -> Vec<&'a str> {
    vec![
        "--tls-cert-file",
        &issued.certificate,
        "--tls-key-file",
        &issued.key,
        "--tls-ca-cert-file",
        authority,
        "--tls-auth-clients",
        clients,
    ]
}

/// What `tidegate flags ls` comes to.
fn ls(url: &str, trusted: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = Command::new(TIDEGATE);
    command.args(["flags", "ls", "--scope", "orders"]).env_clear().env("TIDEGATE_REDIS__URL", url);
    if let Some(trusted) = trusted {
        command.env("SSL_CERT_FILE", trusted);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_and_its_name() {
    let authority = Authority::new();
    let (ca, issued) = (authority.certificate(), authority.issue("server", 2));
    let server = Server::start_tls(&secured(&ca, &issued, "no"));
    let port = server.port();
    let good = (Some(0), "scope orders has no flags\n".to_owned(), String::new());
    assert_eq!(ls(&format!("rediss://localhost:{port}"), Some(&ca)), good);
    assert_eq!(ls(&format!("rediss://localhost:{port}?ca_file={ca}"), None), good);
    assert_eq!(ls(&format!("rediss://127.0.0.1:{port}?ca_file={ca}&server_name=localhost"), None), good);
    let other = Authority::new().certificate();
    let stranger = Authority::new();
    for (what, url) in [
        ("another name", format!("rediss://127.0.0.1:{port}?ca_file={ca}")),
        ("another authority", format!("rediss://localhost:{port}?ca_file={}", stranger.certificate())),
        ("nobody of that name", format!("rediss://localhost:{port}?ca_file={ca}&server_name=elsewhere")),
    ] {
        let (code, _, error) = ls(&url, None);
        assert!(code == Some(69) && error.contains("certificate"), "{what}: {error}");
    }
    let (code, _, error) = ls(&format!("rediss://localhost:{port}?ca_file={other}"), None);
    assert!(code == Some(69) && error.contains(&other) && error.contains("No such file"), "{error}");
    let (code, _, error) = ls(&format!("rediss://localhost:{port}?ca_file={}", issued.key), None);
    assert!(code == Some(69) && error.contains("authorities' file") && !error.contains("BEGIN"), "{error}");
    let (code, _, error) = ls(&format!("rediss://localhost:{port}"), Some("/nonexistent"));
    assert!(code == Some(69) && error.contains("certificate"), "nobody trusted: {error}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let authority = Authority::new();
    let (ca, issued) = (authority.certificate(), authority.issue("server", 2));
    let server = Server::start_tls(&secured(&ca, &issued, "yes"));
    let url = format!("rediss://localhost:{}?ca_file={ca}", server.port());
    let (code, _, error) = ls(&url, None);
    assert_eq!(code, Some(69), "{error}");
    let ours = authority.issue("client", 2);
    let (code, _, error) = ls(&format!("{url}&cert_file={}&key_file={}", ours.certificate, ours.key), None);
    assert_eq!(code, Some(0), "{error}");
    let (code, _, error) = ls(&format!("{url}&cert_file={0}&key_file={0}", ours.certificate), None);
    assert!(code == Some(69) && error.contains("client key's file"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_said_and_a_new_one_heals() {
    let authority = Authority::new();
    let (ca, good, expired) = (authority.certificate(), authority.issue("good", 2), authority.issue("expired", -1));
    let trusted = tempfile::NamedTempFile::new().unwrap();
    let stranger = Authority::new();
    std::fs::copy(stranger.certificate(), trusted.path()).unwrap();
    let server = Server::start_tls(&secured(&ca, &good, "no"));
    let url = Secret::new(format!("rediss://localhost:{}?ca_file={}", server.port(), trusted.path().display()));
    let flags = Flags::start(settings(&url, &["orders"]), quick());
    flags.until("nobody knows the authority", |flags| flags.why(0).contains("certificate")).await;
    std::fs::copy(&ca, trusted.path()).unwrap();
    flags.until("the new authority counts at once", |flags| flags.state(0) == "missing").await;
    Writer::to(&url, "orders").await.set("a", 1).await;
    flags.until("flags are followed", |flags| flags.value("a") == Some(1)).await;

    let mut plain = server.socket_client().await;
    let mut show = async |issued: &Issued| {
        let files = ["tls-cert-file", &issued.certificate, "tls-key-file", &issued.key];
        let _: () = redis::cmd("CONFIG").arg("SET").arg(&files).query_async(&mut plain).await.unwrap();
        let _: u64 = redis::cmd("CLIENT").arg("KILL").arg(&["TYPE", "pubsub"]).query_async(&mut plain).await.unwrap();
    };
    show(&expired).await;
    flags.until("the expired certificate is refused", |flags| flags.why(0).contains("xpired")).await;
    assert_eq!((flags.value("a"), flags.state(0)), (Some(1), "stale"));
    show(&good).await;
    flags.until("the new certificate is believed", |flags| flags.state(0) == "fresh").await;
}

#[tokio::test]
async fn sentinels_and_their_master_are_reached_over_tls_with_users_of_their_own() {
    let authority = Authority::new();
    let (ca, issued) = (authority.certificate(), authority.issue("server", 2));
    let secured = secured(&ca, &issued, "no");
    let master = Server::start_tls(&[&secured[..], &["--requirepass", "s3cret-master"]].concat());
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel auth-pass main s3cret-master\nrequirepass s3cret-sentinel\n\
         tls-replication yes\n",
        master.port()
    );
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let sentinel = Server::start_tls(&[&[path, "--sentinel"], &secured[..]].concat());
    let url = |sentinel_password: &str| {
        Secret::new(format!(
            "rediss+sentinel://:s3cret-master@localhost:{}/main?ca_file={ca}&server_name=localhost&\
             sentinel_password={sentinel_password}",
            sentinel.port()
        ))
    };
    Writer::to(&url("s3cret-sentinel"), "orders").await.set("a", 1).await;
    let flags = Flags::start(settings(&url("s3cret-sentinel"), &["orders"]), quick());
    flags.until("flags are followed", |flags| flags.value("a") == Some(1)).await;
    let wrong = Endpoint::new(&url("wr0ng")).unwrap().connect(PATIENCE.min(Duration::from_secs(10))).await;
    let Err(why) = wrong else { panic!("a wrong password was believed") };
    assert!(why.to_string().contains("WRONGPASS") && !why.to_string().contains("wr0ng"), "{why}");
}
