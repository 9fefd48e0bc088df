//! An upgraded connection: bytes both ways until both sides have closed.

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

use super::service::Flight;
use super::upstream::Line;

/// Joins the client's side and the app's. The flight (the ledger's entry, as a tunnel) ends with it.
pub(super) async fn join(mut client: impl AsyncRead + AsyncWrite + Unpin, mut app: Line, flight: Flight) {
    if let Err(error) = copy_bidirectional(&mut client, &mut app).await {
        tracing::debug!(%error, "tunnel broke off");
    }
    drop(flight);
}
