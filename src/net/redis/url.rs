//! What a Redis URL says: which kind of deployment, where its servers are, who we are to them and whom TLS trusts. Pure.

use std::borrow::Cow;
use std::path::PathBuf;

use redis::{ConnectionAddr, ProtocolVersion, RedisConnectionInfo};

use super::{Error, Node};
use crate::net::percent;
use crate::secret::Secret;

/// Servers that one URL may name.
const MOST: usize = 32;

/// A URL, understood.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// Who we are to a server of flags.
    pub(super) login: RedisConnectionInfo,
    /// Who we are to a Sentinel, which has users of its own.
    pub(super) sentinel_login: RedisConnectionInfo,
    /// `None` without TLS.
    pub(super) trust: Option<Trust>,
    /// How many replicas should have a write before it counts as kept; fewer if there are not as many.
    pub(super) wait_replicas: u64,
}

/// How the servers hang together.
#[derive(Clone)]
pub(super) enum Kind {
    /// One server.
    Single(Node),
    /// The master that Sentinels agree on.
    Sentinel { sentinels: Vec<Node>, master: String },
    /// A cluster, of which these nodes are known.
    Cluster { seeds: Vec<Node> },
}

/// Files are read anew for each connection, so that a certificate may be replaced under a running process.
#[derive(Clone, Default)]
pub(super) struct Trust {
    /// Authorities to trust in place of the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// Our certificate chain and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// The name that certificates must bear, where it is not the host of the URL.
    pub(super) server_name: Option<String>,
}

/// Parses a URL.
pub(super) fn parse(url: &Secret) -> Result<Target, Error> {
    let text = url.expose();
    let text = match text.strip_prefix("unix:") {
        // `unix:/path`, as elsewhere in the configuration.
        Some(path) if path.starts_with('/') && !path.starts_with("//") => format!("unix://{path}"),
        _ => text.to_owned(),
    };
    if text.contains('#') {
        return Err(Error::Url("a fragment (#…) means nothing here; write # in a password as %23".to_owned()));
    }
    let (text, options) = options(&text)?;
    let (scheme, rest) = text.split_once("://").ok_or_else(|| Error::Url("no scheme".to_owned()))?;
    let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let tls = match (family, kind) {
        ("redis", "" | "sentinel" | "cluster" | "unix") | ("unix", "") => false,
        ("rediss", "" | "sentinel" | "cluster") => true,
        _ => return Err(Error::Url("not one of redis, rediss, unix, redis+sentinel, redis+cluster".to_owned())),
    };
    if !tls && options.trust {
        return Err(Error::Url("ca_file, cert_file, key_file and server_name need rediss".to_owned()));
    }
    if kind != "sentinel" && (options.sentinel_user.is_some() || options.sentinel_password.is_some()) {
        return Err(Error::Url("sentinel_user and sentinel_password need redis+sentinel".to_owned()));
    }
    let (kind, login) = match kind {
        "sentinel" | "cluster" => several(url, kind, rest, &options.passed)?,
        _ => {
            let (node, login) = single(url, &format!("{text}{}", options.passed))?;
            (Kind::Single(node), login)
        }
    };
    let mut sentinel_login = RedisConnectionInfo::default();
    if let Some(user) = &options.sentinel_user {
        sentinel_login = sentinel_login.set_username(user);
    }
    if let Some(password) = &options.sentinel_password {
        sentinel_login = sentinel_login.set_password(password);
    }
    let trust = match (options.cert_file, options.key_file) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(Error::Url("cert_file and key_file belong together".to_owned())),
    };
    let trust = Trust { ca_file: options.ca_file, identity: trust, server_name: options.server_name };
    Ok(Target {
        kind,
        login,
        sentinel_login,
        trust: tls.then_some(trust),
        wait_replicas: options.wait_replicas.unwrap_or(1),
    })
}

