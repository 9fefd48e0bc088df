//! Whether requests notice what else the sidecar does: p99 at rest, while flags change all the time, and during a drain.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::contender;
use crate::flags;
use crate::lab::{Ask, Cores, Lab, Load};
use crate::redis::Redis;
use crate::report::{Row, Target};
use crate::role::LoadReport;
use crate::series::Series;
use crate::tidegate::Setup;

/// Between two changes of a flag: two thousand a second are more than anybody makes.
const BETWEEN: Duration = Duration::from_micros(500);

#[derive(Default)]
struct Figures {
    rest: Series,
    storm: Series,
    drain: Series,
    failed: u64,
}

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::Any)?;
    let mut redis = Redis::start(lab)?;
    redis.fill(&flags::all())?;
    let mut figures = None::<Figures>;
    // A load that leaves room: what is looked for is delay, not a full machine.
    let load = Load { rest: Duration::from_millis(2), ..Load::closed(16, lab.requests, Ask::get("/"), Cores::Any) };
    for _ in lab.rounds().take(5) {
        let more = vec!["drain: { delay: 1ms, quiet: 1s, deadline: 20s }".to_owned()];
        let setup = Setup { redis: Some(redis.address), more, ..Setup::new(Cores::Any, 2, origin.address) };
        let Some(sidecar) = setup.start(lab)? else { continue };
        let figures = figures.get_or_insert_default();
        lab.load(sidecar.proxy, Load { requests: 2000, ..load })?;
        figures.rest.push(counted(&mut figures.failed, &lab.load(sidecar.proxy, load)?));
        let under = storm(&mut redis, || lab.load(sidecar.proxy, load))?;
        figures.storm.push(counted(&mut figures.failed, &under));
        // Every answer closes its connection from now on; while requests come, the drain is not over.
        let draining = lab.begin_load(sidecar.proxy, Load { requests: 2 * load.requests, ..load })?;
        thread::sleep(Duration::from_millis(100));
        sidecar.running.signal("TERM");
        figures.drain.push(counted(&mut figures.failed, &draining.report()?));
    }
    let Some(figures) = figures else { return Ok(Vec::new()) };
    let row = |what: &str, own: &Series, target| Row {
        what: what.to_owned(),
        unit: "µs",
        tidegate: Some(own.clone()),
        peers: vec![("at rest".to_owned(), figures.rest.clone())],
        target,
        failed: figures.failed,
    };
    Ok(vec![
        row("proxy, p99 while 2 000 flags a second change", &figures.storm, Target::Beside("at rest")),
        row("proxy, p99 during a drain, a connection for each request", &figures.drain, Target::Beside("at rest")),
    ])
}

fn counted(failed: &mut u64, report: &LoadReport) -> f64 {
    *failed += report.failed;
    report.p99
}

/// Does `work` while flags change.
fn storm<T>(redis: &mut Redis, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let over = AtomicBool::new(false);
    let flags: Vec<_> = flags::some(100).into_iter().collect();
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for (key, flag) in flags.iter().cycle() {
                if over.load(Relaxed) {
                    break;
                }
                redis.write(key, flag)?;
                thread::sleep(BETWEEN);
            }
            anyhow::Ok(())
        });
        let done = work();
        over.store(true, Relaxed);
        writing.join().ok().context("the writer panicked")??;
        done
    })
}
