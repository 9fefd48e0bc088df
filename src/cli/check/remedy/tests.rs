//! Every kind and cause has a remedy of its own where there is one.

use std::time::Duration;

use super::*;
use crate::net::tls::client::Trust;
use crate::readiness::settings::{Grpc, Http, Mysql, Postgres, Schema};

fn postgres() -> Kind {
    Kind::Postgres(Postgres::new(Secret::new("postgres://u:s3cret@db/d")))
}

fn mysql() -> Kind {
    Kind::Mysql(Mysql { role: MysqlRole::Replica, ..Mysql::new(Secret::new("mysql://u:s3cret@db/d")) })
}

fn redis() -> Kind {
    Kind::Redis(Redis { role: RedisRole::Master, ..Redis::new(Secret::new("redis://:s3cret@db")) })
}

fn of_redis(url: &str) -> Kind {
    Kind::Redis(Redis::new(Secret::new(url)))
}

fn schema() -> Kind {
    Kind::Schema(Schema::new(Store::Mysql(Secret::new("mysql://u:s3cret@db/d"))))
}

fn grpc() -> Kind {
    Kind::Grpc(Grpc { url: "https://app:50051".into(), service: "orders.v1".into(), trust: Trust::default() })
}

fn tcp(address: &str) -> Kind {
    Kind::Tcp { address: address.to_owned() }
}

fn app(socket: &str) -> Kind {
    Kind::App(App { address: AppAddress::Unix(socket.into()), path: Some("/up".into()), status: vec![(200, 399)] })
}

fn check(kind: Kind, cause: Cause, reason: &str, expected: &str) {
    let check = Check { timeout: Duration::from_millis(1500), ..Check::new("db", kind) };
    let remedy = of(&check, &Failure::new(cause, reason));
    assert!(remedy.contains(expected), "{} {cause:?} {reason}: {remedy}", check.kind.as_str());
    assert!(!remedy.contains("s3cret"), "{remedy}");
}

