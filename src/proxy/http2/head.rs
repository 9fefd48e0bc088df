//! Heads from HTTP/2 to what the rest of the proxy works with, and back (RFC 9113 section 8). Pure. What is malformed by
//! sections 8.2 and 8.3 alone (upper case, connection-specific fields, pseudo-fields) the h2 crate has refused already,
//! and a fragment in `:path` it has cut off.

use std::cell::RefCell;
use std::time::SystemTime;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, DATE, Entry, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, StatusCode, Uri, request, response};

use crate::proxy::upstream::decode::settle_length;
use crate::proxy::upstream::encode::may_trail;

/// Whether a message has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Its head was all.
    None,
    /// Some follows, or may.
    Follows,
}

/// A head that is malformed: no path, or one that its method has not (RFC 9113 section 8.3.1), or a field whose value
/// begins or ends with a blank (section 8.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Makes a request's head as if it had come over HTTP/1.1, with what only that needs to be told.
pub(super) fn request(head: &mut request::Parts, content: Content) -> Result<(), Malformed> {
    let known = matches!(head.uri.scheme_str(), None | Some("http" | "https"));
    let lengths = head.headers.get_all(CONTENT_LENGTH).iter().count();
    settle_length(&mut head.headers).map_err(|_| Malformed)?;
    if head.headers.values().any(is_blank_at_an_end) {
        return Err(Malformed);
    }
    if !known || lengths > 1 || !head.uri.path().is_ascii() || !head.uri.query().unwrap_or("").is_ascii() {
        return Err(Malformed);
    }
    match head.uri.path() {
        "*" if head.method == Method::OPTIONS => {}
        "" if head.method == Method::CONNECT => {}
        path if path.starts_with('/') => {}
        _ => return Err(Malformed),
    }
    settle_authority(head);
    join_cookies(&mut head.headers);
    if head.headers.contains_key(TE) {
        // It is `trailers`: of one hop, and so it is to be said in HTTP/1.1 (RFC 9110 section 10.1.4).
        head.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    let has_length = head.headers.contains_key(CONTENT_LENGTH);
    match content {
        Content::Follows if !has_length => {
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        // RFC 9110 section 8.6: said where a method foresees content.
        Content::None if !has_length && matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Content::None | Content::Follows => {}
    }
    Ok(())
}

fn is_blank_at_an_end(value: &HeaderValue) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())
}

/// RFC 9113 section 8.3.1: `:authority` is what `Host` is in HTTP/1.1, and both must say the same. Where they do not,
/// both stay, which is refused later as two `Host` fields are.
fn settle_authority(head: &mut request::Parts) {
    let Some(authority) = head.uri.authority() else { return };
    let told = authority.as_str();
    let mut hosts = head.headers.get_all(HOST).iter();
    let agrees = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes().eq_ignore_ascii_case(told.as_bytes()),
        (None, _) => false,
        (Some(_), Some(_)) => true,
    };
    if !agrees && let Ok(host) = HeaderValue::from_str(told) {
        head.headers.append(HOST, host);
    }
    if let Some(target) = head.uri.path_and_query().cloned() {
        // Origin-form, as it came: the scheme is of this hop.
        head.uri = Uri::from(target);
    }
}

/// RFC 9113 section 8.2.3: cookies may come one by one, and are one field for everybody else.
fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(mut cookies) = headers.entry(COOKIE) else { return };
    let mut crumbs = cookies.iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        cookies.insert(joined);
    }
}

/// Makes an answer's head into one of HTTP/2. `length` is that of a body of ours.
pub(super) fn answer(head: &mut response::Parts, length: Option<u64>) {
    strip(&mut head.headers);
    // RFC 9110 section 8.6: neither has a length, and clients take one for what is to come.
    let never = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    if never {
        head.headers.remove(CONTENT_LENGTH);
    } else if let (Some(length), Entry::Vacant(entry)) = (length, head.headers.entry(CONTENT_LENGTH)) {
        entry.insert(HeaderValue::from(length));
    }
    // RFC 9110 section 6.6.1: whoever passes an answer on says when it came if its origin has not.
    if let Entry::Vacant(entry) = head.headers.entry(DATE) {
        entry.insert(date());
    }
}

/// Leaves of trailers what may stand behind a body.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    strip(trailers);
    let doomed: Vec<HeaderName> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Removes what is of one connection (RFC 9113 section 8.2.2).