/// `HOST:PORT,HOST:PORT/MASTER[/DB]` of Sentinels, `HOST:PORT,HOST:PORT` of a cluster.
fn several(url: &Secret, kind: &str, rest: &str, passed: &str) -> Result<(Kind, RedisConnectionInfo), Error> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let (master, db) = match kind {
        "sentinel" => path.split_once('/').unwrap_or((path, "")),
        _ => ("", path),
    };
    if kind == "cluster" && !matches!(db, "" | "0") {
        return Err(Error::Url("a cluster has only database 0".to_owned()));
    }
    if kind == "sentinel" && (master.is_empty() || db.contains('/')) {
        return Err(Error::Url("write the master's name as redis+sentinel://HOST:PORT,HOST:PORT/NAME".to_owned()));
    }
    let mut login = RedisConnectionInfo::default();
    let mut nodes = Vec::new();
    for host in hosts.split(',') {
        let port = if kind == "sentinel" && !has_port(host) { ":26379" } else { "" };
        let (node, parsed) = single(url, &format!("redis://{user}{host}{port}/{db}{passed}"))?;
        if !nodes.contains(&node) {
            nodes.push(node);
        }
        login = parsed;
    }
    if nodes.len() > MOST {
        return Err(Error::Url(format!("{} servers; name at most {MOST}", nodes.len())));
    }
    let kind = match kind {
        "sentinel" => Kind::Sentinel { sentinels: nodes, master: decode(master)? },
        _ => Kind::Cluster { seeds: nodes },
    };
    Ok((kind, login))
}

fn has_port(host: &str) -> bool {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after.contains(':')
}

/// The URL of one server, by the driver's own parser.
fn single(url: &Secret, text: &str) -> Result<(Node, RedisConnectionInfo), Error> {
    let client = redis::Client::open(text).map_err(|e| Error::Url(url.scrub(&e.to_string())))?;
    let info = client.get_connection_info();
    let node = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Node::Tcp(host.trim_matches(['[', ']']).to_owned(), *port)
        }
        ConnectionAddr::Unix(path) => Node::Unix(path.clone()),
        _ => return Err(Error::Url("unknown kind of address".to_owned())),
    };
    // Who the client is by its library would need a permission more, and says nothing here.
    Ok((node, info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name()))
}

/// What stands behind `?`.
#[derive(Default)]
struct Options {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name: Option<String>,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
    wait_replicas: Option<u64>,
    /// Whether there is one that is about TLS.
    trust: bool,
    /// What the driver's parser knows, as it was written.
    passed: String,
}

fn options(text: &str) -> Result<(String, Options), Error> {
    let Some((text, query)) = text.split_once('?') else { return Ok((text.to_owned(), Options::default())) };
    let mut options = Options::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "ca_file" => options.ca_file = Some(decode(value)?.into()),
            "cert_file" => options.cert_file = Some(decode(value)?.into()),
            "key_file" => options.key_file = Some(decode(value)?.into()),
            "server_name" => options.server_name = Some(decode(value)?),
            "sentinel_user" => options.sentinel_user = Some(decode(value)?),
            "sentinel_password" => options.sentinel_password = Some(decode(value)?),
            "wait_replicas" => {
                let count = value.parse().ok().filter(|count| *count <= 100);
                options.wait_replicas =
                    Some(count.ok_or_else(|| Error::Url("wait_replicas is a number up to 100".to_owned()))?);
            }
            "protocol" | "db" | "user" | "pass" => {
                options.passed.push(if options.passed.is_empty() { '?' } else { '&' });
                options.passed.push_str(pair);
            }
            // A misspelt `ca_file` would silently trust somebody else.
            _ => {
                let known =
                    "ca_file, cert_file, key_file, server_name, sentinel_user, sentinel_password, wait_replicas";
                return Err(Error::Url(format!("unknown option; known are {known}")));
            }
        }
        options.trust |= matches!(name, "ca_file" | "cert_file" | "key_file" | "server_name");
    }
    Ok((text.to_owned(), options))
}

