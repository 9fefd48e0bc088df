//! Requests as bytes, and what is made of them; each table row also cut in two everywhere.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 512, fields: 8, target: 64 };

/// What a head tells: method, target, framing, whether the connection goes on, whether 100 is waited for.
type Told = (String, String, Framing, bool, bool);

fn told(bytes: &[u8], cut: usize) -> Result<Option<(Told, usize)>, Bad> {
    let mut decoder = Decoder::new(BOUNDS);
    if let Some(whole) = decoder.head(&bytes[..cut])? {
        return Ok(Some(tell(whole)));
    }
    Ok(decoder.head(bytes)?.map(tell))
}

fn tell((head, length): (Head, usize)) -> (Told, usize) {
    let method = head.parts.method.to_string();
    ((method, head.parts.uri.to_string(), head.framing, head.keeps, head.expects), length)
}

/// The same however the bytes are cut.
fn check(bytes: &str, expected: &Result<Told, Bad>) {
    for cut in 0..=bytes.len() {
        let told = told(bytes.as_bytes(), cut).map(|told| told.map(|(told, _)| told));
        assert_eq!(&told.map(|told| told.expect("a whole head")), expected, "for {bytes:?}, cut at {cut}");
    }
}

#[test]
fn a_head_tells_how_its_request_is_framed() {
    use Framing::{Chunked, Length};
    for (bytes, method, target, framing, keeps, expects) in [
        ("GET / HTTP/1.1\r\nHost: t\r\n\r\n", "GET", "/", Length(0), true, false),
        ("\r\n\r\nGET /a?b HTTP/1.1\r\n\r\n", "GET", "/a?b", Length(0), true, false),
        ("GET / HTTP/1.1\nHost: t\n\n", "GET", "/", Length(0), true, false),
        ("GET / HTTP/1.0\r\n\r\n", "GET", "/", Length(0), false, false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET", "/", Length(0), true, false),
        ("GET / HTTP/1.1\r\nConnection: te, CLOSE\r\n\r\n", "GET", "/", Length(0), false, false),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", "POST", "/", Length(3), true, false),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: ChunkED\r\n\r\n", "POST", "/", Chunked, true, false),
        ("PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n", "PUT", "/", Length(3), true, true),
        ("PUT / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "PUT", "/", Length(0), true, false),
        ("PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", "PUT", "/", Length(3), false, false),
        ("OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS", "*", Length(0), true, false),
        ("GET http://a/b HTTP/1.1\r\n\r\n", "GET", "http://a/b", Length(0), true, false),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", "CONNECT", "a:1", Length(0), true, false),
        ("BREW /%2e%2e//x\\y HTTP/1.1\r\n\r\n", "BREW", "/%2e%2e//x\\y", Length(0), true, false),
    ] {
        check(bytes, &Ok((method.into(), target.into(), framing, keeps, expects)));
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for (bytes, bad) in [
        ("nonsense\r\n\r\n", Bad::Syntax),
        ("GET  / HTTP/1.1\r\n\r\n", Bad::Syntax),
        ("GET /\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/2.0\r\n\r\n", Bad::Version),
        ("GET / HTTP/1.2\r\n\r\n", Bad::Version),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\r\n A: b\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\r\n: b\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\r\nA\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\r\nA: b\nContent-Length: 3\r\n\r\n", Bad::Syntax),
        ("GET / HTTP/1.1\nA: b\r\n\r\n", Bad::Syntax),
        ("GET /a#b HTTP/1.1\r\n\r\n", Bad::Target),
        ("GET * HTTP/1.1\r\n\r\n", Bad::Target),
        ("GET a HTTP/1.1\r\n\r\n", Bad::Target),
        ("GET a:80 HTTP/1.1\r\n\r\n", Bad::Target),
        ("GET ftp://a/ HTTP/1.1\r\n\r\n", Bad::Target),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 3 \t4\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: \r\n\r\n", Bad::Length),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Bad::Length),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Bad::Coding),
    ] {
        check(bytes, &Err(bad));
    }
}

#[test]
fn what_is_too_large_is_told_apart() {
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64));
    assert_eq!(told(target.as_bytes(), 0).unwrap_err(), Bad::LongTarget);
    let endless = format!("GET /{}", "x".repeat(400));
    assert_eq!(told(endless.as_bytes(), 0).unwrap_err(), Bad::LongTarget);
    let field = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(600));
    assert_eq!(told(field.as_bytes(), 0).unwrap_err(), Bad::TooLarge);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(9));
    assert_eq!(told(many.as_bytes(), 0).unwrap_err(), Bad::TooLarge);
    let fits = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(8));
    assert_eq!(told(fits.as_bytes(), 0).unwrap().unwrap().1, fits.len());
    assert_eq!(told("\r\n".repeat(256).as_bytes(), 0).unwrap_err(), Bad::TooLarge);
}

#[test]
fn values_are_passed_on_as_they_came() {
    let bytes = b"GET / HTTP/1.1\r\nA:  \xc3\xa4 b\t \r\nA: 2\r\nB:\r\n\r\nbody";
    let (head, length) = Decoder::new(BOUNDS).head(bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len() - 4);
    let values: Vec<&[u8]> = head.parts.headers.get_all("a").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(values, [b"\xc3\xa4 b".as_slice(), b"2"]);
    assert_eq!(head.parts.headers["b"], "");
}

#[test]
fn a_length_is_passed_on_as_everybody_writes_it() {
    for (sent, expected) in [("005", "5"), ("000", "0"), ("0", "0"), ("50", "50"), ("0000000000000000000000005", "5")] {
        let bytes = format!("POST / HTTP/1.1\r\nContent-Length: {sent}\r\n\r\n");
        let (head, _) = Decoder::new(BOUNDS).head(bytes.as_bytes()).unwrap().unwrap();
        let lengths: Vec<&[u8]> =
            head.parts.headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes).collect();
        let framing = Framing::Length(expected.parse().unwrap());
        assert_eq!((lengths, head.framing), (vec![expected.as_bytes()], framing), "{sent}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_beyond_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let whole = told(&bytes, 0);
        let cut = told(&bytes, cut.min(bytes.len()));
        // A head that is whole in the first piece is taken before the rest is looked at.
        if let (Ok(Some(one)), Ok(Some(other))) = (&whole, &cut) {
            prop_assert_eq!(one, other);
        }
    }
}
