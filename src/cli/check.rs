//! `tidegate check`: asks every configured check once and says what to do about those that fail.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use tokio::task::JoinSet;

use super::output::{Output, Unprintable};
use crate::readiness::checks::{Cause, Failure, Probe};
use crate::readiness::prober::{self, Attempt};
use crate::readiness::settings::{Check, Class, Settings};

/// What all checks said, in the order of the settings.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    check: String,
    kind: &'static str,
    class: &'static str,
    ok: bool,
    /// From the start of the attempt to its end, milliseconds.
    took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

/// Asks all checks at the same time, each once and within its own timeout; thresholds do not apply.
pub async fn run(settings: &Settings) -> Report {
    let mut attempts = JoinSet::new();
    for (index, check) in settings.checks.iter().cloned().enumerate() {
        attempts.spawn(async move { (index, Row::of(&check, &once(&check).await)) });
    }
    let mut rows = attempts.join_all().await;
    rows.sort_by_key(|(index, _)| *index);
    Report { rows: rows.into_iter().map(|(_, row)| row).collect() }
}

async fn once(check: &Check) -> Attempt {
    let mut probe = match Probe::new(check) {
        Ok(probe) => probe,
        Err(failure) => return Attempt { result: Err(failure), took: Duration::ZERO },
    };
    let attempt = prober::attempt(&mut probe, check.timeout).await;
    if attempt.left_something() {
        prober::abandon(&mut probe, check.timeout).await;
    }
    attempt
}

impl Report {
    /// 0, or 1 when a critical check fails.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.rows.iter().any(|row| !row.ok && row.class == Class::Critical.as_str()))
    }

    /// The report as text that ends with a line feed: a table, or an array of objects.
    ///
    /// # Errors
    /// It cannot be written so.
    pub fn render(&self, output: Output) -> Result<String, Unprintable> {
        output.render(self, || match self.rows.as_slice() {
            [] => "no checks are configured\n".to_owned(),
            _ => format!("{}\n", self.table().trim_fmt()),
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["CHECK", "KIND", "CLASS", "STATE", "TIME", "ERROR", "REMEDY"]);
        for row in &self.rows {
            table.add_row([
                row.check.as_str(),
                row.kind,
                row.class,
                if row.ok { "ok" } else { "failed" },
                &format!("{:.1} ms", row.took_ms),
                row.error.as_deref().unwrap_or(""),
                row.remedy.unwrap_or(""),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
    }
}

impl Row {
    fn of(check: &Check, attempt: &Attempt) -> Self {
        let failure = attempt.result.as_ref().err();
        Self {
            check: check.name.clone(),
            kind: check.kind.as_str(),
            class: check.class.as_str(),
            ok: failure.is_none(),
            took_ms: (attempt.took.as_secs_f64() * 10_000.0).round() / 10.0,
            error: failure.map(Failure::to_string),
            remedy: failure.map(|failure| remedy(failure.cause)),
        }
    }
}

/// What a person does next.
fn remedy(cause: Cause) -> &'static str {
    match cause {
        Cause::Configuration => "correct this check's settings",
        Cause::Name => "check the host name, and DNS from here",
        Cause::Refused => "see that the server runs, and that host and port are right",
        Cause::Unreachable => "check the route and network policies from here to the server",
        Cause::Lost => "look in the server's log for why it closed the connection",
        Cause::Timeout => "see whether the server is overloaded or a firewall drops packets, or raise the timeout",
        Cause::Tls => "check the certificate, the host name and the sslmode or scheme",
        Cause::Credentials => "check the user name, the password and the server's access rules",
        Cause::Busy => "wait until the server serves, or give it more connections",
        Cause::Answer => "ask the server the same by hand",
        Cause::Panic => "report this defect with the log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::settings::Kind;

    fn report(rows: &[(&str, Class, Result<(), Failure>)]) -> Report {
        let rows = rows.iter().map(|(name, class, result)| {
            let check = Check { class: *class, ..Check::new(*name, Kind::Tcp { address: "127.0.0.1:1".to_owned() }) };
            Row::of(&check, &Attempt { result: result.clone(), took: Duration::from_micros(1234) })
        });
        Report { rows: rows.collect() }
    }

    fn refused() -> Failure {
        Failure::new(Cause::Refused, "connection refused")
    }

    #[test]
    fn only_a_failing_critical_check_fails_the_command() {
        for (rows, code) in [
            (vec![], 0),
            (vec![("a", Class::Critical, Ok(()))], 0),
            (vec![("a", Class::Degraded, Err(refused())), ("b", Class::Info, Err(refused()))], 0),
            (vec![("a", Class::Info, Ok(())), ("b", Class::Critical, Err(refused()))], 1),
        ] {
            assert_eq!(report(&rows).exit_code(), code, "{rows:?}");
        }
    }

    #[test]
    fn a_report_is_a_table_for_people_and_json_or_yaml_for_programs() {
        let report = report(&[("cache", Class::Info, Ok(())), ("db", Class::Critical, Err(refused()))]);
        assert_eq!(
            report.render(Output::Table).expect("a table"),
            "CHECK  KIND  CLASS     STATE   TIME    ERROR               REMEDY\n\
             cache  tcp   info      ok      1.2 ms\n\
             db     tcp   critical  failed  1.2 ms  connection refused  see that the server runs, and that host and port are right\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&report.render(Output::Json).expect("plain data")).expect("it is JSON");
        assert_eq!(
            json,
            serde_json::json!([
                {"check": "cache", "kind": "tcp", "class": "info", "ok": true, "took_ms": 1.2},
                {"check": "db", "kind": "tcp", "class": "critical", "ok": false, "took_ms": 1.2,
                 "error": "connection refused", "remedy": "see that the server runs, and that host and port are right"},
            ])
        );
        let yaml: serde_json::Value =
            serde_saphyr::from_str(&report.render(Output::Yaml).expect("plain data")).expect("it is YAML");
        assert_eq!(yaml, json);
        let nothing = super::Report { rows: vec![] }.render(Output::Table).expect("a table");
        assert_eq!(nothing, "no checks are configured\n");
    }
}
