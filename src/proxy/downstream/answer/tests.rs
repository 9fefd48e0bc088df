//! Answers, and the bytes they become.

use http::Response;

use super::*;

const GET: Asked = Asked { version: Version::HTTP_11, head: false, trailers: false, keeps: true };

fn check(fields: &[(&str, &str)], status: u16, asked: Asked, length: Option<u64>, expected: (&str, Coding, Next)) {
    let mut builder = Response::builder().status(status).header("date", "D");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).expect("an answer").into_parts();
    let mut out = Vec::new();
    let (coding, next) = head(&parts, asked, length, &mut out);
    let text = String::from_utf8(out).expect("text").replace("date: D\r\n", "");
    assert_eq!((text.as_str(), coding, next), expected, "for {status} {fields:?} {asked:?} {length:?}");
}

#[test]
fn a_body_is_framed_as_the_client_understands() {
    let old = Asked { version: Version::HTTP_10, keeps: false, ..GET };
    let old_kept = Asked { keeps: true, ..old };
    let length = [("content-length", "3")];
    for (fields, asked, known, text, coding, next) in [
        (&length[..], GET, Some(3), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Coding::Length(3), Next::Request),
        (&[], GET, Some(0), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Coding::Length(0), Next::Request),
        (&[], GET, None, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Coding::Chunked, Next::Request),
        (
            &[("transfer-encoding", "chunked")],
            GET,
            None,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            Coding::Chunked,
            Next::Request,
        ),
        (&[], old_kept, None, "HTTP/1.0 200 OK\r\n\r\n", Coding::Close, Next::Close),
        (
            &length,
            old_kept,
            Some(3),
            "HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\n",
            Coding::Length(3),
            Next::Request,
        ),
        (&length, old, Some(3), "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", Coding::Length(3), Next::Close),
        (
            &[("connection", "close")],
            GET,
            Some(3),
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n",
            Coding::Length(3),
            Next::Close,
        ),
    ] {
        check(fields, 200, asked, known, (text, coding, next));
    }
}

#[test]
fn answers_without_a_body_tell_the_length_of_what_does_not_come() {
    let head = Asked { head: true, ..GET };
    let length = [("content-length", "5")];
    let none = Coding::Length(0);
    check(&length, 200, head, Some(0), ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", none, Next::Request));
    check(&[], 200, head, Some(0), ("HTTP/1.1 200 OK\r\n\r\n", none, Next::Request));
    check(&length, 304, GET, Some(0), ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", none, Next::Request));
    check(&length, 204, GET, Some(0), ("HTTP/1.1 204 No Content\r\n\r\n", none, Next::Request));
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    check(&[("connection", "upgrade"), ("upgrade", "x")], 101, GET, Some(0), (switched, none, Next::Request));
}

#[test]
fn parts_are_framed_and_too_long_ones_told() {
    let mut out = Vec::new();
    assert_eq!(Coding::Chunked.part(&Bytes::from_static(b"0123456789abcdef"), &mut out), Ok(&b"\r\n"[..]));
    assert_eq!(Coding::Chunked.part(&Bytes::new(), &mut out), Ok(&b""[..]), "an empty chunk would be the last");
    assert_eq!(out, b"10\r\n");
    let mut length = Coding::Length(3);
    assert_eq!(length.part(&Bytes::from_static(b"ab"), &mut out), Ok(&b""[..]));
    assert!(!length.is_whole());
    assert_eq!(length.part(&Bytes::from_static(b"ab"), &mut out), Err(TooLong));
}

#[test]
fn trailers_go_to_those_who_take_them_and_never_frame() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().expect("a value"));
    trailers.insert("content-length", "9".parse().expect("a value"));
    let written = |asked: Asked, coding: Coding| {
        let mut out = Vec::new();
        coding.end(Some(&trailers), asked, &mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(written(GET, Coding::Chunked), "0\r\n\r\n");
    assert_eq!(written(Asked { trailers: true, ..GET }, Coding::Chunked), "0\r\nx-sum: 1\r\n\r\n");
    assert_eq!(written(Asked { trailers: true, ..GET }, Coding::Length(0)), "");
}

#[test]
fn an_answer_without_a_date_gets_one() {
    let (parts, ()) = Response::new(()).into_parts();
    let mut out = Vec::new();
    head(&parts, GET, Some(0), &mut out);
    let text = String::from_utf8(out).expect("text");
    let date = text.lines().find_map(|line| line.strip_prefix("date: ")).expect("a date");
    assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
}
