//! The metrics registry and its exposition in OpenMetrics text format. Each module owns its own metrics and
//! registers them here; labels are bounded: never a user key, never a raw path.

use prometheus_client::encoding::text::encode;
pub use prometheus_client::registry::Registry;

/// `Content-Type` of [`render`]'s text (OpenMetrics 1.0.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry whose metric names all begin with `tidegate_`.
pub fn registry() -> Registry {
    Registry::with_prefix("tidegate")
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
