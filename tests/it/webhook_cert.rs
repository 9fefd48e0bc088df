//! `tidegate webhook cert`: on standard output, in files, and in a cluster whose API server is one of the test's own,
//! over real TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::authority::{Authority, Issued};
use crate::support::sidecar::TIDEGATE;

const SECRET: &str = "/api/v1/namespaces/tidegate/secrets/tidegate-webhook-tls";
const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/tidegate";

/// What an API server keeps, and what it was asked.
#[derive(Default)]
struct Kept {
    secret: Option<Value>,
    hooks: Option<Value>,
    asked: Vec<String>,
    /// Answers all that is to be changed with this status.
    refuses: Option<StatusCode>,
    /// Answers it so for the Secret alone.
    refuses_secrets: Option<StatusCode>,
    /// What others do to the end before the next change of the Secret is answered.
    meanwhile: Option<BoxFuture<'static, ()>>,
}

/// An API server.
struct Api {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    account: TempDir,
    _authority: Authority,
}

impl Api {
    async fn start() -> Self {
        let authority = Authority::new();
        let account = tempfile::tempdir().unwrap();
        std::fs::write(account.path().join("token"), "the-token\n").unwrap();
        std::fs::write(account.path().join("namespace"), "tidegate").unwrap();
        std::fs::copy(authority.certificate(), account.path().join("ca.crt")).unwrap();
        let acceptor = acceptor(&authority.issue("api", 2));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hooks = json!({"metadata": {"name": "tidegate", "resourceVersion": "1"}, "webhooks": [
            {"name": "namespaces.tidegate.dev", "clientConfig": {"service": {"name": "tidegate-webhook"}}},
            {"name": "pods.tidegate.dev", "clientConfig": {"service": {"name": "tidegate-webhook"}}}]});
        let kept = Arc::new(Mutex::new(Kept { hooks: Some(hooks), ..Kept::default() }));
        let served = kept.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, kept) = (acceptor.clone(), served.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, kept.clone()));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, kept, account, _authority: authority }
    }

    async fn apply(&self, more: &[&str]) -> Output {
        self.command(more).output().await.unwrap()
    }

    fn command(&self, more: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(TIDEGATE);
        command
            .args(["webhook", "cert", "--apply", "--api-host", "localhost", "--api-port"])
            .arg(self.address.port().to_string())
            .arg("--account")
            .arg(self.account.path())
            .args(more)
            .env_clear();
        command
    }

    /// Whether who has the bundle of a webhook believes the certificate.
    fn believes(&self, index: usize, certificate: &str) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let (bundle, chain) = (directory.path().join("bundle"), directory.path().join("chain"));
        std::fs::write(&bundle, self.bundle(index)).unwrap();
        std::fs::write(&chain, certificate).unwrap();
        let verified = Command::new("openssl").arg("verify").arg("-CAfile").args([bundle, chain]).output();
        verified
            .unwrap_or_else(|e| panic!("openssl: {e}; install it with: apt-get install -y openssl"))
            .status
            .success()
    }

    fn bundle(&self, index: usize) -> String {
        let kept = self.kept.lock().unwrap();
        let text =
            kept.hooks.as_ref().unwrap()["webhooks"][index]["clientConfig"]["caBundle"].as_str().unwrap().to_owned();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    fn data(&self, key: &str) -> String {
        let kept = self.kept.lock().unwrap();
        let text = kept.secret.as_ref().unwrap()["data"][key].as_str().unwrap().to_owned();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.kept.lock().unwrap().asked)
    }
}

