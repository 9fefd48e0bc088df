//! Every key of the configuration, declared, read and judged in one place each. Pure: what the machine knows comes as an
//! argument.

mod checks;
mod drain;
mod edge;
mod flag_headers;
mod flags;
mod fleet;
mod hold;
mod listeners;
mod proxy;
mod requests;

use std::path::PathBuf;

use tracing_subscriber::filter::{LevelFilter, Targets};

pub(super) use self::drain::RESERVE;
use self::listeners::Listeners;
use super::Settings;
use super::machine::Machine;
use super::reader::Section;
use super::urls;
use super::values::{self, Type, Wrong, wrong};
use crate::proxy::settings::Upstream;
use crate::secret::Secret;
use crate::telemetry::logging;
use crate::{local, ops};

/// Where the socket is when nothing is said.
const SOCKET: &str = "/run/tidegate/tidegate.sock";

/// Redis, for whoever uses it.
pub(super) struct Redis {
    url: Option<Secret>,
    /// Whether the URL, if one was given, is usable.
    sound: bool,
    prefix: String,
}

/// All settings. Not to be used when the reading found problems.
pub(super) fn settings(root: &mut Section<'_>, machine: &Machine, colour: bool) -> Settings {
    root.refuse(
        &["liveness", "healthz"],
        "liveness never depends on anything: a restart does not repair a dependency",
        "remove it; checks decide about readiness",
    );
    let workload = root.or_computed(
        "workload",
        &values::name("name", "orders", 253, "._-"),
        (machine.workload(), "the host name without a pod's suffix, else `app`"),
        "Whose traffic this is: the name that all instances of one app share.",
    );
    let mut listeners = Listeners::default();
    let routes = proxy::routes(root, &mut listeners, machine);
    let limits = root.section("limits", "Bounds on what clients and the app may do.", proxy::limits);
    let forwarded = proxy::forwarded(root);
    let access_log = root.section("access_log", "A line for each request, on standard output.", requests::access_log);
    let tracing = root.section("tracing", "Traces of requests.", |s| requests::tracing(s, &workload));
    let ops = root.section("ops", "What the kubelet, load balancers and Prometheus may ask.", |s| {
        ops(s, &mut listeners, machine)
    });
    let local = root.section("local", "What the app and the command line may ask.", |s| local(s, &mut listeners));
    let mut drain = root.section("drain", "How traffic is led away before the process ends.", drain::settings);
    let redis = root.section("redis", "The Redis that flags come from and that `redis` checks ask.", redis);
    let apps: Vec<Upstream> = routes.iter().map(|route| route.upstream.clone()).collect();
    let checks = checks::settings(root, &redis, &apps);
    let hold = root.section("hold", "How requests wait while the app is away.", |s| hold::settings(s, &checks));
    hold::limit_restarts(&hold, &mut drain);
    let state_dir = state_dir(root, machine);
    let flags = root.section("flags", "Where feature flags come from and how they are evaluated.", |s| {
        let flags = flags::settings(s, &redis, &workload, state_dir.clone());
        checks::look_for_sources(s, &redis, &checks, &flags);
        flags
    });
    let fleet = root.section("fleet", "The instances of this workload, as they know of each other in Redis.", |s| {
        fleet::settings(s, &redis, &workload, machine)
    });
    let workers = root.or_computed(
        "workers",
        &values::integer(1..=64),
        (u32::try_from(machine.workers).unwrap_or(1), "the processor quota rounded up, at most 2"),
        "Threads that carry traffic.",
    );
    let log = root.section("log", "What the process says about itself, on standard error.", |s| log(s, colour));
    listeners.judge(root, &local.socket, &checks);
    let workers = usize::try_from(workers).expect("at most 64");
    let tunnels = drain.tunnels;
    let proxy = crate::proxy::Settings { routes, workers, limits, hold, forwarded, access_log, tunnels };
    Settings { workload, state_dir, log, tracing, proxy, ops, local, drain, checks, flags, fleet }
}

fn ops(section: &mut Section<'_>, listeners: &mut Listeners, machine: &Machine) -> ops::Settings {
    section.refuse(
        &["liveness", "healthz"],
        "liveness never depends on anything: a restart does not repair a dependency",
        "remove it; checks decide about readiness",
    );
    let listen = section.or(
        "listen",
        &listeners::addresses(),
        vec![([0, 0, 0, 0], 8014).into()],
        "Addresses that answer `/healthz`, `/readyz`, `/startupz`, `/lb-healthz`, `/metrics` and `/drain`.",
    );
    listeners.add(section, "listen", &listen);
    let token = values::secret(
        "printable ASCII without spaces",
        "${TIDEGATE_DRAIN_TOKEN}",
        |text| {
            if text.is_empty() {
                return wrong("empty", "set a token or remove the key");
            }
            // It travels in a header field (RFC 9110 §5.5), where a probe's author must be able to write it.
            if !text.bytes().all(|b| b.is_ascii_graphic()) {
                return wrong("holds what a header field cannot carry", "use printable ASCII without spaces");
            }
            Ok(())
        },
        |_| "REDACTED".into(),
    );
    let drain_token = section.optional(
        "drain_token",
        &token,
        "none: only loopback may drain",
        "Lets a caller from elsewhere than loopback use `/drain`.",
    );
    ops::Settings { listen, tls: edge::tls(section, machine), drain_token }
}

