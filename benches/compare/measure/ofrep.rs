//! Evaluations over OFREP, single and in bulk, against hyper parsing the same body and answering a constant.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::contender;
use crate::flags;
use crate::lab::{Ask, Cores, Lab};
use crate::report::{Row, Target};
use crate::series::Series;
use crate::service::{self, Answered, Asked};
use crate::tidegate::Setup;
use crate::wire;

/// What a page of an app with a large team asks for at once.
const BULK: usize = 350;

const BULK_PATH: &str = "/ofrep/v1/evaluate/flags";

/// One flag. `hello` stands beside it for context: it reads no body, which no evaluation can do without.
pub(super) fn single(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::One)?;
    let hello = contender::baseline(lab, Cores::One, "hello", "hello", &[])?;
    let parse = contender::baseline(lab, Cores::One, "parse", "parse", &[])?;
    let flags_file = Some(flags::file(&lab.scratch("flags")?, &flags::all())?);
    let sidecar = Setup { flags_file, ..Setup::new(Cores::One, 1, origin.address) }.start(lab)?;
    let path = format!("{BULK_PATH}/{}", flags::ASKED);
    let post = Ask::post(&path, flags::CONTEXT);

    let mut services = vec![
        // The same request, so that the difference is what happens to it; hyper discards a body that nobody reads.
        Asked { name: "hello", running: &hello.running, address: hello.address, ask: post },
        Asked { name: "hello to GET", running: &hello.running, address: hello.address, ask: Ask::get("/") },
        Asked { name: "parse", running: &parse.running, address: parse.address, ask: post },
    ];
    if let Some(sidecar) = &sidecar {
        services.push(Asked { name: "tidegate", running: &sidecar.running, address: sidecar.local, ask: post });
    }
    let (answered, failed) = service::compare(lab, &services, lab.requests)?;
    let row = |unit, target, pick: fn(&Answered) -> &Series| {
        let (tidegate, peers) = service::split(&services, &answered, pick);
        Row { what: "OFREP single evaluation".to_owned(), unit, tidegate, peers, target, failed }
    };
    Ok(vec![
        row("requests per CPU second", Target::AtLeast(0.85, "parse"), |figures| &figures.per_cpu),
        row("requests/s", Target::Context, |figures| &figures.rate),
        row("µs of CPU", Target::Context, |figures| &figures.cpu),
    ])
}

/// All flags at once, and the answer to a client that has them already.
pub(super) fn bulk(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::One)?;
    let flags_file = Some(flags::file(&lab.scratch("flags")?, &flags::some(BULK))?);
    let sidecar = Setup { flags_file, ..Setup::new(Cores::One, 1, origin.address) }.start(lab)?;
    let (length, tag) = match &sidecar {
        Some(sidecar) => answer(sidecar.local)?,
        None => (BULK * 100, "\"none\"".to_owned()),
    };
    let parse = contender::baseline(lab, Cores::One, "parse", "parse", &["--answer-bytes", &length.to_string()])?;
    let whole = Ask::post(BULK_PATH, flags::CONTEXT);
    let mut rows = Vec::new();
    for (what, ask) in [("whole", whole), ("304 to If-None-Match", whole.unchanged_since(&tag))] {
        let mut services = vec![Asked { name: "parse", running: &parse.running, address: parse.address, ask }];
        if let Some(sidecar) = &sidecar {
            services.push(Asked { name: "tidegate", running: &sidecar.running, address: sidecar.local, ask });
        }
        let (answered, failed) = service::compare(lab, &services, lab.requests / 10)?;
        let (tidegate, peers) = service::split(&services, &answered, |figures| &figures.cpu);
        rows.push(Row {
            what: format!("OFREP bulk of {BULK} flags, {length} bytes, {what}"),
            unit: "µs of CPU",
            tidegate,
            peers,
            target: Target::Beside("parse"),
            failed,
        });
    }
    Ok(rows)
}

/// Length and entity tag of the whole answer.
fn answer(address: SocketAddr) -> anyhow::Result<(usize, String)> {
    let mut stream = wire::connect(address)?;
    let request = wire::request(address, BULK_PATH, Some(flags::CONTEXT), None);
    let answer = wire::ask(&mut stream, &request)?;
    ensure!(answer.status == 200, "the bulk is answered with {}", answer.status);
    let told: Value = serde_json::from_slice(&answer.body)?;
    let count = told["flags"].as_array().map_or(0, Vec::len);
    ensure!(count == BULK, "the bulk tells {count} flags of {BULK}");
    let tag = answer.header("etag").context("a bulk without an ETag")?;
    Ok((answer.body.len(), tag.to_owned()))
}
