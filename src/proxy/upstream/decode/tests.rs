//! Answers as bytes, and what is made of them; each table row also byte by byte.

use bytes::BytesMut;
use http::Method;
use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 512, fields: 8 };

/// All that an answer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
    trailers: Vec<(String, String)>,
    keeps: bool,
    /// What came after the answer's end.
    unread: String,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

/// The head of the answer, after what may come before it.
fn answer(decoder: &mut Decoder, buffer: &mut BytesMut, asked: &Method) -> Result<Option<Head>, Malformed> {
    loop {
        match decoder.head(buffer, asked)? {
            None => return Ok(None),
            Some(Heard::Answer(head)) => return Ok(Some(head)),
            Some(Heard::Interim(parts)) => assert!(parts.status.is_informational()),
        }
    }
}

/// Decodes an answer that comes in `pieces`, then the end of the connection; what was told of the body before an
/// error comes with it.
fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, asked: &Method) -> (Option<Told>, Result<(), Malformed>) {
    let mut buffer = BytesMut::new();
    let mut decoder = Decoder::new(BOUNDS);
    let mut begun: Option<(Told, Body)> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if begun.is_none() {
            match answer(&mut decoder, &mut buffer, asked) {
                Err(error) => return (None, Err(error)),
                Ok(None) => continue,
                Ok(Some(head)) => {
                    let told = Told {
                        status: head.parts.status.as_u16(),
                        fields: pairs(&head.parts.headers),
                        body: String::new(),
                        trailers: Vec::new(),
                        keeps: head.keeps,
                        unread: String::new(),
                    };
                    begun = Some((told, Body::new(head.framing, BOUNDS)));
                }
            }
        }
        let Some((told, body)) = &mut begun else { continue };
        loop {
            match body.next(&mut buffer) {
                Ok(None) => break,
                Err(error) => return (begun.map(|(told, _)| told), Err(error)),
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => {
                        assert!(!data.is_empty(), "no empty part is given");
                        told.body.push_str(&text(&data));
                    }
                    Err(other) => told.trailers = pairs(&other.into_trailers().unwrap()),
                },
            }
        }
    }
    let Some((mut told, mut body)) = begun else { return (None, Err(Malformed::Truncated)) };
    let ended = body.closed();
    assert_eq!(ended.is_ok(), body.is_end());
    told.unread = text(&buffer);
    (Some(told), ended)
}

fn whole(answer: &str) -> (Option<Told>, Result<(), Malformed>) {
    told([answer.as_bytes()], &Method::GET)
}

/// Checks the body, whether the connection is kept, and what is left over; at once and byte by byte.
fn check_asked(asked: &Method, answer: &str, body: &str, keeps: bool, unread: &str) -> Told {
    let all = told([answer.as_bytes()], asked);
    assert_eq!(told(answer.as_bytes().chunks(1), asked), all, "byte by byte: {answer:?}");
    let (Some(told), Ok(())) = all else { panic!("{answer:?} is {all:?}") };
    let got = (told.body.as_str(), told.keeps, told.unread.as_str());
    assert_eq!(got, (body, keeps, unread), "for {answer:?}");
    told
}

fn check(answer: &str, body: &str, keeps: bool, unread: &str) -> Told {
    check_asked(&Method::GET, answer, body, keeps, unread)
}

fn refused(answer: &str, expected: Malformed) {
    assert_eq!(whole(answer).1, Err(expected.clone()), "for {answer:?}");
    assert_eq!(told(answer.as_bytes().chunks(1), &Method::GET).1, Err(expected), "byte by byte: {answer:?}");
}

#[test]
fn a_length_delimits_the_body() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true, "");
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200", "hello", true, "HTTP/1.1 200");
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx", "", true, "x");
    check("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", "x", true, "");
    check("HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "x", true, "");
}

