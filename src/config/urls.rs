//! Addresses of what the sidecar talks to: the app, Redis, PostgreSQL, and what HTTP and TCP checks ask. Pure.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr as _;

use http::Uri;
use http::uri::Authority;

use super::values::{Type, Wrong, mask, secret, wrong};
use crate::net::mysql;
use crate::net::redis::Endpoint;
use crate::proxy::settings::{Address, Protocol, Upstream};
use crate::readiness::checks::split_postgres_options;
use crate::secret::Secret;

/// Bytes of a unix socket's path: `sun_path` of unix(7) without its final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Where the app answers.
pub(super) fn upstream() -> Type<Upstream> {
    const WHAT: &str = "`http://HOST:PORT`, `unix:PATH`, `h2c://HOST:PORT` or `h2c+unix:PATH`";
    Type::text(WHAT, "http://127.0.0.1:3000", parse_upstream)
}

fn parse_upstream(text: &str) -> Result<Upstream, Wrong> {
    const REMEDY: &str = "write http://HOST:PORT or unix:/path/to/socket; h2c:// or h2c+unix: for HTTP/2";
    const NO_TLS: &str = "TLS towards the app is not supported";
    const BESIDE: &str = "the app listens beside this process: let it serve in the clear on 127.0.0.1 or a unix socket, \
                          and write http://127.0.0.1:PORT or unix:/path/to/socket; clients have TLS by proxy[].tls";
    let (path, protocol) = match text.strip_prefix("h2c+") {
        Some(rest) => (rest, Protocol::Http2),
        None => (text, Protocol::Http1),
    };
    if let Some(path) = path.strip_prefix("unix:") {
        // As in a URL, two slashes begin a host (RFC 3986 §3.2): only an empty one makes sense here.
        let path = if path.starts_with("///") { &path[2..] } else { path };
        if path.starts_with("//") {
            return wrong("a host, where a unix socket has none", REMEDY);
        }
        return socket_path(path).map(|path| Upstream { address: Address::Unix(path), protocol });
    }
    let (authority, protocol) = match text.split_once("://") {
        None => (text, Protocol::Http1),
        Some(("http", rest)) => (rest, Protocol::Http1),
        Some(("h2c", rest)) => (rest, Protocol::Http2),
        Some(("https" | "wss", _)) => return wrong(NO_TLS, BESIDE),
        Some(_) => return wrong("not the address of an app", REMEDY),
    };
    let authority = if text.contains("://") { authority.strip_suffix('/').unwrap_or(authority) } else { authority };
    if authority.contains(['/', '?', '#']) {
        return wrong("a path or query, where requests bring their own", REMEDY);
    }
    let default = text.contains("://").then_some(80);
    let (host, port) = host_port(authority, default)
        .ok_or(Wrong { what: "not the address of an app".into(), remedy: REMEDY.into() })?;
    Ok(Upstream { address: Address::Tcp { host, port }, protocol })
}

/// A path that fits a unix socket.
pub(super) fn socket_path(path: &str) -> Result<PathBuf, Wrong> {
    if path.is_empty() || path.contains('\0') {
        return wrong("not a path", "write /path/to/socket");
    }
    if path.len() > MAX_SOCKET_PATH {
        return wrong(
            format!("longer than the {MAX_SOCKET_PATH} bytes of a unix socket's path"),
            "choose a shorter path",
        );
    }
    Ok(PathBuf::from(path))
}

/// `HOST:PORT` of a TCP check.
pub(super) fn tcp_address() -> Type<String> {
    Type::text("host and port", "db.internal:5432", |text| match host_port(text, None) {
        Some(_) => Ok(text.to_owned()),
        None => wrong("not a host and a port", "write HOST:PORT"),
    })
}

/// The host, without brackets, and the port of `HOST[:PORT]`.
pub(super) fn host_port(text: &str, default: Option<u16>) -> Option<(String, u16)> {
    let authority = Authority::from_str(text).ok().filter(|authority| !authority.as_str().contains('@'))?;
    let (host, rest) = match authority.as_str().strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let host = authority.host();
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
                return None;
            }
            (host, &authority.as_str()[host.len()..])
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None if rest.is_empty() => default?,
        None => return None,
    };
    Some((host.to_owned(), port))
}

/// What an HTTP check asks.
pub(super) fn http_url() -> Type<String> {
    Type::text("`http://HOST[:PORT]/PATH` or `https://…`", "http://127.0.0.1:3000/healthz", |text| {
        const REMEDY: &str = "write http://HOST:PORT/PATH or https://HOST:PORT/PATH";
        let Ok(uri) = Uri::from_str(text) else { return wrong("not a URL", REMEDY) };
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return wrong("not an HTTP URL", REMEDY),
        }
        if text.contains('#') {
            return wrong("a fragment, which no server is sent", REMEDY);
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                wrong("a user or password in the URL, which would be shown in answers and logs", REMEDY)
            }
            Some(authority) if host_port(authority.as_str(), Some(80)).is_some() => Ok(text.to_owned()),
            _ => wrong("not a URL with a usable host", REMEDY),
        }
    })
}

