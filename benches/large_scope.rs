//! What 10 000 flags, 5 MB of definitions, cost: `cargo bench --bench large_scope`. Prints how long a snapshot takes from the
//! connection to its being in force, and the longest time between two turns, meant to be 1 to 2 ms apart, of the event loop that
//! reads it and of one that answers meanwhile; the same at rest is beside it. Figures count on a machine that does nothing
//! else, built as `cargo bench` builds.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::flags::settings::Redis;
use tidegate::flags::sources::Sources;
use tidegate::flags::store::Store;
use tidegate::flags::{Settings, metrics};
use tidegate::secret::Secret;
use tidegate::telemetry::metrics::registry;

const FLAGS: usize = 10_000;
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("redis");
    let _server = Server::start(&socket)?;
    let url = format!("redis+unix://{}", socket.display());
    let client = redis::Client::open(url.as_str())?;
    let mut raw = wait(&client)?;
    let about = "x".repeat(420);
    for n in 0..FLAGS {
        let definition = format!(
            r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"off","targeting":{{"if":[{{"==":[{{"var":"country"}},"c{n}"]}},"on"]}},"metadata":{{"about":"{about}"}}}}"#
        );
        redis::cmd("HSET").arg("tidegate:{b}:flags").arg(format!("flag-{n}")).arg(definition).exec(&mut raw)?;
    }
    redis::cmd("HSET").arg("tidegate:{b}:meta").arg(&["rev", "1", "incarnation", "b"]).exec(&mut raw)?;
    let rest = (AtomicBool::new(false), AtomicU64::new(0));
    runtime().block_on(async {
        tokio::time::timeout(Duration::from_millis(500), beat(&rest.0, &rest.1, || ())).await.unwrap_or_default();
    });
    println!("{FLAGS} flags            applied    longest gap: reading loop   answering loop");
    println!(
        "at rest                                         {:>8.2} ms",
        rest.1.load(Ordering::Relaxed) as f64 / 1000.0
    );
    for round in 0..ROUNDS {
        let figures = apply(&url)?;
        println!(
            "snapshot {round}           {:>8.1} ms                {:>8.2} ms      {:>8.2} ms",
            figures.0, figures.1, figures.2
        );
    }
    Ok(())
}

/// Milliseconds until the snapshot is in force, and the longest gaps of the two loops.
fn apply(url: &str) -> anyhow::Result<(f64, f64, f64)> {
    let store = Arc::new(Store::new());
    let mut registry = registry();
    let redis = Redis { url: Secret::new(url), prefix: "tidegate".into(), scopes: vec!["b".into()] };
    let settings = Settings { redis: Some(redis), ..Settings::default() };
    let (sources, _handle) = Sources::new(settings, store.clone(), metrics::register(&mut registry))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (reading, answering) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let answers = {
        let (store, stop, gap) = (store.clone(), stop.clone(), answering.clone());
        thread::spawn(move || runtime().block_on(beat(&stop, &gap, || assert!(store.load().len() <= FLAGS))))
    };
    let began = Instant::now();
    let took = runtime().block_on(async {
        let never = AtomicBool::new(false);
        tokio::select! {
            () = sources.run() => Duration::MAX,
            () = beat(&never, &reading, || ()) => Duration::MAX,
            took = async {
                while store.load().len() < FLAGS {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                began.elapsed()
            } => took,
        }
    });
    stop.store(true, Ordering::Relaxed);
    answers.join().map_err(|_| anyhow::anyhow!("the answering loop panicked"))?;
    let ms = |us: &AtomicU64| us.load(Ordering::Relaxed) as f64 / 1000.0;
    Ok((took.as_secs_f64() * 1000.0, ms(&reading), ms(&answering)))
}

/// Notes the longest time, in microseconds, between two turns of the loop it runs on.
async fn beat(stop: &AtomicBool, longest: &AtomicU64, work: impl Fn()) {
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        work();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = Instant::now();
        longest.fetch_max(u64::try_from((now - last).as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        last = now;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop")
}

fn wait(client: &redis::Client) -> anyhow::Result<redis::Connection> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match client.get_connection() {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => thread::yield_now(),
        }
    }
}

struct Server(Child);

impl Server {
    fn start(socket: &std::path::Path) -> anyhow::Result<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(socket).stdout(Stdio::null());
        Ok(Self(command.spawn().map_err(|e| anyhow::anyhow!("redis-server: {e}; apt-get install -y redis-server"))?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}
