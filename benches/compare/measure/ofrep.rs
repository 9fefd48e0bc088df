//! Single evaluations over OFREP, against hyper saying "hello" and hyper parsing the same body.

use crate::contender;
use crate::flags;
use crate::lab::{Cores, Lab};
use crate::report::{Row, Target};
use crate::service::{self, Asked};
use crate::tidegate::Setup;

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::One)?;
    let hello = contender::baseline(lab, Cores::One, "hello", "hello", &[])?;
    let parse = contender::baseline(lab, Cores::One, "parse", "parse", &[])?;
    let flags_file = Some(flags::file(&lab.scratch("flags")?)?);
    let sidecar = Setup { flags_file, ..Setup::new(Cores::One, 1, origin.address) }.start(lab)?;
    let path = format!("/ofrep/v1/evaluate/flags/{}", flags::ASKED);

    let mut services = vec![
        // The same request, so that the difference is what happens to it; hyper discards a body that nobody reads.
        Asked {
            name: "hello",
            running: &hello.running,
            address: hello.address,
            path: &path,
            body: Some(flags::CONTEXT),
        },
        Asked { name: "hello to GET", running: &hello.running, address: hello.address, path: "/", body: None },
        Asked {
            name: "parse",
            running: &parse.running,
            address: parse.address,
            path: &path,
            body: Some(flags::CONTEXT),
        },
    ];
    if let Some(sidecar) = &sidecar {
        let (running, address) = (&sidecar.running, sidecar.local);
        services.push(Asked { name: "tidegate", running, address, path: &path, body: Some(flags::CONTEXT) });
    }
    let (answered, failed) = service::compare(lab, &services)?;
    let row = |what: &str, unit, target, (tidegate, peers)| Row {
        what: what.to_owned(),
        unit,
        tidegate,
        peers,
        target,
        failed,
    };
    Ok(vec![
        row(
            "OFREP single evaluation",
            "requests per CPU second",
            Target::AtLeast(0.85, "hello"),
            service::split(&services, &answered, |figures| &figures.per_cpu),
        ),
        row(
            "OFREP single evaluation",
            "requests/s",
            Target::Context,
            service::split(&services, &answered, |figures| &figures.rate),
        ),
        row(
            "OFREP single evaluation",
            "µs of CPU",
            Target::Context,
            service::split(&services, &answered, |figures| &figures.cpu),
        ),
    ])
}