#[test]
fn equal_lengths_are_one_and_others_are_refused() {
    for lengths in [
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: 02\r\ncontent-length: 2",
        "Content-Length: 002",
    ] {
        let told = check(&format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nok"), "ok", true, "");
        assert_eq!(told.fields, [("content-length".to_owned(), "2".to_owned())], "for {lengths}");
    }
    for lengths in ["1, 2", "1\r\nContent-Length: 2", "", "+1", "-1", "0x1", "1 1", "1,", "1;", "18446744073709551616"]
    {
        refused(&format!("HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\nxx"), Malformed::Length);
    }
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nx";
    assert_eq!(whole(huge).1, Err(Malformed::Truncated));
}

#[test]
fn chunks_are_joined_and_what_follows_the_last_is_left() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
    for (chunks, body, unread) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5\r\nhello\r\nA\r\n, world...\r\n000\r\n\r\nmore", "hello, world...", "more"),
        ("00000000000000000000005  \r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=1;b=\"x y\"\r\nhello\r\n0;last\r\n\r\n", "hello", ""),
        ("5\t;a\r\nhello\r\n0\r\n\r\n\r\n", "hello", "\r\n"),
    ] {
        check(&format!("{head}{chunks}"), body, true, unread);
    }
}

#[test]
fn malformed_chunks_are_refused() {
    for chunks in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\nx\r\n",
        "0x1\r\nx\r\n",
        " 1\r\nx\r\n",
        "1 1\r\nx\r\n",
        "1\nx\r\n",
        "1\rx\n",
        "1;a\rb\r\nx\r\n",
        "1;a\0b\r\nx\r\n",
        "1\r\nxy\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx\rx",
        "10000000000000000\r\n",
        "ffffffffffffffffffff\r\n",
    ] {
        refused(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), Malformed::Chunk);
    }
    let long = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(SIZE_LINE));
    refused(&long, Malformed::Chunk);
}

#[test]
fn a_body_that_breaks_off_is_no_end_wherever_it_does() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n";
    for cut in 0..answer.len() {
        assert_eq!(whole(&answer[..cut]).1, Err(Malformed::Truncated), "cut at {cut}");
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for cut in 0..answer.len() {
        assert_eq!(whole(&answer[..cut]).1, Err(Malformed::Truncated), "cut at {cut}");
    }
}

#[test]
fn trailers_are_told_apart_and_bounded() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
    let told = check(&format!("{head}A: b\r\nC:  d \r\n\r\nnext"), "ok", true, "next");
    let expected = [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())];
    assert_eq!(told.trailers, expected);
    assert_eq!(told.fields.len(), 1, "they are not merged into the head");
    refused(&format!("{head}A : b\r\n\r\n"), Malformed::Head(httparse::Error::HeaderName));
    refused(&format!("{head}A: {}\r\n\r\n", "x".repeat(BOUNDS.bytes)), Malformed::TooLarge);
    refused(&format!("{head}{}\r\n", "A: b\r\n".repeat(BOUNDS.fields + 1)), Malformed::TooLarge);
}

#[test]
fn a_bare_lf_ends_neither_a_chunked_body_nor_a_line_in_it() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for end in [
        "0\r\n\nHTTP/1.1 200 OK\r\n\r\n",
        "0\n\r\n",
        "0\n\n",
        "0;a\n\r\n",
        "0\r\nX: a\r\n\n",
        "0\r\nX: a\n\r\n",
        "0\r\nX: a\n\n",
        "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\nX: a\r\nY: b\n\r\n",
        "0\r\nX: a\r\nY:\n b\r\n\r\n",
    ] {
        refused(&format!("{head}{end}"), Malformed::Chunk);
    }
    // Those of what follows are not its own.
    let told = check(&format!("{head}0\r\nX: a\r\n\r\nHTTP/1.1 200 OK\n\n"), "abc", true, "HTTP/1.1 200 OK\n\n");
    assert_eq!(told.trailers, [("x".to_owned(), "a".to_owned())]);
    check(&format!("{head}0\r\n\r\n\nHTTP/1.1"), "abc", true, "\nHTTP/1.1");
}

