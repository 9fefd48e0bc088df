//! What a person does about a check that failed, by its kind and the cause. Pure. Servers are told by the key that leads to
//! them: a URL may hold a password.

use std::net::IpAddr;

use crate::readiness::checks::{Cause, Failure};
use crate::readiness::settings::{App, AppAddress, Check, Kind, MysqlRole, PostgresRole, RedisRole, Store};

/// The remedy for one failure of one check.
pub(super) fn of(check: &Check, failure: &Failure) -> String {
    if let Some(told) = failure.remedy() {
        return told.to_owned();
    }
    let server = server(&check.kind);
    let key = key(check);
    let reason = failure.to_string();
    match failure.cause {
        Cause::Configuration => configuration(check, &key, &reason),
        Cause::Name => match host(&check.kind) {
            Some(host) => format!("correct the host in {key}, or see why DNS does not know it: getent hosts {host}"),
            None => format!("correct the host in {key}, or see why DNS does not know it, with: getent hosts HOST"),
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

/// The name that was looked up, where it is told without a secret.
fn host(kind: &Kind) -> Option<String> {
    let of_url = |url: &str| url.parse::<http::Uri>().ok()?.host().map(str::to_owned);
    let host = match kind {
        Kind::Http(http) => of_url(&http.url),
        Kind::Grpc(grpc) => of_url(&grpc.url),
        Kind::Tcp { address } => address.rsplit_once(':').map(|(host, _)| host.to_owned()),
        Kind::App(App { address: AppAddress::Tcp(host, _), .. }) => Some(host.clone()),
        _ => None,
    };
    host.filter(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_err())
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
        _ if reason.contains("revoked") => format!("give {server} another certificate"),
        _ if reason.contains("is not TLS") || reason.contains("does not support TLS") => {
            format!("turn TLS on in {server}, or off in {key}")
        }
        _ if reason.contains("broke off") => {
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
