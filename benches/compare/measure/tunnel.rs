//! A message through a WebSocket tunnel and back.

use crate::contender::{self, Face};
use crate::lab::{Cores, Lab, LoadUnderWay, cpu_of};
use crate::report::{Row, Target};
use crate::tidegate::Setup;

use super::proxy::Field;

/// CPU per message of 1 KB and its answer, 32 tunnels.
pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::baseline(lab, Cores::One, "echo", "echo", &[])?;
    let at = origin.address;
    let peers = vec![
        contender::nginx_with(lab, Cores::One, 1, at, Face::Upgrades)?,
        contender::haproxy_with(lab, Cores::One, 1, at, Face::Upgrades)?,
    ];
    let sidecar = Setup::new(Cores::One, 1, at).start(lab)?;
    let field = Field { origin, peers, sidecar };
    let (figures, failed) = field.proxies(lab.rounds(), |running, address| {
        let mut command = lab.role("messages");
        command.args(["--address", &address.to_string(), "--connections", "32"]);
        command.args(["--requests", &lab.requests.to_string()]);
        let command = Cores::One.bind(&command)?;
        cpu_of(running, || LoadUnderWay::begin(command)?.report())
    })?;
    Ok(vec![
        field.row(
            ("WebSocket, CPU per message of 1 KB and back", "µs"),
            Target::AtMost(1.0, "nginx"),
            failed,
            &figures,
            |f| f.cpu.clone(),
        ),
        field.row(("WebSocket, one worker", "messages/s"), Target::Context, failed, &figures, |f| f.rate.clone()),
    ])
}
