//! What the kubelet, load balancers and Prometheus may ask.

pub mod settings;

pub use settings::Settings;
