//! The kinds of values: how each is read from text, shown again, and what is said when it does not fit. Pure.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::key::Kind;
use super::node::{Node, Value};
use crate::secret::Secret;

/// Why a value does not fit, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// A [`Wrong`] in the shape every reader returns.
pub(super) fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what: what.into(), remedy: remedy.into() })
}

/// A [`Wrong`] value or, with its index, a wrong element of a list.
pub(super) type Fault = (Option<usize>, Wrong);

/// Reads a value from a node. No faults in an `Err` mean that what is wrong was said already.
type Read<T> = Box<dyn Fn(&Node) -> Result<T, Vec<Fault>>>;

/// A kind of value.
pub(super) struct Type<T> {
    pub(super) kind: Kind,
    /// Whether the value must never be shown.
    pub(super) secret: bool,
    pub(super) read: Read<T>,
    pub(super) show: Box<dyn Fn(&T) -> Json>,
}

impl<T: 'static> Type<T> {
    /// A kind that is read from a text.
    pub(super) fn new(
        kind: Kind,
        parse: impl Fn(&str) -> Result<T, Wrong> + 'static,
        show: impl Fn(&T) -> Json + 'static,
    ) -> Self {
        let numbers = matches!(kind, Kind::Integer { .. } | Kind::Size | Kind::Duration | Kind::Share);
        let booleans = matches!(kind, Kind::Boolean);
        let words = matches!(kind, Kind::Word { .. });
        let read = move |node: &Node| {
            let parsed = match &node.value {
                Value::Text(text) => parse(text),
                Value::Number(number) if numbers => parse(&number.to_string()),
                Value::Number(number) if words && !number.is_f64() => parse(&number.to_string()),
                // What was written is not known any more: 1.10 has become 1.1.
                Value::Number(number) if words => wrong("a number with a point, not a text", "write it in quotes"),
                Value::Number(number) => wrong("a number, not a text", format!("write \"{number}\"")),
                Value::Bool(value) if booleans => parse(&value.to_string()),
                Value::Bool(value) => wrong("a boolean, not a text", format!("write \"{value}\"")),
                Value::List(_) => wrong("a list, not a single value", "write one value"),
                Value::Map(_) => wrong("a section, not a single value", "write one value"),
                Value::Null | Value::Refused => return Err(Vec::new()),
            };
            parsed.map_err(|wrong| vec![(None, wrong)])
        };
        Self { kind, secret: false, read: Box::new(read), show: Box::new(show) }
    }

    /// Any number of these; one alone may stand without brackets.
    pub(super) fn list(self) -> Type<Vec<T>> {
        let (element, show) = (self.read, self.show);
        let read = move |node: &Node| {
            let Value::List(items) = &node.value else { return element(node).map(|one| vec![one]) };
            let (mut all, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
            for (index, item) in items.iter().enumerate() {
                match element(item) {
                    Ok(one) => all.push(one),
                    Err(_) if item.value == Value::Null => {
                        faults.push((Some(index), Wrong { what: "empty".into(), remedy: "remove it".into() }));
                    }
                    Err(wrongs) => faults.extend(wrongs.into_iter().map(|(_, wrong)| (Some(index), wrong))),
                }
            }
            // An element refused before leaves a gap without a fault: the list is not what was meant.
            if all.len() == items.len() { Ok(all) } else { Err(faults) }
        };
        Type {
            kind: Kind::List(Box::new(self.kind)),
            secret: self.secret,
            read: Box::new(read),
            show: Box::new(move |all| all.iter().map(&show).collect()),
        }
    }

    /// This, or `none`.
    pub(super) fn or_none(self) -> Type<Option<T>> {
        self.or_word("none", Kind::OrNone)
    }

    /// This, or `off`.
    pub(super) fn or_off(self) -> Type<Option<T>> {
        self.or_word("off", Kind::OrOff)
    }

    fn or_word(self, word: &'static str, kind: fn(Box<Kind>) -> Kind) -> Type<Option<T>> {
        let (inner, show) = (self.read, self.show);
        let read = move |node: &Node| match &node.value {
            Value::Text(text) if text == word => Ok(None),
            _ => inner(node).map(Some),
        };
        Type {
            kind: kind(Box::new(self.kind)),
            secret: self.secret,
            read: Box::new(read),
            show: Box::new(move |value| value.as_ref().map_or_else(|| word.into(), &show)),
        }
    }
}

impl<T: std::fmt::Display + 'static> Type<T> {
    /// A text of a certain form.
    pub(super) fn text(
        what: &'static str,
        example: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong> + 'static,
    ) -> Self {
        Self::new(Kind::Text { what, example }, parse, |value| value.to_string().into())
    }
}

