//! W3C Trace Context (<https://www.w3.org/TR/trace-context-1/>): which trace a request belongs to, and how the app is told
//! of our part in it. Pure, but for random numbers.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The field of a request's parent.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The field of what vendors know of a trace.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `version "-" trace-id "-" parent-id "-" trace-flags`
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
/// The flags there are: sampled, and (level 2 of the specification) random. Others are sent as zero.
const KNOWN: u8 = 3;

/// A `traceparent` that is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// `trace-id`, not 0.
    pub trace: u128,
    /// `parent-id`, not 0.
    pub span: u64,
    flags: u8,
}

/// A request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The trace.
    pub trace: u128,
    /// Our span, when there is one.
    pub span: Option<u64>,
    /// The span above ours, when there is one.
    pub parent: Option<u64>,
    /// `trace-flags`.
    pub flags: u8,
    told: Told,
}

/// What the app is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// What the client said.
    TheSame,
    /// That our span is the parent.
    OurSpan,
    /// Of a trace that begins here.
    Anew,
}

impl Parent {
    /// The parent that a request names. None if there is none, if there are several, or if it is malformed: then the
    /// trace begins anew (§4.2, §3.2.2).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        match (fields.next(), fields.next()) {
            (Some(only), None) => Self::read(only.as_bytes()),
            _ => None,
        }
    }

    fn read(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let [v0, v1, b'-', ids @ .., b'-', f0, f1] = known else { return None };
        let (trace, span) = ids.split_at_checked(32)?;
        let span = span.strip_prefix(b"-")?;
        let version = hex(&[*v0, *v1])?;
        // A later version may go on after what this one has; version 0 may not, and 255 is none.
        let fits = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.is_empty() || rest.first() == Some(&b'-'),
        };
        let parent = Self {
            trace: hex(trace)?,
            span: u64::try_from(hex(span)?).ok()?,
            flags: u8::try_from(hex(&[*f0, *f1])?).ok()?,
        };
        (fits && parent.trace != 0 && parent.span != 0).then_some(parent)
    }

    fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Lower-case hexadecimal digits, which are the only ones allowed.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

impl Place {
    /// The place of a request that is passed on as it is.
    pub fn passing(parent: Parent) -> Self {
        let Parent { trace, span, flags } = parent;
        Self { trace, span: None, parent: Some(span), flags, told: Told::TheSame }
    }

    /// The place of a request where traces are recorded: what its parent decided holds, and a trace that begins here is
    /// recorded if `samples` says so.
    pub fn recording(parent: Option<Parent>, samples: impl FnOnce() -> bool) -> Self {
        let ours = fastrand::u64(1..);
        match parent {
            Some(parent) if parent.is_sampled() => {
                let flags = parent.flags & KNOWN;
                Self { trace: parent.trace, span: Some(ours), parent: Some(parent.span), flags, told: Told::OurSpan }
            }
            Some(parent) => Self::passing(parent),
            None => {
                let recorded = samples();
                let trace = fastrand::u128(1..);
                // A trace that is not recorded begins all the same, so that nobody behind us decides otherwise for a part.
                Self {
                    trace,
                    span: Some(ours).filter(|_| recorded),
                    parent: if recorded { None } else { Some(ours) },
                    flags: u8::from(recorded),
                    told: Told::Anew,
                }
            }
        }
    }

    /// Tells the app.
    pub fn tell(&self, headers: &mut HeaderMap) {
        match self.told {
            Told::TheSame => return,
            Told::OurSpan => {}
            // It belonged to what could not be read (§3.3).
            Told::Anew => _ = headers.remove(TRACESTATE),
        }
        let span = self.span.or(self.parent).unwrap_or(1);
        let text = format!("00-{:032x}-{span:016x}-{:02x}", self.trace, self.flags);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::try_from(*value).expect("a value"));
        }
        headers
    }

    #[test]
    fn a_traceparent_is_read_as_the_specification_says() {
        for (text, flags) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(1)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(0)),
            (format!("00-{TRACE}-{SPAN}-ff"), Some(255)),
            (format!("cc-{TRACE}-{SPAN}-01"), Some(1)),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), Some(1)),
            (format!("cc-{TRACE}-{SPAN}-01.what"), None),
            (format!("cc-{TRACE}-{SPAN}-011"), None),
            (format!("00-{TRACE}-{SPAN}-01-what"), None),
            (format!("00-{TRACE}-{SPAN}-01-"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("0-{TRACE}-{SPAN}-01"), None),
            (format!("000-{TRACE}-{SPAN}-01"), None),
            (format!("0x-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), None),
            (format!("00-{TRACE}-{SPAN}-0A"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", &TRACE[1..]), None),
            (format!("00-{}.-{SPAN}-01", &TRACE[1..]), None),
            (format!("00-{TRACE}{SPAN}-01"), None),
            (format!("00_{TRACE}_{SPAN}_01"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (String::new(), None),
        ] {
            let read = Parent::of(&headers(&[("traceparent", &text)]));
            assert_eq!(read.map(|parent| parent.flags), flags, "{text}");
            if let Some(parent) = read {
                assert_eq!(format!("{:032x}-{:016x}", parent.trace, parent.span), format!("{TRACE}-{SPAN}"));
            }
        }
        let sound = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(Parent::of(&headers(&[("traceparent", &sound), ("traceparent", &sound)])), None, "one of two");
    }

    /// What the app is told of `parent` where traces are recorded.
    fn told(parent: &str, samples: bool) -> (Place, Option<String>, bool) {
        let mut headers = headers(&[("traceparent", parent), ("tracestate", "a=1")]);
        let place = Place::recording(Parent::of(&headers), || samples);
        place.tell(&mut headers);
        let told = headers.get(TRACEPARENT).map(|value| value.to_str().expect("ASCII").to_owned());
        (place, told, headers.contains_key(TRACESTATE))
    }

    #[test]
    fn the_apps_parent_is_our_span_when_there_is_one() {
        let (place, text, state) = told(&format!("00-{TRACE}-{SPAN}-ff"), false);
        let span = place.span.expect("a sampled parent is followed");
        assert_eq!(text.expect("told"), format!("00-{TRACE}-{span:016x}-03"));
        assert_eq!((format!("{:016x}", place.parent.expect("the client's")), state), (SPAN.to_owned(), true));

        let unsampled = format!("cc-{TRACE}-{SPAN}-00-later");
        let (place, text, state) = told(&unsampled, true);
        assert_eq!((place.span, text, state), (None, Some(unsampled), true), "passed on unchanged");

        for (samples, flags) in [(true, "01"), (false, "00")] {
            let (place, text, state) = told("00-malformed", samples);
            let text = text.expect("told");
            assert!(text.starts_with("00-") && text.ends_with(flags) && text.len() == LENGTH, "{text}");
            assert_eq!(
                (place.span.is_some(), state),
                (samples, false),
                "a trace begins, and what belonged to none is gone"
            );
            assert!(Parent::read(text.as_bytes()).is_some_and(|parent| parent.trace == place.trace));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            Parent::read(&text);
        }
    }
}
