//! A pod: its containers in the order they start in, and what a Service and a controller see of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::container::{Container, Role, State};
use super::environment::Identity;
use super::files::{ConfigMaps, Files};
use super::handler::Place;
use super::image::Image;
use super::manifests::Workload;
use super::network::{Network, node};
use super::process;
use super::record::Record;
use super::spec::{self, ContainerPort, PortRef, RestartPolicy, Template};

/// Nothing that a pod must come to takes longer.
const LONG: Duration = Duration::from_secs(90);

/// What others see of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Conditions {
    pub(crate) is_ready: bool,
    pub(crate) is_deleted: bool,
    pub(crate) is_over: bool,
}

/// A pod; dropping it kills its processes.
pub(crate) struct Pod {
    pub(crate) name: String,
    /// Where it runs: a name to choose it by.
    pub(crate) node: String,
    record: Arc<Record>,
    network: Arc<Network>,
    ports: Vec<ContainerPort>,
    states: BTreeMap<String, watch::Receiver<State>>,
    deletion: watch::Sender<bool>,
    conditions: watch::Receiver<Conditions>,
    _tasks: JoinSet<()>,
    _directory: TempDir,
}

impl Pod {
    /// Starts a pod of this workload.
    pub(crate) fn start(workload: &Workload, name: &str, node_name: &str) -> Self {
        let template = Template::of(&workload.template);
        let directory = tempfile::Builder::new().prefix("pod").tempdir().unwrap();
        let network = Arc::new(Network::take());
        let logs = directory.path().join("logs");
        std::fs::create_dir_all(&logs).unwrap();
        let identity = Identity {
            name: name.to_owned(),
            uid: format!("{:08x}-0000-4000-8000-{:012x}", fastrand::u32(..), fastrand::u64(..1 << 48)),
            ip: network.ip,
            node: node_name.to_owned(),
            node_ip: node(),
            labels: template.labels.clone(),
            annotations: template.annotations.clone(),
        };
        let record = Arc::new(Record::new(logs));
        let (deletion, deleted) = watch::channel(false);
        let maker = Maker {
            template: &template,
            maps: &workload.maps,
            directory: directory.path(),
            identity: &identity,
            network: &network,
            record: &record,
            deleted: &deleted,
        };
        let (inits, mains) = maker.containers();
        let all = || inits.iter().chain(&mains);
        let states: BTreeMap<_, _> =
            all().map(|container| (container.spec.name.clone(), container.state.subscribe())).collect();
        let ports = all().flat_map(|container| container.spec.ports.clone()).collect();
        let lasting = all().filter(|container| container.role != Role::Init);
        let lasting: Vec<_> = lasting.map(|container| container.state.subscribe()).collect();
        let every = states.values().cloned().collect();
        let (seen, conditions) = watch::channel(Conditions::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(look(lasting, every, deleted.clone(), seen));
        tasks.spawn(play(inits, mains, deleted));
        Self {
            name: name.to_owned(),
            node: node_name.to_owned(),
            record,
            network,
            ports,
            states,
            deletion,
            conditions,
            _tasks: tasks,
            _directory: directory,
        }
    }

    /// What happened in it.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Where a port answers: its number, or the name it has in any container. Native sidecars count since 1.32
    /// (kubernetes/kubernetes#128850).
    pub(crate) fn port(&self, port: &PortRef) -> SocketAddr {
        let number = port.resolve(self.ports.iter());
        SocketAddr::new(self.network.ip.into(), number.unwrap_or_else(|| panic!("{}: no port {port:?}", self.name)))
    }

    /// What others see of it.
    pub(crate) fn conditions(&self) -> Conditions {
        *self.conditions.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Conditions> {
        self.conditions.clone()
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        let mut conditions = self.conditions.clone();
        let ready = timeout(LONG, conditions.wait_for(|conditions| conditions.is_ready)).await;
        assert!(ready.is_ok(), "{} is not ready:\n{}", self.name, self.record);
    }

    /// Begins its deletion.
    pub(crate) fn delete(&self) {
        self.deletion.send_replace(true);
    }

    /// Waits until it is gone.
    pub(crate) async fn ended(&self) {
        let mut conditions = self.conditions.clone();
        let over = timeout(LONG * 2, conditions.wait_for(|conditions| conditions.is_over)).await;
        assert!(over.is_ok(), "{} does not end:\n{}", self.name, self.record);
    }

    /// The process of a container, while it runs.
    pub(crate) fn pid(&self, container: &str) -> Option<u32> {
        self.states[container].borrow().pid
    }

    /// How often a container was started again.
    pub(crate) fn restarts(&self, container: &str) -> u32 {
        self.states[container].borrow().restarts
    }

    /// `kill -9` of a container's process.
    pub(crate) fn kill(&self, container: &str) {
        process::send(self.pid(container).expect("it runs"), Signal::KILL);
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("pod {} at {}:\n{}", self.name, self.network.ip, self.record);
        }
    }
}

/// What containers of one pod have in common.
struct Maker<'a> {
    template: &'a Template,
    maps: &'a ConfigMaps,
    directory: &'a Path,
    identity: &'a Identity,
    network: &'a Arc<Network>,
    record: &'a Arc<Record>,
    deleted: &'a watch::Receiver<bool>,
}

