//! `tidegate fleet`: the instances of a workload as Redis knows them, and an operator's word that a suspect is gone.

mod all;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use redis::{RedisError, ServerError};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::flags::answer::{Failure, moment, rows, say};
use super::{EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, Output, block_on, complain, flags, plain};
use crate::config::Settings;
use crate::fleet::{Evicted, Heartbeat, Instance, Keys, evict, has_left, list};
use crate::net::redis::{Connection, Endpoint, Error};

/// To connect, and for each answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

/// Of one that said goodbye, or was evicted.
const GONE: &str = "gone";
/// Of one that Redis lost with what else it knew: it may be as alive as before, and is told of when it is heard of again.
const UNKNOWN: &str = "unknown";

/// Whose fleet, and how to answer.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Whose fleet [default: `workload`]
    #[arg(long, global = true, value_name = "NAME")]
    workload: Option<String>,
    /// How to answer
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    /// Goes on with each instance that changes, a line each
    #[arg(long)]
    watch: bool,
    /// The fleets of all workloads under `redis.prefix`. Looks through all keys of that Redis; its user needs +scan
    #[arg(long, conflicts_with_all = ["workload", "watch"])]
    all: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Takes a suspect out of the fleet: say this only of one that is gone for certain. Exits 1 if it is not suspect
    Evict {
        /// Its id, or the name of its pod
        id: String,
    },
}

/// Does what is asked and prints the answer.
pub fn main(args: &Args, settings: &Settings) -> ExitCode {
    block_on(run(args, settings)).map_or_else(|code| code, flags::print)
}

async fn run(args: &Args, settings: &Settings) -> Result<String, Failure> {
    if args.watch && args.command.is_some() {
        return Err(Failure::usage("--watch is for the list; evict without it"));
    }
    if args.watch && args.output == Output::Yaml {
        return Err(Failure::usage("--watch answers as table or json"));
    }
    if args.all && args.command.is_some() {
        return Err(Failure::usage("--all is for the list; evict by --workload"));
    }
    if args.all {
        return all::run(settings, args.output).await;
    }
    let workload = args.workload.as_deref().unwrap_or(&settings.fleet.workload);
    let mut fleet = Fleet::open(workload, settings).await?;
    match &args.command {
        Some(Command::Evict { id }) => fleet.evict(id, args.output).await,
        None if args.watch => fleet.watch(args.output).await,
        None => {
            let instances = fleet.list().await?;
            say(&fleet.value(&instances), args.output, || table(&instances))
        }
    }
}

struct Fleet {
    endpoint: Endpoint,
    keys: Keys,
    connection: Connection,
}

impl Fleet {
    async fn open(workload: &str, settings: &Settings) -> Result<Self, Failure> {
        let none = || Failure::usage("no Redis is configured; set redis.url or TIDEGATE_REDIS__URL");
        let redis = settings.fleet.redis.as_ref().ok_or_else(none)?;
        let keys = Keys::new(&redis.prefix, workload).map_err(|e| Failure::usage(e.to_string()))?;
        let endpoint = Endpoint::new(&redis.url).map_err(|e| Failure::usage(e.to_string()))?;
        let mut connection = endpoint.connect_for(&keys.alive, LIMIT).await.map_err(|e| Failure::redis(&e))?;
        // What is read there may be right, and whoever looks for an instance that cannot register there is told why.
        if connection.is_replica().await {
            complain(&format!("{}; no instance can register with it", endpoint.read_only()));
        }
        Ok(Self { endpoint, keys, connection })
    }

    async fn list(&mut self) -> Result<Vec<Instance>, Failure> {
        list(&mut self.connection, &self.keys).await.map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &RedisError) -> Failure {
        failed(&self.endpoint, error)
    }

    async fn evict(&mut self, id: &str, output: Output) -> Result<String, Failure> {
        let instances = self.list().await?;
        let named: Vec<&Instance> = match instances.iter().find(|instance| instance.id == id) {
            Some(instance) => vec![instance],
            None => instances.iter().filter(|instance| instance.says.pod == id).collect(),
        };
        let workload = &self.keys.workload;
        let instance = match named.as_slice() {
            [instance] => *instance,
            [] => {
                return Err(Failure::failed(format!("{workload} has no instance {id:?}; `tidegate fleet` lists them")));
            }
            several => {
                let ids: Vec<&str> = several.iter().map(|instance| instance.id.as_str()).collect();
                return Err(Failure::failed(format!(
                    "{id:?} is the pod of {}; write one of these ids",
                    ids.join(", ")
                )));
            }
        };
        match evict(&mut self.connection, &self.keys, &instance.id).await.map_err(|e| self.failed(&e))? {
            Evicted::Done => {
                let value =
                    json!({ "workload": workload, "id": instance.id, "pod": instance.says.pod, "evicted": true });
                say(&value, output, || {
                    format!("{} ({}) is out of the fleet of {workload}\n", instance.says.pod, instance.id)
                })
            }
            Evicted::Absent => Err(Failure::failed(format!("{} is gone already", instance.id))),
            Evicted::Live(left) => Err(Failure::failed(format!(
                "{} is live: its heartbeat is good for another {}; only suspects can be evicted",
                instance.id,
                rounded(left)
            ))),
        }
    }

    /// The list, and which of those that were known Redis has lost: nobody said goodbye for them.
    async fn look(
        &mut self,
        known: &BTreeMap<String, (Value, Instance)>,
    ) -> Result<(Vec<Instance>, BTreeSet<String>), Failure> {
        let instances = self.list().await?;
        let there: BTreeSet<&str> = instances.iter().map(|instance| instance.id.as_str()).collect();
        let mut lost = BTreeSet::new();
        for id in known.keys().filter(|id| !there.contains(id.as_str())) {
            if !has_left(&mut self.connection, &self.keys, id).await.map_err(|e| self.failed(&e))? {
                lost.insert(id.clone());
            }
        }
        Ok((instances, lost))
    }

