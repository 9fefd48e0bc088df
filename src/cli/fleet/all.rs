//! `tidegate fleet --all`: the fleets of every workload under a prefix.

use serde_json::json;

use super::{Fleet, HEADER, LIMIT, failed, row, state};
use crate::cli::flags::answer::{Failure, rows, say};
use crate::cli::{Output, complain};
use crate::config::Settings;
use crate::fleet::{Extent, Instance, Workloads, workloads};
use crate::net::redis::Endpoint;

/// Finds the workloads, and lists each of them.
pub(super) async fn run(settings: &Settings, output: Output) -> Result<String, Failure> {
    let found = find(settings).await?;
    if found.extent == Extent::Part {
        complain("there are too many workloads or keys to look at all of them; these are some");
    }
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for workload in &found.names {
        let mut fleet = Fleet::open(workload, settings).await?;
        let instances = fleet.list().await?;
        values.push(fleet.value(&instances));
        lines.extend(instances.iter().map(|instance| line(workload, instance)));
    }
    say(&json!({ "workloads": values }), output, || {
        if lines.is_empty() {
            return "no instances\n".to_owned();
        }
        let mut header = ["WORKLOAD"; HEADER.len() + 1];
        header[1..].copy_from_slice(&HEADER);
        rows(header, lines)
    })
}

async fn find(settings: &Settings) -> Result<Workloads, Failure> {
    let none = || Failure::usage("no Redis is configured; set redis.url or TIDEGATE_REDIS__URL");
    let redis = settings.fleet.redis.as_ref().ok_or_else(none)?;
    let endpoint = Endpoint::new(&redis.url).map_err(|e| Failure::usage(e.to_string()))?;
    let mut found = Workloads::default();
    for mut connection in endpoint.connect_all(LIMIT).await.map_err(|e| Failure::redis(&e))? {
        workloads(&mut connection, &redis.prefix, &mut found).await.map_err(|e| failed(&endpoint, &e))?;
    }
    Ok(found)
}

fn line(workload: &str, instance: &Instance) -> [String; HEADER.len() + 1] {
    let mut line = [const { String::new() }; HEADER.len() + 1];
    workload.clone_into(&mut line[0]);
    for (cell, field) in line[1..].iter_mut().zip(row(instance, state(instance))) {
        *cell = field;
    }
    line
}
