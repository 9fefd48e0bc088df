//! The metrics registry and its exposition in OpenMetrics text format. Each module owns its own metrics and
//! registers them here; labels are bounded: never a user key, never a raw path.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::registry::Registry;

/// `Content-Type` of [`render`]'s text (OpenMetrics 1.0.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry whose metric names all begin with `tidegate_`, and `build_info`, which tells the version.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("tidegate");
    let build = Family::<[(&str, &str); 1], Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("build_info", "Always 1", build);
    registry
}

/// The registry as OpenMetrics text.
pub fn render(registry: &Registry) -> String {
    let mut text = String::with_capacity(8 * 1024);
    if encode(&mut text, registry).is_err() {
        // Writing to a String cannot fail; a collector that reports an error loses the scrape, not the process.
        tracing::error!("metrics could not be encoded");
    }
    text
}
