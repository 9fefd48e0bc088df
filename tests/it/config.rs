//! Configuration: text, environment and arguments in; settings or every problem out.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::cli::config::{CheckOutput, Command, ShowOutput};
use tidegate::config::{self, Inputs, Loaded, Machine, Surroundings};
use tidegate::flags::settings::OnMissing;
use tidegate::lifecycle::drain::Readiness;
use tidegate::local::settings::Socket;
use tidegate::proxy::settings::{Forwarded, Limits};
use tidegate::readiness::settings::{Class, Kind};

/// The example of the design, as a user would write it.
const EXAMPLE: &str = r#"
workload: orders
proxy:
  - listen: 0.0.0.0:8080
    upstream: http://127.0.0.1:3000
ops:    { listen: ["0.0.0.0:8014"], drain_token: "${TIDEGATE_DRAIN_TOKEN}" }
local:  { listen: ["127.0.0.1:8013", "127.0.0.1:8015", "127.0.0.1:8016"], socket: /run/tidegate/tidegate.sock }
drain:  { delay: 10s, quiet: 1s, deadline: 45s, readiness: keep }
redis:  { url: "redis://127.0.0.1:6379", prefix: tidegate }
checks:
  db:    { postgres: { url: "${DATABASE_URL}" }, class: critical, interval: 5s, timeout: 1s, rise: 1, fall: 3 }
  redis: { redis: {} }
  app:   { http: { url: "http://127.0.0.1:3000/healthz" }, class: info }
flags:
  scopes: [orders, shared]
  files: [/etc/tidegate/flags.json]
  bucketing: v2
  context: { environment: production }
state_dir: /var/lib/tidegate
workers: 2
"#;

const SECRETS: [&str; 3] = ["t0kenvalue", "pgpassw0rd", "redispassw0rd"];

fn machine() -> Machine {
    Machine { hostname: Some("orders-6b7c9d5f4-x2x9z".into()), workers: 2, ..Machine::unknown() }
}

fn read(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some("/run/secrets/token") => Ok("t0kenvalue\n".into()),
        _ => Err("no such file".into()),
    }
}

/// Loads a text with variables and arguments; problems come back as lines.
fn load_with(text: &str, environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>();
    let environment: BTreeMap<String, String> = own(environment).into_iter().collect();
    let (overrides, machine) = (own(overrides), machine());
    let surroundings = Surroundings {
        name: "tidegate.yaml",
        environment: &environment,
        overrides: &overrides,
        machine: &machine,
        read,
    };
    config::load_str(text, &surroundings).map_err(|problems| problems.to_string().lines().map(String::from).collect())
}

pub(crate) fn load(text: &str) -> Result<Loaded, Vec<String>> {
    load_with(text, &[], &[])
}

/// One problem only, and this one.
#[track_caller]
pub(crate) fn refused(text: &str, expected: &str) {
    match load(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(problems) => assert_eq!(problems, [expected], "{text}"),
    }
}

fn example() -> Loaded {
    load_with(
        EXAMPLE,
        &[("TIDEGATE_DRAIN_TOKEN", "t0kenvalue"), ("DATABASE_URL", "postgres://app:pgpassw0rd@db/orders")],
        &[],
    )
    .unwrap()
}

