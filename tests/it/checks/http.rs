//! HTTP over TLS, and what an answer must be.

use std::sync::{Arc, Mutex};

use tidegate::net::tls::client::Trust;
use tidegate::readiness::settings::{Check, Http as Settings, Kind};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{fails, passes, says};
use crate::readiness::{check, watch};
use crate::support::authority::{Authority, Issued};

/// An HTTPS server that answers with what it was last told.
struct Server {
    port: u16,
    answer: Arc<Mutex<String>>,
    accepted: Arc<Mutex<u32>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(issued: &Issued, authority: Option<&Authority>) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        tidegate::net::tls::install_provider();
        let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
        let builder = rustls::ServerConfig::builder();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(authority.certificate()).unwrap()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new("HTTP/1.1 204 No Content\r\n\r\n".to_owned()));
        let accepted = Arc::new(Mutex::new(0));
        let mut tasks = JoinSet::new();
        let (answers, count) = (answer.clone(), accepted.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answers, count) = (acceptor.clone(), answers.clone(), count.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    *count.lock().unwrap() += 1;
                    let mut lines = BufReader::new(stream);
                    let mut line = String::new();
                    while lines.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                        if line == "\r\n" {
                            let answer = answers.lock().unwrap().clone();
                            if lines.write_all(answer.as_bytes()).await.is_err() || lines.flush().await.is_err() {
                                return;
                            }
                        }
                        line.clear();
                    }
                });
            }
        });
        Self { port, answer, accepted, _tasks: tasks }
    }

    fn at(&self, host: &str) -> Settings {
        Settings::new(format!("https://{host}:{}/healthz", self.port))
    }

    fn answers(&self, fields: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {length}\r\n\r\n{body}");
    }
}

fn of(settings: Settings) -> Check {
    check("app", Kind::Http(settings))
}

fn trusting(authority: &Authority) -> Trust {
    Trust { ca_file: Some(authority.certificate().into()), ..Trust::default() }
}

#[tokio::test]
async fn https_is_checked_against_an_authority_of_our_own_or_the_systems() {
    let authority = Authority::new();
    let server = Server::start(&authority.issue("server", 2), None).await;
    let trust = trusting(&authority);
    let watched = watch([of(Settings { trust: trust.clone(), ..server.at("localhost") })]);
    passes(&watched, "app").await;
    watched.attempts_more("app", "ok", 10).await;
    assert_eq!(*server.accepted.lock().unwrap(), 1, "one connection carries them all");
    let named = Trust { server_name: Some("localhost".to_owned()), ..trust.clone() };
    passes(&watch([of(Settings { trust: named, ..server.at("127.0.0.1") })]), "app").await;
    let watched = watch([of(Settings { trust, ..server.at("127.0.0.1") })]);
    fails(&watched, "app", "TLS: invalid peer certificate: not for the name of this server: for localhost…").await;
    let unknown = "TLS: invalid peer certificate: no authority that we trust vouches for it";
    fails(&watch([of(server.at("localhost"))]), "app", unknown).await;
    let expired = Server::start(&authority.issue("expired", -1), None).await;
    let watched = watch([of(Settings { trust: trusting(&authority), ..expired.at("localhost") })]);
    fails(&watched, "app", "TLS: invalid peer certificate: expired at 20…").await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_believed_unless_it_is_an_authoritys() {
    let authority = Authority::new();
    for (name, extension, passing) in
        [("plain", None, false), ("leaf", Some("basicConstraints=critical,CA:FALSE"), true)]
    {
        let issued = authority.self_signed(name, extension);
        let server = Server::start(&issued, None).await;
        let trust = Trust { ca_file: Some(issued.certificate.clone().into()), ..Trust::default() };
        let watched = watch([of(Settings { trust, ..server.at("localhost") })]);
        if passing {
            passes(&watched, "app").await;
        } else {
            let reason = "TLS: invalid peer certificate: an authority's own (CA:TRUE), which is no server's";
            fails(&watched, "app", reason).await;
        }
    }
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_to_who_asks() {
    let authority = Authority::new();
    let server = Server::start(&authority.issue("server", 2), Some(&authority)).await;
    let watched = watch([of(Settings { trust: trusting(&authority), ..server.at("localhost") })]);
    says(&watched, "app: TLS: the server broke off: certificate required").await;
    let ours = authority.issue("ours", 2);
    let identity = Some((ours.certificate.clone().into(), ours.key.clone().into()));
    let trust = Trust { identity, ..trusting(&authority) };
    passes(&watch([of(Settings { trust, ..server.at("localhost") })]), "app").await;
}

#[tokio::test]
async fn an_answer_must_be_all_that_is_asked_of_it() {
    let authority = Authority::new();
    let server = Server::start(&authority.issue("server", 2), None).await;
    let watched = watch([of(Settings {
        trust: trusting(&authority),
        status: vec![(200, 200), (300, 399)],
        headers: vec![("x-ready".to_owned(), "yes".to_owned())],
        contains: Some("\"up\"".to_owned()),
        json: vec![("/db/0/state".to_owned(), "up".into())],
        ..server.at("localhost")
    })]);
    fails(&watched, "app", "status 204, expected 200 or 300 to 399").await;
    let good = r#"{"db":[{"state":"up","secret":"s3cret"}]}"#;
    server.answers("", good);
    fails(&watched, "app", "no header x-ready").await;
    server.answers("X-Ready: no\r\n", good);
    fails(&watched, "app", r#"header x-ready is not "yes""#).await;
    server.answers("X-Ready: yes\r\n", good);
    passes(&watched, "app").await;
    server.answers("X-Ready: yes\r\n", &good.replace("up", "down"));
    fails(&watched, "app", r#"the body does not contain "\"up\"""#).await;
    server.answers("X-Ready: yes\r\n", r#"{"db":[{"state":"down","other":"up"}]}"#);
    fails(&watched, "app", r#"/db/0/state in the body is not "up""#).await;
    server.answers("X-Ready: yes\r\n", "all \"up\"");
    fails(&watched, "app", "the body is not JSON").await;
    server.answers("X-Ready: yes\r\n", &format!("{good}{}", " ".repeat(70_000)));
    fails(&watched, "app", "the body is longer than 64 KiB").await;
    server.answers("X-Ready: yes\r\n", good);
    passes(&watched, "app").await;
    assert!(!watched.readyz().1.contains("s3cret"));
}
