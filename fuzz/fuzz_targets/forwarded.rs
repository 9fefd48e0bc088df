//! What earlier hops may say of themselves: what is kept of a line is an end of it, is kept again, and does not reach
//! into what is appended.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::proxy::forwarded::{sound_addresses, sound_elements};

fuzz_target!(|line: &[u8]| {
    for sound in [sound_addresses, sound_elements] {
        let kept = sound(line);
        assert!(line.ends_with(kept));
        assert_eq!(sound(kept), kept);
        // A field's value has no space around it.
        if !kept.trim_ascii().is_empty() {
            let appended = [kept, b", for=192.0.2.7"].concat();
            let expected: &[u8] = if sound(b"for=192.0.2.7").is_empty() { b"" } else { &appended };
            assert_eq!(sound(&appended), expected);
        }
    }
});
