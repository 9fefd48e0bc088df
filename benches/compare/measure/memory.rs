//! Resident memory: idle, with flags, and for each open connection.

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use crate::child::Running;
use crate::contender::{self, Server};
use crate::flags;
use crate::lab::{Cores, Lab};
use crate::redis::Redis;
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::Setup;
use crate::{usage, wire};

const CONNECTIONS: usize = 1000;

/// What a process needs to settle: what it frees is given back within a second, not at once.
pub(super) const SETTLE: Duration = Duration::from_millis(1500);

/// One sample each: memory does not vary from round to round as time does.
pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::Any)?;
    let at = origin.address;
    let peers: Vec<Server> = vec![
        contender::nginx(lab, Cores::Any, 1, at)?,
        contender::haproxy(lab, Cores::Any, 1, at)?,
        contender::bare(lab, Cores::Any, 1, at)?,
    ];
    let sidecar = Setup::new(Cores::Any, 1, at).start(lab)?;
    let flags_file = Some(flags::file(&lab.scratch("flags")?, &flags::all())?);
    let with_flags = Setup { flags_file, ..Setup::new(Cores::Any, 1, at) }.start(lab)?;
    let mut redis = Redis::start(lab)?;
    redis.fill(&flags::all())?;
    let over_redis = Setup { redis: Some(redis.address), ..Setup::new(Cores::Any, 1, at) }.start(lab)?;
    sleep(SETTLE);

    let mut idle = Vec::new();
    let mut open = Vec::new();
    for peer in &peers {
        idle.push((peer.name.clone(), once(resident(&peer.running)?)));
        open.push((peer.name.clone(), per_connection(&peer.running, peer.address)?));
    }
    let (mut own_idle, mut own_open, mut own_flags, mut own_redis) = (None, None, None, None);
    if let Some(sidecar) = &sidecar {
        own_idle = Some(once(resident(&sidecar.running)?));
        own_open = Some(per_connection(&sidecar.running, sidecar.proxy)?);
    }
    if let Some(sidecar) = &with_flags {
        own_flags = Some(once(resident(&sidecar.running)?));
    }
    if let Some(sidecar) = &over_redis {
        own_redis = Some(once(resident(&sidecar.running)?));
    }
    let row = |what: &str, unit, tidegate, peers, limit| Row {
        what: what.to_owned(),
        unit,
        tidegate,
        peers,
        target: Target::Below(limit),
        failed: 0,
    };
    Ok(vec![
        row("memory, idle, one worker", "MiB resident", own_idle, idle, 10.0),
        row("memory, 1000 flags from a file", "MiB resident", own_flags, Vec::new(), 15.0),
        row("memory, 1000 flags in Redis", "MiB resident", own_redis, Vec::new(), 15.0),
        row("memory, open connection that had a request", "KiB", own_open, open, 16.0),
    ])
}

/// In MiB.
pub(super) fn resident(running: &Running) -> anyhow::Result<f64> {
    Ok(usage::resident(&running.pids()?)? as f64 / 1024.0)
}

/// What each of many connections adds, after one request and at rest.
fn per_connection(running: &Running, address: SocketAddr) -> anyhow::Result<Series> {
    let before = usage::resident(&running.pids()?)?;
    let request = wire::request(address, "/", None, None);
    let mut open: Vec<TcpStream> = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut stream = wire::connect(address)?;
        wire::ask(&mut stream, &request)?;
        open.push(stream);
    }
    sleep(SETTLE);
    let after = usage::resident(&running.pids()?)?;
    drop(open);
    Ok(once((after.saturating_sub(before)) as f64 / CONNECTIONS as f64))
}

fn once(figure: f64) -> Series {
    let mut series = Series::default();
    series.push(figure);
    series
}
