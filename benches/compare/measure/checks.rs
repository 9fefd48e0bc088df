//! What readiness costs while nobody asks: twenty checks a second in the background.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::contender;
use crate::lab::{Cores, Lab};
use crate::redis::Redis;
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::Setup;
use crate::usage::Clock;

/// Half of them over HTTP, half to Redis.
const EACH: usize = 10;
/// How long each round looks.
const LOOK: Duration = Duration::from_secs(5);

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::Any)?;
    let redis = Redis::start(lab)?;
    let mut more = vec!["checks:".to_owned()];
    for number in 0..EACH {
        more.push(format!("  http{number}: {{ http: {{ url: 'http://{}/' }}, interval: 1s }}", origin.address));
        more.push(format!("  redis{number}: {{ redis: {{ url: 'redis://{}' }}, interval: 1s }}", redis.address));
    }
    let bare = Setup::new(Cores::Any, 1, origin.address).start(lab)?;
    let checking = Setup { more, ..Setup::new(Cores::Any, 1, origin.address) }.start(lab)?;
    let (mut share, mut rest) = (None::<Series>, Series::default());
    for _ in lab.rounds() {
        let (Some(bare), Some(checking)) = (&bare, &checking) else { break };
        let pids = [bare.running.pids()?, checking.running.pids()?];
        let before = [Clock::read(&pids[0])?, Clock::read(&pids[1])?];
        let begun = Instant::now();
        sleep(LOOK);
        let spent = |at: usize| Ok::<_, anyhow::Error>(Clock::read(&pids[at])?.since(&before[at]).as_secs_f64());
        let percent = |spent: f64| 100.0 * spent / begun.elapsed().as_secs_f64();
        share.get_or_insert_default().push(percent(spent(1)?));
        rest.push(percent(spent(0)?));
    }
    Ok(vec![Row {
        what: format!("{} checks at intervals of 1 s", 2 * EACH),
        unit: "% of a core",
        tidegate: share,
        peers: vec![("without checks".to_owned(), rest)],
        target: Target::Context,
        failed: 0,
    }])
}