#[test]
fn nothing_at_all_is_a_configuration() {
    for text in ["", "\n# nothing\n", "{}", "drain:\n", "null"] {
        let settings = load(text).unwrap().settings;
        assert_eq!(settings.workload, "orders");
        assert_eq!(settings.proxy.routes.len(), 1);
        assert_eq!(settings.proxy.routes[0].listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(settings.proxy.routes[0].upstream.to_string(), "http://127.0.0.1:3000");
        assert_eq!(settings.proxy.limits, Limits::default());
        assert_eq!(settings.proxy.forwarded, Forwarded::Append);
        assert_eq!(settings.proxy.workers, 2);
        assert_eq!(settings.ops.listen, ["0.0.0.0:8014".parse().unwrap()]);
        assert_eq!(settings.ops.drain_token, None);
        assert_eq!(settings.local.listen.iter().map(|a| a.port()).collect::<Vec<_>>(), [8013, 8015, 8016]);
        assert!(settings.local.listen.iter().all(|a| a.ip().is_loopback()));
        assert_eq!(settings.local.socket, Socket::IfPossible("/run/tidegate/tidegate.sock".into()));
        assert_eq!(settings.drain, tidegate::lifecycle::drain::Settings::default());
        assert!(settings.checks.checks.is_empty());
        assert!(settings.flags.redis.is_none() && settings.flags.files.is_empty() && settings.state_dir.is_none());
    }
}

#[test]
fn the_example_of_the_design_resolves_to_what_it_says() {
    let settings = example().settings;
    assert_eq!(settings.ops.drain_token.unwrap().expose(), "t0kenvalue");
    assert_eq!(settings.drain.readiness, Readiness::Keep);
    assert_eq!(settings.state_dir.as_deref(), Some(Path::new("/var/lib/tidegate")));
    assert_eq!(settings.flags.state_dir, settings.state_dir);
    assert_eq!(settings.flags.on_missing, OnMissing::Wait);
    assert_eq!(settings.flags.context["environment"], "production");
    let redis = settings.flags.redis.unwrap();
    assert_eq!((redis.prefix.as_str(), redis.scopes), ("tidegate", vec!["orders".to_owned(), "shared".to_owned()]));
    let [app, db, redis] = settings.checks.checks.as_slice() else { panic!("three checks") };
    assert_eq!((app.class, app.fall), (Class::Info, 3));
    assert!(matches!(&app.kind, Kind::Http(app) if app.status == [(200, 399)] && app.url.ends_with("/healthz")));
    assert_eq!((db.class, db.interval), (Class::Critical, Duration::from_secs(5)));
    assert_eq!(db.max_staleness, Duration::from_secs(16));
    assert!(matches!(&db.kind, Kind::Postgres(db) if db.query == "SELECT 1" && db.url.expose().contains("pgpassw0rd")));
    assert!(matches!(&redis.kind, Kind::Redis(redis) if redis.url.expose() == "redis://127.0.0.1:6379"));
}

#[test]
fn an_argument_beats_a_variable_beats_the_file_beats_the_default() {
    let file = "{drain: {delay: 3s}, workload: file, proxy: [{upstream: 'http://file:1'}]}";
    let delay = |environment: &[_], overrides: &[_]| {
        load_with(file, environment, overrides).unwrap().settings.drain.delay.as_secs()
    };
    assert_eq!(load("").unwrap().settings.drain.delay.as_secs(), 10);
    assert_eq!(delay(&[], &[]), 3);
    assert_eq!(delay(&[("TIDEGATE_DRAIN__DELAY", "4s")], &[]), 4);
    assert_eq!(delay(&[("TIDEGATE_DRAIN__DELAY", "4s")], &[("drain.delay", "5s")]), 5);
}

#[test]
fn every_key_has_a_variable_and_the_main_ones_an_argument() {
    let settings = load_with(
        "checks: {my-db: {tcp: {address: 'db:1'}}}",
        &[
            ("TIDEGATE_WORKLOAD", "w"),
            ("TIDEGATE_STATE_DIR", "/s"),
            ("TIDEGATE_WORKERS", "3"),
            ("TIDEGATE_PROXY__0__UPSTREAM", "a:1"),
            ("TIDEGATE_PROXY__1__LISTEN", "127.0.0.1:9000"),
            ("TIDEGATE_PROXY__1__UPSTREAM", "unix:/app.sock"),
            ("TIDEGATE_OPS__LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
            ("TIDEGATE_CHECKS__MY_DB__FALL", "7"),
            ("TIDEGATE_CHECKS__WEB__HTTP__URL", "http://web/"),
            ("TIDEGATE_CHECKS__WEB__RISE", "2"),
            ("TIDEGATE_FLAGS__CONTEXT__REGION", "eu"),
            ("TIDEGATE_LIMITS__RESPONSE_TIMEOUT", "none"),
            ("TIDEGATE_LIMITS__BODY_BYTES", "1MiB"),
            ("TIDEGATE_LOCAL__SOCKET", ""),
            // Not ours to judge.
            ("TIDEGATE_CONFIG", "x"),
            ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
            ("TIDEGATE_WEBHOOK_PORT_443_TCP_ADDR", "10.0.0.1"),
            ("PATH", "/bin"),
        ],
        &[],
    )
    .unwrap()
    .settings;
    assert_eq!((settings.workload.as_str(), settings.proxy.workers), ("w", 3));
    let routes: Vec<_> = settings.proxy.routes.iter().map(|r| format!("{} {}", r.listen, r.upstream)).collect();
    assert_eq!(routes, ["0.0.0.0:8080 http://a:1", "127.0.0.1:9000 unix:/app.sock"]);
    assert_eq!(settings.ops.listen.len(), 2);
    let [db, web] = settings.checks.checks.as_slice() else { panic!("two checks") };
    assert_eq!((db.name.as_str(), db.fall, web.name.as_str(), web.rise), ("my-db", 7, "web", 2));
    assert_eq!(settings.flags.context["region"], "eu");
    assert_eq!(settings.proxy.limits.response_timeout, None);
    assert_eq!(settings.proxy.limits.body_bytes, Some(1 << 20));
    assert_eq!(settings.local.socket, Socket::None);

    let arguments: Vec<(&str, &str)> = config::ARGUMENTS
        .iter()
        .map(|(argument, path)| {
            let value = match *argument {
                "--workload" => "w",
                "--listen" => "127.0.0.1:1",
                "--upstream" => "127.0.0.1:3000",
                "--ops" => "127.0.0.1:2",
                "--local" => "127.0.0.1:3",
                "--redis" => "redis://r:6379",
                "--flags" => "a.json,b.json",
                other => panic!("{other} has no case here"),
            };
            (*path, value)
        })
        .chain([("flags.files", "c.json")])
        .collect();
    let settings = load_with("flags: {files: [z.json]}", &[], &arguments).unwrap().settings;
    assert_eq!(settings.flags.files, ["a.json", "b.json", "c.json"].map(std::path::PathBuf::from));
    assert_eq!(settings.flags.redis.unwrap().scopes, ["w"]);
    assert_eq!(settings.proxy.routes[0].listen.port(), 1);
    assert_eq!(settings.local.listen.len(), 1);
}

#[test]
fn more_than_ten_elements_are_set_in_the_order_of_their_numbers() {
    let names: Vec<(String, String)> =
        (0..12).map(|i| (format!("TIDEGATE_PROXY__{i}__LISTEN"), format!("127.0.0.1:{}", 9000 + i))).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let settings = load_with("", &pairs, &[]).unwrap().settings;
    assert!(settings.proxy.routes.iter().enumerate().all(|(i, route)| usize::from(route.listen.port()) == 9000 + i));
    let problems = load_with("", &[("TIDEGATE_PROXY__3__LISTEN", "127.0.0.1:1")], &[]).err().unwrap();
    assert_eq!(problems, ["TIDEGATE_PROXY__3__LISTEN: sets element 3 of a list of 0; number it 0"]);
}

#[test]
fn a_variable_that_means_nothing_is_noticed() {
    for (name, expected) in [
        ("TIDEGATE_DRAIN__DELYA", "TIDEGATE_DRAIN__DELYA: unknown variable; did you mean TIDEGATE_DRAIN__DELAY?"),
        ("TIDEGATE_DRAIN_TOKEN", "TIDEGATE_DRAIN_TOKEN: unknown variable; did you mean TIDEGATE_OPS__DRAIN_TOKEN?"),
        ("TIDEGATE_DRAIN_DELAY", "TIDEGATE_DRAIN_DELAY: unknown variable; did you mean TIDEGATE_DRAIN__DELAY?"),
        (
            "TIDEGATE_CHECKS__DB__CLAS",
            "TIDEGATE_CHECKS__DB__CLAS: unknown variable; did you mean TIDEGATE_CHECKS__DB__CLASS?",
        ),
        (
            "TIDEGATE_ZZZZZZZZZZZZZZZZZZZZZZZZ",
            "TIDEGATE_ZZZZZZZZZZZZZZZZZZZZZZZZ: unknown variable; remove it, or refer to it in the file as ${…}; \
             docs/CONFIGURATION.md names all of them",
        ),
    ] {
        assert_eq!(load_with("", &[(name, "v")], &[]).err().unwrap(), [expected]);
    }
    assert!(load_with("ops: {drain_token: '${TIDEGATE_DRAIN_TOKEN}'}", &[("TIDEGATE_DRAIN_TOKEN", "t")], &[]).is_ok());
}

#[test]
fn all_problems_come_at_once_each_with_path_value_remedy_and_place() {
    let text = "
workload: two words
drain:
  delay: 10
  deadlin: 45s
redis: { url: 'redis+sentinel://s' }
checks:
  db: { postgres: { url: '${DATABASE_URL}' }, fall: 0 }
hold: { max_wait: 10, check: app }
";
    let problems = load_with(text, &[("TIDEGATE_WORKERS", "65")], &[("ops.listen", "8014")]).err().unwrap();
    assert_eq!(
        problems,
        [
            "checks.db.postgres.url: variable DATABASE_URL is not set; set DATABASE_URL or write ${DATABASE_URL:-default} (line 8)",
            "workload: \"two words\": not a usable name; write 1 to 253 letters, digits or characters of ._- (line 2)",
            "ops.listen[0]: \"8014\": not an address with a port; write 0.0.0.0:8014 or 127.0.0.1:8014 (--ops)",
            "drain.delay: \"10\": not a duration; write 10s (line 4)",
            "drain.deadlin: unknown key; did you mean deadline? (line 5)",
            "redis.url: \"REDACTED\": not a Redis URL; write redis://[USER:PASSWORD@]HOST:PORT[/DB], redis+sentinel://HOST:PORT,HOST:PORT/MASTER or redis+cluster://HOST:PORT,HOST:PORT; rediss… for TLS (line 6)",
            "checks.db.fall: \"0\": not a whole number from 1 to 100; write 1 to 100 (line 8)",
            "hold.max_wait: \"10\": not a duration; write 10s (line 9)",
            "hold.check: \"app\": no check of that name; add it to checks, or remove the key (line 9)",
            "workers: \"65\": not a whole number from 1 to 64; write 1 to 64 (TIDEGATE_WORKERS)",
        ]
    );
}

#[test]
fn values_that_do_not_fit_are_refused() {
    for (text, expected) in [
        // Shape.
        ("drain: 5s", "drain: not a section; write KEY: VALUE below it (line 1)"),
        ("drain: [5s]", "drain: not a section; write KEY: VALUE below it (line 1)"),
        ("proxy: {listen: '1.2.3.4:5'}", "proxy: not a list; begin each element with a dash (line 1)"),
        ("proxy: []", "proxy: no element; add one, or remove the key for the default (line 1)"),
        ("proxy: [x]", "proxy[0]: not a section; write KEY: VALUE below it (line 1)"),
        ("checks: [x]", "checks: not a section; write NAME: { … } below it (line 1)"),
        ("drain: {delay: [1s]}", "drain.delay: a list, not a single value; write one value (line 1)"),
        ("drain: {delay: {a: 1s}}", "drain.delay: a section, not a single value; write one value (line 1)"),
        ("workload: 123", "workload: \"123\": a number, not a text; write \"123\" (line 1)"),
        ("workload: true", "workload: \"true\": a boolean, not a text; write \"true\" (line 1)"),
        ("[a]", "tidegate.yaml: not a map of keys; write KEY: VALUE (line 1)"),
        (
            "zzz: 1",
            "zzz: unknown key; known here: workload, proxy, limits, forwarded, access_log, tracing, ops, local, drain, redis, checks, hold, state_dir, flags, fleet, workers, log (line 1)",
        ),
        // Durations, sizes, numbers, words.
        ("drain: {delay: -1s}", "drain.delay: \"-1s\": not a duration; write 10s, 500ms or 1m30s (line 1)"),
        ("drain: {delay: 2h}", "drain.delay: \"2h\": too long; write at most 1h (line 1)"),
        ("limits: {body_timeout: 0s}", "limits.body_timeout: \"0s\": too short; write at least 1ms (line 1)"),
        (
            "limits: {idle_timeout: 99999999years}",
            "limits.idle_timeout: \"99999999years\": too long; write at most 30days (line 1)",
        ),
        (
            "limits: {header_bytes: 32k}",
            "limits.header_bytes: \"32k\": not a size; write 32KiB, 1MiB, 2GiB, 1TiB or a number of bytes (line 1)",
        ),
        ("limits: {header_bytes: 1}", "limits.header_bytes: \"1\": too small; write at least 8KiB (line 1)"),
        (
            "limits: {header_bytes: 99999999999GiB}",
            "limits.header_bytes: \"99999999999GiB\": not a size; write 32KiB, 1MiB, 2GiB, 1TiB or a number of bytes (line 1)",
        ),
        ("workers: 0", "workers: \"0\": not a whole number from 1 to 64; write 1 to 64 (line 1)"),
        ("workers: 1.5", "workers: \"1.5\": not a whole number from 1 to 64; write 1 to 64 (line 1)"),
        (
            "forwarded: trust",
            "forwarded: \"trust\": none of the values this key knows; write one of: append, replace (line 1)",
        ),
        (
            "log: {level: inof}",
            "log.level: \"inof\": not a log level; write info, or info,tidegate::proxy=debug (line 1)",
        ),
        (
            "log: {level: 'info,a=b'}",
            "log.level: \"info,a=b\": not a log level; write info, or info,tidegate::proxy=debug (line 1)",
        ),
        (
            "flags: {bucketing: v4}",
            "flags.bucketing: \"v4\": none of the values this key knows; write one of: v1, v2, v3 (line 1)",
        ),
        // Addresses and paths.
        (
            "proxy: [{listen: 'localhost:1'}]",
            "proxy[0].listen: \"localhost:1\": not an address with a port; write ADDRESS:PORT with a numeric address, as 0.0.0.0:8080 or [::1]:8080 (line 1)",
        ),
        (
            "proxy: [{listen: 8081}]",
            "proxy[0].listen: \"8081\": not an address with a port; write 0.0.0.0:8081 or 127.0.0.1:8081 (line 1)",
        ),
        (
            "ops: {listen: [8014.5]}",
            "ops.listen[0]: \"8014.5\": not an address with a port; write ADDRESS:PORT with a numeric address, as 0.0.0.0:8080 or [::1]:8080 (line 1)",
        ),
        (
            "proxy: [{upstream: 'https://a:1'}]",
            "proxy[0].upstream: \"https://a:1\": TLS towards the app is not supported; the app listens beside this process: let it serve in the clear on 127.0.0.1 or a unix socket, and write http://127.0.0.1:PORT or unix:/path/to/socket; clients have TLS by proxy[].tls (line 1)",
        ),
        ("ops: {listen: []}", "ops.listen: no address; write one, or remove the key for the default (line 1)"),
        (
            "local: {cors_origins: [shop.example]}",
            "local.cors_origins[0]: \"shop.example\": not an origin; write what the browser sends, such as https://shop.example or http://localhost:3000, or * (line 1)",
        ),
        (
            "local: {cors_origins: ['https://Shop.example']}",
            "local.cors_origins[0]: \"https://Shop.example\": not how a browser writes it: lower case, no path, no default port; write what the browser sends, such as https://shop.example or http://localhost:3000, or * (line 1)",
        ),
        (
            "local: {public_url: 'ftp://shop.example'}",
            "local.public_url: \"ftp://shop.example\": not the URL of a service; write it without user, query or fragment: https://shop.example/flags (line 1)",
        ),
        (
            "flags: {overrides: 'on'}",
            "flags.overrides: \"on\": none of the values this key knows; write one of: off, socket, local (line 1)",
        ),
        ("local: {socket: \"a\\0b\"}", "local.socket: \"a\\0b\": not a path; write /path/to/socket (line 1)"),
        ("state_dir: ''", "state_dir: \"\": an empty path; write a path or remove the key (line 1)"),
        ("ops: {drain_token: ''}", "ops.drain_token: \"REDACTED\": empty; set a token or remove the key (line 1)"),
        (
            "ops: {drain_token: 'a b'}",
            "ops.drain_token: \"REDACTED\": holds what a header field cannot carry; use printable ASCII without spaces (line 1)",
        ),
        (
            "redis: {prefix: 'a{b}'}",
            "redis.prefix: \"a{b}\": not a usable name; write 1 to 64 letters, digits or characters of ._:- (line 1)",
        ),
        // Checks.
        (
            "checks: {db: }",
            "checks.db: no kind; add one of postgres, mysql, redis, http, grpc, tcp, app, schema, flags, disk (line 1)",
        ),
        (
            "checks: {db: {class: info}}",
            "checks.db: no kind; add one of postgres, mysql, redis, http, grpc, tcp, app, schema, flags, disk (line 1)",
        ),
        ("checks: {db: x}", "checks.db: not a section; write KEY: VALUE below it (line 1)"),
        (
            "checks: {db: {tcp: {address: 'a:1'}, http: {url: 'http://a/'}}}",
            "checks.db: more than one kind; keep one of postgres, mysql, redis, http, grpc, tcp, app, schema, flags, disk (line 1)",
        ),
        ("checks: {db: {disk: {}}}", "checks.db.disk.path: missing; add it: path, as `/var/lib/app` (line 1)"),
        (
            "checks: {db: {app: {route: 1}}}",
            "checks.db.app.route: \"1\": no such element of proxy; write 0 to 0 (line 1)",
        ),
        (
            "{proxy: [{upstream: 'h2c://a'}], checks: {db: {app: {path: /}}}}",
            "checks.db.app.path: asked in HTTP/1.1, where the app speaks HTTP/2; remove the key, or use a check of kind grpc (line 1)",
        ),
        (
            "checks: {db: {flags: {sources: [orders]}}}",
            "checks.db.flags.sources[0]: \"orders\": not the name of a source; write redis:SCOPE or file:PATH, as in `tidegate status` (line 1)",
        ),
        (
            "checks: {db: {schema: {url: 'host=h'}}}",
            "checks.db.schema: nothing to look for; add tables, columns, indexes, constraints or migration (line 1)",
        ),
        (
            "checks: {db: {schema: {url: 'host=h', columns: total}}}",
            "checks.db.schema.columns: \"total\": a name of 1 part; write 2 to 3 parts, as orders.total (line 1)",
        ),
        (
            "checks: {db: {schema: {url: 'mysql://h', indexes: i}}}",
            "checks.db.schema.indexes: \"i\": an index of MySQL without its table; write TABLE.INDEX (line 1)",
        ),
        (
            "checks: {db: {schema: {url: 'host=h', migration: {tool: sqlx, version: abc}}}}",
            "checks.db.schema.migration.version: \"abc\": not the number of a migration; write the number that the migration's file begins with (line 1)",
        ),
        (
            "checks: {db: {schema: {url: 'host=h', migration: {tool: rails, version: \"1'\"}}}}",
            "checks.db.schema.migration.version: \"1'\": not the name of a migration; write it without quotes, backslashes and control characters (line 1)",
        ),
        (
            "checks: {db: {mysql: {url: 'mysql://u:pgpassw0rd@h/d?ssl-mode=no'}}}",
            "checks.db.mysql.url: \"REDACTED\": mysql URL: ssl-mode is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY; write mysql://USER:PASSWORD@HOST:PORT/DATABASE?ssl-mode=VERIFY_IDENTITY (line 1)",
        ),
        (
            "checks: {db: {postgres: {url: 'host=h', role: master}}}",
            "checks.db.postgres.role: \"master\": none of the values this key knows; write one of: any, primary, standby (line 1)",
        ),
        (
            "checks: {db: {grpc: {url: 'http://a:1/x'}}}",
            "checks.db.grpc.url: \"http://a:1/x\": a path, where the health service has its own; write http://HOST:PORT or https://HOST:PORT (line 1)",
        ),
        (
            "checks: {db: {grpc: {url: 'https://a:1', cert_file: /c}}}",
            "checks.db.grpc.key_file: missing beside cert_file; add it, or remove both",
        ),
        (
            "checks: {db: {http: {url: 'http://a/', ca_file: /c}}}",
            "checks.db.http.ca_file: without TLS, for http://a/; write https://, or remove the key (line 1)",
        ),
        (
            "checks: {db: {http: {url: 'http://a/', json: {status: UP}}}}",
            "checks.db.http.json: \"status\": not a JSON pointer; write /status (line 1)",
        ),
        (
            "checks: {db: {http: {url: 'http://a/', headers: {'a b': c}}}}",
            "checks.db.http.headers: \"a b\": not a header field with a value; write NAME: VALUE (line 1)",
        ),
        (
            "checks: {db: {tcp: {address: 'a:1'}, shared: perhaps}}",
            "checks.db.shared: \"perhaps\": neither true nor false; write true or false (line 1)",
        ),
        (
            "fleet: {brake: {panic_threshold: 0.2, release_threshold: 0.4}}",
            "fleet.brake.release_threshold: \"0.4\": above panic_threshold (0.2); write at most 0.2 (line 1)",
        ),
        (
            "fleet: {brake: {panic_threshold: 2}}",
            "fleet.brake.panic_threshold: \"2\": not a number from 0 to 1; write 0.05 for one in twenty, 1 for all (line 1)",
        ),
        (
            "fleet: {brake: {panic_threshold: 0}}",
            "fleet.brake.panic_threshold: \"0\": would brake whatever fails, also on one instance alone; write off to never brake, or a share above 0: 0.5 for more than half (line 1)",
        ),
        (
            "checks: {c: {redis: {url: 'redis+cluster://a:1,b:1', role: master}}}",
            "checks.c.redis.role: beside the URL of a cluster, whose servers change their roles; remove it; CLUSTER INFO is asked anyway. Or check one server by redis:// (line 1)",
        ),
        (
            "checks: {db: {postgres: {url: 'postgres://db/o', role: primary, max_lag: 1s}}}",
            "checks.db.postgres.max_lag: beside role: primary, which is behind nobody; remove it, or write role: standby (line 1)",
        ),
        (
            "fleet: {brake: {min_instances: 1}}",
            "fleet.brake.min_instances: \"1\": not a whole number from 2 to 1000; write 2 to 1000 (line 1)",
        ),
        (
            "checks: {db: {postgre: {url: x}, tcp: {address: 'a:1'}}}",
            "checks.db.postgre: unknown key; did you mean postgres? (line 1)",
        ),
        (
            "checks: {DB: {tcp: {address: 'a:1'}}}",
            "checks.DB: not a usable name of a check; write 1 to 63 lower-case letters, digits, - or _ (line 1)",
        ),
        (
            "checks: {flags: {tcp: {address: 'a:1'}}}",
            "checks.flags: the name of a condition that /readyz has by itself; choose another name (line 1)",
        ),
        (
            "checks: {db: {tcp: {}}}",
            "checks.db.tcp.address: missing; add it: host and port, as `db.internal:5432` (line 1)",
        ),
        (
            "checks: {db: {tcp: {address: a}}}",
            "checks.db.tcp.address: \"a\": not a host and a port; write HOST:PORT (line 1)",
        ),
        ("checks: {db: {redis: {}}}", "checks.db.redis.url: missing, and redis.url is not set either; set one of them"),
        (
            "checks: {db: {http: {url: 'ftp://a/'}}}",
            "checks.db.http.url: \"ftp://a/\": not an HTTP URL; write http://HOST:PORT/PATH or https://HOST:PORT/PATH (line 1)",
        ),
        (
            "checks: {db: {http: {url: 'http://u:pgpassw0rd@a/'}}}",
            "checks.db.http.url: \"http://u:REDACTED@a/\": a user or password in the URL, which would be shown in answers and logs; write http://HOST:PORT/PATH or https://HOST:PORT/PATH (line 1)",
        ),
        (
            "checks: {db: {http: {url: 'http://a/', status: 399-200}}}",
            "checks.db.http.status: \"399-200\": not a status or a range of them; write 200 or 200-399 (line 1)",
        ),
        (
            "checks: {db: {postgres: {url: 'postgres://u:pgpassw0rd@:x/'}}}",
            "checks.db.postgres.url: \"REDACTED\": not a connection string of PostgreSQL; write postgres://USER:PASSWORD@HOST:PORT/DATABASE (line 1)",
        ),
        (
            "checks: {db: {postgres: {url: 'user=u'}}}",
            "checks.db.postgres.url: \"REDACTED\": names no host; write postgres://USER:PASSWORD@HOST:PORT/DATABASE (line 1)",
        ),
        (
            "checks: {db: {postgres: {url: 'postgres://u@h/d?sslcrl=x'}}}",
            "checks.db.postgres.url: \"REDACTED\": option sslcrl is not supported; remove the option (line 1)",
        ),
        (
            "checks: {db: {tcp: {address: 'a:1'}, liveness: true}}",
            "checks.db.liveness: liveness never depends on a check: a restart does not repair a dependency; remove it; class: critical decides about readiness (line 1)",
        ),
        (
            "liveness: {checks: [db]}",
            "liveness: liveness never depends on anything: a restart does not repair a dependency; remove it; checks decide about readiness (line 1)",
        ),
    ] {
        refused(text, expected);
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (text, expected) in [
        (
            "drain: {delay: 50s}",
            "drain.deadline: \"45s\": not longer than delay and quiet together (51s); write more than 51s, or shorten drain.delay",
        ),
        (
            "checks: {a: {tcp: {address: 'a:1'}, interval: 1s, timeout: 2s}}",
            "checks.a.timeout: \"2s\": longer than the interval (1s); write at most 1s (line 1)",
        ),
        (
            "checks: {a: {tcp: {address: 'a:1'}, max_staleness: 5s}}",
            "checks.a.max_staleness: \"5s\": shorter than interval and timeout together (6s); write at least 6s (line 1)",
        ),
        (
            "flags: {scopes: [a]}",
            "flags.scopes: \"a\": scopes are in Redis, and redis.url is not set; set redis.url (line 1)",
        ),
        (
            "{redis: {url: 'redis://r'}, flags: {scopes: [a, b, a]}}",
            "flags.scopes: \"a, b, a\": a comes twice; name each scope once (line 1)",
        ),
        ("flags: {files: [a, a]}", "flags.files: \"a\": comes twice; name each file once (line 1)"),
        (
            "ops: {listen: '127.0.0.1:8080'}",
            "ops.listen: \"127.0.0.1:8080\": proxy[0].listen listens there too; choose another port",
        ),
        (
            "ops: {listen: ['127.0.0.1:1', '127.0.0.1:1']}",
            "ops.listen: \"127.0.0.1:1\": listed twice; choose another port",
        ),
        (
            "proxy: [{listen: '127.0.0.1:8013'}]",
            "local.listen: \"127.0.0.1:8013\": proxy[0].listen listens there too; choose another port",
        ),
        (
            "proxy: [{upstream: 'http://localhost:8080'}]",
            "proxy[0].upstream: \"http://localhost:8080\": leads back to the sidecar itself (proxy[0].listen); write the app's own address",
        ),
        (
            "proxy: [{upstream: '127.0.0.1:8014'}]",
            "proxy[0].upstream: \"http://127.0.0.1:8014\": leads back to the sidecar itself (ops.listen); write the app's own address",
        ),
        (
            "proxy: [{upstream: 'unix:/run/tidegate/tidegate.sock'}]",
            "proxy[0].upstream: \"unix:/run/tidegate/tidegate.sock\": leads back to the sidecar itself (local.socket); write the app's own address",
        ),
        (
            "checks: {a: {http: {url: 'http://127.0.0.1:8014/readyz'}}}",
            "checks.a.http.url: \"http://127.0.0.1:8014/readyz\": asks the sidecar itself (ops.listen); ask the app's own address",
        ),
    ] {
        refused(text, expected);
    }
    assert!(load("a: &x [*x]").is_err());
    // A wrong part of a sum does not hide that the other alone is too long.
    let problems = load("drain: {delay: 50s, quiet: x}").err().unwrap();
    let alone = "drain.deadline: \"45s\": not longer than delay (50s); write more than 50s, or shorten drain.delay";
    assert_eq!((problems.len(), problems.last().unwrap().as_str()), (2, alone), "{problems:#?}");
    assert_eq!(load("drain: {delay: 40s, quiet: x}").err().unwrap().len(), 1);
    // A wrong value is not compared with others: one mistake is one problem.
    refused("drain: {delay: 50, deadline: 1s}", "drain.delay: \"50\": not a duration; write 50s (line 1)");
    refused(
        "{redis: {url: x}, flags: {scopes: [a]}, checks: {r: {redis: }}}",
        "redis.url: \"REDACTED\": not a Redis URL; write redis://[USER:PASSWORD@]HOST:PORT[/DB], redis+sentinel://HOST:PORT,HOST:PORT/MASTER or redis+cluster://HOST:PORT,HOST:PORT; rediss… for TLS (line 1)",
    );
    // A short interval brings its timeout along; any number of ephemeral ports is fine.
    let check = &load("checks: {a: {tcp: {address: 'a:1'}, interval: 50ms}}").unwrap().settings.checks.checks[0];
    assert_eq!(check.timeout, Duration::from_millis(50));
    assert!(load("{proxy: [{listen: '127.0.0.1:0'}], ops: {listen: ['127.0.0.1:0', '127.0.0.1:0']}}").is_ok());
}

#[test]
fn syntax_errors_say_where() {
    const QUOTES: &str = "correct the YAML, or put quotes around texts with special characters";
    for (text, expected) in [
        ("drain:\n  delay: 1s\n  delay: 2s\n", "key delay comes twice; keep one (line 3, column 3)".to_owned()),
        ("{\"workers\": 1,\n \"workers\": 2}", "key workers comes twice; keep one (line 2, column 2)".to_owned()),
        (
            "drain: {delay: 1s\nops: }",
            format!("while parsing a flow mapping, did not find expected ',' or '}}'; {QUOTES} (line 2, column 4)"),
        ),
        ("a: b: c", format!("mapping values are not allowed in this context; {QUOTES} (line 1, column 5)")),
        (
            "workload: a\n---\nworkload: b\n",
            "more than one document; remove what follows --- (line 2, column 1)".to_owned(),
        ),
        ("flags: {context: {x: .nan}}", "not a finite number; put quotes around a text (line 1, column 22)".to_owned()),
    ] {
        refused(text, &format!("tidegate.yaml: {expected}"));
    }
    for secret in SECRETS {
        for text in [
            format!("ops: {{drain_token: *{secret}}}"),
            format!("ops: {{drain_token: !!int {secret}}}"),
            format!("ops: {{drain_token: !{secret} x: {secret}}}"),
            format!("ops: {{drain_token: @{secret}}}"),
            format!("ops:\n  drain_token: '{secret}\n"),
            format!("ops: {{drain_token: %{secret}, drain_token: {secret}}}"),
        ] {
            let problems = load(&text).err().unwrap().join("\n");
            assert!(!problems.contains(secret), "{text}: {problems}");
        }
    }
}

#[test]
fn bombs_and_towers_are_refused_within_bounds() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let towers = ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)];
    let block: String = (0..5000).map(|depth| format!("{}a:\n", " ".repeat(depth % 200))).collect();
    let wide = format!("flags: {{context: {{x: [{}]}}}}", "1, ".repeat(100_000));
    let long = format!("workload: {}", "x".repeat(2 << 20));
    for text in [bomb, block, wide, long].iter().chain(&towers) {
        let problems = load(text).err().unwrap();
        assert!(problems.iter().all(|problem| problem.len() < 1000), "{:.2000}", problems.join("\n"));
    }
}