fn decode(text: &str) -> Result<String, Error> {
    let bad = |_| Error::Url("a % that is not followed by two hexadecimal digits of UTF-8".to_owned());
    percent::segment(text).map(Cow::into_owned).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> String {
        let target = match parse(&Secret::new(url)) {
            Ok(target) => target,
            Err(error) => return error.to_string(),
        };
        let list = |nodes: &[Node]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let kind = match &target.kind {
            Kind::Single(node) => format!("single {node}"),
            Kind::Sentinel { sentinels, master } => format!("master {master} of {}", list(sentinels)),
            Kind::Cluster { seeds } => format!("cluster {}", list(seeds)),
        };
        let login = |login: &RedisConnectionInfo| {
            format!("{}:{}/{}", login.username().unwrap_or(""), login.password().unwrap_or(""), login.db())
        };
        let tls = target.trust.map_or(String::new(), |trust| {
            let ca = trust.ca_file.map_or("system".to_owned(), |path| path.display().to_string());
            format!(" tls {ca} {} {}", trust.identity.is_some(), trust.server_name.unwrap_or_default())
        });
        format!("{kind} as {} to sentinels {}{tls}", login(&target.login), login(&target.sentinel_login))
    }

    #[test]
    fn every_kind_of_deployment_has_its_url() {
        for (url, expected) in [
            ("redis://h", "single h:6379 as :/0 to sentinels :/0"),
            ("redis://u:p%40@[::1]:7/2", "single [::1]:7 as u:p@/2 to sentinels :/0"),
            ("unix:/run/r.sock", "single unix:/run/r.sock as :/0 to sentinels :/0"),
            ("redis+unix:///run/r.sock?db=1&pass=x", "single unix:/run/r.sock as :x/1 to sentinels :/0"),
            ("rediss://h:7", "single h:7 as :/0 to sentinels :/0 tls system false "),
            (
                "rediss://h?ca_file=/a%20b&cert_file=/c&key_file=/k&server_name=n",
                "single h:6379 as :/0 to sentinels :/0 tls /a b true n",
            ),
            (
                "redis+sentinel://u:p@a,b:1,[::1]:2/main/3?sentinel_user=s&sentinel_password=t",
                "master main of a:26379 b:1 [::1]:2 as u:p/3 to sentinels s:t/0",
            ),
            ("rediss+sentinel://a:1/m%2Fn", "master m/n of a:1 as :/0 to sentinels :/0 tls system false "),
            ("redis+cluster://:p@a:1,b:2,a:1", "cluster a:1 b:2 as :p/0 to sentinels :/0"),
            ("redis+cluster://a:1/0", "cluster a:1 as :/0 to sentinels :/0"),
        ] {
            assert_eq!(told(url), expected, "{url}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for url in [
            "",
            "h",
            "http://h",
            "redis+foo://h",
            "unix+sentinel://h/m",
            "redis+sentinel://h",
            "redis+sentinel://h/",
            "redis+sentinel:///m",
            "redis+sentinel://a,,b/m",
            "redis+sentinel://a/m/x",
            "redis+cluster://",
            "redis+cluster://a:x",
            "redis+cluster://a/1",
            "redis://h?ca_file=/a",
            "redis://h?sentinel_password=x",
            "rediss://h?cert_file=/a",
            "rediss://h?ca_flie=/a",
            "rediss://h?ca_file=%2",
            "rediss://h?ca_file=%ff",
            "rediss://h/#insecure",
            "redis://h?wait_replicas=-1",
        ] {
            assert!(told(url).starts_with("redis URL: "), "{url}: {}", told(url));
        }
        let many: Vec<String> = (1..=33).map(|port| format!("h:{port}")).collect();
        assert!(told(&format!("redis+cluster://{}", many.join(","))).contains("33 servers"));
    }
}
