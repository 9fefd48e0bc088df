//! `/readyz` and `/readyz/NAME`: the board's answer in the shapes that kubelets, load balancers and people ask for.
//! Does no IO.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use crate::readiness::settings::Class;
use crate::readiness::verdict::{Line, Standing};
use crate::readiness::{Board, Snapshot};

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 200 ready, 503 not ready, 404 no such check.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The answer to a request for `path` (`/readyz`, `/readyz/NAME`) with `query`, at `now`.
///
/// - no query: the verdict as JSON, rendered beforehand;
/// - `exclude=NAME`, repeatable: the verdict without those checks. A name that no check has is said in the answer
///   and changes nothing, as kube-apiserver does it;
/// - `verbose`: kube-apiserver's lines in place of JSON;
/// - `/readyz/NAME`: that check alone, whatever its class.
pub fn answer(path: &str, query: Option<&str>, board: &Board, now: Instant) -> Answer {
    let snapshot = board.snapshot();
    let query = Query::parse(query.unwrap_or(""));
    match path.strip_prefix("/readyz") {
        Some("" | "/") if query.is_empty() => {
            let (ready, body) = snapshot.answer(now);
            Answer { status: status(ready), content_type: JSON, body }
        }
        Some("" | "/") => all(&snapshot, query, now),
        Some(rest) => match rest.strip_prefix('/') {
            Some(name) => one(&snapshot, name, query.verbose, now),
            None => not_found(rest, &snapshot, now),
        },
        None => not_found(path, &snapshot, now),
    }
}

fn all(snapshot: &Snapshot, query: Query, now: Instant) -> Answer {
    let mut unmatched = query.exclude.clone();
    let verdict = snapshot.verdict(now, |name| {
        unmatched.remove(name);
        query.exclude.contains(name)
    });
    let (status, content_type) = (status(verdict.ready()), if query.verbose { TEXT } else { JSON });
    let warning = (!unmatched.is_empty()).then(|| {
        let names: Vec<_> = unmatched.iter().map(|name| format!("{name:?}")).collect();
        format!("some health checks cannot be excluded: no matches for {}", names.join(", "))
    });
    let body = if query.verbose {
        verbose(&verdict.lines, warning.as_deref(), verdict.ready())
    } else {
        verdict.body(warning.as_deref())
    };
    Answer { status, content_type, body }
}

fn one(snapshot: &Snapshot, name: &str, as_text: bool, now: Instant) -> Answer {
    let Some(line) = snapshot.line(name, now) else { return not_found(name, snapshot, now) };
    let passes = line.standing.passes();
    if as_text {
        return Answer { status: status(passes), content_type: TEXT, body: verbose(&[line], None, passes) };
    }
    let error = (!passes).then(|| line.standing.to_string());
    let brake = line.brake.filter(|_| !passes);
    json(status(passes), &One { status: line.standing.as_str(), error, class: line.class.as_str(), brake })
}

fn not_found(name: &str, snapshot: &Snapshot, now: Instant) -> Answer {
    let lines = snapshot.verdict(now, |_| false).lines;
    let names: Vec<_> = lines.iter().map(|line| &*line.name).collect();
    let error = format!("no check is named {name:?}; there are: {}", names.join(", "));
    json(StatusCode::NOT_FOUND, &NotFound { status: "not found", error })
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("a struct of strings is always JSON");
    Answer { status, content_type: JSON, body: body.into() }
}

/// kube-apiserver's lines (k8s.io/apiserver, pkg/server/healthz), with the reason where it withholds it. What fails
/// without deciding readiness says its class.
fn verbose(lines: &[Line], warning: Option<&str>, passes: bool) -> Bytes {
    let mut text = String::new();
    for Line { name, class, standing, brake, .. } in lines {
        let brake = brake.as_ref().map(|says| format!(" (brake: {says})")).unwrap_or_default();
        text.push_str(&match (standing, class) {
            (Standing::Ok, _) => format!("[+]{name} ok\n"),
            (Standing::Excluded, _) => format!("[+]{name} excluded: ok\n"),
            (failing, Class::Critical) => format!("[-]{name} failed: {failing}{brake}\n"),
            (failing, class) => format!("[-]{name} failed: {failing} ({}){brake}\n", class.as_str()),
        });
    }
    if let Some(warning) = warning {
        text.push_str("warn: ");
        text.push_str(warning);
        text.push('\n');
    }
    text.push_str(if passes { "readyz check passed\n" } else { "readyz check failed\n" });
    text.into()
}

#[derive(Serialize)]
struct One {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    brake: Option<Arc<str>>,
}

#[derive(Serialize)]
struct NotFound {
    status: &'static str,
    error: String,
}