pub(super) fn strip(headers: &mut HeaderMap) {
    const OTHERS: [HeaderName; 2] =
        [HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, TE].iter().chain(&OTHERS) {
        headers.remove(name);
    }
}

/// The time as `Date` has it, written once a second.
fn date() -> HeaderValue {
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(at, text)| {
        if *at != second
            && let Ok(written) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            (*at, *text) = (second, written);
        }
        text.clone()
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn made(builder: request::Builder, content: Content) -> (String, Vec<String>) {
        let (mut head, ()) = builder.body(()).expect("a request").into_parts();
        request(&mut head, content).expect("well-formed");
        let fields = head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
        (head.uri.to_string(), fields.collect())
    }

    #[test]
    fn an_authority_is_the_host_and_a_host_that_differs_makes_two() {
        let get = || Request::get("http://shop.example/a?b=1");
        assert_eq!(made(get(), Content::None), ("/a?b=1".into(), vec!["host: shop.example".into()]));
        let agreed = made(get().header("host", "Shop.Example"), Content::None).1;
        assert_eq!(agreed, ["host: Shop.Example"]);
        let differs = made(get().header("host", "other"), Content::None).1;
        assert_eq!(differs, ["host: other", "host: shop.example"]);
    }

    #[test]
    fn a_body_is_framed_for_http1_where_its_length_is_not_told() {
        for (method, content, length, expected) in [
            ("GET", Content::None, None, None),
            ("POST", Content::None, None, Some("content-length: 0")),
            ("POST", Content::Follows, None, Some("transfer-encoding: chunked")),
            ("POST", Content::Follows, Some("5"), Some("content-length: 5")),
            ("GET", Content::Follows, None, Some("transfer-encoding: chunked")),
            ("PUT", Content::None, Some("0"), Some("content-length: 0")),
            ("PUT", Content::Follows, Some("005"), Some("content-length: 5")),
        ] {
            let builder = Request::builder().method(method).uri("/");
            let builder = length.into_iter().fold(builder, |builder, length| builder.header("content-length", length));
            let fields = made(builder, content).1;
            assert_eq!(fields.first().map(String::as_str), expected, "{method} {content:?}");
            assert!(fields.len() < 2);
        }
    }

    #[test]
    fn crumbs_become_one_cookie_and_te_is_named_as_of_this_hop() {
        let builder = Request::get("/").header("cookie", "a=1").header("te", "trailers");
        let fields = made(builder.header("cookie", "b=2").header("cookie", "c=3; d=4"), Content::None).1;
        assert_eq!(fields, ["cookie: a=1; b=2; c=3; d=4", "te: trailers", "connection: te"]);
    }

    #[test]
    fn what_http1_refuses_is_malformed_here_too() {
        let refused = |builder: request::Builder| {
            let (mut head, ()) = builder.body(()).expect("a request").into_parts();
            request(&mut head, Content::Follows) == Err(Malformed)
        };
        assert!(refused(Request::get("ftp://a/")));
        for (value, expected) in [("a b", false), ("", false), (" a", true), ("a\t", true), (" ", true)] {
            assert_eq!(refused(Request::get("/").header("x", value)), expected, "{value:?}");
        }
        assert!(refused(Request::post("https://a/").header("content-length", "3").header("content-length", "3")));
        assert!(!refused(Request::post("https://a/").header("content-length", "3")));
    }

    #[test]
    fn an_answer_that_has_no_body_tells_no_length() {
        for (status, told) in [(204, false), (200, true), (304, true)] {
            let answer_of = http::Response::builder().status(status).header("content-length", "5");
            let (mut head, ()) = answer_of.body(()).expect("an answer").into_parts();
            answer(&mut head, None);
            assert_eq!(head.headers.contains_key(CONTENT_LENGTH), told, "{status}");
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        trailers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
    }

    #[test]
    fn an_answer_loses_what_is_of_one_connection_and_has_a_date() {
        let answer_of = http::Response::builder().header("connection", "close").header("keep-alive", "timeout=5");
        let (mut head, ()) = answer_of.header("upgrade", "h2c").body(()).expect("an answer").into_parts();
        answer(&mut head, Some(3));
        let names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "date"]);
        assert_eq!(head.headers["date"].len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
    }
}