/// A secret of a certain form, shown as `shown` says.
pub(super) fn secret(
    what: &'static str,
    example: &'static str,
    check: impl Fn(&str) -> Result<(), Wrong> + 'static,
    shown: fn(&str) -> String,
) -> Type<Secret> {
    let parse = move |text: &str| check(text).map(|()| Secret::new(text));
    let mut kind = Type::new(Kind::Text { what, example }, parse, move |secret: &Secret| shown(secret.expose()).into());
    kind.secret = true;
    kind
}

/// `500ms`, `10s`, `1m30s`, within a range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Type<Duration> {
    let parse = move |text: &str| {
        let Ok(value) = humantime::parse_duration(text) else {
            let number = text.trim();
            let bare = !number.is_empty() && number.len() < 10 && number.bytes().all(|b| b.is_ascii_digit());
            return wrong(
                "not a duration",
                if bare { format!("write {number}s") } else { "write 10s, 500ms or 1m30s".into() },
            );
        };
        if value < *range.start() {
            return wrong("too short", format!("write at least {}", show_duration(*range.start())));
        }
        if value > *range.end() {
            return wrong("too long", format!("write at most {}", show_duration(*range.end())));
        }
        Ok(value)
    };
    Type::new(Kind::Duration, parse, |value| show_duration(*value).into())
}

/// `1m30s`.
pub(super) fn show_duration(value: Duration) -> String {
    humantime::format_duration(value).to_string().replace(' ', "")
}

/// `32KiB`, `1MiB`, `2GiB`, `1TiB` or a number of bytes, within a range.
pub(super) fn size(range: RangeInclusive<u64>) -> Type<u64> {
    let parse = move |text: &str| {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let scale = match unit.trim() {
            "" | "B" => Some(1_u64),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            "TiB" => Some(1 << 40),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
        match bytes {
            None => wrong("not a size", "write 32KiB, 1MiB, 2GiB, 1TiB or a number of bytes"),
            Some(bytes) if bytes < *range.start() => {
                wrong("too small", format!("write at least {}", show_size(*range.start())))
            }
            Some(bytes) if bytes > *range.end() => {
                wrong("too large", format!("write at most {}", show_size(*range.end())))
            }
            Some(bytes) => Ok(bytes),
        }
    };
    Type::new(Kind::Size, parse, |value| show_size(*value).into())
}

fn show_size(bytes: u64) -> String {
    for (scale, unit) in [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

/// A whole number within a range.
pub(super) fn integer(range: RangeInclusive<u32>) -> Type<u32> {
    let (min, max) = (*range.start(), *range.end());
    let parse = move |text: &str| match text.parse::<u32>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => wrong(format!("not a whole number from {min} to {max}"), format!("write {min} to {max}")),
    };
    Type::new(Kind::Integer { min: min.into(), max: max.into() }, parse, |value| (*value).into())
}

/// A part of a whole: `0.05`, `1`.
pub(super) fn share() -> Type<f64> {
    let parse = |text: &str| match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => wrong("not a number from 0 to 1", "write 0.05 for one in twenty, 1 for all"),
    };
    Type::new(Kind::Share, parse, |share| (*share).into())
}

/// `true` or `false`.
pub(super) fn boolean() -> Type<bool> {
    let parse = |text: &str| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => wrong("neither true nor false", "write true or false"),
    };
    Type::new(Kind::Boolean, parse, |value| (*value).into())
}

/// One of some words.
pub(super) fn choice<T: Copy + PartialEq + 'static>(words: &'static [(&'static str, T)]) -> Type<T> {
    let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
    let all = names.join(", ");
    let parse = move |text: &str| match words.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(*value),
        None => wrong("none of the values this key knows", format!("write one of: {all}")),
    };
    let show =
        |value: &T| words.iter().find(|(_, known)| known == value).map_or(Json::Null, |(name, _)| (*name).into());
    Type::new(Kind::Choice(names), parse, show)
}

/// `0.0.0.0:8080`, `[::1]:8080`: an address to listen on. Port 0 takes any free port.
pub(super) fn address() -> Type<SocketAddr> {
    let mut address = Type::text("address and port", "0.0.0.0:8080", listen);
    let read = address.read;
    // A port alone is a number to YAML, which no text is.
    address.read = Box::new(move |node| match &node.value {
        Value::Number(number) => listen(&number.to_string()).map_err(|wrong| vec![(None, wrong)]),
        _ => read(node),
    });
    address
}

fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().or_else(|_| {
        let remedy = match text.trim_start_matches(':').parse::<u16>() {
            Ok(port) => format!("write 0.0.0.0:{port} or 127.0.0.1:{port}"),
            Err(_) => "write ADDRESS:PORT with a numeric address, as 0.0.0.0:8080 or [::1]:8080".into(),
        };
        wrong("not an address with a port", remedy)
    })
}

