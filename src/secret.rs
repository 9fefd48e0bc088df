//! A string that must never reach a log, an error text, `status` or `config show`.

use std::fmt;

/// A secret. `Debug` and `Display` print `REDACTED`; only [`Secret::expose`] gives the text away, so that every
/// place that does is found by searching for that word.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Never pass it to anything that formats.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Removes this secret, and the password of a URL held in it, from a text that came from elsewhere
    /// (a driver's error may quote its connection string).
    pub fn scrub(&self, text: &str) -> String {
        let mut scrubbed = text.to_owned();
        if !self.0.is_empty() {
            scrubbed = scrubbed.replace(&self.0, "REDACTED");
        }
        if let Some(password) = url_password(&self.0) {
            scrubbed = scrubbed.replace(password, "REDACTED");
        }
        scrubbed
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

/// The password in `scheme://user:password@host`, when there is a non-empty one (RFC 3986 §3.2.1).
fn url_password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (userinfo, _) = authority.rsplit_once('@')?;
    let (_, password) = userinfo.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "REDACTED REDACTED Some(REDACTED)");
    }

    #[test]
    fn a_password_quoted_by_somebody_else_is_scrubbed() {
        let url = Secret::new("postgres://app:s3cr3t@db:5432/orders");
        assert_eq!(
            url.scrub("auth failed for s3cr3t at postgres://app:s3cr3t@db:5432/orders"),
            "auth failed for REDACTED at REDACTED"
        );
        assert_eq!(Secret::new("").scrub("nothing to hide"), "nothing to hide");
    }
}
