//! An upgraded connection: bytes both ways until both sides have closed.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::service::Flight;

/// Joins the client's and the app's side once both are upgraded. The flight (the ledger's entry, as a tunnel) ends
/// with it.
pub(super) async fn join(client: OnUpgrade, app: OnUpgrade, flight: Flight) {
    match tokio::try_join!(client, app) {
        Ok((client, app)) => {
            let (mut client, mut app) = (TokioIo::new(client), TokioIo::new(app));
            if let Err(error) = copy_bidirectional(&mut client, &mut app).await {
                tracing::debug!(%error, "tunnel broke off");
            }
        }
        Err(error) => tracing::debug!(%error, "upgrade failed"),
    }
    drop(flight);
}
