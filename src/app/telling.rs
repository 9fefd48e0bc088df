//! What the proxy tells of requests, and to whom: standard output, a collector, and the app itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;

use super::flag_headers::FromStore;
use crate::flags::store::Store;
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::net::otlp::{self, Exporter, Spans};
use crate::proxy;
use crate::proxy::observe::Outlets;
use crate::telemetry::writer::{self, Lines};

/// How long the last spans may take to be exported when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// How long what is under way may take to end when the process does. Nobody is waited for: workers end it.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// See the module's text.
pub(super) struct Telling {
    outlets: Outlets,
    exporter: Option<Exporter>,
}

impl Telling {
    /// Sets up what the settings ask for; what they do not ask for costs nothing.
    pub(super) fn new(
        settings: &proxy::Settings,
        tracing: Option<otlp::Settings>,
        store: &Arc<Store>,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let access = settings.access_log.sample.map(|_| Lines::to("access log", std::io::stdout())).transpose();
        let access = access.context("no thread for the access log")?;
        writer::register(registry, access.clone());
        let (spans, exporter) = tracing.map(Spans::new).unzip();
        otlp::register(registry, spans.clone());
        let flags = FromStore::of(store, &settings.routes);
        Ok(Self { outlets: Outlets { flags, access, spans }, exporter })
    }

    /// For the proxy.
    pub(super) fn outlets(&self) -> Outlets {
        self.outlets.clone()
    }

    /// Exports spans, if there are any.
    pub(super) fn run(&mut self, tasks: &Tasks) {
        if let Some(exporter) = self.exporter.take() {
            tasks.spawn("export of spans", OnEnd::MustLive, exporter.run());
        }
    }

    /// Sees to it that what was told last arrives, as far as it does so soon: that of requests which end with the process
    /// too.
    pub(super) async fn finish(self, ledger: &Ledger) {
        if self.outlets.spans.is_some() || self.outlets.access.is_some() {
            let cut = async {
                while ledger.counts().proxied() > 0 {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if tokio::time::timeout(LAST_REQUESTS, cut).await.is_err() {
                tracing::warn!(requests = ledger.counts().proxied(), "the last requests were not told of");
            }
        }
        if let Some(spans) = self.outlets.spans {
            spans.flush(LAST_SPANS).await;
        }
        if let Some(access) = self.outlets.access {
            access.flush();
        }
    }
}
