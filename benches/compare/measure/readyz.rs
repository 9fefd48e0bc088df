//! A readiness probe, against hyper saying "hello".

use crate::contender;
use crate::lab::{Ask, Cores, Lab};
use crate::report::{Row, Target};
use crate::service::{self, Asked};
use crate::tidegate::Setup;

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::One)?;
    let hello = contender::baseline(lab, Cores::One, "hello", "hello", &[])?;
    let sidecar = Setup::new(Cores::One, 1, origin.address).start(lab)?;
    let mut services =
        vec![Asked { name: "hello", running: &hello.running, address: hello.address, ask: Ask::get("/") }];
    if let Some(sidecar) = &sidecar {
        let (running, address) = (&sidecar.running, sidecar.ops);
        services.push(Asked { name: "tidegate", running, address, ask: Ask::get("/readyz") });
    }
    let (answered, failed) = service::compare(lab, &services, lab.requests)?;
    let (tidegate, peers) = service::split(&services, &answered, |figures| &figures.cpu);
    let target = Target::AtMost(1.1, "hello");
    Ok(vec![Row { what: "/readyz".to_owned(), unit: "µs of CPU", tidegate, peers, target, failed }])
}
