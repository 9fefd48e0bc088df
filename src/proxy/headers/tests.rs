//! Tables of requests and answers before and after.

use std::net::SocketAddr;

use super::super::settings::Forwarded;
use super::*;
use crate::net::edge::{Peer, Scheme};
use crate::net::tls::settings::ClientAuth;
use http::{Request, Response, StatusCode};

fn from(address: [u8; 4], policy: Forwarded) -> Hop {
    Hop::new(&Peer::plain(SocketAddr::from((address, 50_000))), ClientAuth::None, policy)
}

fn request(version: Version, target: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().version(version).uri(target);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("a valid request").into_parts().0
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut fields: Vec<_> = headers
        .iter()
        .filter(|(name, _)| **name != X_REQUEST_ID)
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
        .collect();
    fields.sort();
    fields
}

fn passed(policy: Forwarded, target: &str, given: &[(&str, &str)]) -> Result<(String, Vec<(String, String)>), Refusal> {
    let mut head = request(Version::HTTP_11, target, given);
    let hop = from([192, 0, 2, 7], policy);
    prepare_request(&mut head, &hop, &HeaderValue::from_static("app:3000"))?;
    Ok((head.uri.to_string(), fields(&head.headers)))
}

fn check(given: &[(&str, &str)], expected: &[(&str, &str)]) {
    let mut given = given.to_vec();
    given.push(("host", "shop.example"));
    let mut expected = expected.to_vec();
    let hop = [("host", "shop.example"), ("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "http")];
    for (name, value) in hop {
        if !expected.iter().any(|(known, _)| *known == name) {
            expected.push((name, value));
        }
    }
    expected.sort_unstable();
    let (_, got) = passed(Forwarded::Append, "/", &given).expect("passed on");
    let got: Vec<_> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(got, expected, "for {given:?}");
}

#[test]
fn hop_by_hop_fields_stay_behind() {
    check(&[("accept", "*/*")], &[("accept", "*/*")]);
    check(&[("connection", "keep-alive"), ("keep-alive", "timeout=5")], &[]);
    check(&[("connection", "close, X-Private"), ("x-private", "1"), ("x-public", "2")], &[("x-public", "2")]);
    check(&[("proxy-connection", "keep-alive"), ("te", "gzip"), ("upgrade", "websocket")], &[]);
    check(&[("connection", "te"), ("te", "trailers, gzip;q=0.5")], &[("connection", "te"), ("te", "trailers")]);
}

#[test]
fn a_client_cannot_name_away_what_the_app_trusts() {
    check(
        &[("connection", "x-forwarded-for, host, content-length"), ("content-length", "0")],
        &[("content-length", "0")],
    );
}

#[test]
fn an_upgrade_is_passed_on_except_to_h2c() {
    check(
        &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")],
        &[("connection", "upgrade"), ("upgrade", "websocket")],
    );
    check(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")], &[]);
}

#[test]
fn this_hop_is_appended() {
    check(
        &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "www.example")],
        &[
            ("x-forwarded-for", "203.0.113.9, 192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "www.example"),
        ],
    );
    check(&[("x-forwarded-for", "a"), ("x-forwarded-for", "b")], &[("x-forwarded-for", "a, b, 192.0.2.7")]);
    check(&[("forwarded", "for=198.51.100.1")], &[("forwarded", "for=198.51.100.1, for=192.0.2.7")]);
}

#[test]
fn what_apps_take_for_the_word_of_a_proxy_is_not_passed_on_in_other_spellings() {
    check(
        &[
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_client-cert", "Hash=f"),
            ("x-forwarded-prefix", "/p"),
            ("x.forwarded.for", "6.6.6.6"),
            ("x-forwarded.for", "6.6.6.6"),
            ("x.forwarded.client.cert", "Hash=f"),
            ("x_other", "1"),
            ("x.other", "1"),
        ],
        &[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-prefix", "/p"), ("x.other", "1"), ("x_other", "1")],
    );
    for alone in ["x.forwarded.for", "x-forwarded.for", "x_forwarded-for"] {
        check(&[(alone, "6.6.6.6")], &[("x-forwarded-for", "192.0.2.7")]);
    }
}

#[test]
fn what_earlier_hops_say_cannot_swallow_what_this_one_does() {
    check(&[("forwarded", "for=\"6.6.6.6")], &[("forwarded", "for=192.0.2.7")]);
    check(
        &[("forwarded", "for=\"6.6.6.6, for=203.0.113.9"), ("x-forwarded-for", "\"6.6.6.6, 203.0.113.9")],
        &[("forwarded", "for=203.0.113.9, for=192.0.2.7"), ("x-forwarded-for", "203.0.113.9, 192.0.2.7")],
    );
    check(
        &[("forwarded", "for=6.6.6.6"), ("forwarded", "for=6.6.6.6;;"), ("forwarded", "for=203.0.113.9")],
        &[("forwarded", "for=203.0.113.9, for=192.0.2.7")],
    );
    check(
        &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "6.6.6.6\t"), ("x-forwarded-for", "a b")],
        &[("x-forwarded-for", "192.0.2.7")],
    );
    check(&[("x-forwarded-proto", "https\"><b>"), ("x-forwarded-host", "a/../b")], &[]);
    check(&[("x-forwarded-proto", "a b"), ("x-forwarded-host", "a, b c")], &[]);
    check(&[("x-forwarded-proto", "https, http")], &[("x-forwarded-proto", "https, http")]);
}

#[test]
fn over_tls_the_scheme_is_told() {
    let peer = Peer { scheme: Scheme::Https, ..Peer::plain(SocketAddr::from(([192, 0, 2, 7], 50_000))) };
    let hop = Hop::new(&peer, ClientAuth::None, Forwarded::Append);
    for (given, proto, forwarded) in [
        (&[][..], "https", None),
        (&[("forwarded", "for=_a")], "https", Some("for=_a, for=192.0.2.7;proto=https")),
        (&[("x-forwarded-proto", "http")], "http", None),
    ] {
        let fields = [given, &[("host", "a")]].concat();
        let mut head = request(Version::HTTP_11, "/", &fields);
        prepare_request(&mut head, &hop, &HeaderValue::from_static("app")).expect("passed on");
        assert_eq!(head.headers[X_FORWARDED_PROTO], proto);
        assert_eq!(head.headers.get(FORWARDED).map(|value| value.to_str().expect("text")), forwarded);
    }
}

#[test]
fn an_untrusted_clients_tale_is_replaced() {
    let given = [
        ("host", "shop.example"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=6.6.6.6"),
    ];
    let (_, got) = passed(Forwarded::Replace, "/", &given).expect("passed on");
    assert!(!got.iter().any(|(name, value)| name == "forwarded" || value.contains("6.6.6.6") || value == "https"));
}

#[test]
fn the_target_reaches_the_app_in_origin_form() {
    let target = |target: &str| passed(Forwarded::Append, target, &[("host", "a.example")]).expect("passed on");
    assert_eq!(target("/a?b=c").0, "/a?b=c");
    assert_eq!(target("/%2e%2e/a//b").0, "/%2e%2e/a//b", "what a path means is the app's to say");
    let (uri, fields) = target("http://b.example:81/x?y");
    assert_eq!(uri, "/x?y");
    assert!(fields.contains(&("host".into(), "b.example:81".into())));
    assert_eq!(target("*").0, "*");
}

#[test]
fn host_is_required_once() {
    let refused = |fields: &[(&str, &str)]| passed(Forwarded::Append, "/", fields).expect_err("refused");
    assert_eq!(refused(&[]), Refusal::Host);
    assert_eq!(refused(&[("host", "a"), ("host", "a")]), Refusal::Host);
    assert_eq!(refused(&[("host", "user@a")]), Refusal::Host);
    assert_eq!(refused(&[("host", "a b")]), Refusal::Host);
    for host in ["a:xx", "a:65536", "a:8:0", "[::1]:x", "a:+1"] {
        assert_eq!(refused(&[("host", host)]), Refusal::Host, "{host}");
    }
    for host in ["a:", "a:0080", "[::1]", "[::1]:80", "192.0.2.1:80", ""] {
        passed(Forwarded::Append, "/", &[("host", host)]).expect(host);
    }
    let absolute = passed(Forwarded::Append, "http://user@b.example/", &[("host", "a")]);
    assert_eq!(absolute, Err(Refusal::Host), "in an absolute-form target too");
    let mut old = request(Version::HTTP_10, "/", &[]);
    let hop = from([192, 0, 2, 7], Forwarded::Append);
    prepare_request(&mut old, &hop, &HeaderValue::from_static("app:3000")).expect("HTTP/1.0 needs none");
    assert_eq!(old.headers[HOST], "app:3000");
    assert_eq!(old.version, Version::HTTP_11);
}

#[test]
fn unknown_codings_and_connect_are_refused() {
    let fields = [("host", "a"), ("transfer-encoding", "gzip, chunked")];
    assert_eq!(passed(Forwarded::Append, "/", &fields), Err(Refusal::Coding));
    let twice = [("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
    assert_eq!(passed(Forwarded::Append, "/", &twice), Err(Refusal::Coding));
    let mut connect = request(Version::HTTP_11, "a:443", &[("host", "a:443")]);
    connect.method = Method::CONNECT;
    let hop = from([192, 0, 2, 7], Forwarded::Append);
    assert_eq!(prepare_request(&mut connect, &hop, &HeaderValue::from_static("app")), Err(Refusal::Connect));
}

#[test]
fn a_request_id_is_begun_or_kept() {
    let hop = from([192, 0, 2, 7], Forwarded::Append);
    let mut head = request(Version::HTTP_11, "/", &[("host", "a")]);
    prepare_request(&mut head, &hop, &HeaderValue::from_static("app")).expect("passed on");
    assert_eq!(head.headers[X_REQUEST_ID].len(), 32);
    let mut head = request(Version::HTTP_11, "/", &[("host", "a"), ("x-request-id", "mine")]);
    prepare_request(&mut head, &hop, &HeaderValue::from_static("app")).expect("passed on");
    assert_eq!(head.headers[X_REQUEST_ID], "mine");
}

#[test]
fn an_answers_hop_by_hop_fields_stay_behind() {
    let answer = |status: u16, given: &[(&str, &str)]| {
        let mut builder = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
        for (name, value) in given {
            builder = builder.header(*name, *value);
        }
        let mut head = builder.body(()).expect("a valid answer").into_parts().0;
        prepare_answer(&mut head);
        fields(&head.headers)
    };
    let given = [("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("etag", "\"1\"")];
    assert_eq!(answer(200, &given), [("etag".to_owned(), "\"1\"".to_owned())]);
    let twice = [("connection", "x-one"), ("connection", "x-two"), ("x-one", "1"), ("x-two", "2")];
    assert_eq!(answer(200, &twice), []);
    assert_eq!(answer(200, &[("upgrade", "h2")]), []);
    assert_eq!(answer(426, &[("upgrade", "h2")]).len(), 1);
    assert_eq!(answer(101, &[("upgrade", "websocket"), ("connection", "Upgrade")]).len(), 2);
}
