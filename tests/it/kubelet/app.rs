//! The app in pods: this very binary, run once more. It answers what the load asks, tells its health, and ends at once on
//! SIGTERM, as apps do that do nothing about it.

use std::convert::Infallible;
use std::env;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::endings::app::{Body, answer, text};

/// The variable that makes an app of a run of the tests: where it listens.
pub(super) const LISTEN: &str = "LISTEN_ADDRESS";
/// Its port, where it is to be another; and one more, of the same kind.
const PORT: &str = "PORT";
pub(crate) const GRPC_PORT: &str = "GRPC_PORT";
/// With `ignore` it does not end on SIGTERM.
pub(crate) const ON_TERM: &str = "ON_TERM";

/// How it is started.
pub(super) fn command() -> Vec<String> {
    let program = env::current_exe().unwrap().to_str().unwrap().to_owned();
    [&program, "kubelet::app::runs_as_a_process_when_told_to", "--exact", "--nocapture"].map(str::to_owned).to_vec()
}

/// The app itself; a test that passes at once in every other run.
#[test]
fn runs_as_a_process_when_told_to() {
    let Ok(listen) = env::var(LISTEN) else { return };
    let listen: SocketAddr = listen.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _ignored = (env::var(ON_TERM).as_deref() == Ok("ignore")).then(|| signal(SignalKind::terminate()).unwrap());
        let port = |name: &str| env::var(name).ok().map(|port| SocketAddr::new(listen.ip(), port.parse().unwrap()));
        let broken = Arc::new(AtomicBool::new(false));
        let mut servers = JoinSet::new();
        for address in [Some(port(PORT).unwrap_or(listen)), port(GRPC_PORT)].into_iter().flatten() {
            let listener = TcpListener::bind(address).await.unwrap();
            servers.spawn(serve(listener, broken.clone()));
        }
        servers.join_next().await
    });
}

async fn serve(listener: TcpListener, broken: Arc<AtomicBool>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let broken = broken.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, broken.clone()));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().enable_connect_protocol();
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(request: Request<Incoming>, broken: Arc<AtomicBool>) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/healthz" | "/ready" => text("ok"),
        // As long as nobody calls `/break`.
        "/livez" if broken.load(Ordering::SeqCst) => {
            let mut answer = text("broken");
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
        "/livez" => text("ok"),
        "/break" => {
            broken.store(true, Ordering::SeqCst);
            text("broken from now on")
        }
        _ => answer(request).await,
    })
}
