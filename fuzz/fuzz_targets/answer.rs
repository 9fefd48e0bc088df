//! What an app may send: any bytes are an answer or an error, the same however they are cut into pieces. The input's
//! first byte is the method and the size of the pieces, the rest is the answer.
#![no_main]

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use tidegate::proxy::upstream::decode::{Body, Bounds, Decoder, Framing, Heard, Malformed};

const BOUNDS: Bounds = Bounds { bytes: 4096, fields: 16 };

/// All that an answer tells.
#[derive(Debug, Default, PartialEq)]
struct Told {
    head: Option<(StatusCode, HeaderMap, Framing, bool)>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    unread: Vec<u8>,
    error: Option<Malformed>,
}

fn told(answer: &[u8], piece: usize, asked: &Method) -> Told {
    let mut told = Told::default();
    told.error = read(answer, piece, asked, &mut told).err();
    told
}

fn read(answer: &[u8], piece: usize, asked: &Method, told: &mut Told) -> Result<(), Malformed> {
    let mut buffer = BytesMut::new();
    let mut decoder = Decoder::new(BOUNDS);
    let mut body: Option<Body> = None;
    for piece in answer.chunks(piece) {
        buffer.extend_from_slice(piece);
        if body.is_none() {
            let head = loop {
                match decoder.head(&mut buffer, asked)? {
                    Some(Heard::Interim(parts)) => assert!(parts.status.is_informational()),
                    Some(Heard::Answer(head)) => break Some(head),
                    None => break None,
                }
            };
            let Some(head) = head else { continue };
            let parts = *head.parts;
            told.head = Some((parts.status, parts.headers, head.framing, head.keeps));
            body = Some(Body::new(head.framing, BOUNDS));
        }
        let Some(body) = &mut body else { continue };
        while let Some(frame) = body.next(&mut buffer)? {
            match frame.into_data() {
                Ok(data) => told.body.extend_from_slice(&data),
                Err(other) => told.trailers = other.into_trailers().ok(),
            }
        }
        if let Some((_, _, Framing::Length(length), _)) = told.head {
            assert!(told.body.len() as u64 <= length, "more than was announced");
        }
    }
    let mut body = body.ok_or(Malformed::Truncated)?;
    body.closed()?;
    assert!(body.is_end());
    told.unread = buffer.to_vec();
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let Some((first, answer)) = input.split_first() else { return };
    let asked = if first & 1 == 0 { Method::GET } else { Method::HEAD };
    let pieces = usize::from(first >> 1) + 1;
    assert_eq!(told(answer, pieces, &asked), told(answer, usize::MAX, &asked));
});