#[test]
fn without_length_or_chunks_the_connections_end_delimits_the_body() {
    check("HTTP/1.1 200 OK\r\n\r\nhello\r\n", "hello\r\n", false, "");
    check("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", "hello", false, "");
    check("HTTP/1.1 200 OK\r\n\r\n", "", false, "");
}

#[test]
fn a_coding_wins_over_a_length_and_the_connection_is_not_trusted_again() {
    for fields in ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let told = check(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "ok", false, "");
        assert_eq!(told.fields, [("transfer-encoding".to_owned(), "chunked".to_owned())]);
    }
}

#[test]
fn codings_other_than_chunked_are_refused() {
    for coding in
        ["gzip", "gzip, chunked", "chunked, gzip", "chunked\r\nTransfer-Encoding: chunked", "identity", "", "xchunked"]
    {
        refused(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"), Malformed::Coding);
    }
    refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Malformed::Coding);
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    for framing in ["", "Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        check(&format!("HTTP/1.1 204 No Content\r\n{framing}\r\n"), "", true, "");
        check(&format!("HTTP/1.1 304 Not Modified\r\n{framing}\r\nx"), "", true, "x");
        check_asked(&Method::HEAD, &format!("HTTP/1.1 200 OK\r\n{framing}\r\n"), "", true, "");
    }
    let told = check_asked(&Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", true, "");
    assert_eq!(told.fields, [("content-length".to_owned(), "9".to_owned())]);
}

#[test]
fn the_app_says_whether_the_connection_lives_on() {
    for (version, connection, keeps) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        check(&format!("HTTP/{version} 200 OK\r\n{connection}Content-Length: 0\r\n\r\n"), "", keeps, "");
    }
}

#[test]
fn interim_answers_are_skipped_but_not_without_end() {
    let real = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(check(&format!("{early}{real}"), "ok", true, "").status, 200);
    refused(&format!("{}{real}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(33)), Malformed::Interim);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nbytes";
    let told = check(&format!("{early}{switch}"), "", true, "bytes");
    assert_eq!(told.status, 101);
}

#[test]
fn what_is_no_head_is_refused_at_once() {
    for nonsense in
        ["SMTP ready", "HTTP/2.0 200 OK", "HTTP/0.9", "\r\nHTTP/1.1 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n"]
    {
        refused(nonsense, Malformed::Protocol);
    }
    for (fields, error) in [
        ("A: b\r\n c\r\n", httparse::Error::HeaderName),
        ("A : b\r\n", httparse::Error::HeaderName),
        ("A\r\n", httparse::Error::HeaderName),
        (": b\r\n", httparse::Error::HeaderName),
        ("A: b\0c\r\n", httparse::Error::HeaderValue),
        ("A: b\rc\r\n", httparse::Error::HeaderValue),
    ] {
        refused(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), Malformed::Head(error));
    }
    refused("HTTP/1.1 20 OK\r\n\r\n", Malformed::Head(httparse::Error::Status));
    refused("HTTP/1.1  200 OK\r\n\r\n", Malformed::Head(httparse::Error::Status));
    refused("HTTP/1.1 099 Low\r\n\r\n", Malformed::Value);
}

#[test]
fn heads_are_bounded_in_bytes_and_fields() {
    let base = "HTTP/1.1 204 No Content\r\nA: \r\n\r\n".len();
    let padded = |length: usize| format!("HTTP/1.1 204 No Content\r\nA: {}\r\n\r\n", "x".repeat(length - base));
    check(&padded(BOUNDS.bytes), "", true, "");
    refused(&padded(BOUNDS.bytes + 1), Malformed::TooLarge);
    refused(&format!("HTTP/1.1 200 {}", "x".repeat(BOUNDS.bytes)), Malformed::TooLarge);
    refused(&format!("{}: x\r\n", padded(BOUNDS.bytes + 1).trim_end()), Malformed::TooLarge);
    let many = |count: usize| format!("HTTP/1.1 204 No Content\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(check(&many(BOUNDS.fields), "", true, "").fields.len(), BOUNDS.fields);
    refused(&many(BOUNDS.fields + 1), Malformed::TooLarge);
}

#[test]
fn the_end_is_known_with_the_last_part() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let mut buffer = BytesMut::from(bytes);
        let head = answer(&mut Decoder::new(BOUNDS), &mut buffer, &Method::GET).unwrap().unwrap();
        let mut body = Body::new(head.framing, BOUNDS);
        assert!(!body.is_end());
        body.next(&mut buffer).unwrap().unwrap();
        assert!(body.is_end(), "for {bytes:?}");
    }
}