impl Maker<'_> {
    /// Init containers and main ones, each knowing whose end it waits for: a native sidecar for all main containers
    /// and for the sidecar after it.
    fn containers(&self) -> (Vec<Container>, Vec<Container>) {
        let spec = &self.template.spec;
        let make = |container: &spec::Container, role| self.container(container, role);
        let mains: Vec<Container> = spec.containers.iter().map(|container| make(container, Role::Main)).collect();
        let mut inits: Vec<Container> = Vec::new();
        let mut before: Vec<_> = mains.iter().map(|main| main.state.subscribe()).collect();
        for container in spec.init_containers.iter().rev() {
            let is_sidecar = container.restart_policy == Some(RestartPolicy::Always);
            let mut made = make(container, if is_sidecar { Role::Sidecar } else { Role::Init });
            if is_sidecar {
                made.before = before.clone();
                before.push(made.state.subscribe());
            }
            inits.insert(0, made);
        }
        (inits, mains)
    }

    fn container(&self, container: &spec::Container, role: Role) -> Container {
        let image = Image::of(container);
        let spec = &self.template.spec;
        let files = Files::of(container, &spec.volumes, self.maps, image.layer, self.directory, self.network);
        let mut run = image.run(container, self.identity, &files, self.network);
        run.log = self.record.logs.join(&container.name);
        Container {
            spec: container.clone(),
            role,
            policy: spec.restart_policy,
            grace: spec.grace(),
            place: Place { run, ports: container.ports.clone(), files, network: self.network.clone() },
            events: self.record.clone(),
            state: watch::channel(State::default()).0,
            deleted: self.deleted.clone(),
            before: Vec::new(),
        }
    }
}

/// Starts the containers, and waits for their end.
async fn play(inits: Vec<Container>, mains: Vec<Container>, deleted: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    for init in inits {
        let (role, mut state) = (init.role, init.state.subscribe());
        running.spawn(init.play());
        let mut deleted = deleted.clone();
        tokio::select! {
            _ = state.wait_for(|state| state.over.is_some() || (role == Role::Sidecar && state.is_up)) => {}
            _ = deleted.wait_for(|deleted| *deleted) => {}
        }
    }
    // One that is deleted by now never begins: its end is said at once.
    for main in mains {
        running.spawn(main.play());
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Makes conditions of the states of containers that last, and of all of them.
async fn look(
    lasting: Vec<watch::Receiver<State>>,
    every: Vec<watch::Receiver<State>>,
    deleted: watch::Receiver<bool>,
    seen: watch::Sender<Conditions>,
) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let conditions = Conditions {
            is_ready: lasting.iter().all(|state| state.borrow().is_ready),
            is_deleted: *deleted.borrow(),
            is_over: every.iter().all(|state| state.borrow().over.is_some()),
        };
        seen.send_if_modified(|known| std::mem::replace(known, conditions) != conditions);
    }
}
