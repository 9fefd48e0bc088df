//! What earlier hops say of themselves, as far as it can be told apart: `X-Forwarded-For`, and `Forwarded` (RFC 7239).
//! Pure.
//!
//! An element is appended behind what came, so what came must not reach into it: a quote that somebody opened and
//! nobody closed would swallow it. What is malformed is dropped, and all before it, which clients farther away have
//! said; what is behind it stays, because hops nearer to us have said it.

/// Elements that may be malformed before no more are looked for: each costs a look at the rest of the line.
const TRIES: usize = 16;

/// The last elements of a line of `X-Forwarded-For` that are addresses or names of nodes. The whole line if all are.
///
/// The field is nobody's standard: besides addresses with and without ports, all sorts of names are in use.
pub fn sound_addresses(line: &[u8]) -> &[u8] {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:[]_-%".contains(&byte);
    let mut from = line.len();
    // From the right: whatever is said before the first unsound one counts for nothing.
    loop {
        let begin = line[..from].iter().rposition(|byte| *byte == b',').map_or(0, |comma| comma + 1);
        let element = line[begin..from].trim_ascii();
        if element.is_empty() || !element.iter().all(|byte| plain(*byte)) {
            return line.get(from + 1..).unwrap_or_default().trim_ascii_start();
        }
        if begin == 0 {
            return line;
        }
        from = begin - 1;
    }
}

/// Whether a line is a list of schemes, or of hosts: nothing in it that an app could take for anything else.
pub(super) fn is_plain_list(line: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".:[]_-+".contains(byte);
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(|name| !name.is_empty() && name.iter().all(plain))
}

/// The last elements of a line of `Forwarded` that are as RFC 7239 section 4 says. The whole line if all are.
pub fn sound_elements(line: &[u8]) -> &[u8] {
    let mut from = 0;
    for _ in 0..TRIES {
        let Some(wrong) = elements(&line[from..]) else {
            return if from == 0 { line } else { line[from..].trim_ascii_start() };
        };
        // What follows the next comma may be sound.
        match line[from + wrong..].iter().position(|byte| *byte == b',') {
            Some(comma) => from += wrong + comma + 1,
            None => break,
        }
    }
    &[]
}

/// Where the first element that is malformed begins; `None` when there is none.
fn elements(line: &[u8]) -> Option<usize> {
    let mut rest = line;
    loop {
        let begin = line.len() - rest.len();
        rest = match element(rest) {
            Some([]) => return None,
            Some([b',', after @ ..]) => after,
            _ => return Some(begin),
        };
    }
}

/// What follows an element: nothing, or a comma and more.
fn element(text: &[u8]) -> Option<&[u8]> {
    let mut names: [&[u8]; 8] = [b""; 8];
    let mut rest = text.trim_ascii_start();
    for at in 0..names.len() {
        let (name, after) = token(rest, b"")?;
        // "Each parameter MUST NOT occur more than once per field-value."
        if names[..at].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return None;
        }
        names[at] = name;
        rest = value(after.strip_prefix(b"=")?)?.trim_ascii_start();
        match rest {
            [b';', after @ ..] => rest = after.trim_ascii_start(),
            [] | [b',', ..] => return Some(rest),
            _ => return None,
        }
    }
    None
}

/// What follows a value: a token or a quoted string (RFC 9110 section 5.6). Addresses with a colon or brackets must be
/// quoted; many senders do not, and nothing is swallowed by it.
fn value(text: &[u8]) -> Option<&[u8]> {
    let Some(mut rest) = text.strip_prefix(b"\"") else { return token(text, b":[]").map(|(_, rest)| rest) };
    loop {
        match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., after @ ..] => rest = after,
            [b'\\', ..] => return None,
            [b'\t' | b' '..=b'~' | 0x80.., after @ ..] => rest = after,
            _ => return None,
        }
    }
}

/// A token, in which the characters of `more` may stand too, and what follows it.
fn token<'t>(text: &'t [u8], more: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte) || more.contains(&byte);
    let end = text.iter().position(|byte| !sign(*byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(sound: fn(&[u8]) -> &[u8], line: &str, expected: &str) {
        let kept = sound(line.as_bytes());
        assert_eq!(kept.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string(), "of {line:?}");
    }

    #[test]
    fn addresses_stay_and_what_is_none_takes_all_before_it_along() {
        for line in
            ["203.0.113.9", "203.0.113.9, 10.0.0.1", "2001:db8::9,[2001:db8::1]:80 , unknown", "_hidden", "a, b"]
        {
            check(sound_addresses, line, line);
        }
        for (line, expected) in [
            ("\"6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, for=6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9, 10.0.0.1"),
            ("1.1.1.1,,203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, ", ""),
            ("1.1.1.1, 6.6.6.6 6.6.6.6", ""),
            ("6.6.6.6\u{e9}", ""),
            ("", ""),
        ] {
            check(sound_addresses, line, expected);
        }
    }

    #[test]
    fn a_plain_list_has_names_between_commas_and_blanks_around_them_alone() {
        for line in ["https", "https, http", "a.example:80,[::1]", "a ,\tb", "git+ssh"] {
            assert!(is_plain_list(line.as_bytes()), "{line:?}");
        }
        for line in ["", " ", "a b", "https http", "https, a b", "a\tb", "a,", ",a", "a, ,b", "a/b", "a;b", "\"a\""] {
            assert!(!is_plain_list(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn elements_stay_and_what_is_none_takes_all_before_it_along() {
        for line in [
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            "for=\"_gazonk\"",
            "For=\"[2001:db8:cafe::17]:4711\"",
            "for=192.0.2.43, for=\"[2001:db8:cafe::17]\"",
            "for=192.0.2.43:80 ; proto=https,for=_x",
            "for=\"a, b; \\\"c\\\"\";host=\"\"",
        ] {
            check(sound_elements, line, line);
        }
        for (line, expected) in [
            ("for=\"6.6.6.6, for=203.0.113.9", "for=203.0.113.9"),
            ("for=\"6.6.6.6", ""),
            ("for=\"6.6.6.6\\", ""),
            (
                "for=1.1.1.1, 6.6.6.6, for=203.0.113.9;proto=https, for=10.0.0.1",
                "for=203.0.113.9;proto=https, for=10.0.0.1",
            ),
            ("for=1.1.1.1;for=6.6.6.6, for=203.0.113.9", "for=203.0.113.9"),
            ("for=1.1.1.1;FOR=6.6.6.6", ""),
            ("for=, for=203.0.113.9", "for=203.0.113.9"),
            ("for = 6.6.6.6", ""),
            ("for=6.6.6.6;", ""),
            ("for=6.6.6.6,", ""),
            (",for=203.0.113.9", "for=203.0.113.9"),
            ("a=1;b=1;c=1;d=1;e=1;f=1;g=1;h=1;i=1", ""),
            ("", ""),
        ] {
            check(sound_elements, line, expected);
        }
        assert!(sound_elements(",".repeat(30_000).as_bytes()).is_empty());
    }

    proptest! {
        #[test]
        fn what_stays_is_an_end_of_the_line_that_stays_again_and_swallows_nothing(line in "[ -~\u{e9}]{0,40}") {
            for sound in [sound_addresses, sound_elements] {
                let kept = sound(line.as_bytes());
                prop_assert!(line.as_bytes().ends_with(kept));
                prop_assert_eq!(sound(kept), kept);
            }
            let kept = sound_elements(line.as_bytes());
            if !kept.is_empty() {
                let appended = [kept, b", for=192.0.2.7"].concat();
                prop_assert_eq!(elements(&appended), None);
            }
        }
    }
}
