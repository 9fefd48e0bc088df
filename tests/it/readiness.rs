//! Readiness: real servers that stop, hang, refuse and come back, and what `/readyz` says meanwhile.

mod grpc;
mod http;
mod postgres;
mod probes;
mod redis;
mod sidecar;

use std::cell::RefCell;
use std::sync::Once;
use std::time::Duration;

use tidegate::ops::readyz;
use tidegate::readiness::settings::{Check, Class, Http, Kind};
use tidegate::readiness::{self, Board, Settings};
use tidegate::telemetry::metrics::{Registry, registry, render};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::eventually;
use crate::support::port::Port;

/// How long something may take on a busy machine before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A critical check that is asked all the time.
pub(crate) fn check(name: &str, kind: Kind) -> Check {
    Check {
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
        max_staleness: Duration::from_secs(600),
        ..Check::new(name, kind)
    }
}

pub(crate) fn tcp(port: &Port) -> Kind {
    Kind::Tcp { address: port.address().to_string() }
}

/// Checks that run for as long as this lives.
pub(crate) struct Watched {
    pub(crate) board: Board,
    registry: Registry,
    pub(crate) probers: JoinSet<()>,
}

pub(crate) fn watch(checks: impl Into<Vec<Check>>) -> Watched {
    let mut registry = registry();
    let settings = Settings { checks: checks.into() };
    let (board, all) = readiness::set_up(&settings, &mut registry).unwrap();
    let mut probers = JoinSet::new();
    for prober in all {
        probers.spawn(prober.run());
    }
    Watched { board, registry, probers }
}

impl Watched {
    /// Status and body of `/readyz`.
    pub(crate) fn readyz(&self) -> (u16, String) {
        let answer = readyz::answer("/readyz", None, &self.board, Instant::now());
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    }

    /// Waits until `/readyz` answers `expected`.
    pub(crate) async fn says(&self, expected: (u16, &str)) {
        let mut last = self.readyz();
        let reached = async || {
            last = self.readyz();
            (last.0, last.1.as_str()) == expected
        };
        if tokio::time::timeout(PATIENCE, eventually(PATIENCE * 2, "unreachable", reached)).await.is_err() {
            panic!("/readyz says {last:?}, not {expected:?}");
        }
    }

    /// Attempts counted so far.
    pub(crate) fn attempts(&self, check: &str, result: &str) -> u64 {
        let series = format!("tidegate_check_attempts_total{{check=\"{check}\",result=\"{result}\"}} ");
        let text = render(&self.registry);
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.expect("the series exists").parse().unwrap()
    }

    /// Waits for `more` attempts with this result.
    pub(crate) async fn attempts_more(&self, check: &str, result: &str, more: u64) {
        let goal = self.attempts(check, result) + more;
        let why = format!("{more} more attempts at {check} are {result}");
        eventually(PATIENCE, &why, async || self.attempts(check, result) >= goal).await;
    }
}

/// Everything logged by this thread from now on, at every level. One subscriber serves the whole process and sorts
/// by thread: with one per test, a test without any could switch a log line off for all others.
pub(crate) struct Logged;

thread_local! {
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

impl Logged {
    pub(crate) fn here() -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(|| Lines)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        LOGGED.set(Some(Vec::new()));
        Self
    }

    pub(crate) fn text(&self) -> String {
        LOGGED.with_borrow(|text| String::from_utf8(text.clone().unwrap()).unwrap())
    }

    pub(crate) fn lines_with(&self, word: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    }
}

struct Lines;

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|text| {
            if let Some(text) = text {
                text.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_port_that_opens_turns_ready_and_one_that_closes_does_after_fall_attempts() {
    let port = Port::reserve();
    let logged = Logged::here();
    let watched = watch([check("app", tcp(&port))]);
    assert_eq!(watched.readyz().1, r#"{"status":"not ready","error":"app: no result yet","checks":{"app":"pending"}}"#);
    let refused = r#"{"status":"not ready","error":"app: connection refused","checks":{"app":"failed"}}"#;
    watched.says((503, refused)).await;
    watched.attempts_more("app", "failed", 5).await;

    let listener = std::net::TcpListener::bind(port.address()).unwrap();
    watched.says((200, r#"{"status":"ready","checks":{"app":"ok"}}"#)).await;
    let failed = watched.attempts("app", "failed");
    drop(listener);
    eventually(PATIENCE, "a closed port is not ready", async || {
        let failed = watched.attempts("app", "failed") - failed;
        let (status, _) = watched.readyz();
        assert_eq!(status, if failed < 3 { 200 } else { 503 }, "after {failed} failures");
        status == 503
    })
    .await;
    watched.says((503, refused)).await;

    let transitions = logged.lines_with("a check ");
    assert_eq!(transitions.len(), 3, "only transitions are logged: {transitions:#?}");
    for (line, fields) in transitions.iter().zip([
        r#"a check fails check="app" from="pending" to="failed" error="connection refused" took_ms="#,
        r#"a check passes check="app" from="failed" to="ok" took_ms="#,
        r#"a check fails check="app" from="ok" to="failed" error="connection refused" took_ms="#,
    ]) {
        assert!(line.contains(fields), "{line}");
    }
}

#[tokio::test]
async fn the_first_round_is_done_when_the_slowest_check_has_its_first_result() {
    // Accepted by the kernel and never answered: an HTTP check waits for its whole timeout.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let slow = Check { timeout: Duration::from_millis(200), ..check("slow", Kind::Http(Http::new(url))) };
    let quick = check("quick", tcp(&Port::reserve()));
    let watched = watch([quick, slow]);
    let mut done = watched.board.first_round_done();
    watched.attempts_more("quick", "failed", 2).await;
    if watched.attempts("slow", "timeout") == 0 {
        assert!(!*done.borrow());
    }
    tokio::time::timeout(PATIENCE, done.wait_for(|done| *done)).await.unwrap().unwrap();
    assert_eq!(watched.attempts("slow", "timeout"), 1);
}

#[tokio::test]
async fn classes_decide_what_a_failure_means() {
    let port = Port::reserve();
    let of = |name: &str, class| Check { class, ..check(name, tcp(&port)) };
    let watched = watch([of("a", Class::Degraded), of("b", Class::Info)]);
    watched
        .says((200, r#"{"status":"ready","degraded":"a: connection refused","checks":{"a":"failed","b":"failed"}}"#))
        .await;
}

#[tokio::test]
async fn a_name_without_an_address_is_said_to_be_that() {
    let kind = Kind::Tcp { address: "no-such-host.invalid:1".to_owned() };
    let watched = watch([check("app", kind)]);
    let said = r#"{"status":"not ready","error":"app: host name not found","checks":{"app":"failed"}}"#;
    watched.says((503, said)).await;
}

#[test]
fn a_check_that_cannot_be_asked_is_refused_before_anything_runs() {
    let settings = Settings { checks: vec![check("db", Kind::Tcp { address: "nowhere".to_owned() })] };
    let error = readiness::set_up(&settings, &mut registry()).unwrap_err();
    assert_eq!(error.to_string(), "check db: \"nowhere\" is not HOST:PORT");
}
