//! Asks the app itself, where the proxy sends its requests: by a connection, or a GET.

use super::Failure;
use super::answer::Conditions;
use super::http::Http;
use super::stream::{self, Place};
use crate::readiness::settings::{self, AppAddress};

/// The app.
#[derive(Debug)]
pub struct App {
    place: Place,
    http: Option<Http>,
}

impl App {
    pub(super) fn new(settings: &settings::App) -> Result<Self, Failure> {
        let (place, host) = match &settings.address {
            AppAddress::Tcp(host, port) if host.contains(':') => {
                (Place::Tcp(host.clone(), *port), format!("[{host}]:{port}"))
            }
            AppAddress::Tcp(host, port) => (Place::Tcp(host.clone(), *port), format!("{host}:{port}")),
            AppAddress::Unix(path) => (Place::Unix(path.clone()), "localhost".to_owned()),
        };
        let conditions = Conditions::status(settings.status.clone());
        let http = settings.path.as_ref().map(|path| Http::at(place.clone(), None, &host, path, conditions));
        Ok(Self { place, http: http.transpose()? })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        match &mut self.http {
            Some(http) => http.attempt().await,
            None => stream::open(&self.place, None, &[]).await.map(drop),
        }
    }

    pub(super) fn abandon(&mut self) {
        if let Some(http) = &mut self.http {
            http.abandon();
        }
    }
}
