//! Who may drain, and what every route refuses.

use http::header::HOST;
use http_body_util::{BodyExt as _, Empty};

use super::*;
use crate::lifecycle::drain;
use crate::lifecycle::driver::{self, Driver};
use crate::lifecycle::leases::Leases;
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::machine::{Event, Phase};
use crate::readiness;
use crate::telemetry::metrics::registry;

const TOKEN: &str = "s3cret";

fn api(token: Option<&str>) -> (Api, Lifecycle, Driver) {
    // Every hook is the end of the pod here: that a restart is told from it is another matter.
    let settings = drain::Settings {
        delay: Duration::ZERO,
        quiet: Duration::ZERO,
        restart_after: None,
        ..drain::Settings::default()
    };
    let ledger = Arc::new(Ledger::new(1));
    let leases = Arc::new(Leases::new(ledger.shard(0)));
    let (lifecycle, driver) = driver::new(settings, ledger, leases);
    let parts = Parts {
        lifecycle: lifecycle.clone(),
        pulse: Pulse::new([]),
        board: Board::new(&readiness::Settings::default()),
        started: watch::channel(false).1,
        registry: registry(),
        drain_token: token.map(Secret::new),
    };
    (Api::new(parts), lifecycle, driver)
}

fn peer(address: &str) -> Peer {
    Peer::Tcp(format!("{address}:50000").parse().expect("an address"))
}

fn request(method: Method, path: &str, token: Option<&str>) -> Request<Empty<Bytes>> {
    let request = Request::builder().method(method).uri(path).header(HOST, "sidecar");
    let request = token.into_iter().fold(request, |request, token| request.header(DRAIN_TOKEN, token));
    request.body(Empty::new()).expect("a request")
}

/// The answer's status, and the phase that the next event of a start leads to: events are taken in order, so it is
/// `Serving` only when the request asked for no drain.
async fn ask(configured: Option<&str>, peer: Peer, request: Request<Empty<Bytes>>) -> (StatusCode, Phase) {
    let (api, lifecycle, mut driver) = api(configured);
    let calls = async {
        let status = api.handle(peer, request).await.status();
        lifecycle.send(Event::Started).await;
        let mut phases = lifecycle.watch();
        let phase = *phases.wait_for(|phase| *phase != Phase::Starting).await.expect("the driver runs");
        (status, phase)
    };
    tokio::select! {
        asked = calls => asked,
        outcome = driver.run() => panic!("nobody ended it, and it ended: {outcome:?}"),
    }
}

#[tokio::test]
async fn nobody_drains_from_elsewhere_without_the_token() {
    for (configured, given) in [
        (None, None),
        (None, Some("")),
        (None, Some(TOKEN)),
        (Some(""), None),
        (Some(""), Some("")),
        (Some(TOKEN), None),
        (Some(TOKEN), Some("")),
        (Some(TOKEN), Some("s3cre")),
        (Some(TOKEN), Some("s3cret ")),
        (Some(TOKEN), Some("S3CRET")),
    ] {
        for method in [Method::GET, Method::POST] {
            for address in ["192.0.2.1", "[2001:db8::1]", "[::ffff:192.0.2.1]"] {
                let (status, phase) = ask(configured, peer(address), request(method.clone(), "/drain", given)).await;
                let asked = (status, phase);
                assert_eq!(asked, (StatusCode::FORBIDDEN, Phase::Serving), "{configured:?} {given:?} {address}");
            }
        }
    }
}

#[tokio::test]
async fn the_token_drains_from_everywhere_and_loopback_needs_none() {
    let callers = [
        (peer("192.0.2.1"), Some(TOKEN)),
        (peer("[2001:db8::1]"), Some(TOKEN)),
        (peer("127.0.0.1"), None),
        (peer("127.0.0.1"), Some("wrong")),
        (peer("127.1.2.3"), None),
        (peer("[::1]"), None),
        (peer("[::ffff:127.0.0.1]"), None),
        (Peer::Unix, None),
    ];
    for (peer, given) in callers {
        for method in [Method::GET, Method::POST] {
            let (status, phase) = ask(Some(TOKEN), peer, request(method, "/drain", given)).await;
            assert_eq!((status, phase.outcome()), (StatusCode::OK, Some(Outcome::Clean)), "{peer:?} {given:?}");
        }
    }
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there_are_said_to_be_so_and_drain_nothing() {
    for (method, path, status, allow) in [
        (Method::HEAD, "/drain", StatusCode::METHOD_NOT_ALLOWED, Some("GET, POST")),
        (Method::PUT, "/drain", StatusCode::METHOD_NOT_ALLOWED, Some("GET, POST")),
        (Method::DELETE, "/drain", StatusCode::METHOD_NOT_ALLOWED, Some("GET, POST")),
        (Method::POST, "/readyz", StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")),
        (Method::POST, "/metrics", StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")),
        (Method::OPTIONS, "/healthz", StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")),
        (Method::GET, "/", StatusCode::NOT_FOUND, None),
        (Method::GET, "/drain/", StatusCode::NOT_FOUND, None),
        (Method::GET, "/readyzz", StatusCode::NOT_FOUND, None),
        (Method::GET, "/v1/status", StatusCode::NOT_FOUND, None),
    ] {
        let (api, lifecycle, _driver) = api(None);
        let response = api.handle(peer("127.0.0.1"), request(method.clone(), path, None)).await;
        let said = response.headers().get(ALLOW).map(|value| value.to_str().expect("ASCII"));
        assert_eq!((response.status(), said), (status, allow), "{method} {path}");
        assert_eq!(lifecycle.phase(), Phase::Starting);
    }
}

#[tokio::test]
async fn a_plain_probe_is_answered_as_any_other() {
    for path in ["/healthz", "/startupz", "/readyz", "/lb-healthz"] {
        for holds in [false, true] {
            let (api, _, _driver) = api(None);
            let condition = api.parts.board.condition("flags", readiness::settings::Class::Critical, "no flags yet");
            if holds {
                condition.hold();
            }
            let plain = api.plain().answer(path).expect("a probe");
            let (head, body) = response(plain).into_parts();
            let (other, same) = api.handle(peer("192.0.2.1"), request(Method::GET, path, None)).await.into_parts();
            assert_eq!((head.status, &head.headers), (other.status, &other.headers), "{path} {holds}");
            let (body, same) = (body.collect().await.expect("a body"), same.collect().await.expect("the same"));
            assert_eq!(body.to_bytes(), same.to_bytes(), "{path} {holds}");
        }
    }
}

#[tokio::test]
async fn what_looks_at_more_than_the_path_is_not_plain() {
    let (api, _, _driver) = api(None);
    for target in ["/drain", "/metrics", "/readyz/", "/readyz?verbose", "/readyz/db", "/", "*", "", "http://a/readyz"] {
        assert_eq!(api.plain().answer(target), None, "{target}");
    }
}
