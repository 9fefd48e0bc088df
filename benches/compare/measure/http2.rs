//! HTTP/2 from clients, HTTP/1.1 to the app, under `h2load`, which others wrote.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};

use super::proxy::Field;
use crate::child::Running;
use crate::contender::{self, Face};
use crate::lab::{Cores, Lab, Measured, cpu_of};
use crate::report::{Row, Target};
use crate::role::LoadReport;
use crate::tidegate::Setup;

/// CPU per request, four connections with eight streams each.
pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::One)?;
    let at = origin.address;
    let peers = vec![
        contender::nginx_with(lab, Cores::One, 1, at, Face::Http2)?,
        contender::haproxy_with(lab, Cores::One, 1, at, Face::Http2)?,
    ];
    let sidecar = Setup::new(Cores::One, 1, at).start(lab)?;
    let field = Field { origin, peers, sidecar };
    let (figures, failed) = field.proxies(lab.rounds(), |running, address| h2load(lab, running, address))?;
    Ok(vec![
        field.row(
            ("HTTP/2 in, HTTP/1.1 out, CPU per request, 1 KB", "µs"),
            Target::AtMost(1.0, "nginx"),
            failed,
            &figures,
            |f| f.cpu.clone(),
        ),
        field.row(("HTTP/2 in, HTTP/1.1 out, one worker", "requests/s"), Target::Context, failed, &figures, |f| {
            f.rate.clone()
        }),
    ])
}

fn h2load(lab: &Lab, running: &Running, address: SocketAddr) -> anyhow::Result<Measured> {
    let mut command = Command::new("h2load");
    command.args(["-c", "4", "-m", "8", "-t", "1", "-n", &lab.requests.to_string()]).arg(format!("http://{address}/"));
    let mut command = Cores::One.bind(&command)?;
    cpu_of(running, || {
        let output = command.output().context("cannot start h2load: apt install nghttp2-client")?;
        let told = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "h2load ended badly: {told}");
        report(&told).with_context(|| format!("not a report of h2load: {told}"))
    })
}

/// `finished in 1.23s, …` and `status codes: 1000 2xx, …`; anything but 2xx has failed.
fn report(told: &str) -> Option<LoadReport> {
    let line = |begin: &str| told.lines().find_map(|line| line.strip_prefix(begin));
    let took = line("finished in ")?.split(',').next()?;
    let seconds = match took.strip_suffix("ms") {
        Some(millis) => millis.parse::<f64>().ok()? / 1e3,
        None => took.strip_suffix('s')?.parse().ok()?,
    };
    let requests: u64 = line("requests: ")?.split(' ').next()?.parse().ok()?;
    let good: u64 = line("status codes: ")?.split(' ').next()?.parse().ok()?;
    Some(LoadReport { requests, failed: requests - good, seconds, p50: 0.0, p99: 0.0, p999: 0.0, longest: 0.0 })
}
