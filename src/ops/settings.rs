//! Where operations are answered and who may drain.

use std::net::SocketAddr;

use crate::net::tls;
use crate::secret::Secret;

/// The ops listener's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `ops.listen`. `0.0.0.0:8014`.
    pub listen: Vec<SocketAddr>,
    /// `ops.tls`.
    pub tls: Option<tls::settings::Settings>,
    /// `ops.drain_token`: lets a caller from elsewhere than loopback use `/drain`.
    pub drain_token: Option<Secret>,
}
