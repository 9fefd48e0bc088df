//! `tidegate check`: asks every configured check once and says what to do about those that fail.

mod remedy;
mod running;

use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use tokio::task::{JoinError, JoinSet};

use self::running::Running;
use super::output::{Output, Unprintable};
use crate::local::settings::Socket;
use crate::readiness::checks::{Failure, Probe};
use crate::readiness::prober::{self, Attempt};
use crate::readiness::settings::{Check, Class, Kind, Settings};

/// Checks that are asked at the same time: an answer does not differ because of the others, and nobody is flooded.
const AT_ONCE: usize = 8;

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
    /// `None` when nobody could be asked.
    ok: Option<bool>,
    /// From the start of the attempt to its end, milliseconds.
    took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Asks all checks, each once and within its own timeout; thresholds do not apply. A sidecar that runs is asked over
/// `socket` about what it alone knows.
pub async fn run(settings: &Settings, socket: &Socket) -> Report {
    let checks = &settings.checks;
    let running = match checks.iter().any(|check| matches!(check.kind, Kind::Flags(_))) {
        true => Some(Arc::new(Running::ask(socket).await)),
        false => None,
    };
    let mut attempts = JoinSet::new();
    let mut rows = Vec::new();
    let take = |joined: Result<(usize, Row), JoinError>| joined.expect("an attempt catches its panics");
    for (index, check) in checks.iter().cloned().enumerate() {
        if attempts.len() >= AT_ONCE {
            rows.extend(attempts.join_next().await.map(take));
        }
        match &running {
            Some(running) if matches!(check.kind, Kind::Flags(_)) => rows.push((index, running.row(&check))),
            _ => drop(attempts.spawn(async move { (index, Row::of(&check, &once(&check).await)) })),
        }
    }
    rows.extend(attempts.join_all().await);
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
        u8::from(self.rows.iter().any(|row| row.ok == Some(false) && row.class == Class::Critical.as_str()))
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
                row.state(),
                &format!("{:.1} ms", row.took_ms),
                row.error.as_deref().unwrap_or(""),
                row.remedy.as_deref().unwrap_or(""),
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
            ok: Some(failure.is_none()),
            took_ms: rounded(attempt.took),
            error: failure.map(Failure::to_string),
            remedy: failure.map(|failure| remedy::of(check, failure)),
        }
    }

    fn state(&self) -> &'static str {
        match self.ok {
            Some(true) => "ok",
            Some(false) => "failed",
            None => "not asked",
        }
    }
}

/// Milliseconds to one place.
fn rounded(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::checks::Cause;

    fn report(rows: &[(&str, Class, Result<(), Failure>)]) -> Report {
        let rows = rows.iter().map(|(name, class, result)| {
            let check = Check { class: *class, ..Check::new(*name, Kind::Tcp { address: "127.0.0.1:1".to_owned() }) };
            Row::of(&check, &Attempt { result: result.clone(), took: Duration::from_micros(1234) })
        });
        Report { rows: rows.collect() }
    }

    const REFUSED: &str = "start the server, or correct host and port in checks.db.tcp.address";

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
             db     tcp   critical  failed  1.2 ms  connection refused  start the server, or correct host and port in checks.db.tcp.address\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&report.render(Output::Json).expect("plain data")).expect("it is JSON");
        assert_eq!(
            json,
            serde_json::json!([
                {"check": "cache", "kind": "tcp", "class": "info", "ok": true, "took_ms": 1.2},
                {"check": "db", "kind": "tcp", "class": "critical", "ok": false, "took_ms": 1.2,
                 "error": "connection refused", "remedy": REFUSED},
            ])
        );
        let yaml: serde_json::Value =
            serde_saphyr::from_str(&report.render(Output::Yaml).expect("plain data")).expect("it is YAML");
        assert_eq!(yaml, json);
        let nothing = super::Report { rows: vec![] }.render(Output::Table).expect("a table");
        assert_eq!(nothing, "no checks are configured\n");
    }
}
