//! An event from Redis: any bytes are an event or a reason, and an event of which something is set names it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::flags::contract::Event;

fuzz_target!(|input: &[u8]| {
    let _ = Event::parse(input);
});
