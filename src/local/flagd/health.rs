//! `grpc.health.v1.Health` of the flag services: serving once flags can be evaluated, and no more when the sidecar ends.

use super::SERVICES;
use super::subscription::Sources;
use crate::net::rpc::health::{Services, Serving};

impl Services for Sources {
    fn serving(&self, service: &str) -> Serving {
        if !service.is_empty() && !SERVICES.contains(&service) {
            return Serving::Unknown;
        }
        Serving::when(self.ready() && !Sources::closing(self))
    }

    fn names(&self) -> Vec<String> {
        [""].into_iter().chain(SERVICES).map(str::to_owned).collect()
    }

    fn closing(&self) -> bool {
        Sources::closing(self)
    }

    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.phase.changed() => changed.is_ok(),
            changed = self.flags.changed() => changed.is_ok(),
        }
    }
}
