//! What a URL of MySQL says: `mysql://USER:PASSWORD@HOST:PORT/DATABASE?ssl-mode=…`, with the options that MySQL's own clients
//! take. Pure.

use std::borrow::Cow;
use std::path::PathBuf;

use http::Uri;

use crate::net::percent;
use crate::net::tls::client::{Trust, Verify};
use crate::secret::Secret;

/// A URL, understood.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) database: Option<String>,
    pub(super) tls: Tls,
    pub(super) trust: Trust,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// Host, without brackets, and port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// When the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    Never,
    /// When the server can.
    Preferred,
    Required,
}

pub(super) fn parse(url: &str) -> Result<Target, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    if !matches!(scheme, "mysql" | "mariadb") {
        return Err("neither mysql nor mariadb");
    }
    if url.contains('#') {
        return Err("a fragment (#…) means nothing here; write # in a password as %23");
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let database = decoded(path)?;
    if database.contains('/') || [user, password, path].iter().any(|part| part.contains("%00")) {
        return Err("not mysql://USER:PASSWORD@HOST:PORT/DATABASE");
    }
    let options = Options::read(query)?;
    let address = match options.socket {
        Some(socket) => Address::Unix(socket),
        None => tcp(host).ok_or("names no host that can be asked")?,
    };
    let (tls, verify) = match options.mode.as_deref().unwrap_or("PREFERRED") {
        "DISABLED" => (Tls::Never, Verify::Nothing),
        "PREFERRED" => (Tls::Preferred, Verify::Nothing),
        "REQUIRED" => (Tls::Required, Verify::Nothing),
        "VERIFY_CA" => (Tls::Required, Verify::Authority),
        "VERIFY_IDENTITY" => (Tls::Required, Verify::Name),
        _ => return Err("ssl-mode is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"),
    };
    let identity = match (options.cert, options.key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("ssl-cert and ssl-key belong together"),
    };
    Ok(Target {
        address,
        user: decoded(user)?,
        password: Secret::new(decoded(password)?),
        database: Some(database).filter(|name| !name.is_empty()),
        tls,
        trust: Trust { verify, ca_file: options.ca, identity, server_name: None },
    })
}

fn tcp(host: &str) -> Option<Address> {
    let uri: Uri = format!("mysql://{host}").parse().ok()?;
    let authority = uri.authority()?;
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host)? {
        "" => 3306,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then(|| Address::Tcp(host.to_owned(), port))
}

/// What stands behind `?`.
#[derive(Default)]
struct Options {
    mode: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    socket: Option<PathBuf>,
}

impl Options {
    fn read(query: &str) -> Result<Self, &'static str> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            let path = || Some(PathBuf::from(&value)).filter(|path| !path.as_os_str().is_empty());
            match name {
                "ssl-mode" | "sslmode" => options.mode = Some(value.to_ascii_uppercase().replace('-', "_")),
                "ssl-ca" => options.ca = path(),
                "ssl-cert" => options.cert = path(),
                "ssl-key" => options.key = path(),
                "socket" => options.socket = path(),
                _ => return Err("an option is none of ssl-mode, ssl-ca, ssl-cert, ssl-key, socket"),
            }
        }
        Ok(options)
    }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    percent::segment(text).map(Cow::into_owned).map_err(|_| "not percent-encoded UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> String {
        match parse(url) {
            Err(why) => why.to_owned(),
            Ok(target) => format!(
                "{:?} {}:{}/{} {:?} {:?} {:?}",
                target.address,
                target.user,
                target.password.expose(),
                target.database.unwrap_or_default(),
                target.tls,
                target.trust.verify,
                target.trust.ca_file.into_iter().chain(target.trust.identity.map(|(cert, _)| cert)).collect::<Vec<_>>(),
            ),
        }
    }

    #[test]
    fn a_url_says_where_who_and_how_secret() {
        for (url, expected) in [
            ("mysql://h", r#"Tcp("h", 3306) :/ Preferred Nothing []"#),
            ("mariadb://u:p%40s@[::1]:7/d%2e", r#"Tcp("::1", 7) u:p@s/d. Preferred Nothing []"#),
            ("mysql://u@h/d?ssl-mode=verify_identity&ssl-ca=/a%20b", r#"Tcp("h", 3306) u:/d Required Name ["/a b"]"#),
            ("mysql://h?sslmode=verify-ca&ssl-cert=/c&ssl-key=/k", r#"Tcp("h", 3306) :/ Required Authority ["/c"]"#),
            ("mysql://u:p@/d?socket=/run/my.sock&ssl-mode=DISABLED", r#"Unix("/run/my.sock") u:p/d Never Nothing []"#),
            ("mysql://u:p@w@h", r#"Tcp("h", 3306) u:p@w/ Preferred Nothing []"#),
            ("postgres://h", "neither mysql nor mariadb"),
            ("h", "no scheme"),
            ("mysql://", "names no host that can be asked"),
            ("mysql://h:0", "names no host that can be asked"),
            ("mysql://h:port", "names no host that can be asked"),
            ("mysql://h/a/b", "not mysql://USER:PASSWORD@HOST:PORT/DATABASE"),
            ("mysql://u%00:p@h", "not mysql://USER:PASSWORD@HOST:PORT/DATABASE"),
            ("mysql://u:%zz@h", "not percent-encoded UTF-8"),
            ("mysql://h?ssl-cert=/c", "ssl-cert and ssl-key belong together"),
            ("mysql://h?ssl-mode=x", "ssl-mode is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"),
            ("mysql://h?x=1", "an option is none of ssl-mode, ssl-ca, ssl-cert, ssl-key, socket"),
            ("mysql://u:p#w@h", "a fragment (#…) means nothing here; write # in a password as %23"),
        ] {
            assert_eq!(told(url), expected, "{url}");
        }
    }
}