#[test]
fn no_secret_is_in_any_output() {
    let text = "
ops: { drain_token: '${file:/run/secrets/token}' }
redis: { url: 'redis://app:redispassw0rd@r:6379' }
checks:
  db: { postgres: { url: 'postgres://app:pgpassw0rd@db/orders?sslmode=require&password=pgpassw0rd' } }
  kv: { postgres: { url: 'host=db user=app password=pgpassw0rd' } }
  my: { mysql: { url: 'mysql://app:pgpassw0rd@db/orders?ssl-mode=REQUIRED' } }
  one: { schema: { url: 'mysql://app:pgpassw0rd@db/orders', tables: t } }
  two: { schema: { url: 'host=db user=app password=pgpassw0rd', tables: t } }
flags: { context: { key: '${file:/run/secrets/token}', list: ['${file:/run/secrets/token}'] } }
";
    let loaded = load(text).unwrap();
    assert_eq!(loaded.settings.flags.context["key"], "t0kenvalue");
    let yaml = loaded.to_yaml();
    for output in [format!("{:#?}", loaded.settings), yaml.clone(), loaded.to_json().to_string()] {
        let output = match output.find("\"t0kenvalue\"") {
            // The context is what every evaluation sees; its Debug form is the one place that holds it.
            Some(_) if output.starts_with("Settings {") => output.replace("\"t0kenvalue\"", ""),
            _ => output,
        };
        for secret in SECRETS {
            assert!(!output.contains(secret), "{secret} in {output}");
        }
    }
    assert!(yaml.contains("redis://app:REDACTED@r:6379"), "{yaml}");
    assert!(yaml.contains("postgres://app:REDACTED@db/orders?sslmode=require&password=REDACTED"), "{yaml}");
    assert!(yaml.contains("mysql://app:REDACTED@db/orders?ssl-mode=REQUIRED"), "{yaml}");
    assert!(yaml.contains("key: \"${file:/run/secrets/token}\""), "{yaml}");

    // The same secrets in places where they are wrong in every way.
    for secret in SECRETS {
        for text in [
            format!("redis: 'redis://:{secret}@r'"),
            format!("redis: {{urll: 'redis://:{secret}@r'}}"),
            format!("redis: {{url: 'redis://:{secret}@r:port'}}"),
            format!("redis: {{url: '{secret}'}}"),
            format!("redis: {{url: ['{secret}']}}"),
            format!("ops: {{drain_token: '{secret} {secret}'}}"),
            format!("ops: {{drain_token: {{x: '{secret}'}}}}"),
            format!("ops: '{secret}'"),
            format!("checks: {{db: {{postgres: '{secret}'}}}}"),
            format!("checks: {{db: {{postgres: {{url: 'postgres://u:{secret}@h:port'}}}}}}"),
            format!("checks: {{db: {{postgres: {{url: 'postgres://u:p/{secret}@h?x={secret}'}}}}}}"),
            format!("checks: {{db: {{http: {{url: 'http://u:{secret}@h/'}}}}}}"),
            format!("proxy: [{{upstream: 'http://u:{secret}@h:1'}}]"),
            format!("workload: 'postgres://u:p/{secret}@h'"),
            format!("state_dir: ['postgres://u:{secret}@h']"),
        ] {
            let problems = load(&text).err().unwrap().join("\n");
            assert!(!problems.contains(secret), "{text}: {problems}");
        }
        let problems = load_with("workload: '${X} y'", &[("X", secret)], &[]).err().unwrap().join("\n");
        assert!(!problems.contains(secret) && problems.contains("${X} y"), "{problems}");
    }
}

