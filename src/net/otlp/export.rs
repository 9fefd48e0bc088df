//! The task that gathers spans and sends them, a request at a time, each at most twice.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::collector::{Again, Collector, Failed};
use super::{Counts, Settings, encode};

/// Spans of one request.
const BATCH: usize = 512;
/// How long spans wait for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector has for one request, connecting included.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a collector that named no time is left alone before the second attempt, and up to twice as long.
const SOON: Duration = Duration::from_secs(1);
/// Spans are not kept for longer than this: others come meanwhile, and what may wait is bounded.
const LONGEST: Duration = Duration::from_secs(30);

/// Sends what is handed over.
pub struct Exporter {
    service: String,
    resource: Vec<(String, String)>,
    collector: Collector,
    spans: mpsc::Receiver<Vec<u8>>,
    counts: Arc<Counts>,
    failing: bool,
}

impl Exporter {
    pub(super) fn new(settings: Settings, spans: mpsc::Receiver<Vec<u8>>, counts: Arc<Counts>) -> Self {
        let (service, resource) = (settings.service_name.clone(), settings.resource.clone());
        Self { service, resource, collector: Collector::new(settings), spans, counts, failing: false }
    }

    /// Sends for as long as it is polled.
    ///
    /// # Cancellation
    /// What was gathered is lost.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if self.spans.recv_many(&mut batch, BATCH).await == 0 {
                // Nobody can hand over any more: the process is ending.
                return std::future::pending().await;
            }
            let until = Instant::now() + GATHER;
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                match timeout_at(until, self.spans.recv_many(&mut batch, room)).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => break,
                }
            }
            self.send(&batch).await;
            batch.clear();
        }
    }

    async fn send(&mut self, batch: &[Vec<u8>]) {
        let count = batch.len() as u64;
        let length: usize = batch.iter().map(Vec::len).sum();
        // They leave the queue only now, so that what is being sent counts as what waits.
        let request = Bytes::from(encode::request(&self.service, &self.resource, batch));
        let mut sent = self.attempt(request.clone()).await;
        if let Err(failed) = &sent
            && let Some(pause) = pause(failed.again)
        {
            tracing::debug!(collector = %self.collector, error = failed.why, ?pause, "spans are sent once more");
            sleep(pause).await;
            sent = self.attempt(request).await;
        }
        self.counts.waiting.fetch_sub(length, Relaxed);
        match sent {
            Ok((refused, why)) => {
                let refused = refused.min(count);
                self.counts.exported.fetch_add(count - refused, Relaxed);
                self.counts.rejected.fetch_add(refused, Relaxed);
                if refused > 0 {
                    tracing::debug!(spans = refused, why, "the collector refused spans");
                }
                if std::mem::take(&mut self.failing) {
                    tracing::info!(collector = %self.collector, "spans are exported again");
                }
            }
            Err(Failed { why: error, .. }) => {
                self.counts.failed.fetch_add(count, Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(collector = %self.collector, error, "spans cannot be exported, and are lost");
                }
            }
        }
        self.counts.unsettled.fetch_sub(count, Relaxed);
    }

    async fn attempt(&mut self, request: Bytes) -> Result<(u64, String), Failed> {
        let sent = timeout(LIMIT, self.collector.export(request)).await;
        let sent = sent.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs()).into()));
        if sent.is_err() {
            self.collector.disconnect();
        }
        sent
    }
}

/// How long to wait before the second attempt, if there is to be one.
fn pause(again: Again) -> Option<Duration> {
    match again {
        Again::Never => None,
        Again::Soon => Some(SOON.mul_f64(1.0 + fastrand::f64())),
        // Not all at the same moment.
        Again::After(told) => (told <= LONGEST).then(|| told + SOON.mul_f64(fastrand::f64())),
    }
}
