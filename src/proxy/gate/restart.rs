//! Restarts of the app: holds requests from its hook to its return, and serves again where a drain was none.

use std::time::Duration;

use tokio::time::sleep;

use super::keeper::accepts;
use super::{Gates, Reason};
use crate::lifecycle::driver::Lifecycle;
use crate::lifecycle::machine::{Event, Phase, Stage};
use crate::proxy::settings::Upstream;

/// How often an app that was told to stop is looked at, so that its going is not missed.
const GOING: Duration = Duration::from_millis(20);
/// How often a drained sidecar looks whether the app is gone, and back.
const DRAINED: Duration = Duration::from_millis(200);

/// Holds requests while the lifecycle says that the app restarts, and tells it when the app has gone. From then on its
/// refusing holds them. An instance that is leaving waits for no app.
pub async fn follow(gates: Gates, lifecycle: Lifecycle) {
    let mut phases = lifecycle.watch();
    loop {
        let phase = *phases.borrow_and_update();
        match phase {
            Phase::Restarting { stage: Stage::Closing, .. } => {
                gates.close(Reason::Restart);
                lifecycle.send(Event::Held).await;
            }
            Phase::Restarting { stage: Stage::Released { .. }, .. } => {
                tokio::select! {
                    app = gone(gates.apps()) => {
                        tracing::info!(%app, "the app has stopped; its return is awaited");
                        // Before the phase lets go: requests are held without a gap.
                        gates.refuses(&app);
                        lifecycle.send(Event::Gone).await;
                    }
                    _ = phases.changed() => continue,
                }
            }
            Phase::Restarting { .. } => {}
            _ => {
                gates.open(Reason::Restart);
                if phase.is_leaving() {
                    gates.open(Reason::Refuses);
                }
            }
        }
        if phases.changed().await.is_err() {
            return;
        }
    }
}

/// The first app that accepts no connections.
async fn gone(apps: Vec<Upstream>) -> Upstream {
    loop {
        for app in &apps {
            if !accepts(app).await {
                return app.clone();
            }
        }
        sleep(GOING).await;
    }
}

/// A drained sidecar that got no signal, whose app is gone and comes back, serves again: the drain was a restart of the
/// app after all.
pub async fn resume(apps: Vec<Upstream>, lifecycle: Lifecycle) {
    let Some(app) = apps.first() else { return std::future::pending().await };
    let mut phases = lifecycle.watch();
    while phases.wait_for(|phase| phase.outcome().is_some()).await.is_ok() {
        let mut gone = false;
        while lifecycle.phase().outcome().is_some() {
            match accepts(app).await {
                false if !gone => {
                    tracing::info!(%app, "the app is gone; watching whether it comes back");
                    gone = true;
                }
                false => {}
                true if gone => {
                    tracing::info!(%app, "the app was gone and answers again, and no signal came: serving again");
                    lifecycle.send(Event::Resume).await;
                    gone = false;
                }
                true => {}
            }
            sleep(DRAINED).await;
        }
    }
}