/// The host and port of an HTTP check's URL.
pub(super) fn http_target(url: &str) -> Option<(String, u16)> {
    let uri = Uri::from_str(url).ok()?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    host_port(uri.authority()?.as_str(), Some(default))
}

/// Where a gRPC server listens.
pub(super) fn grpc_url() -> Type<String> {
    Type::text("`http://HOST:PORT`, or `https://HOST:PORT` for TLS", "http://127.0.0.1:50051", |text| {
        const REMEDY: &str = "write http://HOST:PORT or https://HOST:PORT";
        let Ok(uri) = Uri::from_str(text) else { return wrong("not a URL", REMEDY) };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return wrong("neither http nor https", REMEDY);
        }
        if text.contains('#') || uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return wrong("a path, where the health service has its own", REMEDY);
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => wrong("a user or password in the URL", REMEDY),
            Some(authority) if host_port(authority.as_str(), None).is_some() => Ok(text.to_owned()),
            _ => wrong("not a URL with a usable host and a port", REMEDY),
        }
    })
}

/// Where Redis is.
pub(super) fn redis_url() -> Type<Secret> {
    let check = |text: &str| {
        const REMEDY: &str = "write redis://[USER:PASSWORD@]HOST:PORT[/DB], redis+sentinel://HOST:PORT,HOST:PORT/MASTER or \
                              redis+cluster://HOST:PORT,HOST:PORT; rediss… for TLS";
        match Endpoint::new(&Secret::new(text)) {
            Ok(_) => Ok(()),
            // The driver's own words may quote a part of the password.
            Err(_) => wrong("not a Redis URL", REMEDY),
        }
    };
    let what = "`redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://` or `unix:` URL";
    secret(what, "redis://127.0.0.1:6379", check, mask)
}

/// Where MySQL is.
pub(super) fn mysql_url() -> Type<Secret> {
    let check = |text: &str| match mysql::Endpoint::new(&Secret::new(text)) {
        Ok(_) => Ok(()),
        Err(error) => {
            wrong(error.to_string(), "write mysql://USER:PASSWORD@HOST:PORT/DATABASE?ssl-mode=VERIFY_IDENTITY")
        }
    };
    secret("`mysql://` or `mariadb://` URL", "mysql://app:${PASSWORD}@db:3306/orders", check, mask)
}

/// Where PostgreSQL is.
pub(super) fn postgres_url() -> Type<Secret> {
    let check = |text: &str| {
        const REMEDY: &str = "write postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        // libpq's options that connection strings in the wild carry and that mean something this client does not do.
        const FOREIGN: [&str; 5] = ["sslcrl", "sslcrldir", "sslpassword", "passfile", "service"];
        let options = match split_postgres_options(text) {
            Ok(options) => options,
            Err(what) => return wrong(what, REMEDY),
        };
        match tokio_postgres::Config::from_str(&options.rest) {
            Ok(config) if config.get_hosts().is_empty() => wrong("names no host", REMEDY),
            Ok(_) => Ok(()),
            Err(_) => match FOREIGN.iter().find(|name| text.contains(&format!("{name}="))) {
                Some(name) => wrong(format!("option {name} is not supported"), "remove the option"),
                // The driver's own words may quote a part of the password.
                None => wrong("not a connection string of PostgreSQL", REMEDY),
            },
        }
    };
    let shown = |text: &str| if text.contains("://") { mask(text) } else { "REDACTED".into() };
    secret("`postgres://` URL or `key=value` string", "postgres://app:${PASSWORD}@db:5432/orders", check, shown)
}

#[cfg(test)]
mod tests {
    use super::super::node::{Node, Origin, Value};
    use super::*;

