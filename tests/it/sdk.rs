//! The official OpenFeature SDKs, with their flagd and OFREP providers, against a running sidecar.

mod browser;
mod evaluation;
mod events;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::sdk::{Language, Script, root};
use crate::support::sidecar::Sidecar;

/// A provider of an SDK and how it talks.
#[derive(Debug, Clone, Copy)]
struct Provider {
    language: Language,
    kind: &'static str,
}

const PYTHON_RPC: Provider = Provider { language: Language::Python, kind: "rpc" };
const PYTHON_IN_PROCESS: Provider = Provider { language: Language::Python, kind: "in-process" };
const PYTHON_OFREP: Provider = Provider { language: Language::Python, kind: "ofrep" };
const NODE_RPC: Provider = Provider { language: Language::Node, kind: "rpc" };
const NODE_IN_PROCESS: Provider = Provider { language: Language::Node, kind: "in-process" };
const NODE_OFREP: Provider = Provider { language: Language::Node, kind: "ofrep" };

impl Provider {
    /// Starts a script with this provider against `address`, with more settings.
    fn start(self, script: &str, address: impl ToString, more: Value) -> Script {
        let mut settings = json!({"provider": self.kind, "address": address.to_string()});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Script::start(self.language, script, &settings)
    }
}

/// A file of `tests/sdk`.
fn shared(name: &str) -> PathBuf {
    root().join("tests/sdk").join(name)
}

/// A sidecar with the flags of the tables, from a file, that answers every web page.
async fn with_the_tables_flags(more: &str) -> Sidecar {
    let directory = tempfile::tempdir().unwrap();
    let settings = format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\n\
         local: {{ listen: ['127.0.0.1:0'], socket: '{}', cors_origins: ['*'] }}\n\
         flags: {{ files: ['{}'], context: {{ environment: production }}, {more} }}",
        directory.path().join("tidegate.sock").display(),
        shared("flags.json").display(),
    );
    let sidecar = Sidecar::start_in(directory, &settings);
    sidecar.ready().await;
    sidecar
}
