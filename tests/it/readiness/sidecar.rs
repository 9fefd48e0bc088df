//! The running binary beside a database that stops, hangs and comes back, and `tidegate check` as a person runs it.

use serde_json::{Value, json};

use super::PATIENCE;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::raw;
use crate::support::sidecar::{Sidecar, cli};

/// Nothing is proxied here.
const PROXY: &str = "proxy: [{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }]";

/// Waits until `/readyz` answers this status and error. Liveness and startup must not move meanwhile: a restart
/// repairs no database.
async fn says(sidecar: &Sidecar, status: u16, error: Value) {
    let mut last = None;
    let reached = async || {
        for path in ["/healthz", "/startupz"] {
            let answer = raw::get(sidecar.ops, path).await.unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let answer = raw::get(sidecar.ops, "/readyz").await.unwrap();
        let said = (answer.status, answer.json()["error"].clone());
        let same = said == (status, error.clone());
        last = Some(said);
        same
    };
    if tokio::time::timeout(PATIENCE, eventually(PATIENCE * 2, "unreachable", reached)).await.is_err() {
        panic!("/readyz says {last:?}, not {status} {error}");
    }
}

#[tokio::test]
async fn an_outage_of_the_database_moves_readiness_and_neither_liveness_nor_startup() {
    let mut postgres = Postgres::start();
    let url = postgres.url();
    let sidecar = Sidecar::start_with(&format!(
        "{PROXY}\nchecks: {{ db: {{ postgres: {{ url: '{url}' }}, interval: 200ms, timeout: 200ms, fall: 3 }} }}"
    ));
    sidecar.ready().await;

    postgres.stop();
    says(&sidecar, 503, json!("db: connection refused")).await;
    let status = raw::get(sidecar.local, "/v1/status").await.unwrap().json();
    assert_eq!((&status["ready"], &status["checks"]["db"]["status"]), (&json!(false), &json!("failed")), "{status}");
    postgres.resume();
    says(&sidecar, 200, Value::Null).await;

    // Connections are accepted by the kernel, and nobody answers.
    postgres.freeze();
    says(&sidecar, 503, json!("db: timeout after 200ms")).await;
    postgres.thaw();
    says(&sidecar, 200, Value::Null).await;
}

/// Runs `tidegate check` with these checks: exit code, standard output, standard error.
fn check(checks: &str, arguments: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("tidegate.yaml");
    std::fs::write(&config, format!("workload: test\nchecks:\n{checks}\n")).unwrap();
    let mut all = vec!["--config", config.to_str().unwrap(), "check"];
    all.extend(arguments);
    cli(&all)
}

/// The table's rows as words.
fn words(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn checking_once_tells_which_check_fails_and_what_to_do_and_exits_by_the_critical_ones() {
    let postgres = Postgres::start();
    let nobody = Port::reserve();
    let db = format!("  db: {{ postgres: {{ url: '{}' }}, timeout: 5s }}", postgres.url());
    let port = |class: &str| format!("  port: {{ tcp: {{ address: '{}' }}, class: {class} }}", nobody.address());

    let (code, table, error) = check(&db, &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{table}");
    let rows = words(&table);
    assert_eq!(rows[0], ["CHECK", "KIND", "CLASS", "STATE", "TIME", "ERROR", "REMEDY"], "{table}");
    assert_eq!((rows.len(), &rows[1][..4]), (2, &["db", "postgres", "critical", "ok"][..]), "{table}");

    let refused = "connection refused";
    let remedy = "start the server, or correct host and port in checks.port.tcp.address";
    for (class, expected) in [("critical", 1), ("degraded", 0), ("info", 0)] {
        let both = format!("{db}\n{}", port(class));
        let (code, table, error) = check(&both, &[]);
        assert_eq!((code, error.as_str()), (expected, ""), "{class}: {table}");
        let rows = words(&table);
        assert_eq!((rows.len(), &rows[1][..4]), (3, &["db", "postgres", "critical", "ok"][..]), "{table}");
        assert_eq!(rows[2][..4], ["port", "tcp", class, "failed"], "{table}");
        assert!(table.contains(refused) && table.contains(remedy), "{table}");

        let (code, text, error) = check(&both, &["--output", "json"]);
        assert_eq!((code, error.as_str()), (expected, ""), "{class}: {text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        let (code, text, error) = check(&both, &["--output", "yaml"]);
        assert_eq!((code, error.as_str()), (expected, ""), "{class}: {text}");
        let yaml: Value = serde_saphyr::from_str(&text).unwrap();
        for answer in [json, yaml] {
            let of = |at: usize, key: &str| answer[at][key].clone();
            assert_eq!((of(0, "check"), of(0, "ok"), of(0, "error")), (json!("db"), json!(true), Value::Null));
            assert_eq!((of(1, "check"), of(1, "ok"), of(1, "class")), (json!("port"), json!(false), json!(class)));
            assert_eq!((of(1, "error"), of(1, "remedy")), (json!(refused), json!(remedy)));
            assert_eq!(answer.as_array().unwrap().len(), 2, "{answer}");
        }
    }

    let wrong = format!("  db: {{ postgres: {{ url: '{}' }} }}", postgres.url_at(postgres.address(), "not-the-one"));
    let (code, table, error) = check(&wrong, &[]);
    assert_eq!(code, 1, "{table}{error}");
    assert!(table.contains("check user and password in checks.db.postgres.url, then pg_hba.conf"), "{table}");
    assert!(!table.contains("not-the-one") && !table.contains(PASSWORD), "{table}");
}
