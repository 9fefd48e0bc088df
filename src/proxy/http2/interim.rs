//! Answers of 1xx on their way to an HTTP/2 client, and whether it waits for one before it sends a body. Shared by the
//! stream's task, which sends them, and by whoever has them from the app; both run on one thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, Response, StatusCode, response};

use super::head;

/// How many may wait; the rest is not sent (they are hints, and 100 comes first).
const MOST: usize = 8;

/// See the module's text. Cheap to clone.
#[derive(Clone)]
pub(in crate::proxy) struct Interims(Arc<Mutex<State>>);

struct State {
    /// The client waits for 100 (`Expect`, RFC 9110 section 10.1.1).
    expects: bool,
    queued: Vec<Response<()>>,
}

impl Interims {
    /// Those of a request with these fields.
    pub(super) fn new(fields: &HeaderMap) -> Self {
        let expects = fields.get(http::header::EXPECT);
        let expects = expects.is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self(Arc::new(Mutex::new(State { expects, queued: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client waits for 100.
    pub(super) fn expects(&self) -> bool {
        self.state().expects
    }

    /// The client has not waited, or waits no longer.
    pub(super) fn has_sent(&self) {
        self.state().expects = false;
    }

    /// Queues one. 100 is for those who wait for it.
    pub(in crate::proxy) fn queue(&self, parts: &response::Parts) {
        let mut state = self.state();
        let is_continue = parts.status == StatusCode::CONTINUE;
        if (state.expects || !is_continue) && state.queued.len() < MOST {
            let mut response = Response::new(());
            *response.status_mut() = parts.status;
            *response.headers_mut() = parts.headers.clone();
            head::strip(response.headers_mut());
            state.queued.push(response);
        }
        state.expects &= !is_continue;
    }

    /// Tells the client to send its body, if it still waits.
    pub(super) fn call_for_body(&self) {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::CONTINUE;
        self.queue(&parts);
    }

    /// What is to be sent now.
    pub(super) fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut self.state().queued)
    }
}
