//! The network of pods: each has one address of loopback, which is its `0.0.0.0` and its `127.0.0.1`, so that pods that
//! listen on the same ports run side by side; and the node has another, from which the kubelet calls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpSocket, TcpStream};

/// Who listens here has the address. Above the ports that the kernel gives to connections.
const HELD: u16 = 61_007;

/// A pod's address, until it is dropped.
pub(super) struct Network {
    pub(super) ip: Ipv4Addr,
    _held: TcpListener,
}

impl Network {
    /// Takes an address that nobody has, in this process or another.
    pub(super) fn take() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Two runs at the same time begin at different places.
        let offset = std::process::id().wrapping_mul(97);
        for _ in 0..60_000 {
            let [.., third, fourth] = offset.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst)).to_be_bytes();
            let ip = Ipv4Addr::new(127, 7, third, fourth);
            if let Ok(held) = TcpListener::bind((ip, HELD)) {
                return Self { ip, _held: held };
            }
        }
        panic!("no address of 127.7.0.0/16 is free");
    }

    /// A text of the pod's in which its addresses are those it has here.
    pub(super) fn rewrite(&self, text: &str) -> String {
        let ip = self.ip.to_string();
        let names = ["0.0.0.0", "127.0.0.1", "localhost", "[::1]", "[::]"];
        names.iter().fold(text.to_owned(), |text, name| replace(&text, name, &ip, |rest| !is_prefix(rest)))
    }
}

/// Whether an address before `rest` is that of a network, as in `0.0.0.0/0`.
fn is_prefix(rest: &str) -> bool {
    rest.strip_prefix('/').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Replaces `name` where it stands for itself, and `wanted` says so by what follows.
pub(super) fn replace(text: &str, name: &str, by: &str, wanted: impl Fn(&str) -> bool) -> String {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let alone = !before.ends_with(is_part) && !after.starts_with(is_part) && wanted(after);
        replaced.push_str(before);
        replaced.push_str(if alone { by } else { name });
        rest = after;
    }
    replaced + rest
}

/// Where the kubelet calls from: an address of the machine that is not loopback, for a pod sees the node's address and
/// gives it no trust. Nothing leaves the machine: packets to an address of its own take the loopback device.
pub(crate) fn node() -> IpAddr {
    // Asks the routing table; nothing is sent.
    let route = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    route.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// Opens a connection from the node.
pub(super) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(node(), 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[test]
fn a_pod_has_an_address_of_its_own_and_finds_itself_there() {
    let (one, two) = (Network::take(), Network::take());
    assert_ne!(one.ip, two.ip);
    assert!(TcpListener::bind((one.ip, HELD)).is_err(), "held");
    let ip = one.ip;
    for (text, expected) in [
        ("0.0.0.0:8080", format!("{ip}:8080")),
        ("http://127.0.0.1:3000/healthz", format!("http://{ip}:3000/healthz")),
        ("http://127.0.0.1/healthz", format!("http://{ip}/healthz")),
        ("localhost:3000,[::1]:3001", format!("{ip}:3000,{ip}:3001")),
        (
            "10.0.0.0/8 0.0.0.0/0 127.0.0.11 mylocalhost.example",
            "10.0.0.0/8 0.0.0.0/0 127.0.0.11 mylocalhost.example".into(),
        ),
    ] {
        assert_eq!(one.rewrite(text), expected);
    }
}
