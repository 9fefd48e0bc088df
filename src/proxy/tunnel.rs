//! An upgraded connection: bytes both ways until both sides have closed.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::service::Flight;
use super::upstream::Line;

/// Joins the client's side, once it is upgraded, and the app's, which is. The flight (the ledger's entry, as a tunnel)
/// ends with it.
pub(super) async fn join(client: OnUpgrade, mut app: Line, flight: Flight) {
    match client.await {
        Ok(client) => {
            if let Err(error) = copy_bidirectional(&mut TokioIo::new(client), &mut app).await {
                tracing::debug!(%error, "tunnel broke off");
            }
        }
        Err(error) => tracing::debug!(%error, "upgrade failed"),
    }
    drop(flight);
}
