//! The places of answers that last: how many there may be, how many there are, and how many were cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::net::activity::{Activity, Order};
use crate::net::rpc;
use crate::telemetry::metrics::Registry;

/// Streams open at one time, of all protocols together.
pub const MOST: usize = 1024;

/// A stream that ends with what it last gave untaken for this long was cut: the listener does so about then.
const UNTAKEN: Duration = Duration::from_secs(9);

/// Who streams what: `ofrep`, `native`, or one of flagd's services.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Protocol {
    protocol: &'static str,
}

/// All places. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicUsize,
    open: Family<Protocol, Gauge>,
    cut: Family<Protocol, Counter>,
    refused: Family<Protocol, Counter>,
}

/// [`MOST`] streams are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} streams are open already")]
pub struct Full;

impl Streams {
    /// Registers the metrics; of each protocol there is a sample from the start.
    pub fn register(&self, registry: &mut Registry, protocols: &[&'static str]) {
        for protocol in protocols {
            let label = Protocol { protocol };
            drop(self.0.open.get_or_create(&label));
            drop(self.0.cut.get_or_create(&label));
            drop(self.0.refused.get_or_create(&label));
        }
        registry.register("flag_streams", "Event streams open", self.0.open.clone());
        registry.register(
            "flag_streams_cut",
            "Event streams cut because their reader took nothing",
            self.0.cut.clone(),
        );
        registry.register(
            "flag_streams_refused",
            "Event streams refused because too many are open",
            self.0.refused.clone(),
        );
    }

    /// Takes a place for a stream on the connection of `activity`. Hold it for as long as the stream lasts.
    ///
    /// # Errors
    /// [`Full`].
    pub fn open(&self, protocol: &'static str, activity: Arc<Activity>) -> Result<Place, Full> {
        let label = Protocol { protocol };
        let free = |taken: usize| (taken < MOST).then_some(taken + 1);
        if self.0.taken.fetch_update(Relaxed, Relaxed, free).is_err() {
            self.0.refused.get_or_create(&label).inc();
            return Err(Full);
        }
        self.0.open.get_or_create(&label).inc();
        Ok(Place { counts: self.0.clone(), label, activity, given: None })
    }
}

/// The place of one stream, free again when dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Counts>,
    label: Protocol,
    activity: Arc<Activity>,
    /// When the part was given that its reader has not taken yet.
    given: Option<Instant>,
}

impl Place {
    /// The reader has room for more.
    pub fn asked(&mut self) {
        self.given = None;
    }

    /// It was given a part.
    pub fn gave(&mut self) {
        self.given = Some(Instant::now());
    }

    /// The stream that has this place.
    pub fn on(self, messages: rpc::Stream) -> rpc::Stream {
        Box::pin(stream::unfold((messages, self), |(mut messages, mut place)| async move {
            place.asked();
            let item = messages.next().await?;
            place.gave();
            Some((item, (messages, place)))
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.taken.fetch_sub(1, Relaxed);
        self.counts.open.get_or_create(&self.label).dec();
        // The sweeper cuts a connection whose client takes nothing; over HTTP/2 the stream alone is reset.
        if self.activity.order() == Order::Cut || self.given.is_some_and(|given| given.elapsed() >= UNTAKEN) {
            self.counts.cut.get_or_create(&self.label).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{registry, render};

    #[test]
    fn places_are_bounded_and_counted() {
        let streams = Streams::default();
        let mut registry = registry();
        streams.register(&mut registry, &["ofrep", "native"]);
        let activity = Arc::new(Activity::new());
        let places: Vec<Place> =
            (0..MOST).map(|_| streams.open("ofrep", activity.clone()).expect("there is room")).collect();
        assert_eq!(streams.open("native", activity.clone()).err(), Some(Full));
        activity.give(Order::Cut);
        drop(places);
        streams.open("native", Arc::new(Activity::new())).expect("there is room again");
        let text = render(&registry);
        for line in [
            "tidegate_flag_streams{protocol=\"ofrep\"} 0",
            "tidegate_flag_streams_cut_total{protocol=\"ofrep\"} 1024",
            "tidegate_flag_streams_refused_total{protocol=\"native\"} 1",
            "tidegate_flag_streams_cut_total{protocol=\"native\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_last_part_stays_untaken_was_cut_and_one_that_waits_for_news_was_not() {
        let streams = Streams::default();
        for waits in [true, false] {
            let mut place = streams.open("ofrep", Arc::default()).expect("room");
            place.gave();
            if waits {
                place.asked();
            }
            tokio::time::advance(Duration::from_secs(10)).await;
            drop(place);
        }
        assert_eq!(streams.0.cut.get_or_create(&Protocol { protocol: "ofrep" }).get(), 1);
    }
}
