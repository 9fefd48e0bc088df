//! What a load balancer may say, or somebody who would like to be one: any bytes are a header, a part of one, or none,
//! and more bytes never make another of what was decided.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::net::proxy_protocol::{Header, LONGEST, parse};

fuzz_target!(|input: &[u8]| {
    let all = parse(input);
    match all {
        Ok(Header::Whole { length, .. }) => assert!(length <= input.len() && length <= LONGEST),
        Ok(Header::Partial) => assert!(input.len() < LONGEST),
        Err(_) => {}
    }
    for end in 0..input.len().min(300) {
        match parse(&input[..end]) {
            // Cut short, it is not yet anything.
            Ok(Header::Partial) => {}
            // Decided before the end: the same with all that follows.
            decided => assert_eq!(decided, all, "at {end}"),
        }
    }
});