/// A path in the file system.
pub(super) fn path(example: &'static str) -> Type<PathBuf> {
    let parse = |text: &str| match text {
        "" => wrong("an empty path", "write a path or remove the key"),
        text if text.contains('\0') => wrong("a path with a NUL in it", "remove it"),
        text => Ok(PathBuf::from(text)),
    };
    Type::new(Kind::Text { what: "path", example }, parse, |path| path.to_string_lossy().into_owned().into())
}

/// A name of letters, digits and some punctuation.
pub(super) fn name(what: &'static str, example: &'static str, max: usize, extra: &'static str) -> Type<String> {
    Type::text(what, example, move |text| check_name(text, max, extra).map(|()| text.to_owned()))
}

/// Whether `text` is 1 to `max` ASCII letters, digits and characters of `extra`.
pub(super) fn check_name(text: &str, max: usize, extra: &str) -> Result<(), Wrong> {
    if !text.is_empty() && text.len() <= max && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c)) {
        return Ok(());
    }
    wrong("not a usable name", format!("write 1 to {max} letters, digits or characters of {extra}"))
}

/// A text with the secret parts of a URL in it taken out. What is not a URL is left as it is.
pub(super) fn mask(text: &str) -> String {
    // Options that say nothing worth hiding; everything else after `?` may be a password or a token.
    const HARMLESS: [&str; 21] = [
        "ssl-mode",
        "ssl-ca",
        "ssl-cert",
        "ssl-key",
        "socket",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "application_name",
        "connect_timeout",
        "target_session_attrs",
        "protocol",
        "db",
        "dbname",
        "ca_file",
        "cert_file",
        "key_file",
        "server_name",
        "sentinel_user",
        "wait_replicas",
    ];
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains('@') {
        // An unescaped `/`, `?` or `#` in a password moves the parts about: nothing can be told from anything.
        return format!("{scheme}://REDACTED");
    }
    let mut masked = format!("{scheme}://");
    match authority.rsplit_once('@') {
        Some((userinfo, host)) => {
            // Without a colon the one part may be a user or, by mistake, the password.
            match userinfo.split_once(':') {
                Some((user, _)) => masked.extend([user, ":REDACTED@", host]),
                None => masked.extend(["REDACTED@", host]),
            }
        }
        None => masked.push_str(authority),
    }
    let (path, query) = tail.split_once('?').map_or((tail, None), |(path, query)| (path, Some(query)));
    masked.push_str(path.split('#').next().unwrap_or_default());
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        masked.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if HARMLESS.contains(&name) => masked.push_str(pair),
            Some((name, _)) => masked.extend([name, "=REDACTED"]),
            None => masked.push_str("REDACTED"),
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_harmless_in_a_url_is_left() {
        for (text, expected) in [
            ("not a url", "not a url"),
            ("http://host:1/path", "http://host:1/path"),
            ("redis://:pw@host:1/2", "redis://:REDACTED@host:1/2"),
            ("redis://user:pw@host", "redis://user:REDACTED@host"),
            ("redis://pw@host", "redis://REDACTED@host"),
            ("postgres://u:p@w@host/db", "postgres://u:REDACTED@host/db"),
            ("postgres://u:p:w@host/db", "postgres://u:REDACTED@host/db"),
            ("postgres://u:p/w@host/db", "postgres://REDACTED"),
            ("postgres://u:p?w@host/db", "postgres://REDACTED"),
            ("postgres://u:p#w@host/db", "postgres://REDACTED"),
            (
                "postgres://h/db?sslmode=require&password=pw&x&application_name=a",
                "postgres://h/db?sslmode=require&password=REDACTED&REDACTED&application_name=a",
            ),
            ("redis+unix:///run/r.sock?db=1&pass=pw", "redis+unix:///run/r.sock?db=1&pass=REDACTED"),
            ("http://h/?token=pw#pw", "http://h/?token=REDACTED"),
            ("http://h/#pw", "http://h/"),
        ] {
            assert_eq!(mask(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        let node = |json: Json| {
            let value = match json {
                Json::String(text) => Value::Text(text),
                other => Value::Number(other.as_u64().expect("a number").into()),
            };
            Node::new(value, super::super::node::Origin::File(0))
        };
        let long = duration(Duration::ZERO..=Duration::MAX);
        for value in
            [0, 1, 999, 1000, 61_001, 3_600_000, 86_400_000, 2_592_000_000, 31_557_600_000].map(Duration::from_millis)
        {
            assert_eq!((long.read)(&node((long.show)(&value))), Ok(value));
        }
        let any = size(0..=u64::MAX);
        for value in [0, 1, 1023, 1024, 1025, 1 << 20, (1 << 20) + 1024, 1 << 30, u64::MAX] {
            assert_eq!((any.read)(&node((any.show)(&value))), Ok(value));
        }
        assert_eq!((any.read)(&node(Json::from("5 MiB"))), Ok(5 << 20));
        assert_eq!((any.read)(&node(Json::from(4096))), Ok(4096));
    }
}