#[test]
fn what_is_shown_is_a_configuration_that_resolves_to_the_same() {
    let all = "
workload: a.b-c
proxy: [{listen: '127.0.0.1:1', upstream: 'unix:/a'}, {listen: '[::1]:2', upstream: 'http://[::1]:3'}]
limits: {header_bytes: 9000, idle_timeout: 1h30m, response_timeout: none, body_bytes: 1GiB, pool_size: 0}
forwarded: replace
local: {listen: '127.0.0.1:5', socket: '', cors_origins: ['https://a.b', '*'], public_url: 'https://a.b/c/'}
drain: {delay: 0s, quiet: 250ms, deadline: 1m, readiness: fail}
redis: {url: 'redis://r:1/2', prefix: 'a:b'}
checks:
  h: {http: {url: 'http://a/b?c=d', host: x.y, status: '204'}, class: degraded, rise: 2}
  p: {postgres: {url: 'postgres://db/orders', query: 'SELECT $$1 -- \"x\"'}}
  r: {redis: }
  d: {disk: {path: /, min_free: 900TiB}}
  t: {tcp: {address: '[::1]:9'}, shared: true, timeout: 10ms, max_staleness: 1m}
flags: {scopes: b, files: [/f, 'with space, comma'], max_stale: 5m, on_missing: empty, overrides: local, schedules: off, report: off, context: {n: 1.5, 'odd: key': [true, {'x': '$${y}'}], e: {}, 'no': '1'}}
state_dir: /s
fleet: {register: off, pod: p-1, pod_uid: u.1, version: '1.4', brake: {panic_threshold: 0.4, release_threshold: 0.1, hold: 1m, min_instances: 3}}
workers: 3
log: {format: human, level: 'warn,tidegate::proxy=debug'}
";
    for (text, environment) in
        [(all, vec![]), ("", vec![("TIDEGATE_CHECKS__X__TCP__ADDRESS", "a:1"), ("TIDEGATE_WORKLOAD", "x")])]
    {
        let first = load_with(text, &environment, &[]).unwrap();
        for shown in [first.to_yaml(), first.to_json().to_string()] {
            let second = load(&shown).unwrap_or_else(|problems| panic!("{shown}\n{problems:?}"));
            let both = [&first, &second].map(|loaded| format!("{:#?}", loaded.settings));
            assert_eq!(both[0], both[1], "{shown}");
            assert_eq!(first.to_json(), second.to_json());
        }
    }
    let yaml = load_with("", &[("TIDEGATE_DRAIN__DELAY", "5s")], &[("ops.listen", "127.0.0.1:1")]).unwrap().to_yaml();
    assert!(yaml.contains("  delay: 5s  # TIDEGATE_DRAIN__DELAY\n"), "{yaml}");
    assert!(
        yaml.contains("  listen: [\"127.0.0.1:1\"]  # --ops\n") || yaml.contains("  listen: [127.0.0.1:1]  # --ops\n"),
        "{yaml}"
    );
}

