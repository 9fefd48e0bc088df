//! Requests, and the bytes they become.

use http::{HeaderMap, Request};
use proptest::prelude::*;

use super::*;

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn check(head: &request::Parts, expected: &str, coding: Coding) {
    let mut out = Vec::new();
    assert_eq!(super::head(head, &mut out), Ok(coding));
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_head_is_written_in_origin_form() {
    for (target, expected) in
        [("/", "/"), ("/a?b=c", "/a?b=c"), ("*", "*"), ("http://h", "/"), ("http://h/x", "/x"), ("http://h?q", "/?q")]
    {
        check(&head("GET", target, &[]), &format!("GET {expected} HTTP/1.1\r\n\r\n"), Coding::Length(0));
    }
    check(
        &head("POST", "/", &[("host", "h"), ("x-a", "1"), ("x-a", "2"), ("content-length", "3")]),
        "POST / HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 3\r\n\r\n",
        Coding::Length(3),
    );
}

#[test]
fn a_length_beside_chunked_is_left_out() {
    check(
        &head("POST", "/", &[("content-length", "3"), ("transfer-encoding", "chunked")]),
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        Coding::Chunked,
    );
}

#[test]
fn lengths_are_one_number_or_refused() {
    check(
        &head("POST", "/", &[("content-length", "3"), ("content-length", "3")]),
        "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n",
        Coding::Length(3),
    );
    for lengths in [&["3", "4"][..], &[""], &["+3"], &["3, 3"], &["99999999999999999999"]] {
        let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
        assert_eq!(super::head(&head("POST", "/", &fields), &mut Vec::new()), Err(WrongLength), "for {lengths:?}");
    }
}

/// What a body in `parts` becomes, the last known as such or ended by `end`.
fn body(mut coding: Coding, parts: &[&str], place: Place, trailers: Option<&HeaderMap>) -> Result<String, WrongLength> {
    let mut out = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let place = if index + 1 == parts.len() { place } else { Place::Within };
        let tail = coding.part(&Bytes::copy_from_slice(part.as_bytes()), place, &mut out)?;
        out.extend_from_slice(part.as_bytes());
        out.extend_from_slice(tail);
    }
    match place {
        Place::Last => coding.finish()?,
        Place::Within => coding.end(trailers, &mut out)?,
    }
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn chunks_are_framed_one_by_one_and_an_empty_one_does_not_end_the_body() {
    let check = |parts: &[&str], place: Place, expected: &str| {
        assert_eq!(body(Coding::Chunked, parts, place, None).as_deref(), Ok(expected), "for {parts:?} {place:?}");
    };
    check(&[], Place::Within, "0\r\n\r\n");
    check(&["hello", "", "w"], Place::Within, "5\r\nhello\r\n1\r\nw\r\n0\r\n\r\n");
    check(&["hello", "w"], Place::Last, "5\r\nhello\r\n1\r\nw\r\n0\r\n\r\n");
    check(&["hello", ""], Place::Last, "5\r\nhello\r\n0\r\n\r\n");
    let long = "x".repeat(0x1a0);
    check(&[&long], Place::Last, &format!("1a0\r\n{long}\r\n0\r\n\r\n"));
}

#[test]
fn a_length_is_kept_exactly() {
    assert_eq!(body(Coding::Length(5), &["hel", "lo"], Place::Within, None).as_deref(), Ok("hello"));
    assert_eq!(body(Coding::Length(5), &["hel", "lo"], Place::Last, None).as_deref(), Ok("hello"));
    for place in [Place::Within, Place::Last] {
        assert_eq!(body(Coding::Length(5), &["hel", "l"], place, None), Err(WrongLength), "too short");
        assert_eq!(body(Coding::Length(5), &["hel", "lo!"], place, None), Err(WrongLength), "too long");
    }
}

#[test]
fn trailers_follow_but_never_those_that_frame_or_vouch() {
    let mut trailers = HeaderMap::new();
    for name in
        ["x-sum", "content-length", "host", "x-forwarded-for", "authorization", "transfer-encoding", "x-request-id"]
    {
        trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    // Apps take these for the same.
    for name in
        ["x_forwarded_for", "x.forwarded.for", "x-forwarded_proto", "x_request_id", "x.request-id", "content_length"]
    {
        trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    let sent = body(Coding::Chunked, &["ok"], Place::Within, Some(&trailers)).unwrap();
    assert_eq!(sent, "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n");
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same_request(
        path in "/[a-z0-9/%._-]{0,20}",
        fields in prop::collection::vec(("x-[a-z]{1,10}", "[ -~]{0,20}"), 0..10),
    ) {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.trim())).collect();
        let mut out = Vec::new();
        super::head(&head("PUT", &path, &fields), &mut out).unwrap();
        let mut read = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut read);
        prop_assert_eq!(request.parse(&out).unwrap(), httparse::Status::Complete(out.len()));
        prop_assert_eq!((request.method, request.path), (Some("PUT"), Some(path.as_str())));
        let mut read: Vec<_> = request.headers.iter().map(|f| (f.name, std::str::from_utf8(f.value).unwrap())).collect();
        let mut sent = fields;
        read.sort_unstable();
        sent.sort_unstable();
        prop_assert_eq!(read, sent);
    }
}
