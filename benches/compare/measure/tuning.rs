//! Each choice in hyper and tokio on its own: the bare proxy with it against the bare proxy without.

use std::net::SocketAddr;

use crate::child::Running;
use crate::contender;
use crate::lab::{Ask, Cores, Lab, Load};
use crate::report::{Row, Target};
use crate::role;
use crate::series::Series;

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::One)?;
    let upstream = origin.address.to_string();
    let mut variants = vec![(String::new(), contender::bare(lab, Cores::One, 1, origin.address)?)];
    for tune in role::tuning_sets() {
        let more = ["--upstream", &upstream, "--tune", &tune];
        let more = if tune.is_empty() { &more[..2] } else { &more };
        let variant = contender::baseline(lab, Cores::One, "tuned", "proxy", more)?;
        variants.push((tune, variant));
    }
    let all: Vec<(&Running, SocketAddr)> = variants.iter().map(|(_, one)| (&one.running, one.address)).collect();
    let load = Load::closed(32, lab.requests, Ask::get("/"), Cores::One);
    let mut cpu = vec![Series::default(); all.len()];
    let mut failed = vec![0; all.len()];
    for round in lab.rounds() {
        for turn in 0..all.len() {
            let at = (round + turn) % all.len();
            let measured = lab.measure(all[at].0, all[at].1, load)?;
            cpu[at].push(measured.cpu);
            failed[at] += measured.report.failed;
        }
    }
    let rows = variants.iter().zip(&cpu).zip(failed).skip(1).map(|(((what, _), series), failed)| Row {
        what: format!("bare proxy with {}", if what.is_empty() { "nothing changed" } else { what }),
        unit: "µs of CPU per request",
        tidegate: Some(series.clone()),
        peers: vec![("default".to_owned(), cpu[0].clone())],
        target: Target::Beside("default"),
        failed,
    });
    Ok(rows.collect())
}
