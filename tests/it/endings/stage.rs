//! The endings themselves: pods of an app and its sidecar behind a load balancer, ended as Kubernetes ends them.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use super::app::App;
use super::load::{Habit, Load, Protocol, Target};
use super::promise::Ending;
use super::tally::Cell;
use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw;
use crate::support::sidecar::{Sidecar, TIDEGATE};

const LONG: Duration = Duration::from_secs(60);
const PATIENT: &str = "drain: { delay: 300ms, quiet: 200ms, deadline: 30s }";
const HASTY: &str = "drain: { delay: 300ms, quiet: 200ms, deadline: 3s }";
/// How long an app that ends is away.
const AWAY: Duration = Duration::from_millis(300);

/// What the clients of each protocol saw.
pub(super) type Row = BTreeMap<Protocol, Cell>;

/// An app and its sidecar.
struct Pod {
    app: Option<App>,
    port: Port,
    sidecar: Sidecar,
}

impl Pod {
    async fn start(settings: &str) -> Self {
        let port = Port::reserve();
        let app = App::start(&port).await;
        let upstream = port.address();
        let sidecar = Sidecar::start_with(&format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{upstream}' }}, \
             {{ listen: '127.0.0.1:0', upstream: 'h2c://{upstream}' }}]\n{settings}"
        ));
        sidecar.ready().await;
        Self { app: Some(app), port, sidecar }
    }

    fn target(&self) -> Target {
        Target { http: self.sidecar.proxy[0], grpc: self.sidecar.proxy[1] }
    }

    /// The app's `preStop`.
    async fn hook(&self) {
        let drained = tokio::time::timeout(LONG, raw::post(self.sidecar.ops, "/drain", "")).await.unwrap().unwrap();
        assert_eq!(drained.status, 200, "{}", drained.text());
    }

    /// The sidecar's own `preStop`, which runs only when the pod ends.
    async fn own_hook(&self) -> ExitStatus {
        let mut command = tokio::process::Command::new(TIDEGATE);
        let command = command.arg("--config").arg(self.sidecar.config()).args(["drain", "--self"]).env_clear();
        tokio::time::timeout(LONG, command.output()).await.unwrap().unwrap().status
    }

    /// The app is gone at once, and another one comes in its place.
    async fn restart_app(&mut self) {
        self.app = None;
        tokio::time::sleep(AWAY).await;
        self.app = Some(App::start(&self.port).await);
    }

    /// The pod is deleted: the hooks of both containers run, then the app is stopped, then the sidecar.
    async fn delete_native(&mut self) {
        let ((), own) = tokio::join!(self.hook(), self.own_hook());
        assert!(own.success(), "{own}");
        self.app = None;
        self.sidecar.signal("TERM");
        let status = self.sidecar.ended(LONG).await;
        assert!(status.success(), "{status}; {:#?}", self.sidecar.log());
    }

    /// The same where the sidecar is a container as any: its signal comes while the app's hook runs.
    async fn delete_container(&mut self) {
        self.sidecar.signal("TERM");
        self.hook().await;
        self.app = None;
        let status = self.sidecar.ended(LONG).await;
        assert!(status.success(), "{status}; {:#?}", self.sidecar.log());
    }
}

/// A Service in front of pods.
struct Service {
    http: Balancer,
    grpc: Balancer,
}

impl Service {
    async fn to(pod: &Pod) -> Self {
        let target = pod.target();
        Self { http: Balancer::to(target.http).await, grpc: Balancer::to(target.grpc).await }
    }

    fn target(&self) -> Target {
        Target { http: self.http.address, grpc: self.grpc.address }
    }

    fn switch(&self, to: Target) {
        self.http.switch(to.http);
        self.grpc.switch(to.grpc);
    }
}

/// Plays an ending under load.
pub(super) async fn play(ending: Ending) -> Row {
    match ending {
        Ending::RollingUpdate => rolling_update().await,
        Ending::AppRestart => app_restart().await,
        Ending::AppCrash => app_crash().await,
        Ending::SignalNative => deletion(Pod::delete_native).await,
        Ending::SignalContainer => deletion(Pod::delete_container).await,
        Ending::Deadline => deadline().await,
    }
}

