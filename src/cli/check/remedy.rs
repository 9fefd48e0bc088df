//! What a person does about a check that failed, by its kind and the cause. Pure. Servers are told by the key that leads to
//! them: a URL may hold a password.

use std::net::IpAddr;

use crate::net::{mysql, redis};
use crate::readiness::checks::{Cause, Failure, postgres_hosts};
use crate::readiness::settings::{App, AppAddress, Check, Kind, MysqlRole, PostgresRole, Redis, RedisRole, Store};
use crate::secret::Secret;

/// The remedy for one failure of one check.
pub(super) fn of(check: &Check, failure: &Failure) -> String {
    if let Some(told) = failure.remedy() {
        return told.to_owned();
    }
    let server = server(&check.kind);
    let key = key(check);
    let reason = failure.to_string();
    if let Some(remedy) = deployment(&check.kind, failure.cause, &key, &reason) {
        return remedy;
    }
    match failure.cause {
        Cause::Configuration => configuration(check, &key, &reason),
        Cause::Name => match hosts(&check.kind).as_slice() {
            [] => format!("correct the host in {key}, or see why DNS does not know it, with: getent hosts HOST"),
            hosts => {
                let hosts = hosts.join(" ");
                format!("correct the host in {key}, or see why DNS does not know it: getent hosts {hosts}")
            }
        },
        Cause::Refused if reason == "no such socket" => format!("start {server}, or correct the path in {key}"),
        Cause::Refused => format!("start {server}, or correct host and port in {key}"),
        Cause::Unreachable if reason == "permission denied" => {
            format!("let the sidecar's user open the socket in {key}, or a firewall let it pass")
        }
        Cause::Unreachable => "check the route and network policies from here: ip route get ADDRESS".to_owned(),
        Cause::Lost => {
            format!("look in the log of {server} for why it closed the connection; see whether {key} has to say TLS")
        }
        Cause::Timeout => {
            let limit = humantime::format_duration(check.timeout);
            format!(
                "see whether {server} is overloaded or a firewall drops packets; if it needs longer, raise \
                 checks.{}.timeout ({limit})",
                check.name
            )
        }
        Cause::Tls => tls(check, &key, &reason),
        Cause::Credentials => credentials(&check.kind, &key),
        Cause::Busy => busy(&check.kind, &reason),
        Cause::Role => role(&check.kind, &key),
        Cause::Replication => replication(&check.kind),
        Cause::Answer => by_hand(&check.kind, &key),
        Cause::Panic => "report this defect with the log".to_owned(),
    }
}

/// The key that leads to what is asked: `checks.db.postgres.url`.
fn key(check: &Check) -> String {
    let key = match &check.kind {
        Kind::Tcp { .. } => "address",
        Kind::Disk(_) => "path",
        Kind::Flags(_) => "sources",
        Kind::App(_) => return "proxy[].upstream".to_owned(),
        _ => "url",
    };
    format!("checks.{}.{}.{key}", check.name, check.kind.as_str())
}

fn server(kind: &Kind) -> &'static str {
    match kind {
        Kind::Postgres(_) => "PostgreSQL",
        Kind::Mysql(_) => "MySQL",
        Kind::Redis(_) => "Redis",
        Kind::Schema(schema) => match schema.store {
            Store::Postgres(_) => "PostgreSQL",
            Store::Mysql(_) => "MySQL",
        },
        Kind::App(_) => "the app",
        Kind::Disk(_) => "the disk",
        Kind::Http(_) | Kind::Grpc(_) | Kind::Tcp { .. } | Kind::Flags(_) => "the server",
    }
}

