//! Which web pages may ask for flags (the Fetch standard, section 3.2), and how to tell that a page asks. It looks at
//! heads alone, so it holds for every protocol of the local listeners.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response, StatusCode};
use http_body_util::Full;

/// What a page may read of an answer beside its body: OFREP's and ours, gRPC-Web's, Connect's.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Retry-After, Tidegate-Revision, Tidegate-Stale, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, \
     Grpc-Encoding, Connect-Content-Encoding, Content-Encoding",
);
/// For how long, in seconds, a browser need not ask again; within what all of them accept.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// `local.cors_origins`. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Cors(Option<Allowed>);

#[derive(Debug, Clone)]
enum Allowed {
    Any,
    These(Arc<[String]>),
}

/// What a request is, as far as pages go.
#[derive(Debug)]
pub enum Asked {
    /// Nothing that has to be marked.
    Plainly,
    /// The answer to a browser that asks beforehand.
    Beforehand(Response<Full<Bytes>>),
    /// To be answered with [`Mark::set`].
    FromPage(Mark),
}

/// What lets a page read an answer, or not.
#[derive(Debug, Clone)]
pub struct Mark(Option<HeaderValue>);

impl Cors {
    /// Lets pages of these origins in; of none without.
    pub fn new(origins: &[String]) -> Self {
        Self(match origins {
            [] => None,
            origins if origins.iter().any(|origin| origin == "*") => Some(Allowed::Any),
            origins => Some(Allowed::These(origins.into())),
        })
    }

    /// What a request of this head is.
    pub fn judge(&self, method: &Method, path: &str, headers: &HeaderMap) -> Asked {
        let Some(allowed) = self.0.as_ref().filter(|_| covers(path)) else { return Asked::Plainly };
        let Some(origin) = headers.get(ORIGIN) else {
            // What a cache keeps of this answer must not be given to a page, which needs the headers.
            return match allowed {
                Allowed::Any => Asked::Plainly,
                Allowed::These(_) => Asked::FromPage(Mark(None)),
            };
        };
        let granted = match allowed {
            Allowed::Any => Some(HeaderValue::from_static("*")),
            Allowed::These(origins) => {
                origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        };
        match headers.get(ACCESS_CONTROL_REQUEST_METHOD) {
            Some(wanted) if method == Method::OPTIONS => Asked::Beforehand(preflight(granted, wanted, headers)),
            _ => Asked::FromPage(Mark(granted)),
        }
    }
}

impl Mark {
    /// Says in an answer who may read it.
    pub fn set(self, headers: &mut HeaderMap) {
        let Self(granted) = self;
        let any = granted.as_ref().is_some_and(|origin| origin == "*");
        if let Some(origin) = granted {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
        if !any {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// Whether pages have any business with a path. What changes the sidecar, and what tells of it, is not for them.
fn covers(path: &str) -> bool {
    !path.starts_with("/v1/") || path.starts_with("/v1/flags")
}

fn preflight(granted: Option<HeaderValue>, wanted: &HeaderValue, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let why = match (&granted, wanted.as_bytes()) {
        (None, _) => Some("this origin is not among local.cors_origins\n"),
        (_, b"GET" | b"HEAD" | b"POST") => None,
        _ => Some("pages may use GET, HEAD and POST\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(why.unwrap_or("").as_bytes())));
    *response.status_mut() = if why.is_some() { StatusCode::FORBIDDEN } else { StatusCode::NO_CONTENT };
    if why.is_some() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Mark(None).set(response.headers_mut());
        return response;
    }
    let answered = response.headers_mut();
    Mark(granted).set(answered);
    answered.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    answered.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
    answered.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // Whatever an SDK of an allowed page sends: nothing here gives a header a meaning that could do harm.
    if let Some(fields) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answered.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields.clone());
        answered.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}

/// Whether a web page made this request. Browsers say so in requests that change something, also in those that a page
/// makes to the host it came from (as after its name was bound to loopback), and no page can prevent it.
pub(super) fn from_page(headers: &HeaderMap) -> bool {
    const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    headers.contains_key(ORIGIN) || headers.contains_key(FETCH_SITE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status of a preflight, or 0, and the headers that CORS adds.
    fn asked(origins: &[&str], method: &str, path: &str, fields: &[(&str, &str)]) -> (u16, Vec<(String, String)>) {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("sound");
        let (status, headers) = match Cors::new(&origins).judge(request.method(), path, request.headers()) {
            Asked::Plainly => (0, HeaderMap::new()),
            Asked::FromPage(mark) => {
                let mut headers = HeaderMap::new();
                mark.set(&mut headers);
                (0, headers)
            }
            Asked::Beforehand(response) => (response.status().as_u16(), response.headers().clone()),
        };
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().expect("text").to_owned());
        let shown = headers.iter().map(text).filter(|(name, _)| name != "access-control-expose-headers");
        (status, shown.collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const SHOP: &str = "https://shop.example";
    const OFREP: &str = "/ofrep/v1/evaluate/flags";

    #[test]
    fn an_answer_is_for_the_pages_that_are_named() {
        let allow = "access-control-allow-origin";
        for (origins, fields, expected) in [
            (&[][..], &[("origin", SHOP)][..], pairs(&[])),
            (&[SHOP], &[("origin", SHOP)], pairs(&[(allow, SHOP), ("vary", "Origin")])),
            (&[SHOP], &[("origin", "https://shop.example.evil")], pairs(&[("vary", "Origin")])),
            (&[SHOP], &[("origin", "null")], pairs(&[("vary", "Origin")])),
            (&[SHOP], &[], pairs(&[("vary", "Origin")])),
            (&[SHOP, "*"], &[("origin", "null")], pairs(&[(allow, "*")])),
            (&["*"], &[], pairs(&[])),
        ] {
            assert_eq!(asked(origins, "POST", OFREP, fields), (0, expected), "{origins:?} {fields:?}");
        }
    }

    #[test]
    fn a_browser_that_asks_beforehand_is_told_what_its_page_may_do() {
        let ask = |method, path: &str, origin| {
            let wanted = "access-control-request-method";
            let fields = [("origin", origin), (wanted, method), ("access-control-request-headers", "content-type,x-a")];
            asked(&[SHOP], "OPTIONS", path, &fields)
        };
        let granted = pairs(&[
            ("access-control-allow-origin", SHOP),
            ("vary", "Origin"),
            ("vary", "Access-Control-Request-Headers"),
            ("access-control-allow-methods", "GET, HEAD, POST"),
            ("access-control-max-age", "600"),
            ("access-control-allow-headers", "content-type,x-a"),
        ]);
        for path in [OFREP, "/v1/flags/x", "/flagd.evaluation.v1.Service/ResolveBoolean", "/nowhere"] {
            assert_eq!(ask("POST", path, SHOP), (204, granted.clone()), "{path}");
            assert_eq!(ask("POST", path, "https://evil.example").0, 403, "{path}");
            assert_eq!(ask("DELETE", path, SHOP).0, 403, "{path}");
        }
        for path in ["/v1/override/x", "/v1/work", "/v1/drain", "/v1/status"] {
            assert_eq!(ask("PUT", path, SHOP), (0, pairs(&[])), "{path} is not for pages");
            assert_eq!(ask("POST", path, SHOP), (0, pairs(&[])), "{path} is not for pages");
        }
    }
}
