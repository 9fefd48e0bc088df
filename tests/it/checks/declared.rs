//! What the configuration takes for a check, and what it refuses.

use tidegate::readiness::settings::Kind;

use crate::config::{load, refused};
use crate::support::sidecar::cli;

#[test]
fn a_status_and_a_version_are_numbers_or_texts() {
    for (status, expected) in [
        ("200", vec![(200, 200)]),
        ("'200'", vec![(200, 200)]),
        ("[200, '204', 300-399]", vec![(200, 200), (204, 204), (300, 399)]),
    ] {
        let loaded = load(&format!("checks: {{ web: {{ http: {{ url: 'http://a/', status: {status} }} }} }}")).unwrap();
        let Kind::Http(http) = &loaded.settings.checks.checks[0].kind else { panic!("another kind") };
        assert_eq!(http.status, expected, "{status}");
    }
    for (tool, version, expected) in [
        ("golang-migrate", "5", "5"),
        ("sqlx", "20260101120000", "20260101120000"),
        ("rails", "'001'", "001"),
        // YAML reads digits as a number, whatever stands before them.
        ("golang-migrate", "000005", "000005"),
        ("flyway", "'1.10'", "1.10"),
    ] {
        let migration = format!("{{ tool: {tool}, version: {version} }}");
        let loaded =
            load(&format!("checks: {{ db: {{ schema: {{ url: 'host=h', migration: {migration} }} }} }}")).unwrap();
        let Kind::Schema(schema) = &loaded.settings.checks.checks[0].kind else { panic!("another kind") };
        assert_eq!(schema.migration.as_ref().unwrap().version, expected, "{tool} {version}");
    }
    refused(
        "checks: {db: {schema: {url: 'host=h', migration: {tool: flyway, version: 1.10}}}}",
        "checks.db.schema.migration.version: \"1.1\": a number with a point, not a text; write it in quotes (line 1)",
    );
    refused(
        "checks: {web: {http: {url: 'http://a/', status: [600]}}}",
        "checks.web.http.status[0]: \"600\": not a status or a range of them; write 200 or 200-399 (line 1)",
    );
}

#[test]
fn a_name_that_health_has_by_itself_is_refused() {
    for name in ["readiness", "liveness", "startup"] {
        refused(
            &format!("checks: {{{name}: {{tcp: {{address: 'a:1'}}}}}}"),
            &format!(
                "checks.{name}: the name of a service that health over gRPC has by itself; choose another name (line 1)"
            ),
        );
    }
}

#[test]
fn a_check_of_flags_names_sources_that_there_are() {
    let flags = "redis: {url: 'redis://r'}\nflags: {scopes: [orders], files: [/f.json]}";
    let with = |sources: &str| format!("{flags}\nchecks: {{ age: {{ flags: {{ sources: {sources} }} }} }}");
    load(&with("[]")).unwrap();
    load(&with("['redis:orders', 'file:/f.json']")).unwrap();
    refused(
        &with("['file:/f.json', 'redis:shared']"),
        "checks.age.flags.sources[1]: \"redis:shared\": no source of flags has this name; write one of: redis:orders, file:/f.json",
    );
    refused(
        "checks: {age: {flags: {}}}",
        "checks.age.flags: no source of flags is configured: it could never fail; set redis.url or flags.files, or remove the check",
    );
    // What is wrong with the sources themselves is said alone.
    let problems = load("checks: {age: {flags: {sources: ['file:/f']}}}\nflags: {files: [1]}");
    assert!(problems.is_err_and(|problems| problems.len() == 1));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidegate.yaml");
    std::fs::write(&file, with("['redis:shared']")).unwrap();
    let (code, _, error) = cli(&["--config", file.to_str().unwrap(), "config", "check"]);
    assert_eq!(code, 64, "{error}");
    assert!(error.contains("no source of flags has this name"), "{error}");
}
