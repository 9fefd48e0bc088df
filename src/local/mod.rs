//! What the app and the CLI may ask over localhost. It reads snapshots and never changes one.

mod answer;
mod body;
pub mod control;
mod native;
mod ofrep;
mod percent;
pub mod settings;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;

pub use body::Error as BodyError;
pub use settings::Settings;

use crate::flags::store::Store;
use crate::net::outbound::Outbound;

/// The flag routes of the local API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    store: Arc<Store>,
}

impl Api {
    /// Serves the flags of `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

/// Whether a path is one of the flags'; the others are [`control`]'s.
pub fn serves(path: &str) -> bool {
    path.starts_with("/ofrep/") || path.starts_with("/v1/flags")
}

/// Answers a request below `/ofrep` or `/v1/flags`; any other path is not found.
///
/// # Cancellation
/// Dropped at any point it leaves nothing behind.
pub async fn handle<B>(api: &Api, request: Request<B>) -> Response<Outbound>
where
    B: Body + Unpin,
    B::Error: Into<BodyError>,
{
    answer(api, request).await.map(Outbound::Whole)
}

/// The routes whose answers are whole.
async fn answer<B>(api: &Api, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body + Unpin,
    B::Error: Into<BodyError>,
{
    let (head, body) = request.into_parts();
    let route = Route::of(head.uri.path());
    let allowed = route.methods();
    if !allowed.contains(&head.method) {
        return match allowed {
            [] => answer::not_found(api.store.load().generation()),
            allowed => answer::method_not_allowed(allowed, api.store.load().generation()),
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
    let now = SystemTime::now();
    match route {
        Route::OfrepFlag(key) => ofrep::single(&snapshot, key, &body, now),
        Route::OfrepBulk => ofrep::bulk(&snapshot, &head.headers, &body, now),
        Route::Flag(key) if head.method == Method::POST => ofrep::single(&snapshot, key, &body, now),
        Route::Flag(key) => native::flag(&snapshot, key, head.uri.query(), now),
        Route::Enabled(key) => native::enabled(&snapshot, key, head.uri.query(), now),
        Route::Unknown => answer::not_found(snapshot.generation()),
    }
}

/// A path; keys as they stand in it, percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'p> {
    OfrepFlag(&'p str),
    OfrepBulk,
    Flag(&'p str),
    Enabled(&'p str),
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
        match path.strip_prefix("/v1/flags/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some((key, "enabled")) if !key.is_empty() => Route::Enabled(key),
            Some((key, "")) if !key.is_empty() && !path.ends_with('/') => Route::Flag(key),
            _ => Route::Unknown,
        }
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Route::OfrepFlag(_) | Route::OfrepBulk => &[Method::POST],
            Route::Flag(_) => &[Method::GET, Method::HEAD, Method::POST],
            Route::Enabled(_) => &[Method::GET, Method::HEAD],
            Route::Unknown => &[],
        }
    }
}

#[cfg(test)]
mod tests;
