//! `sem_ver`: precedence by Semantic Versioning 2.0.0, section 11, with a leading `v` and partial versions accepted.

use std::cmp::Ordering;

/// A version's parts, borrowed. Numbers stay text: they may be of any length.
struct Version<'t> {
    core: [&'t str; 3],
    pre_release: Option<&'t str>,
}

/// Whether `a` stands in `operator`'s relation to `b`; `None` when one of the three is unsound.
pub(super) fn compare(a: &str, operator: &str, b: &str) -> Option<bool> {
    let (a, b) = (Version::parse(a)?, Version::parse(b)?);
    Some(match operator {
        "=" => a.order(&b).is_eq(),
        "!=" => a.order(&b).is_ne(),
        "<" => a.order(&b).is_lt(),
        "<=" => a.order(&b).is_le(),
        ">" => a.order(&b).is_gt(),
        ">=" => a.order(&b).is_ge(),
        "^" => a.core[0] == b.core[0],
        "~" => a.core[..2] == b.core[..2],
        _ => return None,
    })
}

/// Whether a text is a version at all.
pub(in crate::flags) fn sound(text: &str) -> bool {
    Version::parse(text).is_some()
}

impl<'t> Version<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (numbers, pre_release) = match text.split_once('-') {
            Some((numbers, pre_release)) => (numbers, Some(pre_release)),
            None => (text, None),
        };
        let mut core = ["0"; 3];
        let mut count = 0;
        for number in numbers.split('.') {
            if !is_number(number) {
                return None;
            }
            *core.get_mut(count)? = number;
            count += 1;
        }
        // A partial version has no room for more, as in Go's golang.org/x/mod/semver, flagd's own.
        let partial = count < 3;
        if partial && (pre_release.is_some() || build.is_some()) {
            return None;
        }
        let identifiers = |text: &str, sound: fn(&str) -> bool| text.split('.').all(sound);
        if pre_release.is_some_and(|text| !identifiers(text, is_pre_release)) {
            return None;
        }
        if build.is_some_and(|text| !identifiers(text, is_identifier)) {
            return None;
        }
        Some(Self { core, pre_release })
    }

    fn order(&self, other: &Self) -> Ordering {
        let core = self.core.iter().zip(&other.core).map(|(a, b)| by_number(a, b)).find(|order| order.is_ne());
        core.unwrap_or_else(|| match (self.pre_release, other.pre_release) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => by_identifiers(a, b),
        })
    }
}

/// Section 11.4: numbers by value and below words, words by ASCII, the longer list above its own beginning.
fn by_identifiers(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (is_digits(a), is_digits(b)) {
                (true, true) => by_number(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Numbers without leading zeros, of any length.
fn by_number(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    is_digits(text) && (text.len() == 1 || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_pre_release(text: &str) -> bool {
    is_identifier(text) && (!is_digits(text) || is_number(text))
}