/// The endpoint is removed some time after the pod's end has begun.
async fn replace(pod: &mut Pod, next: &Pod, service: &Service, delete: impl AsyncFn(&mut Pod)) {
    let (target, log) = (next.target(), pod.sidecar.logger());
    let removed = async {
        eventually(LONG, "a drain has begun", async || log().iter().any(|line| line["to"] == "lame_duck")).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        service.switch(target);
    };
    tokio::join!(delete(pod), removed);
}

/// Three pods, one after the other, each up before the one before it is told to leave (`maxUnavailable: 0`).
async fn rolling_update() -> Row {
    let mut pod = Pod::start(PATIENT).await;
    let service = Service::to(&pod).await;
    let load = Load::on(service.target(), Habit::Short);
    for _ in 0..2 {
        load.flows().await;
        let next = Pod::start(PATIENT).await;
        replace(&mut pod, &next, &service, Pod::delete_native).await;
        pod = next;
    }
    load.flows().await;
    load.stop().await
}

/// One pod of two is deleted.
async fn deletion(delete: impl AsyncFn(&mut Pod)) -> Row {
    let mut pod = Pod::start(PATIENT).await;
    let next = Pod::start(PATIENT).await;
    let service = Service::to(&pod).await;
    let load = Load::on(service.target(), Habit::Short);
    load.flows().await;
    replace(&mut pod, &next, &service, delete).await;
    load.flows().await;
    load.stop().await
}

/// The app's container alone is restarted: its hook runs, it is stopped, and another one comes.
async fn app_restart() -> Row {
    let mut pod = Pod::start(PATIENT).await;
    let load = Load::on(pod.target(), Habit::Short);
    load.flows().await;
    pod.hook().await;
    pod.restart_app().await;
    load.flows().await;
    load.stop().await
}

/// `kill -9`, and another one comes.
async fn app_crash() -> Row {
    let mut pod = Pod::start(PATIENT).await;
    let load = Load::on(pod.target(), Habit::Short);
    load.flows().await;
    pod.restart_app().await;
    load.flows().await;
    load.stop().await
}

/// Streams go on for longer than the drain may take. Requests go elsewhere in time.
async fn deadline() -> Row {
    let mut pod = Pod::start(HASTY).await;
    let next = Pod::start(PATIENT).await;
    let service = Service::to(&pod).await;
    let load = Load::on(service.target(), Habit::Endless);
    load.flows().await;
    let over = async |pod: &mut Pod| {
        let ((), own) = tokio::join!(pod.hook(), pod.own_hook());
        assert_eq!(own.code(), Some(1), "streams were cut, and that is said");
        pod.app = None;
        pod.sidecar.signal("TERM");
        assert_eq!(pod.sidecar.ended(LONG).await.code(), Some(1));
    };
    replace(&mut pod, &next, &service, over).await;
    load.settled().await;
    load.stop().await
}

/// The app restarts with nothing before it: what the sidecar is for.
pub(super) async fn without_a_sidecar() -> Row {
    let port = Port::reserve();
    let app = App::start(&port).await;
    let load = Load::on(Target { http: port.address(), grpc: port.address() }, Habit::Short);
    load.flows().await;
    drop(app);
    tokio::time::sleep(AWAY).await;
    let _app = App::start(&port).await;
    load.flows().await;
    load.stop().await
}

/// `kill -9` of a sidecar whose clients then go elsewhere: what a drain is for.
pub(super) async fn without_a_drain() -> Row {
    let pod = Pod::start(PATIENT).await;
    let next = Pod::start(PATIENT).await;
    let service = Service::to(&pod).await;
    let load = Load::on(service.target(), Habit::Short);
    load.flows().await;
    let Pod { sidecar, app: _app, port: _port } = pod;
    drop(sidecar.kill());
    tokio::time::sleep(Duration::from_millis(150)).await;
    service.switch(next.target());
    load.flows().await;
    load.stop().await
}
