//! From the start of the process to the first 200 on `/readyz`.

use crate::contender;
use crate::flags;
use crate::lab::{Cores, Lab};
use crate::redis::Redis;
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::Setup;

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let at = contender::origin(lab, Cores::Any)?;
    let mut redis = Redis::start(lab)?;
    redis.fill(&flags::all())?;
    let file = flags::file(&lab.scratch("flags")?, &flags::all())?;
    let bare = Setup::new(Cores::Any, 1, at.address);
    let with_file = Setup { flags_file: Some(file), ..Setup::new(Cores::Any, 1, at.address) };
    let with_redis = Setup { redis: Some(redis.address), ..Setup::new(Cores::Any, 1, at.address) };

    let mut series = [const { None::<Series> }; 3];
    for _ in lab.rounds() {
        for (setup, series) in [&bare, &with_file, &with_redis].into_iter().zip(&mut series) {
            if let Some(sidecar) = setup.start(lab)? {
                series.get_or_insert_default().push(sidecar.ready_after.as_secs_f64() * 1e3);
            }
        }
    }
    let [bare, with_file, with_redis] = series;
    let row = |what: &str, tidegate, target| Row {
        what: what.to_owned(),
        unit: "ms",
        tidegate,
        peers: Vec::new(),
        target,
        failed: 0,
    };
    Ok(vec![
        row("start to ready, nothing configured", bare, Target::Context),
        row("start to ready, 1000 flags in a file", with_file, Target::Context),
        row("start to ready, 1000 flags in Redis", with_redis, Target::Below(50.0)),
    ])
}
