//! `checks`: what is asked, how often, and what a failure means.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::key;
use super::super::reader::Section;
use super::super::urls::{self, NOT_YET};
use super::super::values::{Type, Wrong, boolean, choice, duration, integer, show_duration, wrong};
use super::Redis;
use crate::readiness::settings::{Check, Class, Kind, Settings};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// How many there may be: each is a task, a connection and a set of metrics.
const MOST: usize = 64;

/// Kinds of checks that are designed and not built.
const LATER: [&str; 6] = ["mysql", "grpc", "app", "schema", "flags", "disk"];

pub(super) fn settings(root: &mut Section<'_>, redis: &Redis) -> Settings {
    let mut names = BTreeSet::new();
    let doc = "Background checks by name: 1 to 63 lower-case letters, digits, `-` or `_`. Each has one kind.";
    let checks = root.named("checks", doc, |section, name| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(fits) {
            section.problem_here("not a usable name of a check", "write 1 to 63 lower-case letters, digits, - or _");
        }
        if CONDITIONS.contains(&name) {
            section.problem_here("the name of a condition that /readyz has by itself", "choose another name");
        }
        names.insert(name.to_owned());
        check(section, name, redis)
    });
    if names.len() > MOST {
        root.problem("checks", None, format!("{} checks", names.len()), format!("configure at most {MOST}"));
    }
    root.refuse(&["panic_threshold"], BRAKE, "set fleet.brake.panic_threshold");
    Settings { checks: checks.into_iter().flatten().collect() }
}

/// Why a check has no threshold of its own.
const BRAKE: &str = "the brake is the same for all checks";

/// What readiness depends on beside the checks, by these names in `/readyz`.
const CONDITIONS: [&str; 2] = ["lifecycle", "flags"];

/// One check; `None` when it has no usable kind, which is a problem then.
fn check(section: &mut Section<'_>, name: &str, redis: &Redis) -> Option<Check> {
    section.refuse(&LATER, NOT_YET, "use postgres, redis, http or tcp");
    section.refuse(&["panic_threshold"], BRAKE, "set fleet.brake.panic_threshold");
    section.refuse(
        &["liveness"],
        "liveness never depends on a check: a restart does not repair a dependency",
        "remove it; class: critical decides about readiness",
    );
    let kind = kind(section, redis);
    let class = section.or(
        "class",
        &choice(&[("critical", Class::Critical), ("degraded", Class::Degraded), ("info", Class::Info)]),
        Class::default(),
        "What a failure means: not ready; ready, and said in the body; ready, for people to read.",
    );
    let interval = section.or(
        "interval",
        &duration(Duration::from_millis(10)..=DAY),
        Duration::from_secs(5),
        "Between the starts of two attempts; each is moved by up to 10 % at random.",
    );
    let timeout = section.or_computed(
        "timeout",
        &duration(Duration::from_millis(1)..=HOUR),
        (interval.min(Duration::from_secs(1)), "`1s`, or the interval if that is shorter"),
        "An attempt that takes longer has failed. At most the interval.",
    );
    let rise = section.or("rise", &integer(1..=100), 1, "Successes in a row that turn a failing check to ok.");
    let fall = section.or("fall", &integer(1..=100), 3, "Failures in a row that turn a passing check to failed.");
    // The ranges above keep sums and products far from overflow.
    let max_staleness = section.or_computed(
        "max_staleness",
        &duration(Duration::from_millis(1)..=DAY * 4),
        (interval * 3 + timeout, "3 × `interval` + `timeout`"),
        "A result older than this is a failure, whatever it said. At least the interval and the timeout together.",
    );
    if section.sound(&["interval", "timeout"]) && timeout > interval {
        section.problem(
            "timeout",
            Some(show_duration(timeout)),
            format!("longer than the interval ({})", show_duration(interval)),
            format!("write at most {}", show_duration(interval)),
        );
    }
    let least = interval + timeout;
    if section.sound(&["interval", "timeout", "max_staleness"]) && max_staleness < least {
        section.problem(
            "max_staleness",
            Some(show_duration(max_staleness)),
            format!("shorter than interval and timeout together ({})", show_duration(least)),
            format!("write at least {}", show_duration(least)),
        );
    }
    let shared = section.or_computed(
        "shared",
        &boolean(),
        (kind.as_ref().is_some_and(Kind::is_shared), "`true` for `postgres`, `mysql` and `redis`, else `false`"),
        "Whether all instances ask the same dependency, so that the brake (`fleet.brake`) may hold for it.",
    );
    kind.map(|kind| Check { name: name.to_owned(), kind, class, shared, interval, timeout, rise, fall, max_staleness })
}

/// Exactly one of the four.
fn kind(section: &mut Section<'_>, redis: &Redis) -> Option<Kind> {
    let postgres = section.section_if_there("postgres", "Runs a query on PostgreSQL.", |s| {
        let url = s.required("url", &urls::postgres_url(), "The server; keep the password out of the file.");
        let query = s.or("query", &query(), "SELECT 1".to_owned(), "Any answer without an error passes.");
        url.map(|url| Kind::Postgres { url, query })
    });
    let redis = section.section_if_there("redis", "Sends `PING` to Redis.", |s| {
        let url = s.optional("url", &urls::redis_url(), "`redis.url`", "The server.");
        if url.is_none() && s.sound(&["url"]) && redis.url.is_none() && redis.sound {
            s.problem("url", None, "missing, and redis.url is not set either", "set one of them");
        }
        url.or_else(|| redis.url.clone()).map(|url| Kind::Redis { url })
    });
    let http = section.section_if_there("http", "Asks an HTTP server.", |s| {
        let url = s.required("url", &urls::http_url(), "Asked with `GET`. It is shown: no secrets in it.");
        let host = s.optional("host", &host(), "the URL's own", "`Host` field to send.");
        let status = s.or("status", &status(), (200, 399), "The statuses that pass: one, or a range.");
        url.map(|url| Kind::Http { url, host, status })
    });
    let tcp = section.section_if_there("tcp", "Opens a TCP connection and closes it.", |s| {
        s.required("address", &urls::tcp_address(), "What is connected to.").map(|address| Kind::Tcp { address })
    });
    let mut kinds = [postgres, redis, http, tcp].into_iter().flatten();
    let first = kinds.next();
    if kinds.next().is_some() {
        section.problem_here("more than one kind", "keep one of postgres, redis, http, tcp");
    }
    if first.is_none() && !LATER.iter().any(|name| section.given(name)) && !section.malformed {
        section.problem_here("no kind", "add one of postgres, redis, http, tcp");
    }
    first.flatten()
}

fn query() -> Type<String> {
    Type::text("SQL", "SELECT 1", |text| match text.trim() {
        "" => wrong("an empty query", "write SELECT 1 or remove the key"),
        _ if text.contains('\0') => wrong("a query with a NUL in it", "remove it"),
        _ => Ok(text.to_owned()),
    })
}

fn host() -> Type<String> {
    Type::text("host, with or without a port", "app.example", |text| match urls::host_port(text, Some(80)) {
        Some(_) => Ok(text.to_owned()),
        None => wrong("not a host", "write HOST or HOST:PORT"),
    })
}

/// `200` or `200-399`, inclusive.
fn status() -> Type<(u16, u16)> {
    let parse = |text: &str| {
        let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => {
                Err(Wrong { what: "not a status or a range of them".into(), remedy: "write \"200\" or 200-399".into() })
            }
        }
    };
    let kind = key::Kind::Text { what: "status or range", example: "200-399" };
    Type::new(kind, parse, |(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }.into()
    })
}