#[test]
fn a_remedy_names_the_key_the_server_and_the_command() {
    use Cause as C;
    for (kind, cause, reason, expected) in [
        (
            postgres(),
            C::Refused,
            "connection refused",
            "start PostgreSQL, or correct host and port in checks.db.postgres.url",
        ),
        (app("/run/a"), C::Refused, "no such socket", "start the app, or correct the path in proxy[].upstream"),
        (tcp("cache.internal:1"), C::Name, "host name not found", "getent hosts cache.internal"),
        (postgres(), C::Name, "host name not found", "getent hosts db"),
        (mysql(), C::Name, "host name not found", "getent hosts db"),
        (schema(), C::Name, "host name not found", "getent hosts db"),
        (redis(), C::Name, "host name not found", "getent hosts db"),
        (of_redis("redis+sentinel://a:1,10.0.0.1:2,b:3/main"), C::Name, "host name not found", "getent hosts a b"),
        // What follows an `@` that was not encoded may be a part of the password.
        (of_redis("redis://:x@s3cret@db"), C::Name, "host name not found", "getent hosts HOST"),
        (
            Kind::Postgres(Postgres::new(Secret::new("postgres://u:x@s3cret/y@db/d"))),
            C::Name,
            "host name not found",
            "getent hosts HOST",
        ),
        (
            of_redis("rediss+cluster://a"),
            C::Configuration,
            "not a cluster: the server's cluster support is off",
            "write rediss:// in place of rediss+cluster:// in checks.db.redis.url",
        ),
        (redis(), C::Configuration, "no sentinel knows a master \"nosuch\"", "redis-cli -p 26379 SENTINEL MASTERS"),
        (
            redis(),
            C::Refused,
            "no sentinel tells where the master \"main\" is: connection refused",
            "start the Sentinels, or correct their hosts",
        ),
        (
            redis(),
            C::Configuration,
            "no sentinel tells where the master \"main\" is: not a Sentinel",
            "write redis:// for one server",
        ),
        (
            redis(),
            C::Credentials,
            "no sentinel tells where the master \"main\" is: authentication required",
            "sentinel_password in checks.db.redis.url",
        ),
        (redis(), C::Timeout, "timeout after 1s 500ms", "raise checks.db.timeout (1s 500ms)"),
        (postgres(), C::Credentials, "password authentication failed", "pg_hba.conf"),
        (schema(), C::Credentials, "Access denied", "FROM mysql.user"),
        (redis(), C::Credentials, "authentication failed", "ACL LIST"),
        (grpc(), C::Credentials, "refused: gRPC status 16", "without credentials"),
        (postgres(), C::Busy, "too many connections: sorry", "raise max_connections: SELECT usename"),
        (schema(), C::Busy, "too many connections: x", "SHOW PROCESSLIST"),
        (redis(), C::Busy, "too many connections: x", "raise maxclients"),
        (redis(), C::Busy, "loading its data", "INFO persistence"),
        (mysql(), C::Busy, "Host 'h' is blocked because of many connection errors", "flush-hosts"),
        (postgres(), C::Busy, "the database system is starting up", "it is starting or ending"),
        (postgres(), C::Configuration, "database \"d\" does not exist", "CREATE DATABASE"),
        (mysql(), C::Configuration, "Unknown database 'd'", "CREATE DATABASE"),
        (
            grpc(),
            C::Configuration,
            "the server has no health service (grpc.health.v1)",
            "register grpc.health.v1.Health",
        ),
        (tcp("x"), C::Configuration, "not a host", "correct checks.db.tcp"),
        (postgres(), C::Role, "a standby", "at the primary (SELECT pg_is_in_recovery())"),
        (mysql(), C::Role, "it follows no other server", "at a replica (SHOW REPLICA STATUS)"),
        (redis(), C::Role, "a replica", "at the master (ROLE)"),
        (mysql(), C::Replication, "the replica has stopped to apply", "START REPLICA"),
        (redis(), C::Replication, "the cluster is down", "CLUSTER NODES"),
        (Kind::Http(Http::new("http://web/up")), C::Answer, "status 500", "curl -i http://web/up"),
        (grpc(), C::Answer, "not serving", "grpc_health_probe -addr app:50051 -service orders.v1 -tls"),
        (app("/run/a"), C::Answer, "status 500", "curl -i --unix-socket /run/a 'http://app/up'"),
        (postgres(), C::Answer, "syntax error", "in psql: SELECT 1"),
        (postgres(), C::Panic, "x", "report this defect"),
    ] {
        check(kind, cause, reason, expected);
    }
}

#[test]
fn a_fault_of_tls_has_the_remedy_of_its_reason() {
    let certificate = |what: &str| format!("TLS: invalid peer certificate: {what}");
    for (kind, reason, expected) in [
        (postgres(), certificate("expired"), "renew the certificate of PostgreSQL"),
        (mysql(), certificate("not valid yet"), "set the clocks right"),
        (postgres(), certificate("not for the name of this server"), "the host of checks.db.postgres.url"),
        (grpc(), certificate("not for the name of this server"), "server_name of checks.db.grpc.url"),
        (schema(), certificate("no authority that we trust vouches for it"), "in ssl-ca"),
        (redis(), certificate("no authority that we trust vouches for it"), "in ca_file"),
        (
            postgres(),
            certificate("an authority's own (CA:TRUE), which is no server's"),
            "-addext basicConstraints=critical,CA:FALSE), and name it, or who issued it, in sslrootcert",
        ),
        (mysql(), certificate("not meant to be a server's, by its extended key usage"), "extendedKeyUsage=serverAuth"),
        (grpc(), certificate("of another version of X.509 than 3"), "with its names as subjectAltName"),
        (grpc(), "TLS: the server speaks neither TLS 1.2 nor 1.3".to_owned(), "other versions of TLS"),
        (mysql(), "TLS: server does not support TLS".to_owned(), "turn TLS on in MySQL, or off in checks.db.mysql.url"),
        (redis(), "TLS: the server broke off: certificate required".to_owned(), "a certificate of ours"),
    ] {
        check(kind, Cause::Tls, &reason, expected);
    }
}

#[test]
fn what_the_check_itself_knows_comes_first() {
    let failure = Failure::new(Cause::Answer, "table t is missing").advising("run the migrations");
    assert_eq!(of(&Check::new("db", schema()), &failure), "run the migrations");
}
