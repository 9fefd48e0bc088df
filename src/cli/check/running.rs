//! What the running sidecar says of the checks that it alone can make: those of the age of its flags.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::sidecar;
use super::{Row, rounded};
use crate::local::settings::Socket;
use crate::readiness::settings::Check;

/// How long the sidecar may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Its answer.
pub(super) struct Running {
    /// Its status, or why there is none.
    status: Result<Value, String>,
    took: Duration,
}

impl Running {
    pub(super) async fn ask(socket: &Socket) -> Self {
        let began = Instant::now();
        let status = sidecar::ask_quietly(socket, "/v1/status", LIMIT).await;
        Self { status, took: began.elapsed() }
    }

    /// The row of a check. One that nobody could be asked about has neither passed nor failed.
    pub(super) fn row(&self, check: &Check) -> Row {
        let told = match &self.status {
            Ok(status) => told(&status["checks"][check.name.as_str()]),
            Err(why) => Err(why.clone()),
        };
        let (ok, error, remedy) = match told {
            Ok(None) => (Some(true), None, None),
            Ok(Some(error)) => {
                let remedy = "see FLAG SOURCE in the answer to: tidegate status".to_owned();
                (Some(false), Some(error), Some(remedy))
            }
            Err(why) => {
                let remedy = "ask again beside a sidecar that runs with this configuration".to_owned();
                (None, Some(format!("only a running sidecar knows the age of its flags: {why}")), Some(remedy))
            }
        };
        let (class, kind) = (check.class.as_str(), check.kind.as_str());
        Row { check: check.name.clone(), kind, class, ok, took_ms: rounded(self.took), error, remedy }
    }
}

/// Why a check fails, as its standing says; or why that is not known.
fn told(standing: &Value) -> Result<Option<String>, String> {
    match (standing["status"].as_str(), standing["error"].as_str()) {
        (Some("ok"), _) => Ok(None),
        (Some("pending"), _) => Err("it has not looked yet".to_owned()),
        (Some(_), Some(error)) => Ok(Some(error.to_owned())),
        _ => Err("the one that runs has no check of this name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_standing_passes_fails_or_is_not_known() {
        for (standing, expected) in [
            (json!({"status": "ok", "error": null}), Ok(None)),
            (json!({"status": "failed", "error": "too old"}), Ok(Some("too old"))),
            (json!({"status": "stale", "error": "stale"}), Ok(Some("stale"))),
            (json!({"status": "pending", "error": "pending"}), Err("it has not looked yet")),
            (Value::Null, Err("the one that runs has no check of this name")),
        ] {
            let said = told(&standing);
            assert_eq!(said.as_ref().map(Option::as_deref).map_err(String::as_str), expected, "{standing}");
        }
    }
}
