//! `Date` for answers that are written as bytes (RFC 9110 section 6.6.1), as of the sweepers' last look at the clock: to
//! half a second.

use std::cell::RefCell;
use std::time::SystemTime;

use super::activity::now_ms;

/// Adds the line.
pub fn line(out: &mut Vec<u8>) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    LAST.with_borrow_mut(|(at, text)| {
        let now = now_ms();
        if *at != now {
            *at = now;
            *text = httpdate::fmt_http_date(SystemTime::now());
        }
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}