/// Whether `value` fits `schema`, as far as the keywords that ours uses go (patterns aside).
fn fits(schema: &serde_json::Value, value: &serde_json::Value) -> Result<(), String> {
    if schema["$ref"].is_string() {
        let marked = value.as_str().is_some_and(|text| text.contains("${"));
        return if marked { Ok(()) } else { Err(format!("{value} refers to nothing")) };
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let reasons: Vec<_> = any.iter().map(|one| fits(one, value)).collect();
        return if reasons.iter().any(Result::is_ok) { Ok(()) } else { Err(format!("{reasons:?}")) };
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{value} is none of {words:?}")) };
    }
    let kind = match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(number) if number.is_f64() => "number",
        serde_json::Value::Number(_) => "integer",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    };
    let types = match &schema["type"] {
        serde_json::Value::String(one) => vec![one.as_str()],
        serde_json::Value::Array(all) => all.iter().filter_map(|one| one.as_str()).collect(),
        _ => vec![kind],
    };
    let whole = kind == "integer" && types.contains(&"number");
    if !types.contains(&kind) && !whole {
        return Err(format!("{value} is a {kind}, not {types:?}"));
    }
    if let Some(items) = value.as_array().filter(|_| schema["items"].is_object()) {
        items.iter().try_for_each(|item| fits(&schema["items"], item))?;
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(below), _) => fits(below, value).map_err(|why| format!("{key}: {why}"))?,
            (None, below @ serde_json::Value::Object(_)) => {
                fits(below, value).map_err(|why| format!("{key}: {why}"))?
            }
            (None, serde_json::Value::Bool(false)) => return Err(format!("{key} is not known")),
            (None, _) => {}
        }
    }
    match schema["required"].as_array().into_iter().flatten().find(|key| value.get(key.as_str().unwrap()).is_none()) {
        Some(missing) if value.is_object() => Err(format!("{missing} is missing")),
        _ => Ok(()),
    }
}