fn local(section: &mut Section<'_>, listeners: &mut Listeners) -> local::Settings {
    let listen = section.or(
        "listen",
        &listeners::addresses(),
        [8013, 8015, 8016].map(|port| ([127, 0, 0, 1], port).into()).to_vec(),
        "Addresses of the API for the app; the default ports are those that flagd's SDKs look at.",
    );
    listeners.add(section, "listen", &listen);
    let parse = |text: &str| match text {
        "" => Ok(String::new()),
        path => urls::socket_path(path).map(|_| path.to_owned()),
    };
    let socket = section.or(
        "socket",
        &Type::text("path, or empty for none", SOCKET, parse),
        SOCKET.to_owned(),
        "The unix socket of the command line. The default path may fail to be made, which is a warning; another one \
         must be made or the start fails.",
    );
    let socket = match socket.as_str() {
        "" => local::settings::Socket::None,
        SOCKET => local::settings::Socket::IfPossible(PathBuf::from(SOCKET)),
        path => local::settings::Socket::Required(PathBuf::from(path)),
    };
    let cors_origins = section.or(
        "cors_origins",
        &origin().list(),
        Vec::new(),
        "Web pages that may ask for flags, by the origin their browser sends, or `*` for any. Without it a browser \
         keeps the answers from them.",
    );
    let public_url = section.optional(
        "public_url",
        &Type::text("an http or https URL", "https://shop.example/flags", public_url),
        "the address the client itself uses",
        "Where clients behind a proxy that changes paths find this API: the base of the event stream that OFREP \
         advertises.",
    );
    local::Settings { listen, socket, cors_origins, public_url }
}

/// An origin as browsers write it (the Fetch standard, section 3.2), or `*`.
fn origin() -> Type<String> {
    let parse = |text: &str| {
        let remedy = "write what the browser sends, such as https://shop.example or http://localhost:3000, or *";
        let Some((scheme, authority)) = text.split_once("://") else {
            return if text == "*" { Ok(text.to_owned()) } else { wrong("not an origin", remedy) };
        };
        let sound = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || b"-._:[]".contains(&byte);
        let default = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return wrong("not an origin of http or https", remedy),
        };
        if authority.is_empty() || !authority.bytes().all(sound) || authority.ends_with(default) {
            return wrong("not how a browser writes it: lower case, no path, no default port", remedy);
        }
        Ok(text.to_owned())
    };
    Type::text("an origin, or *", "https://shop.example", parse)
}

fn public_url(text: &str) -> Result<String, Wrong> {
    let sound = text.parse::<http::Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && url.query().is_none()
    });
    if !sound || text.contains('#') {
        return wrong(
            "not the URL of a service",
            "write it without user, query or fragment: https://shop.example/flags",
        );
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn redis(section: &mut Section<'_>) -> Redis {
    let url = section.optional(
        "url",
        &urls::redis_url(),
        "none",
        "A standalone server. With a password, keep it out of the file: `redis://:${REDIS_PASSWORD}@redis:6379`.",
    );
    let prefix = section.or(
        "prefix",
        &values::name("name", "tidegate", 64, "._:-"),
        "tidegate".to_owned(),
        "The first part of every key in Redis.",
    );
    Redis { url, sound: section.sound(&["url"]), prefix }
}

fn state_dir(root: &mut Section<'_>, machine: &Machine) -> Option<PathBuf> {
    let given = root.optional(
        "state_dir",
        &values::path("/var/lib/tidegate"),
        "`/var/lib/tidegate` if it exists, else none",
        "Where the last known good flags are kept over a restart. The default directory is used, never created.",
    );
    if root.given("state_dir") { given } else { machine.state_dir.clone() }
}

fn log(section: &mut Section<'_>, colour: bool) -> logging::Settings {
    let format = section.or(
        "format",
        &values::choice(&[("json", logging::Format::Json), ("human", logging::Format::Human)]),
        logging::Format::Json,
        "`json` writes one object a line, for collectors; `human` writes text.",
    );
    let default = Targets::new().with_default(LevelFilter::INFO);
    let filter = section.or(
        "level",
        &Type::text("level, or levels of modules", "info,tidegate::proxy=debug", levels),
        default,
        "From which level on lines are written: `error`, `warn`, `info`, `debug`, `trace` or `off`.",
    );
    logging::Settings { format, filter, colour }
}

/// `info,tidegate::proxy=debug`. The filter's own parser takes a misspelt level for a module.
fn levels(text: &str) -> Result<Targets, Wrong> {
    let known = |level: &str| level.parse::<LevelFilter>().is_ok() && !level.bytes().any(|b| b.is_ascii_digit());
    let fits = text.split(',').all(|part| match part.split_once('=') {
        Some((module, level)) => {
            !module.is_empty()
                && module.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
                && known(level)
        }
        None => known(part),
    });
    match text.parse() {
        Ok(targets) if fits => Ok(targets),
        _ => wrong("not a log level", "write info, or info,tidegate::proxy=debug"),
    }
}
