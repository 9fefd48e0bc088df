//! Clients that ask all the time and count what fails, as strictly as a client can: a connection that ends without
//! an answer to a request on it is a failed request, whether or not a library would have tried again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::raw::Client;

/// Load that runs until [`Load::stop`].
pub(crate) struct Load {
    counts: Arc<Counts>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    answered: AtomicU64,
    connections: AtomicU64,
    failed: Mutex<Vec<String>>,
}

/// How a client uses connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// One connection for as long as it is not told to close.
    KeepAlive,
    /// A connection for each request.
    Fresh,
}

impl Load {
    /// Starts so many clients of each habit.
    pub(crate) fn on(address: SocketAddr, keep_alive: usize, fresh: usize) -> Self {
        let counts = Arc::new(Counts::default());
        let mut clients = JoinSet::new();
        let habits = std::iter::repeat_n(Habit::KeepAlive, keep_alive).chain(std::iter::repeat_n(Habit::Fresh, fresh));
        for (index, habit) in habits.enumerate() {
            clients.spawn(ask(address, habit, index, counts.clone()));
        }
        Self { counts, clients }
    }

    /// Requests answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::SeqCst)
    }

    /// Stops after the requests under way: how many were answered on how many connections, and what failed.
    pub(crate) async fn stop(mut self) -> (u64, u64, Vec<String>) {
        self.counts.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let failed = std::mem::take(&mut *self.counts.failed.lock().unwrap());
        (self.answered(), self.counts.connections.load(Ordering::SeqCst), failed)
    }
}

async fn ask(address: SocketAddr, habit: Habit, index: usize, counts: Arc<Counts>) {
    let mut connection: Option<Client> = None;
    let mut round = 0_usize;
    while !counts.stop.load(Ordering::SeqCst) {
        round += 1;
        let mut client = match connection.take() {
            Some(client) => client,
            None => match Client::connect(address).await {
                Ok(client) => {
                    counts.connections.fetch_add(1, Ordering::SeqCst);
                    client
                }
                Err(error) => {
                    counts.failed.lock().unwrap().push(format!("{habit:?}: connect: {error}"));
                    continue;
                }
            },
        };
        // Every kind of request: answered at once, answered late, with a body.
        let answer = match round % 10 {
            3 => client.get("/slow?ms=30").await,
            6 => client.post("/echo", "a body").await,
            _ => client.get("/").await,
        };
        match answer {
            Ok(answer) if answer.status == 200 => {
                counts.answered.fetch_add(1, Ordering::SeqCst);
                if matches!(habit, Habit::KeepAlive) && !answer.closes() {
                    connection = Some(client);
                }
            }
            Ok(answer) => {
                let text = answer.text();
                counts.failed.lock().unwrap().push(format!("{habit:?}: status {}: {text}", answer.status));
            }
            Err(error) => counts.failed.lock().unwrap().push(format!("{habit:?}: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(index as u64 % 7)).await;
    }
}