/// The parts of a query string that mean something here; others are nobody's business.
#[derive(Debug, Default)]
struct Query {
    verbose: bool,
    exclude: BTreeSet<String>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "verbose" => parsed.verbose = true,
                "exclude" => {
                    parsed.exclude.insert(decoded(value));
                }
                _ => {}
            }
        }
        parsed
    }

    fn is_empty(&self) -> bool {
        !self.verbose && self.exclude.is_empty()
    }
}

/// A query value without its percent-encoding (RFC 3986 §2.1); what is not well-formed stays as it is.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::readiness::Settings;
    use crate::readiness::settings::{Check, Kind};

    fn board() -> Board {
        let checks = [("app", Class::Info), ("db", Class::Critical), ("redis", Class::Degraded)];
        let checks = checks
            .map(|(name, class)| Check { class, ..Check::new(name, Kind::Tcp { address: "127.0.0.1:1".to_owned() }) });
        Board::new(&Settings { checks: checks.into() })
    }

    fn check(board: &Board, target: &str, status: u16, body: &str) {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let answer = answer(path, query, board, Instant::now());
        let content_type = if body.starts_with('{') { JSON } else { TEXT };
        assert_eq!(String::from_utf8_lossy(&answer.body), body, "{target}");
        assert_eq!((answer.status.as_u16(), answer.content_type), (status, content_type), "{target}");
    }

    #[test]
    fn each_form_of_the_question_is_answered_to_the_byte() {
        let board = board();
        let flags = board.condition("flags", Class::Critical, "no snapshot yet");
        flags.hold();
        let pending = r#"{"status":"not ready","error":"db: no result yet","degraded":"redis: no result yet","checks":{"app":"pending","db":"pending","redis":"pending"}}"#;
        check(&board, "/readyz", 503, pending);
        check(&board, "/readyz/?other=1", 503, pending);
        check(
            &board,
            "/readyz?verbose",
            503,
            "[+]flags ok\n[-]app failed: no result yet (info)\n[-]db failed: no result yet\n\
             [-]redis failed: no result yet (degraded)\nreadyz check failed\n",
        );
        check(
            &board,
            "/readyz?exclude=db",
            200,
            r#"{"status":"ready","degraded":"redis: no result yet","checks":{"app":"pending","db":"excluded","redis":"pending"}}"#,
        );
        check(
            &board,
            "/readyz?verbose=true&exclude=app&exclude=db&exclude=redi%73",
            200,
            "[+]flags ok\n[+]app excluded: ok\n[+]db excluded: ok\n[+]redis excluded: ok\nreadyz check passed\n",
        );
        flags.fail("no snapshot yet");
        check(
            &board,
            "/readyz?verbose&exclude=flags&exclude=db&exclude=app&exclude=redis",
            200,
            "[+]flags excluded: ok\n[+]app excluded: ok\n[+]db excluded: ok\n[+]redis excluded: ok\nreadyz check passed\n",
        );
        check(&board, "/readyz/flags", 503, r#"{"status":"failed","error":"no snapshot yet","class":"critical"}"#);
    }

    #[test]
    fn excluding_what_does_not_exist_is_said_and_changes_nothing() {
        let board = board();
        check(
            &board,
            "/readyz?verbose&exclude=z&exclude=a%0A%22b&exclude=db&exclude=z",
            200,
            "[-]app failed: no result yet (info)\n[+]db excluded: ok\n[-]redis failed: no result yet (degraded)\n\
             warn: some health checks cannot be excluded: no matches for \"a\\n\\\"b\", \"z\"\nreadyz check passed\n",
        );
        check(
            &board,
            "/readyz?exclude=dB",
            503,
            r#"{"status":"not ready","error":"db: no result yet","degraded":"redis: no result yet","warning":"some health checks cannot be excluded: no matches for \"dB\"","checks":{"app":"pending","db":"pending","redis":"pending"}}"#,
        );
    }

    #[test]
    fn one_check_is_asked_for_by_its_name() {
        let board = board();
        check(&board, "/readyz/app", 503, r#"{"status":"pending","error":"no result yet","class":"info"}"#);
        check(&board, "/readyz/db?verbose", 503, "[-]db failed: no result yet\nreadyz check failed\n");
        check(
            &board,
            "/readyz/nope",
            404,
            r#"{"status":"not found","error":"no check is named \"nope\"; there are: app, db, redis"}"#,
        );
        check(
            &board,
            "/readyzdb",
            404,
            r#"{"status":"not found","error":"no check is named \"db\"; there are: app, db, redis"}"#,
        );
        let condition = board.condition("lifecycle", Class::Critical, "not started");
        condition.hold();
        check(&board, "/readyz/lifecycle", 200, r#"{"status":"ok","class":"critical"}"#);
    }

    #[test]
    fn broken_percent_encoding_stays_as_it_is() {
        for (value, expected) in
            [("a%2Db", "a-b"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%ff", "\u{fffd}"), ("%+1", "%+1")]
        {
            assert_eq!(decoded(value), expected);
        }
    }
}