    #[test]
    fn the_app_is_reached_over_tcp_or_a_unix_socket() {
        for (text, expected) in [
            ("http://127.0.0.1:3000", Ok("http://127.0.0.1:3000")),
            ("127.0.0.1:3000", Ok("http://127.0.0.1:3000")),
            ("http://app/", Ok("http://app:80")),
            ("http://[::1]:3000", Ok("http://[::1]:3000")),
            ("unix:/run/app.sock", Ok("unix:/run/app.sock")),
            ("unix:///run/app.sock", Ok("unix:/run/app.sock")),
            ("https://app:3000", Err("TLS towards the app is not supported")),
            ("h2c://app:3000/", Ok("h2c://app:3000")),
            ("h2c://[::1]", Ok("h2c://[::1]:80")),
            ("h2c+unix:/run/app.sock", Ok("h2c+unix:/run/app.sock")),
            ("h2c+unix://app.sock", Err("a host, where a unix socket has none")),
            ("h2c+http://app:80", Err("not the address of an app")),
            ("h2c:app", Err("not the address of an app")),
            ("ftp://app", Err("not the address of an app")),
            ("app", Err("not the address of an app")),
            ("app:0", Err("not the address of an app")),
            ("app:99999", Err("not the address of an app")),
            ("http://u:p@app:80", Err("not the address of an app")),
            ("http://[::g]:80", Err("not the address of an app")),
            ("http://a b:80", Err("not the address of an app")),
            ("", Err("not the address of an app")),
            ("http://app:80/path", Err("a path or query, where requests bring their own")),
            ("unix:app.sock", Ok("unix:app.sock")),
            ("unix:", Err("not a path")),
            ("unix://app.sock", Err("a host, where a unix socket has none")),
        ] {
            let parsed = parse_upstream(text).map(|upstream| upstream.to_string());
            assert_eq!(parsed.as_deref().map_err(|wrong| wrong.what.as_str()), expected, "{text}");
        }
        assert!(parse_upstream(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    /// What a kind says to a text: nothing, or why not.
    fn said<T: 'static>(kind: &Type<T>, text: &str) -> Option<String> {
        let node = Node::new(Value::Text(text.to_owned()), Origin::File(0));
        (kind.read)(&node).err().map(|faults| faults[0].1.what.clone())
    }

    #[test]
    fn stores_are_named_by_the_urls_that_their_clients_take() {
        for (text, expected) in [
            ("redis://r", None),
            ("redis://:p%40ss@r:6379/3?protocol=resp3", None),
            ("rediss://user:pw@r:6380", None),
            ("redis+unix:///run/redis.sock?db=1", None),
            ("unix:///run/redis.sock", None),
            ("unix:/run/redis.sock", None),
            ("redis+cluster://r,s:7000", None),
            ("rediss+sentinel://u:p@r,s/main?ca_file=/ca.pem", None),
            ("rediss+sentinel://r", Some("not a Redis URL")),
            ("rediss://r?ca_flie=/ca.pem", Some("not a Redis URL")),
            ("http://r", Some("not a Redis URL")),
            ("r:6379", Some("not a Redis URL")),
            ("redis://r:port", Some("not a Redis URL")),
            ("", Some("not a Redis URL")),
        ] {
            assert_eq!(said(&redis_url(), text).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("postgres://app:pw@db:5432/orders", None),
            ("postgresql://app@db/orders?sslmode=require&connect_timeout=3", None),
            ("host=/run/postgresql user=app dbname=orders", None),
            ("postgres:///orders?host=/run/postgresql", None),
            ("user=app", Some("names no host")),
            ("postgres://db/orders?sslmode=verify-full", None),
            (
                "postgres://db/orders?sslmode=verify-nothing",
                Some("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"),
            ),
            ("host=db sslcert=/c sslkey=/k sslrootcert=/ca sslmode=verify-ca", None),
            ("host=db sslkey=/k", Some("sslcert and sslkey belong together")),
            ("host=db sslcrl=/k", Some("option sslcrl is not supported")),
            ("mysql://db", Some("not a connection string of PostgreSQL")),
            ("", Some("names no host")),
        ] {
            assert_eq!(said(&postgres_url(), text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn checks_ask_hosts_that_can_be_asked() {
        for (text, expected) in [
            ("http://h/", None),
            ("http://h:1/p?q=1", None),
            ("http://[::1]:1/", None),
            ("https://h/", None),
            ("ftp://h/", Some("not an HTTP URL")),
            ("/path", Some("not an HTTP URL")),
            ("http://h/ path", Some("not a URL")),
            ("http://", Some("not a URL")),
            ("http://h:0/", Some("not a URL with a usable host")),
            ("http://h/#f", Some("a fragment, which no server is sent")),
            ("http://u@h/", Some("a user or password in the URL, which would be shown in answers and logs")),
        ] {
            assert_eq!(said(&http_url(), text).as_deref(), expected, "{text}");
        }
        for (text, fits) in [
            ("h:1", true),
            ("[::1]:1", true),
            ("h", false),
            (":1", false),
            ("h:x", false),
            ("h:1/x", false),
            ("u@h:1", false),
        ] {
            assert_eq!(said(&tcp_address(), text).is_none(), fits, "{text}");
        }
        assert_eq!(http_target("http://[::1]/x"), Some(("::1".into(), 80)));
    }
}