/// The names that may have been looked up, where they are told without a secret.
fn hosts(kind: &Kind) -> Vec<String> {
    let of_url = |url: &str| url.parse::<http::Uri>().ok().and_then(|url| url.host().map(str::to_owned));
    // With a second `@` a part of the password, in which it is not encoded, may be taken for a host.
    let sure = |url: &Secret| url.expose().matches('@').count() < 2;
    let of_postgres = |url: &Secret| if sure(url) { postgres_hosts(url) } else { Vec::new() };
    let of_mysql = |url: &Secret| {
        let endpoint = mysql::Endpoint::new(url).ok().filter(|_| sure(url));
        endpoint.and_then(|endpoint| endpoint.host().map(str::to_owned)).into_iter().collect()
    };
    let hosts: Vec<String> = match kind {
        Kind::Http(http) => of_url(&http.url).into_iter().collect(),
        Kind::Grpc(grpc) => of_url(&grpc.url).into_iter().collect(),
        Kind::Tcp { address } => address.rsplit_once(':').map(|(host, _)| host.to_owned()).into_iter().collect(),
        Kind::App(App { address: AppAddress::Tcp(host, _), .. }) => vec![host.clone()],
        Kind::Postgres(postgres) => of_postgres(&postgres.url),
        Kind::Mysql(mysql) => of_mysql(&mysql.url),
        Kind::Schema(schema) => match &schema.store {
            Store::Postgres(url) => of_postgres(url),
            Store::Mysql(url) => of_mysql(url),
        },
        Kind::Redis(Redis { url, .. }) if sure(url) => {
            redis::Endpoint::new(url).map(|endpoint| endpoint.hosts()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let name = |host: &String| {
        let letter = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        host.parse::<IpAddr>().is_err() && !host.is_empty() && host.chars().all(letter)
    };
    hosts.into_iter().filter(name).collect()
}

/// What is wrong with how Redis is deployed or with its Sentinels, and not with Redis. By the words of `checks::redis`.
fn deployment(kind: &Kind, cause: Cause, key: &str, reason: &str) -> Option<String> {
    let Kind::Redis(Redis { url, .. }) = kind else { return None };
    let tls = if url.expose().starts_with("rediss") { "s" } else { "" };
    if reason.starts_with("not a cluster") {
        return Some(format!(
            "write redis{tls}:// in place of redis{tls}+cluster:// in {key}, or name a cluster's nodes"
        ));
    }
    if reason.starts_with("no sentinel knows") {
        return Some(format!(
            "correct the master's name in {key}; they are listed by: redis-cli -p 26379 SENTINEL MASTERS"
        ));
    }
    if !reason.starts_with("no sentinel tells") {
        return None;
    }
    Some(match cause {
        Cause::Refused => format!("start the Sentinels, or correct their hosts and ports (26379 by default) in {key}"),
        Cause::Configuration if reason.ends_with("not a Sentinel") => {
            format!("name the Sentinels, of port 26379 by default, in {key}, or write redis{tls}:// for one server")
        }
        Cause::Credentials => {
            format!(
                "check sentinel_user and sentinel_password in {key}, then requirepass and ACL LIST of the Sentinels"
            )
        }
        _ => return None,
    })
}

fn configuration(check: &Check, key: &str, reason: &str) -> String {
    let database = match &check.kind {
        Kind::Postgres(_) | Kind::Schema(_) if reason.starts_with("database ") => Some("CREATE DATABASE"),
        Kind::Mysql(_) | Kind::Schema(_) if reason.starts_with("Unknown database") => Some("CREATE DATABASE"),
        Kind::Mysql(_) | Kind::Schema(_) if reason.starts_with("Access denied") => Some("GRANT it to the user"),
        Kind::Grpc(_) if reason.contains("no health service") => {
            return "register grpc.health.v1.Health in the server, or check it by kind tcp".to_owned();
        }
        _ => None,
    };
    match database {
        Some(statement) => format!("correct the database's name in {key}, or {statement}"),
        None => format!("correct checks.{}.{}", check.name, check.kind.as_str()),
    }
}

/// By the words of `net::tls::client::reason`.
fn tls(check: &Check, key: &str, reason: &str) -> String {
    let (authority, name) = match &check.kind {
        Kind::Postgres(_) => ("sslrootcert", "the host"),
        Kind::Mysql(_) => ("ssl-ca", "the host"),
        Kind::Schema(schema) => match schema.store {
            Store::Postgres(_) => ("sslrootcert", "the host"),
            Store::Mysql(_) => ("ssl-ca", "the host"),
        },
        _ => ("ca_file", "server_name"),
    };
    let server = server(&check.kind);
    match reason {
        _ if reason.contains("expired") => format!("renew the certificate of {server}, and have it read anew"),
        _ if reason.contains("not valid yet") => {
            format!("set the clocks right, or wait: {server} shows a certificate of the future")
        }
        _ if reason.contains("not for ") => {
            format!("connect by a name that the certificate bears ({name} of {key}), or issue one for this name")
        }
        _ if reason.contains("no authority that we trust") => {
            format!("name the authority that issued the certificate of {server} in {authority}")
        }
        _ if reason.contains("CA:TRUE") => format!(
            "issue {server} a certificate that is no authority's (openssl req -x509 -addext \
             basicConstraints=critical,CA:FALSE), and name it, or who issued it, in {authority}"
        ),
        _ if reason.contains("extended key usage") => {
            format!("issue {server} a certificate with extendedKeyUsage=serverAuth, or with none")
        }
        _ if reason.contains("version of X.509") => {
            format!("issue {server} a certificate of version 3, with its names as subjectAltName")
        }
        _ if reason.contains("revoked") => format!("give {server} another certificate"),
        _ if reason.contains("is not TLS") || reason.contains("does not support TLS") => {
            format!("turn TLS on in {server}, or off in {key}")
        }
        _ if reason.contains("broke off") || reason.contains("speaks") => {
            format!("see the log of {server}: it may want a certificate of ours, or speak other versions of TLS")
        }
        _ => format!("check the certificate, the host's name and how {key} asks for TLS"),
    }
}

fn credentials(kind: &Kind, key: &str) -> String {
    let rest = match (kind, server(kind)) {
        (Kind::Grpc(_), _) => {
            return "let the health service answer without credentials: the check sends none".to_owned();
        }
        (_, "PostgreSQL") => "pg_hba.conf and the role: \\du in psql",
        (_, "MySQL") => "the account, with the host that it is for: SELECT user, host, plugin FROM mysql.user",
        (_, "Redis") => "requirepass and the user: ACL LIST",
        _ => "what the server asks for",
    };
    format!("check user and password in {key}, then {rest}")
}

fn busy(kind: &Kind, reason: &str) -> String {
    let full = reason.starts_with("too many connections");
    match (server(kind), full) {
        ("PostgreSQL", true) => {
            "see who holds its connections, or raise max_connections: SELECT usename, application_name, count(*) FROM \
             pg_stat_activity GROUP BY 1, 2"
        }
        ("MySQL", true) => "see who holds its connections, or raise max_connections: SHOW PROCESSLIST",
        ("MySQL", false) if reason.contains("blocked") => {
            "unblock this host: mysqladmin flush-hosts (MariaDB: mariadb-admin flush-hosts)"
        }
        ("Redis", true) => "see who holds its connections, or raise maxclients: CLIENT LIST",
        ("Redis", false) => "wait until it has loaded its data: INFO persistence",
        _ => "wait: it is starting or ending; its log says which",
    }
    .to_owned()
}

/// The reason says what the server is.
fn role(kind: &Kind, key: &str) -> String {
    let (wanted, ask) = match kind {
        Kind::Postgres(postgres) => match postgres.role {
            PostgresRole::Standby => ("a standby", "SELECT pg_is_in_recovery()"),
            _ => ("the primary", "SELECT pg_is_in_recovery()"),
        },
        Kind::Mysql(mysql) => match mysql.role {
            MysqlRole::Replica => ("a replica", "SHOW REPLICA STATUS"),
            _ => ("the primary", "SELECT @@read_only"),
        },
        Kind::Redis(redis) => match redis.role {
            RedisRole::Replica => ("a replica", "ROLE"),
            _ => ("the master", "ROLE"),
        },
        _ => return by_hand(kind, key),
    };
    format!("point {key} at {wanted} ({ask}), promote this server, or change role")
}

fn replication(kind: &Kind) -> String {
    match kind {
        Kind::Postgres(_) => {
            "see what holds it up: SELECT * FROM pg_stat_wal_receiver there, pg_stat_replication on the primary"
        }
        Kind::Mysql(_) => "see Last_IO_Error and Last_SQL_Error: SHOW REPLICA STATUS; then START REPLICA",
        _ => "see which nodes are away: INFO replication, and CLUSTER NODES of a cluster",
    }
    .to_owned()
}

fn by_hand(kind: &Kind, key: &str) -> String {
    match kind {
        Kind::Postgres(postgres) => format!("run it by hand as the user of {key}, in psql: {}", postgres.query),
        Kind::Mysql(mysql) => format!("run it by hand as the user of {key}, in mysql: {}", mysql.query),
        Kind::Schema(_) => format!("log in with {key}: the user has to see the tables that are named"),
        Kind::Redis(_) => format!("ask by hand, with redis-cli as the user of {key}: PING; INFO replication"),
        Kind::Http(http) => format!("ask by hand: curl -i {}", http.url),
        Kind::Grpc(grpc) => {
            let service = if grpc.service.is_empty() { String::new() } else { format!(" -service {}", grpc.service) };
            let address = grpc.url.split_once("://").map_or(grpc.url.as_str(), |(_, address)| address);
            let tls = if grpc.url.starts_with("https:") { " -tls" } else { "" };
            format!("ask by hand: grpc_health_probe -addr {address}{service}{tls}")
        }
        Kind::App(App { path: Some(path), address: AppAddress::Tcp(host, port), .. }) => {
            format!("ask by hand: curl -i 'http://{host}:{port}{path}'")
        }
        Kind::App(App { path: Some(path), address: AppAddress::Unix(socket), .. }) => {
            format!("ask by hand: curl -i --unix-socket {} 'http://app{path}'", socket.display())
        }
        _ => "see the server's log".to_owned(),
    }
}

#[cfg(test)]
#[path = "remedy/tests.rs"]
mod tests;
