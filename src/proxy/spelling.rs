//! Which names of fields an app may take for one another: CGI, WSGI, Rack and PHP make one variable of `X-A`, `X_A`, and
//! some of `X.A`. Pure.

/// Whether an app may take `name` for `known`.
pub(super) fn is_same(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && begins(name, known)
}

/// Whether an app may take the begin of `name` for `known`.
pub(super) fn begins(name: &[u8], known: &[u8]) -> bool {
    let same = |(one, other): (&u8, &u8)| {
        one.eq_ignore_ascii_case(other) || !(one.is_ascii_alphanumeric() || other.is_ascii_alphanumeric())
    };
    name.len() >= known.len() && name.iter().zip(known).all(same)
}

/// Whether a name has anything but letters, digits and hyphens: such may be another spelling.
pub(super) fn is_odd(name: &[u8]) -> bool {
    name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_whatever_joins_their_words() {
        for name in ["X-Forwarded-For", "x_forwarded_for", "X.Forwarded.For", "x-FORWARDED.for", "x~forwarded!for"] {
            assert!(is_same(name.as_bytes(), b"x-forwarded-for"), "{name}");
            assert!(begins(name.as_bytes(), b"x-forwarded-"), "{name}");
            assert_eq!(is_odd(name.as_bytes()), name != "X-Forwarded-For", "{name}");
        }
        for name in ["x-forwarded-fo", "x-forwarded-form", "xxforwarded-for", "x-forwarded4for", "x--forwarded-for"] {
            assert!(!is_same(name.as_bytes(), b"x-forwarded-for"), "{name}");
        }
    }
}