#[test]
fn the_schema_takes_what_the_reader_takes() {
    let schema = config::schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["drain"]["properties"]["delay"]["default"], "10s");
    let unquoted: serde_json::Value = serde_saphyr::from_str(EXAMPLE).unwrap();
    fits(&schema, &unquoted).unwrap();
    fits(&schema, &example().to_json()).unwrap();
    fits(&schema, &load("").unwrap().to_json()).unwrap();
    for (text, why) in [
        (r#"{"drain": {"dealy": "1s"}}"#, "dealy is not known"),
        (r#"{"drain": {"delay": 1}}"#, "is a integer"),
        (r#"{"forwarded": "trust"}"#, "is none of"),
        (r#"{"checks": {"a": {"tcp": {}}}}"#, "is missing"),
        (r#"{"checks": {"a": {"tcpp": {}}}}"#, "tcpp is not known"),
    ] {
        let problem = fits(&schema, &serde_json::from_str(text).unwrap()).unwrap_err();
        assert!(problem.contains(why), "{text}: {problem}");
    }
}

#[test]
fn the_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let current = config::reference();
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &current).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == current,
        "docs/CONFIGURATION.md is not what the declarations say; run\n    \
         REGENERATE=1 cargo test --test it the_reference_is_current"
    );
    for key in
        ["`proxy[].upstream`", "`TIDEGATE_CHECKS__NAME__POSTGRES__URL`", "`TIDEGATE_FLAGS__CONTEXT__NAME`", "`--flags`"]
    {
        assert!(current.contains(key), "{key}");
    }
}

/// What a command printed to standard output and error, and its exit code.
fn run(command: Command, inputs: &Inputs) -> (String, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = tidegate::cli::config::run(&command, inputs, &mut out, &mut err).unwrap();
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), format!("{code:?}"))
}

