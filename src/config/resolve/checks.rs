//! `checks`: what is asked, how often, and what a failure means. Below: what each kind is told.

mod database;
mod own;
mod schema;
mod service;

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::problem::Problem;
use super::super::reader::Section;
use super::super::urls;
use super::super::values::{boolean, choice, duration, integer, show_duration};
use super::Redis;
use crate::flags;
use crate::proxy::settings::Upstream;
use crate::readiness::settings::{Check, Class, Flags, Kind, Settings};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// How many there may be: each is a task, a connection and a set of metrics.
const MOST: usize = 64;

pub(super) fn settings(root: &mut Section<'_>, redis: &Redis, apps: &[Upstream]) -> Settings {
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
        if SERVICES.contains(&name) {
            section.problem_here("the name of a service that health over gRPC has by itself", "choose another name");
        }
        names.insert(name.to_owned());
        check(section, name, redis, apps)
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

/// What `grpc.health.v1` answers for on the ops listener beside the checks.
const SERVICES: [&str; 3] = ["readiness", "liveness", "startup"];

/// One check; `None` when it has no usable kind, which is a problem then.
fn check(section: &mut Section<'_>, name: &str, redis: &Redis, apps: &[Upstream]) -> Option<Check> {
    section.refuse(&["panic_threshold"], BRAKE, "set fleet.brake.panic_threshold");
    section.refuse(
        &["liveness"],
        "liveness never depends on a check: a restart does not repair a dependency",
        "remove it; class: critical decides about readiness",
    );
    let kind = kind(section, redis, apps);
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
        "Whether all instances ask the same dependency, so that the brake (`fleet.brake`) may hold for it. It \
         means nothing to a `class` other than `critical`: such a check takes no instance out.",
    );
    kind.map(|kind| Check { name: name.to_owned(), kind, class, shared, interval, timeout, rise, fall, max_staleness })
}

/// Reports the checks of flags that look at sources which `section`, that of the flags, does not have.
pub(super) fn look_for_sources(section: &Section<'_>, redis: &Redis, checks: &Settings, flags: &flags::Settings) {
    if !redis.sound || !section.sound(&["files", "scopes"]) {
        return;
    }
    let names: Vec<String> = flags.source_names().collect();
    for (check, Flags { sources, .. }) in checks.checks.iter().filter_map(|check| match &check.kind {
        Kind::Flags(settings) => Some((check, settings)),
        _ => None,
    }) {
        let path = format!("checks.{}.flags", check.name);
        if names.is_empty() {
            let problem = Problem::new(path, "no source of flags is configured: it could never fail");
            section.note(problem.remedy("set redis.url or flags.files, or remove the check"));
            continue;
        }
        for (index, source) in sources.iter().enumerate().filter(|(_, source)| !names.contains(source)) {
            let problem = Problem::new(format!("{path}.sources[{index}]"), "no source of flags has this name");
            section.note(problem.value(source.clone()).remedy(format!("write one of: {}", names.join(", "))));
        }
    }
}

/// Kinds of checks.
const KINDS: [&str; 10] = ["postgres", "mysql", "redis", "http", "grpc", "tcp", "app", "schema", "flags", "disk"];

/// Exactly one of them.
fn kind(section: &mut Section<'_>, redis: &Redis, apps: &[Upstream]) -> Option<Kind> {
    let postgres = database::postgres(section);
    let mysql = database::mysql(section);
    let redis = service::redis(section, redis);
    let http = service::http(section);
    let grpc = service::grpc(section);
    let app = own::app(section, apps);
    let schema = schema::schema(section);
    let flags = own::flags(section);
    let disk = own::disk(section);
    let tcp = section.section_if_there("tcp", "Opens a TCP connection and closes it.", |s| {
        s.required("address", &urls::tcp_address(), "What is connected to.").map(|address| Kind::Tcp { address })
    });
    let mut kinds = [postgres, mysql, redis, http, grpc, tcp, app, schema, flags, disk].into_iter().flatten();
    let first = kinds.next();
    if kinds.next().is_some() {
        section.problem_here("more than one kind", format!("keep one of {}", KINDS.join(", ")));
    }
    if first.is_none() && !section.malformed {
        section.problem_here("no kind", format!("add one of {}", KINDS.join(", ")));
    }
    first.flatten()
}