#[test]
fn an_unusual_reason_is_kept() {
    let reason = |bytes: &str| {
        let head = answer(&mut Decoder::new(BOUNDS), &mut BytesMut::from(bytes), &Method::GET).unwrap().unwrap();
        head.parts.extensions.get::<hyper::ext::ReasonPhrase>().map(|reason| text(reason.as_bytes()))
    };
    assert_eq!(reason("HTTP/1.1 200 Fine\r\n\r\n").as_deref(), Some("Fine"));
    assert_eq!(reason("HTTP/1.1 200 OK\r\n\r\n"), None);
}

/// Answers that are nearly right, so that arbitrary ones reach every state.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 2\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "\r\n",
        "5\r\nhello\r\n",
        "2;x=y\r\nok\r\n",
        "0\r\n",
        "A: b\r\n",
        "hello",
        "f",
        "\r",
        "\n",
        ":",
        " ",
        "\0",
    ];
    let random = prop::collection::vec(prop::sample::select(words.to_vec()), 0..12);
    let begun = (prop::sample::select(words[..3].to_vec()), prop::sample::select(words[4..9].to_vec()), random);
    (begun, any::<bool>()).prop_map(|((status, field, rest), whole)| {
        let end = if field == "\r\n" || !whole { "" } else { "\r\n" };
        [status, field, end].into_iter().chain(rest).collect::<String>().into_bytes()
    })
}

#[test]
fn a_body_that_is_all_there_can_be_taken_at_once() {
    for (bytes, framing, expected, left) in [
        ("12345", Framing::Length(3), Some(3), "45"),
        ("123", Framing::Length(3), Some(3), ""),
        ("12", Framing::Length(3), None, "12"),
        ("123", Framing::Close, None, "123"),
        ("3\r\n123\r\n0\r\n\r\n", Framing::Chunked, None, "3\r\n123\r\n0\r\n\r\n"),
    ] {
        let (mut body, mut buffer, mut out) = (Body::new(framing, BOUNDS), BytesMut::from(bytes), b"head".to_vec());
        assert_eq!(body.whole(&mut buffer, &mut out), expected, "{bytes} {framing:?}");
        assert_eq!((text(&buffer).as_str(), body.is_end()), (left, expected.is_some()));
        assert_eq!(text(&out), format!("head{}", &bytes[..expected.unwrap_or(0)]));
    }
}

proptest! {
    #[test]
    fn however_an_answer_is_cut_it_tells_the_same(answer in nearly(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let at_once = told([&answer[..]], &Method::GET);
        prop_assert_eq!(&told(answer.chunks(1), &Method::GET), &at_once);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).collect();
        at.extend([0, answer.len()]);
        at.sort_unstable();
        let pieces = at.windows(2).map(|pair| &answer[pair[0]..pair[1]]);
        prop_assert_eq!(&told(pieces, &Method::GET), &at_once);
    }

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let prefixed = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice(), &bytes].concat();
        for input in [bytes, prefixed] {
            let _outcome = told([&input[..]], &Method::GET);
        }
    }

    #[test]
    fn a_body_survives_any_chunking(parts in prop::collection::vec("[a-z]{1,40}", 0..20)) {
        let chunks: String = parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect();
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        let (told, ended) = whole(&answer);
        prop_assert_eq!(ended, Ok(()));
        prop_assert_eq!(told.unwrap().body, parts.concat());
    }
}
