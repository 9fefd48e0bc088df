//! What only shows when all addresses are known: two listeners on one address, and a way that leads back to the sidecar
//! itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::problem::Problem;
use super::super::reader::Section;
use super::super::urls::http_target;
use super::super::values::{Type, Wrong, address};
use crate::local::settings::Socket;
use crate::proxy::settings::{Address, Upstream};
use crate::readiness::{self, settings::Kind};

/// Addresses collected while sections are read.
#[derive(Default)]
pub(super) struct Listeners {
    listening: Vec<(String, SocketAddr)>,
    upstreams: Vec<(String, Upstream)>,
}

/// At least one address to listen on.
pub(super) fn addresses() -> Type<Vec<SocketAddr>> {
    let mut list = address().list();
    let read = list.read;
    list.read = Box::new(move |node| match read(node) {
        Ok(none) if none.is_empty() => Err(vec![(
            None,
            Wrong { what: "no address".into(), remedy: "write one, or remove the key for the default".into() },
        )]),
        other => other,
    });
    list
}

impl Listeners {
    /// Notes the addresses of a key, when they are what they should be.
    pub(super) fn add(&mut self, section: &Section<'_>, name: &'static str, addresses: &[SocketAddr]) {
        if section.sound(&[name]) {
            self.listening.extend(addresses.iter().map(|address| (section.below(name), *address)));
        }
    }

    /// Notes where a listener leads.
    pub(super) fn leads_to(&mut self, section: &Section<'_>, name: &'static str, upstream: &Upstream) {
        if section.sound(&[name]) {
            self.upstreams.push((section.below(name), upstream.clone()));
        }
    }

    /// Reports what does not go together.
    pub(super) fn judge(&self, root: &Section<'_>, socket: &Socket, checks: &readiness::Settings) {
        for (index, (path, address)) in self.listening.iter().enumerate() {
            if let Some((other, _)) = self.listening[..index].iter().find(|(_, earlier)| collide(*earlier, *address)) {
                let what = if other == path { "listed twice".to_owned() } else { format!("{other} listens there too") };
                root.note(Problem::new(path, what).value(address.to_string()).remedy("choose another port"));
            }
        }
        for (path, upstream) in &self.upstreams {
            let own = match &upstream.address {
                Address::Tcp { host, port } => self.own(host, *port),
                Address::Unix(path) => matches!(socket, Socket::IfPossible(own) | Socket::Required(own) if own == path)
                    .then_some("local.socket"),
            };
            if let Some(own) = own {
                let problem = Problem::new(path, format!("leads back to the sidecar itself ({own})"));
                root.note(problem.value(upstream.to_string()).remedy("write the app's own address"));
            }
        }
        for check in &checks.checks {
            let (key, target, shown) = match &check.kind {
                Kind::Http(http) => ("http.url", http_target(&http.url), &http.url),
                Kind::Grpc(grpc) => ("grpc.url", http_target(&grpc.url), &grpc.url),
                Kind::Tcp { address } => ("tcp.address", super::super::urls::host_port(address, None), address),
                _ => continue,
            };
            if let Some(own) = target.and_then(|(host, port)| self.own(&host, port)) {
                // Readiness that asks itself can stay red for ever, or green with the app dead.
                let problem =
                    Problem::new(format!("checks.{}.{key}", check.name), format!("asks the sidecar itself ({own})"));
                root.note(problem.value(super::super::values::mask(shown)).remedy("ask the app's own address"));
            }
        }
    }

    /// The listener that `host` and `port` reach, as far as can be told without asking a name server.
    fn own(&self, host: &str, port: u16) -> Option<&str> {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let targets = match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            // Linux takes a connection to the unspecified address for one to loopback.
            Ok(ip) if ip.is_unspecified() => vec![loopback[usize::from(ip.is_ipv6())]],
            Ok(ip) => vec![ip],
            Err(_) if host.eq_ignore_ascii_case("localhost") => loopback.to_vec(),
            Err(_) => return None,
        };
        let reached = |own: IpAddr| targets.iter().any(|ip| own == *ip || ip.is_loopback() && covers(own, *ip));
        let found = self.listening.iter().find(|(_, own)| own.port() == port && reached(own.ip().to_canonical()));
        found.map(|(path, _)| path.as_str())
    }
}

/// Whether one of two listeners would take connections meant for the other. The kernel need not refuse that: listeners
/// that share a port among threads may share it with others of the process too. Port 0 is a free one each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (covers(one, other) || covers(other, one))
}

/// Whether a listener on `own` gets what is sent to `ip`, an address of this machine. `[::]` takes IPv4 too (ipv6(7),
/// `IPV6_V6ONLY` is off by default).
fn covers(own: IpAddr, ip: IpAddr) -> bool {
    own == ip || own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_collide_where_one_takes_what_is_meant_for_the_other() {
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("[::1]:80", "127.0.0.1:80", false),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            assert_eq!(collide(address(a), address(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_target_is_our_own_where_a_connection_would_reach_one_of_our_listeners() {
        for (listener, host, expected) in [
            ("0.0.0.0:80", "127.0.0.1", true),
            ("0.0.0.0:80", "0.0.0.0", true),
            ("0.0.0.0:80", "localhost", true),
            ("0.0.0.0:80", "LocalHost", true),
            ("0.0.0.0:80", "::1", false),
            ("0.0.0.0:80", "10.0.0.1", false),
            ("0.0.0.0:80", "app", false),
            ("[::]:80", "127.0.0.1", true),
            ("[::]:80", "::", true),
            ("[::1]:80", "localhost", true),
            ("127.0.0.1:80", "0.0.0.0", true),
            ("127.0.0.1:80", "::ffff:127.0.0.1", true),
            ("127.0.0.1:80", "127.0.0.2", false),
            ("10.0.0.1:80", "10.0.0.1", true),
        ] {
            let listening = vec![("ops.listen".to_owned(), listener.parse().expect("an address"))];
            let listeners = Listeners { listening, upstreams: Vec::new() };
            assert_eq!(listeners.own(host, 80).is_some(), expected, "{listener} {host}");
            assert_eq!(listeners.own(host, 81), None, "{listener} {host}");
        }
    }
}
