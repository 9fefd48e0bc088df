//! A load balancer as a Service is one: it sends each new connection to the instance of the moment and leaves the
//! open ones where they are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The balancer, stopped on drop.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    _server: JoinSet<()>,
}

impl Balancer {
    /// Begins to forward to `target`.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let mut server = JoinSet::new();
        server.spawn({
            let target = target.clone();
            async move {
                let mut open = JoinSet::new();
                loop {
                    let (mut client, _) = listener.accept().await.unwrap();
                    let target = *target.lock().unwrap();
                    open.spawn(async move {
                        // A refused connection reaches the client as one closed without an answer.
                        if let Ok(mut instance) = TcpStream::connect(target).await {
                            let _ = instance.set_nodelay(true);
                            let _ = client.set_nodelay(true);
                            let _ = copy_bidirectional(&mut client, &mut instance).await;
                        }
                    });
                    while open.try_join_next().is_some() {}
                }
            }
        });
        Self { address, target, _server: server }
    }

    /// Sends new connections elsewhere from now on.
    pub(crate) fn switch(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }
}