#[test]
fn the_commands_answer_with_a_line_or_with_every_problem_and_64() {
    let (success, usage) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(64)));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.yaml");
    let secret = dir.path().join("token");
    std::fs::write(&secret, "t0kenvalue\n").unwrap();
    std::fs::write(&file, format!("workload: orders\nops: {{drain_token: '${{file:{}}}'}}\n", secret.display()))
        .unwrap();
    let inputs = Inputs { file: Some(file.clone()), ..Inputs::default() };
    let text = Command::Check { output: CheckOutput::Text };
    let json = Command::Check { output: CheckOutput::Json };

    let (out, err, code) = run(text.clone(), &inputs);
    assert_eq!((err.as_str(), &code), ("", &success));
    assert_eq!(
        out,
        format!(
            "ok: {}: workload orders, 0.0.0.0:8080 → http://127.0.0.1:3000, 0 checks, 0 sources of flags\n",
            file.display()
        )
    );
    let (out, _, code) = run(json.clone(), &inputs);
    assert_eq!(
        (serde_json::from_str::<serde_json::Value>(&out).unwrap()["ok"].as_bool(), &code),
        (Some(true), &success)
    );
    let (out, err, code) = run(Command::Show { output: ShowOutput::Yaml }, &inputs);
    assert!(out.contains("drain_token: REDACTED\n") && err.is_empty() && code == success, "{out}{err}");
    let (out, _, _) = run(Command::Show { output: ShowOutput::Json }, &inputs);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["ops"]["drain_token"], "REDACTED");
    let (out, _, _) = run(Command::Schema, &inputs);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), config::schema());

    std::fs::write(&file, "drain: {delay: 10}\nworkers: 0\n").unwrap();
    for command in [text.clone(), Command::Show { output: ShowOutput::Yaml }] {
        let (out, err, code) = run(command, &inputs);
        assert_eq!((out.as_str(), err.lines().count(), &code), ("", 2, &usage), "{err}");
        assert!(err.starts_with("drain.delay: \"10\": not a duration; write 10s (line 1)\n"), "{err}");
    }
    let (out, _, code) = run(json, &inputs);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&answer["ok"], &answer["problems"][0]["path"], &code), (&false.into(), &"drain.delay".into(), &usage));

    for (content, why) in [
        (None, "no such file"),
        (Some(vec![0xff, 0xfe, 0xfd]), "not UTF-8"),
        (Some(vec![b'#'; 2 << 20]), "longer than 1024 KiB"),
    ] {
        match content {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let (_, err, code) = run(text.clone(), &inputs);
        assert_eq!((err, &code), (format!("{}: {why}; correct --config or TIDEGATE_CONFIG\n", file.display()), &usage));
    }
    let fine = Inputs { not_text: vec!["TIDEGATE_WORKLOAD".into()], ..Inputs::default() };
    let (_, err, code) = run(text, &fine);
    assert_eq!((err.as_str(), &code), ("TIDEGATE_WORKLOAD: not UTF-8; set it to a text\n", &usage));
}

