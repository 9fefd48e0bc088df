//! What stands before HTTP on the proxy's listeners and on ops: opened at the start, its files followed to the end.

use anyhow::anyhow;

use crate::config::Settings;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::net::edge::{self, Edge, Metrics};
use crate::net::tls::server::said;
use crate::telemetry::metrics::Registry;

/// The listeners' edges.
pub(super) struct Edges {
    /// One for each of `proxy`.
    pub(super) proxy: Vec<Edge>,
    /// That of every ops listener.
    pub(super) ops: Edge,
}

impl Edges {
    /// Reads certificates.
    ///
    /// # Errors
    /// A file is not what it was when the configuration was checked.
    pub(super) fn open(settings: &Settings, registry: &mut Registry) -> anyhow::Result<Self> {
        let metrics = Metrics::register(registry);
        let open = |listener: &str, settings: &edge::Settings, protocols: &[&[u8]]| {
            Edge::open(listener, settings, protocols, &metrics)
                .map_err(|faults| anyhow!("{listener}: {}", said(&faults)))
        };
        let routes = settings.proxy.routes.iter().enumerate();
        let proxy = routes.map(|(index, route)| open(&format!("proxy[{index}]"), &route.edge, edge::HTTP));
        let ops = edge::Settings { tls: settings.ops.tls.clone(), ..edge::Settings::default() };
        Ok(Self { proxy: proxy.collect::<Result<_, _>>()?, ops: open("ops", &ops, edge::HTTP)? })
    }

    /// Follows the files of all that have any.
    pub(super) fn follow(&self, tasks: &Tasks) {
        for server in self.proxy.iter().chain([&self.ops]).filter_map(Edge::tls) {
            tasks.spawn("certificates", OnEnd::MustLive, server.clone().follow());
        }
    }
}
