//! A TCP port that stays ours while the server behind it comes and goes.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// An ephemeral port on 127.0.0.1, held by a socket that is bound and never listens. A server that sets
/// `SO_REUSEADDR` (Postgres, Redis and tokio do) can listen on it, stop and listen again; the kernel hands it to
/// nobody else meanwhile, and connecting while no server listens is refused.
pub(crate) struct Port {
    address: SocketAddr,
    _held: Socket,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        held.set_reuse_address(true).unwrap();
        held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = held.local_addr().unwrap().as_socket().unwrap();
        Self { address, _held: held }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[test]
fn a_reserved_port_refuses_until_somebody_listens_and_again_when_they_stop() {
    use std::net::{TcpListener, TcpStream};
    let port = Port::reserve();
    for _ in 0..2 {
        assert!(TcpStream::connect(port.address()).is_err());
        let listener = TcpListener::bind(port.address()).unwrap();
        assert!(TcpStream::connect(port.address()).is_ok());
        drop(listener);
    }
    assert!(TcpStream::connect(port.address()).is_err());
}
