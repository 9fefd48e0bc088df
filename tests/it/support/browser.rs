//! A real browser without a window, showing a page of the tests.

use std::convert::Infallible;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::app::App;
use super::sdk::{installed, root};

/// No step of a page takes longer.
const LIMIT: Duration = Duration::from_secs(90);

/// A page in a browser of its own, killed on drop.
pub(crate) struct Page {
    name: String,
    talk: Talk,
    steps: mpsc::Receiver<String>,
    browser: Child,
    profile: TempDir,
    _server: App,
}

/// What the page and the test share.
#[derive(Clone)]
struct Talk {
    bundle: Bytes,
    said: Arc<Mutex<Vec<String>>>,
    steps: mpsc::Sender<String>,
    go: Arc<Semaphore>,
}

impl Page {
    /// Opens `tests/sdk/browser/NAME.mjs`, bundled with the SDK, from a server of its own.
    pub(crate) async fn open(name: &str, settings: &Value) -> Self {
        let (sender, steps) = mpsc::channel(1);
        let (said, go) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let talk = Talk { bundle: bundle(name).await, said, steps: sender, go };
        let server = App::serve({
            let talk = talk.clone();
            move |stream| {
                let talk = talk.clone();
                async move {
                    let answer = service_fn(move |request| answer(talk.clone(), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                }
            }
        })
        .await;
        let profile = tempfile::tempdir().unwrap();
        let settings = percent(&settings.to_string());
        let browser = Command::new("chromium-headless-shell")
            // Its sandbox does not work for root, nor in most containers; it is shown nothing but the test's own page.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--no-proxy-server", "--enable-logging=stderr"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("http://{}/?settings={settings}", server.address))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(profile.path().join("log")).unwrap())
            // A shell script starts it, and it starts others: they end together.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("chromium-headless-shell: {e}; install it with: scripts/setup.sh sdk"));
        Self { name: name.to_owned(), talk, steps, browser, profile, _server: server }
    }

    /// Waits until the page has come to this step, and no other.
    pub(crate) async fn reaches(&mut self, step: &str) {
        let reached = self.next(step).await;
        assert_eq!(reached, format!("@ {step}"), "{}\n{}", self.name, self.said());
    }

    /// Lets it go on from the step it has reached.
    pub(crate) fn go(&self) {
        self.talk.go.add_permits(1);
    }

    /// Waits for its end, which must be a success.
    pub(crate) async fn passes(mut self) {
        let reached = self.next("its end").await;
        assert!(reached.starts_with("= "), "{}: {reached}\n{}", self.name, self.said());
    }

    async fn next(&mut self, what: &str) -> String {
        let Ok(reached) = timeout(LIMIT, self.steps.recv()).await else {
            panic!("{}: not at {what} within {LIMIT:?}\n{}", self.name, self.said())
        };
        reached.expect("the server keeps a sender")
    }

    fn said(&self) -> String {
        let console = std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default();
        let console: Vec<&str> = console.lines().filter(|line| line.contains("CONSOLE")).collect();
        format!("{}\n{}", self.talk.said.lock().unwrap().join("\n"), console.join("\n"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let group = self.browser.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).unwrap()));
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// One script with everything it imports.
async fn bundle(name: &str) -> Bytes {
    let modules = installed("node/node_modules");
    let output = Command::new("node")
        .arg(modules.join("esbuild/bin/esbuild"))
        .arg(root().join("tests/sdk/browser").join(format!("{name}.mjs")))
        .args(["--bundle", "--format=iife", "--platform=browser", "--log-level=warning"])
        .env("NODE_PATH", &modules)
        .stdin(Stdio::null())
        .output();
    let output = timeout(LIMIT, output).await.unwrap().unwrap();
    assert!(output.status.success(), "esbuild: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout.into()
}

async fn answer(talk: Talk, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (path, body) = (request.uri().path().to_owned(), request.into_body());
    let (kind, content) = match path.as_str() {
        "/" => ("text/html", Bytes::from_static(b"<!doctype html><meta charset=utf-8><script src=/page.js></script>")),
        "/page.js" => ("text/javascript; charset=utf-8", talk.bundle),
        "/go" => {
            talk.go.acquire().await.expect("never closed").forget();
            ("text/plain", Bytes::new())
        }
        "/say" => {
            let line = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            talk.said.lock().unwrap().push(line.clone());
            if line.starts_with(['@', '=', '!']) {
                talk.steps.send(line).await.unwrap_or_default();
            }
            ("text/plain", Bytes::new())
        }
        _ => {
            let mut nothing = Response::new(Full::default());
            *nothing.status_mut() = StatusCode::NOT_FOUND;
            return Ok(nothing);
        }
    };
    Ok(Response::builder().header("content-type", kind).body(Full::new(content)).expect("a plain answer"))
}

/// A text as it may stand in a query.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