fn acceptor(issued: &Issued) -> TlsAcceptor {
    tidegate::net::tls::install_provider();
    let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
    TlsAcceptor::from(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

async fn answer(request: Request<Incoming>, kept: Arc<Mutex<Kept>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (method, path) = (head.method.as_str(), head.uri.path());
    if method != "GET" && path != HOOKS {
        let meanwhile = kept.lock().unwrap().meanwhile.take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
    }
    let mut kept = kept.lock().unwrap();
    kept.asked.push(format!("{method} {path}"));
    let (status, said) = if head.headers["authorization"] != "Bearer the-token" {
        (StatusCode::UNAUTHORIZED, json!({"message": "Unauthorized"}))
    } else if let Some(status) =
        kept.refuses.or(kept.refuses_secrets.filter(|_| path != HOOKS)).filter(|_| method != "GET")
    {
        (status, json!({"message": "secrets is forbidden: User \"x\" cannot create it"}))
    } else {
        kept.answer(method, path, &body)
    };
    let mut response = Response::new(Full::new(Bytes::from(said.to_string())));
    *response.status_mut() = status;
    Ok(response)
}

impl Kept {
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let found = |value: &Option<Value>| match value {
            Some(value) => (StatusCode::OK, value.clone()),
            None => (StatusCode::NOT_FOUND, json!({"message": "not found"})),
        };
        match (method, path) {
            ("GET", SECRET) => found(&self.secret),
            ("GET", HOOKS) => found(&self.hooks),
            ("POST", "/api/v1/namespaces/tidegate/secrets") | ("PUT", SECRET) => {
                let version = self.secret.as_ref().map(|secret| secret["metadata"]["resourceVersion"].clone());
                if version.is_some() && version != Some(body["metadata"]["resourceVersion"].clone()) {
                    return (StatusCode::CONFLICT, json!({"message": "the object has been modified"}));
                }
                let mut secret = body.clone();
                secret["metadata"]["resourceVersion"] = format!("{}", self.asked.len()).into();
                self.secret = Some(secret);
                (StatusCode::OK, body.clone())
            }
            ("PATCH", HOOKS) => {
                let patch: json_patch::Patch = serde_json::from_value(body.clone()).unwrap();
                let hooks = self.hooks.as_mut().unwrap();
                match json_patch::patch(hooks, &patch) {
                    Ok(()) => {
                        hooks["metadata"]["resourceVersion"] = format!("{}", self.asked.len()).into();
                        (StatusCode::OK, hooks.clone())
                    }
                    Err(e) => (StatusCode::UNPROCESSABLE_ENTITY, json!({"message": e.to_string()})),
                }
            }
            _ => (StatusCode::NOT_FOUND, json!({"message": "no such path"})),
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn a_cluster_gets_a_certificate_and_a_new_one_when_it_is_due() {
    let api = Api::start().await;
    let output = api.apply(&[]).await;
    assert!(output.status.success() && said(&output).contains("a new certificate, valid until "), "{}", said(&output));
    // Whom to believe is said before the certificate is shown.
    let expected = [
        format!("GET {SECRET}"),
        format!("GET {HOOKS}"),
        format!("PATCH {HOOKS}"),
        "POST /api/v1/namespaces/tidegate/secrets".to_owned(),
        format!("GET {HOOKS}"),
    ];
    assert_eq!(api.asked(), expected);
    assert_eq!(api.kept.lock().unwrap().secret.as_ref().unwrap()["type"], "kubernetes.io/tls");
    assert_eq!((api.bundle(0), api.bundle(1)), (api.data("ca.crt"), api.data("ca.crt")));
    let first = api.data("tls.crt");

    let output = api.apply(&[]).await;
    assert!(
        output.status.success() && said(&output).starts_with("the certificate is good until "),
        "{}",
        said(&output)
    );
    assert_eq!(api.asked(), [format!("GET {SECRET}"), format!("GET {HOOKS}")]);

    // A manifest that was applied again has emptied the bundle.
    api.kept.lock().unwrap().hooks.as_mut().unwrap()["webhooks"][1]["clientConfig"]["caBundle"] = Value::Null;
    let output = api.apply(&[]).await;
    assert!(said(&output).contains("the caBundle was set"), "{}", said(&output));
    assert_eq!((api.bundle(1), api.data("tls.crt")), (api.data("ca.crt"), first.clone()));
    api.asked();

    // Another Service makes a new one due; those who believed the one before still do.
    let output = api.apply(&["--service", "other"]).await;
    assert!(said(&output).contains("other.tidegate.svc would not be believed"), "{}", said(&output));
    assert_ne!(api.data("tls.crt"), first);
    assert_eq!(api.bundle(0).matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(api.asked()[3], format!("PUT {SECRET}"));
}

#[tokio::test]
async fn what_an_api_server_refuses_is_told_with_what_to_do() {
    let api = Api::start().await;
    api.kept.lock().unwrap().refuses = Some(StatusCode::FORBIDDEN);
    let output = api.apply(&[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("forbidden: User") && said(&output).contains("service account"),
        "{}",
        said(&output)
    );
    api.kept.lock().unwrap().refuses = Some(StatusCode::CONFLICT);
    assert_eq!(api.apply(&[]).await.status.code(), Some(75));
    api.kept.lock().unwrap().refuses = Some(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(api.apply(&[]).await.status.code(), Some(69));
    api.kept.lock().unwrap().refuses = None;
    api.kept.lock().unwrap().hooks = None;
    let output = api.apply(&[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("apply it first, or correct --configuration"), "{}", said(&output));
    std::fs::write(api.account.path().join("token"), "another").unwrap();
    assert!(said(&api.apply(&[]).await).contains("mount a service account's"));
    std::fs::copy(Authority::new().certificate(), api.account.path().join("ca.crt")).unwrap();
    assert_eq!(api.apply(&[]).await.status.code(), Some(69), "a stranger is not given the token");
    std::fs::remove_file(api.account.path().join("token")).unwrap();
    assert_eq!(api.apply(&[]).await.status.code(), Some(64));
}

#[tokio::test]
async fn whoever_was_believed_before_a_secret_was_deleted_still_is() {
    let api = Api::start().await;
    assert!(api.apply(&[]).await.status.success());
    // Pods show it until they see another.
    let shown = api.data("tls.crt");
    for round in 2..=4 {
        api.kept.lock().unwrap().secret = None;
        assert!(api.apply(&[]).await.status.success());
        assert!((0..2).all(|index| api.believes(index, &api.data("tls.crt"))));
        assert_eq!(api.believes(0, &shown), round <= 3, "at most two before");
        assert_eq!(api.bundle(0).matches("BEGIN CERTIFICATE").count(), round.min(3));
        assert_eq!(api.data("ca.crt"), api.bundle(0));
    }
    // What is good brings nobody else out of the bundle.
    let bundle = api.bundle(0);
    assert!(api.apply(&[]).await.status.success());
    assert_eq!(api.bundle(0), bundle);
}

#[tokio::test]
async fn of_two_at_the_same_moment_one_makes_the_certificate_and_the_other_finds_it() {
    let api = Api::start().await;
    assert!(api.apply(&[]).await.status.success());
    let before = api.data("tls.crt");
    let more = ["--service", "other"];
    let mut rival = api.command(&more);
    api.kept.lock().unwrap().meanwhile = Some(Box::pin(async move {
        assert!(said(&rival.output().await.unwrap()).starts_with("a new certificate, valid until "));
    }));
    let output = api.apply(&more).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).starts_with("the certificate is good until "), "{}", said(&output));
    assert!((0..2).all(|index| api.believes(index, &api.data("tls.crt")) && api.believes(index, &before)));
}

#[tokio::test]
async fn a_bundle_that_others_wrote_in_between_believes_the_certificate_all_the_same() {
    let api = Api::start().await;
    assert!(api.apply(&[]).await.status.success());
    let before = api.data("tls.crt");
    let more = ["--service", "other"];
    // Each of its tries takes room in the bundle, and none writes the Secret.
    let (mut rival, kept) = (api.command(&more), api.kept.clone());
    api.kept.lock().unwrap().meanwhile = Some(Box::pin(async move {
        kept.lock().unwrap().refuses_secrets = Some(StatusCode::CONFLICT);
        let output = rival.output().await.unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", said(&output));
        kept.lock().unwrap().refuses_secrets = None;
    }));
    let output = api.apply(&more).await;
    assert!(output.status.success() && said(&output).starts_with("a new certificate"), "{}", said(&output));
    assert!((0..2).all(|index| api.believes(index, &api.data("tls.crt")) && api.believes(index, &before)));
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(TIDEGATE);
    command.args(["webhook", "cert"]).args(arguments).env_clear().stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn a_secret_is_printed() {
    let output = run(&["--namespace", "tidegate"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("# The caBundle of the MutatingWebhookConfiguration is the value of ca.crt.\n"), "{text}");
    for line in ["kind: Secret", "name: tidegate-webhook-tls", "namespace: tidegate", "type: kubernetes.io/tls"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    for arguments in
        [&[][..], &["--namespace", "A/B"], &["--namespace", "n", "--lifetime", "1s"], &["--apply", "--namespace", "n"]]
    {
        assert_eq!(run(arguments).status.code(), Some(64), "{arguments:?}");
    }
}

#[test]
fn a_service_and_its_namespace_are_dns_labels() {
    let (longest, longer) = ("n".repeat(63), "n".repeat(64));
    for name in ["w", "9-a", &longest] {
        for arguments in [["--service", name, "--namespace", "n"], ["--service", "w", "--namespace", name]] {
            let output = run(&arguments);
            assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        }
    }
    for name in ["", "*", "a.b", "a_b/c", "A", "é", "-a", "a-", &longer] {
        let (service, namespace) = (format!("--service={name}"), format!("--namespace={name}"));
        for arguments in [[service.as_str(), "--namespace=n"], ["--service=w", &namespace]] {
            let output = run(&arguments);
            assert_eq!(output.status.code(), Some(64), "{arguments:?}");
            assert!(said(&output).contains("a DNS label; write 1 to 63 of a-z"), "{}", said(&output));
        }
    }
    let account = tempfile::tempdir().unwrap();
    std::fs::write(account.path().join("namespace"), "a/b\n").unwrap();
    let output = run(&["--account", account.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("namespace: not a DNS label"), "{}", said(&output));
}

#[test]
fn files_are_kept_until_they_are_due_and_openssl_believes_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tls");
    let arguments = ["--namespace", "tidegate", "--out-dir", path.to_str().unwrap()];
    let output = run(&arguments);
    assert!(output.status.success(), "{}", said(&output));
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let first = read("tls.crt");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path.join("tls.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let verified = Command::new("openssl")
        .args(["verify", "-purpose", "sslserver", "-verify_hostname", "tidegate-webhook.tidegate.svc", "-CAfile"])
        .args([path.join("ca.crt"), path.join("tls.crt")])
        .output()
        .unwrap_or_else(|e| panic!("openssl: {e}; install it with: apt-get install -y openssl"));
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(said(&run(&arguments)).starts_with("the certificate is good until "));
    assert_eq!(read("tls.crt"), first);
    std::fs::write(path.join("tls.key"), "x").unwrap();
    assert!(said(&run(&arguments)).starts_with("a new certificate, valid until "));
    assert!(read("tls.crt") != first && read("ca.crt").matches("BEGIN").count() == 2);
}
