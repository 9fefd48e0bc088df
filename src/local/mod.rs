//! What the app and the CLI may ask over localhost. The flag routes read snapshots and never change one.

mod answer;
mod body;
pub mod control;
pub mod cors;
mod events;
pub mod flagd;
mod native;
mod ofrep;
pub mod overrides;
pub mod settings;
pub mod streams;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use tokio::sync::watch;

pub use body::Error as BodyError;
pub use settings::Settings;

use self::events::{Dialect, Events};
use self::streams::Streams;
use crate::flags::store::Store;
use crate::lifecycle::machine::Phase;
use crate::net::activity::Activity;
use crate::net::outbound::Outbound;
use crate::net::percent;

/// The flag routes of the local API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    store: Arc<Store>,
    events: Events,
    /// OFREP's `eventStreams`.
    advertised: Arc<str>,
}

impl Api {
    /// Serves the flags of `store`. Event streams last for ever.
    pub fn new(store: Arc<Store>) -> Self {
        let events = Events::new(store.clone(), Streams::default(), None);
        Self { store, events, advertised: ofrep::event_streams(None).into() }
    }

    /// Counts event streams in `streams` and ends them when `phase` does; `public_url` is `local.public_url`.
    #[must_use]
    pub fn streaming(self, streams: Streams, phase: watch::Receiver<Phase>, public_url: Option<&str>) -> Self {
        let events = Events::new(self.store.clone(), streams, Some(phase));
        Self { events, advertised: ofrep::event_streams(public_url).into(), ..self }
    }
}

/// Whether a path is one of the flags'; the others are those of [`overrides`] and [`control`].
pub fn serves(path: &str) -> bool {
    path.starts_with("/ofrep/") || path.starts_with("/v1/flags")
}

/// Answers a request below `/ofrep` or `/v1/flags`, on the connection of `activity`; any other path is not found.
///
/// # Cancellation
/// Dropped at any point it leaves nothing behind.
pub async fn handle<B>(api: &Api, activity: &Arc<Activity>, request: Request<B>) -> Response<Outbound>
where
    B: Body + Unpin,
    B::Error: Into<BodyError>,
{
    let (head, body) = request.into_parts();
    let route = Route::of(head.uri.path());
    match route {
        Route::OfrepEvents if head.method == Method::GET => {
            api.events.open(Dialect::Ofrep, &head.headers, activity.clone())
        }
        Route::Events if head.method == Method::GET => {
            api.events.open(Dialect::Native, &head.headers, activity.clone())
        }
        _ => answer(api, route, &head, body).await.map(Outbound::Whole),
    }
}

/// The routes whose answers are whole.
async fn answer<B>(api: &Api, route: Route<'_>, head: &Parts, body: B) -> Response<Full<Bytes>>
where
    B: Body + Unpin,
    B::Error: Into<BodyError>,
{
    let allowed = route.methods();
    if !allowed.contains(&head.method) {
        let revision = api.store.load().generation();
        return match allowed {
            [] => answer::not_found(revision),
            allowed if head.method == Method::OPTIONS => answer::options(allowed, revision),
            allowed => answer::method_not_allowed(allowed, revision),
        };
    }
    let body = match head.method {
        Method::POST => match body::read(body).await {
            Ok(body) => body,
            Err(error) => return answer::unread(&error, api.store.load().generation()),
        },
        _ => Bytes::new(),
    };
    // One snapshot for the whole answer, taken when everything else is at hand.
    let snapshot = api.store.load();
    if snapshot.generation() == 0 {
        return answer::not_ready(route.key().map(|key| percent::segment(key).unwrap_or(key.into())).as_deref());
    }
    let now = SystemTime::now();
    let query = head.uri.query();
    match route {
        Route::OfrepFlag(key) => ofrep::single(&snapshot, key, &body, now),
        Route::OfrepBulk => ofrep::bulk(&snapshot, &head.headers, &body, &api.advertised, now),
        Route::Flag(key) if head.method == Method::POST => ofrep::single(&snapshot, key, &body, now),
        Route::Flag(key) => native::flag(&snapshot, key, query, now),
        Route::Enabled(key) => native::enabled(&snapshot, key, query, now),
        Route::Explain(key) => native::explained(&snapshot, key, head, &body, now),
        Route::List => native::list(&snapshot, now),
        // A stream asked for by HEAD: what its head says, without the stream.
        Route::OfrepEvents | Route::Events => answer::empty(http::StatusCode::OK, snapshot.generation()),
        Route::Unknown => answer::not_found(snapshot.generation()),
    }
}

/// A path; keys as they stand in it, percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'p> {
    OfrepFlag(&'p str),
    OfrepBulk,
    OfrepEvents,
    List,
    Flag(&'p str),
    Enabled(&'p str),
    Explain(&'p str),
    Events,
    Unknown,
}

impl<'p> Route<'p> {
    fn of(path: &'p str) -> Self {
        if let Some(rest) = path.strip_prefix("/ofrep/v1/evaluate/flags") {
            return match rest.strip_prefix('/') {
                None if rest.is_empty() => Route::OfrepBulk,
                Some(key) if !key.is_empty() && !key.contains('/') => Route::OfrepFlag(key),
                _ => Route::Unknown,
            };
        }
        match path {
            events::OFREP_PATH => return Route::OfrepEvents,
            "/v1/flags" => return Route::List,
            "/v1/flags/events" => return Route::Events,
            _ => {}
        }
        match path.strip_prefix("/v1/flags/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some((key, "enabled")) if !key.is_empty() => Route::Enabled(key),
            Some((key, "explain")) if !key.is_empty() => Route::Explain(key),
            Some((key, "")) if !key.is_empty() && !path.ends_with('/') => Route::Flag(key),
            _ => Route::Unknown,
        }
    }

    /// The flag that is asked for, as it stands in the path.
    fn key(self) -> Option<&'p str> {
        match self {
            Route::OfrepFlag(key) | Route::Flag(key) | Route::Enabled(key) | Route::Explain(key) => Some(key),
            _ => None,
        }
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Route::OfrepFlag(_) | Route::OfrepBulk => &[Method::POST],
            Route::Flag(_) | Route::Explain(_) => &[Method::GET, Method::HEAD, Method::POST],
            Route::Enabled(_) | Route::List | Route::OfrepEvents | Route::Events => &[Method::GET, Method::HEAD],
            Route::Unknown => &[],
        }
    }
}

#[cfg(test)]
mod tests;