#[test]
fn a_substituted_file_must_be_a_small_regular_file() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    std::fs::write(&large, vec![b'x'; 65 * 1024]).unwrap();
    let file = dir.path().join("tidegate.yaml");
    for (path, why) in [
        ("/dev/zero".to_owned(), "not a regular file"),
        (dir.path().display().to_string(), "not a regular file"),
        (large.display().to_string(), "longer than 64 KiB"),
        (dir.path().join("gone").display().to_string(), "no such file"),
    ] {
        std::fs::write(&file, format!("ops: {{drain_token: '${{file:{path}}}'}}")).unwrap();
        let inputs = Inputs { file: Some(file.clone()), ..Inputs::default() };
        let problems = config::load(&inputs).err().unwrap().to_string();
        assert!(problems.starts_with(&format!("ops.drain_token: file {path}: {why}; ")), "{problems}");
    }
}

#[test]
fn the_process_brings_its_environment() {
    let inputs = Inputs::from_process(Some("/x".into()), vec![("workload".into(), "w".into())]);
    assert_eq!(inputs.environment.get("PATH"), std::env::var("PATH").ok().as_ref());
    assert_eq!((inputs.file.as_deref(), inputs.overrides.len()), (Some(Path::new("/x")), 1));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}") {
        drop(load(&text));
    }

    #[test]
    fn no_text_made_of_our_own_words_makes_it_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "drain", "delay", "proxy", "listen", "checks", "db", "postgres", "url", "flags", "context", "scopes", ":", ": ",
            "\n", "\n  ", "- ", "[", "]", "{", "}", ", ", "'", "\"", "${", "}", "$", "&a", "*a", "<<", "1", "10s", "none",
            "null", "127.0.0.1:0", "postgres://a:b@c", "\u{0}", "é", "|", ">", "#", "!!int", "---", "%",
        ]), 0..40)
    ) {
        drop(load(&words.concat()));
    }

    #[test]
    fn no_value_of_any_key_makes_it_panic(value in "(?s).{0,40}", key in prop::sample::select(vec![
        "TIDEGATE_WORKLOAD", "TIDEGATE_PROXY__0__UPSTREAM", "TIDEGATE_PROXY__0__LISTEN", "TIDEGATE_DRAIN__DELAY",
        "TIDEGATE_LIMITS__HEADER_BYTES", "TIDEGATE_CHECKS__A__POSTGRES__URL", "TIDEGATE_CHECKS__A__REDIS__URL",
        "TIDEGATE_CHECKS__A__HTTP__URL", "TIDEGATE_CHECKS__A__HTTP__STATUS", "TIDEGATE_LOG__LEVEL", "TIDEGATE_REDIS__URL",
        "TIDEGATE_FLAGS__SCOPES", "TIDEGATE_OPS__DRAIN_TOKEN",
    ])) {
        if let Ok(loaded) = load_with("", &[(key, &value)], &[]) {
            let shown = load(&loaded.to_yaml());
            prop_assert!(shown.is_ok() || key.ends_with("URL"), "{key}={value:?}: {:?}\n{}", shown.err(), loaded.to_yaml());
        }
    }
}

#[test]
fn the_variables_of_opentelemetry_are_defaults_of_tracing() {
    let traced = |text: &str, environment: &[(&str, &str)]| {
        let loaded = load_with(text, environment, &[])?;
        assert!(!loaded.to_yaml().contains("s3cret"), "{}", loaded.to_yaml());
        Ok(loaded.settings.tracing.map(|otlp| {
            let headers = otlp.headers.iter().map(|(name, value)| format!("{name}: {}", value.expose()));
            let resource = otlp.resource.iter().map(|(name, value)| format!("{name}={value}"));
            let protocol = format!("{:?}", otlp.protocol);
            let more: Vec<String> = headers.chain(resource).collect();
            (otlp.endpoint.to_string(), protocol, otlp.service_name.clone(), more.join(" | "))
        }))
    };
    let told = |endpoint: &str, protocol: &str, service: &str, more: &str| -> Result<_, Vec<String>> {
        Ok(Some((endpoint.to_owned(), protocol.to_owned(), service.to_owned(), more.to_owned())))
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base/");
    assert_eq!(traced("workload: w", &[endpoint]), told("http://c:4318/base", "Http", "w", ""));
    let all = [
        endpoint,
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/v1/traces"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret, x-a = 1=2"),
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=a%2Cb,zone=%zz"),
    ];
    let more = "authorization: Bearer s3cret | x-a: 1=2 | deployment.environment.name=a,b | zone=%zz";
    assert_eq!(traced("workload: w", &all), told("https://t:443", "Http", "shop", more));
    let file = "{workload: w, tracing: {otlp: {endpoint: 'http://mine', headers: ['a: b'], service_name: mine, resource: [x=y]}}}";
    assert_eq!(traced(file, &all), told("http://mine:80", "Http", "mine", "a: b | x=y"), "the file is stronger");
    let ours = [&all[..], &[("TIDEGATE_TRACING__OTLP__ENDPOINT", "http://ours")]].concat();
    assert_eq!(traced("workload: w", &ours), told("http://ours:80", "Http", "shop", more), "and so is our variable");
    let grpc = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    assert_eq!(traced("workload: w", &grpc), told("http://c:4317", "Grpc", "w", ""));
    let named = [endpoint, ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other")];
    assert_eq!(traced("workload: w", &named), told("http://c:4318/base", "Http", "other", ""));

    for off in [
        &[("OTEL_SERVICE_NAME", "shop"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret")][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[endpoint, ("OTEL_SDK_DISABLED", "true")],
        &[endpoint, ("OTEL_TRACES_EXPORTER", "none")],
    ] {
        assert_eq!(traced("workload: w", off), Ok(None), "{off:?}");
    }
    for (environment, expected) in [
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")][..],
            "tracing.otlp.endpoint: \"c:4318\": not an http or https URL; write http://HOST:PORT or https://HOST:PORT (OTEL_EXPORTER_OTLP_ENDPOINT)",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318")],
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: its path does not end with /v1/traces, where spans are sent; add the path, or set OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        (
            &[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "host=s3cret")],
            "tracing.otlp.headers[0]: \"REDACTED\": a field that the request itself needs; remove it (OTEL_EXPORTER_OTLP_HEADERS)",
        ),
        (
            &[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,s3cret")],
            "OTEL_EXPORTER_OTLP_HEADERS: its element 2 is not name=value; write name=value between commas, percent-encoded",
        ),
    ] {
        assert_eq!(traced("workload: w", environment), Err(vec![expected.to_owned()]));
    }
}