    /// The list, then every change, until it is interrupted.
    async fn watch(&mut self, output: Output) -> Result<String, Failure> {
        let mut known: BTreeMap<String, (Value, Instance)> = BTreeMap::new();
        let mut first = true;
        loop {
            match self.look(&known).await {
                Ok((instances, lost)) => {
                    let mut fresh = BTreeMap::new();
                    for instance in instances {
                        let tells = told(&instance);
                        if known.get(&instance.id).is_none_or(|(before, _)| *before != tells) {
                            print(&instance, state(&instance), output, &mut first)?;
                        }
                        fresh.insert(instance.id.clone(), (tells, instance));
                    }
                    for (_, (_, instance)) in known.iter().filter(|(id, _)| !fresh.contains_key(*id)) {
                        let word = if lost.contains(&instance.id) { UNKNOWN } else { GONE };
                        print(instance, word.to_owned(), output, &mut first)?;
                    }
                    known = fresh;
                }
                Err(failure) if failure.code == EXIT_UNAVAILABLE || failure.code == EXIT_TRY_AGAIN => {
                    complain(&format!("{}; what changed meanwhile is told when it is back", failure.text));
                    loop {
                        match self.endpoint.connect_for(&self.keys.alive, LIMIT).await {
                            Ok(connection) => break self.connection = connection,
                            Err(_) => sleep(LOOK).await,
                        }
                    }
                    complain("redis is back");
                }
                Err(failure) => return Err(failure),
            }
            sleep(LOOK).await;
        }
    }

    fn value(&self, instances: &[Instance]) -> Value {
        let live = instances.iter().filter(|instance| matches!(instance.heard, Heartbeat::Live(_))).count();
        json!({
            "workload": self.keys.workload,
            "live": live,
            "suspect": instances.len() - live,
            "instances": instances.iter().map(value).collect::<Vec<_>>(),
        })
    }
}

/// What an error of Redis means for whoever asked.
fn failed(endpoint: &Endpoint, error: &RedisError) -> Failure {
    let answers = error.clone().into_server_errors();
    let code = answers.as_deref().and_then(|answers| answers.first()).map(|(_, answer)| ServerError::code(answer));
    match (endpoint.error(error, LIMIT), code) {
        (Error::Refused(text), Some("LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN")) => {
            Failure::try_again(format!("redis is not ready: {text}; try again"))
        }
        // Any other answer is Redis at work, and refusing.
        (Error::Refused(text), Some(_)) => Failure::failed(text),
        (said, _) => Failure::redis(&said),
    }
}

/// An instance for programs.
fn value(instance: &Instance) -> Value {
    let mut value = told(instance);
    if let Heartbeat::Suspect(since) = instance.heard {
        value["suspect_ms"] = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).into();
    }
    value
}

/// The same without what changes by itself.
fn told(instance: &Instance) -> Value {
    let says = &instance.says;
    json!({
        "id": instance.id,
        "pod": says.pod,
        "version": says.version,
        "sidecar": says.sidecar,
        "state": match instance.heard { Heartbeat::Live(_) => "live", Heartbeat::Suspect(_) => "suspect" },
        "joined": Some(moment(instance.joined)).filter(|at| !at.is_empty()),
        "phase": says.phase,
        "ready": says.ready,
        "failing": says.failing,
        "flags": says.flags,
        "oldest_epoch": says.oldest_epoch,
        "epochs": says.epochs,
        "capabilities": says.capabilities,
        "requires": says.requires,
    })
}

const HEADER: [&str; 9] = ["POD", "VERSION", "STATE", "PHASE", "READY", "FLAGS", "EPOCH", "FAILING", "ID"];

fn table(instances: &[Instance]) -> String {
    if instances.is_empty() {
        return "no instances\n".to_owned();
    }
    rows(HEADER, instances.iter().map(|instance| row(instance, state(instance))))
}

fn row(instance: &Instance, state: String) -> [String; 9] {
    let says = &instance.says;
    let flags: Vec<String> = says.flags.iter().map(|(scope, revision)| format!("{scope}@{revision}")).collect();
    let ready = if says.ready { "ready" } else { "not ready" };
    [
        says.pod.clone(),
        says.version.clone().unwrap_or_default(),
        state,
        says.phase.clone(),
        ready.to_owned(),
        flags.join(" "),
        says.oldest_epoch.to_string(),
        says.failing.join(" "),
        instance.id.clone(),
    ]
}

fn state(instance: &Instance) -> String {
    match instance.heard {
        Heartbeat::Live(_) => "live".to_owned(),
        Heartbeat::Suspect(since) => format!("suspect for {}", rounded(since)),
    }
}

fn rounded(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs().max(1))).to_string()
}

/// A line at once, also when it goes into a pipe. A reader that left wants no more.
fn print(instance: &Instance, state: String, output: Output, first: &mut bool) -> Result<(), Failure> {
    let text = match output {
        Output::Json => {
            let mut value = value(instance);
            if [GONE, UNKNOWN].contains(&state.as_str()) {
                value["state"] = state.into();
            }
            value.to_string()
        }
        Output::Table | Output::Yaml => {
            let now = moment(Some(SystemTime::now()));
            let header = if std::mem::take(first) { format!("TIME  {}\n", HEADER.join("  ")) } else { String::new() };
            let fields = row(instance, state).map(|field| if field.is_empty() { "-".to_owned() } else { field });
            format!("{header}{now}  {}", fields.join("  ").replace('\n', " "))
        }
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", plain(&text)).and_then(|()| out.flush()).map_err(|_| Failure::new(0, ""))
}
