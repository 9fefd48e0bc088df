//! W3C Trace Context, as a client may send it: whatever that is, the app is told of one parent that is well-formed and of
//! the same trace, or hears what the client said, byte for byte. The state goes with a parent that was understood, and is
//! never read; there is no reader of baggage.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tidegate::proxy::observe::trace::{Parent, Place, TRACEPARENT, TRACESTATE};

fuzz_target!(|input: &[u8]| {
    let Some((choice, fields)) = input.split_first() else { return };
    let mut headers = HeaderMap::new();
    // Lines are parents; those behind a tab are states.
    for line in fields.split(|byte| *byte == b'\n') {
        let (name, value) = match line.strip_prefix(b"\t") {
            Some(state) => (TRACESTATE, state),
            None => (TRACEPARENT, line),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let sent = headers.clone();
    let parent = Parent::of(&headers);
    let place = match choice & 2 {
        0 => Place::recording(parent, || choice & 1 != 0),
        _ => match parent {
            Some(parent) => Place::passing(parent),
            None => return,
        },
    };
    place.tell(&mut headers);
    let told = Parent::of(&headers).expect("the app is told of one parent, and can read it");
    assert_eq!(told.trace, place.trace);
    match parent {
        Some(parent) => {
            assert_eq!(parent.trace, told.trace);
            let states = |headers: &HeaderMap| headers.get_all(TRACESTATE).iter().cloned().collect::<Vec<_>>();
            assert_eq!(states(&headers), states(&sent));
        }
        None => assert!(!headers.contains_key(TRACESTATE), "it belonged to what could not be read"),
    }
    match place.span.filter(|_| parent.is_some()) {
        Some(span) => assert_eq!(told.span, span),
        None if parent.is_some() => assert_eq!(headers, sent),
        None => {}
    }
});
