//! How an app follows changes: events, caches, the death of a sidecar, its return, its drain.

use std::time::Duration;

use serde_json::{Value, json};

use super::{NODE_IN_PROCESS, NODE_OFREP, NODE_RPC, PYTHON_IN_PROCESS, PYTHON_OFREP, PYTHON_RPC, Provider};
use crate::support::browser::Page;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw;
use crate::support::redis::Redis;
use crate::support::sdk::Script;
use crate::support::sidecar::{self, Sidecar};

const PATIENCE: Duration = Duration::from_secs(30);
const SEARCH: &str = r#"{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"no"}"#;

/// A sidecar on a port that stays its own when it is killed and started again, and the Redis it follows.
struct World {
    redis: Redis,
    port: Port,
    more: &'static str,
    sidecar: Option<Sidecar>,
}

impl World {
    /// With the flag `search` switched off.
    async fn start(more: &'static str) -> Self {
        let mut world = Self { redis: Redis::start(), port: Port::reserve(), more, sidecar: None };
        world.started_in(tempfile::tempdir().unwrap());
        let (code, _, error) = world.sidecar().cli(&["flags", "set", "--create", "search", SEARCH]);
        assert_eq!(code, 0, "{error}");
        world.sidecar().ready().await;
        let local = world.port.address();
        eventually(PATIENCE, "the flag is served", async || {
            raw::post(local, "/ofrep/v1/evaluate/flags/search", "{}").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        world
    }

    fn started_in(&mut self, directory: tempfile::TempDir) {
        let settings = format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\n\
             local: {{ listen: ['{}'], socket: '{}'{} }}\n\
             redis: {{ url: '{}' }}\n\
             flags: {{ scopes: [orders] }}\n\
             drain: {{ delay: 200ms, quiet: 200ms, deadline: 10s }}",
            self.port.address(),
            directory.path().join("tidegate.sock").display(),
            self.more,
            self.redis.url().expose(),
        );
        self.sidecar = Some(Sidecar::start_in(directory, &settings));
    }

    fn sidecar(&self) -> &Sidecar {
        self.sidecar.as_ref().expect("it runs")
    }

    fn switch(&self, to: &str) {
        let (code, _, error) = self.sidecar().cli(&["flags", to, "search"]);
        assert_eq!(code, 0, "{error}");
    }

    /// `kill -9`; while it is gone the flag is changed by somebody else, and then it is back.
    async fn killed_while(&mut self, to: &str, gone: impl AsyncFnOnce()) {
        let directory = self.sidecar.take().expect("it runs").kill();
        gone().await;
        let config = directory.path().join("tidegate.yaml");
        let (code, _, error) = sidecar::cli(&["--config", config.to_str().unwrap(), "flags", to, "search"]);
        assert_eq!(code, 0, "{error}");
        self.started_in(directory);
    }

    /// Stopped as Kubernetes stops it.
    async fn drained(&mut self) -> tempfile::TempDir {
        let mut sidecar = self.sidecar.take().expect("it runs");
        sidecar.signal("TERM");
        let status = sidecar.ended(PATIENCE).await;
        assert!(status.success(), "{status}: {:#?}", sidecar.log());
        sidecar.kill()
    }
}

async fn sees_each_change_while_it_asks(provider: Provider) {
    let mut world = World::start("").await;
    let mut script: Script = provider.start("asking", world.port.address(), json!({}));
    script.reaches("asking").await;
    world.switch("on");
    script.go().await;
    script.reaches("changed").await;
    world
        .killed_while("off", async || {
            script.go().await;
            script.reaches("alone").await;
        })
        .await;
    script.go().await;
    script.reaches("back").await;
    world.drained().await;
    script.go().await;
    assert_eq!(script.passes().await, Value::Bool(true));
}

#[tokio::test]
async fn python_over_ofrep_sees_changes_and_survives_its_sidecar() {
    sees_each_change_while_it_asks(PYTHON_OFREP).await;
}

#[tokio::test]
async fn node_over_ofrep_sees_changes_and_survives_its_sidecar() {
    sees_each_change_while_it_asks(NODE_OFREP).await;
}

async fn follows_a_flag_by_events(provider: Provider) {
    let mut world = World::start("").await;
    let mut script = provider.start("events", world.port.address(), json!({"cache": "lru"}));
    script.reaches("following").await;
    world.switch("on");
    script.go().await;
    script.reaches("changed").await;
    world
        .killed_while("off", async || {
            script.go().await;
            script.reaches("alone").await;
        })
        .await;
    script.go().await;
    script.reaches("back").await;
    world.switch("on");
    script.go().await;
    script.reaches("draining").await;
    let directory = world.drained().await;
    script.go().await;
    script.reaches("left").await;
    world.started_in(directory);
    script.go().await;
    assert_eq!(script.passes().await, Value::Bool(true));
}

#[tokio::test]
async fn python_over_rpc_follows_a_flag_by_events() {
    follows_a_flag_by_events(PYTHON_RPC).await;
}

#[tokio::test]
async fn python_in_process_follows_a_flag_by_events() {
    follows_a_flag_by_events(PYTHON_IN_PROCESS).await;
}

#[tokio::test]
async fn node_over_rpc_follows_a_flag_by_events() {
    follows_a_flag_by_events(NODE_RPC).await;
}

#[tokio::test]
async fn node_in_process_follows_a_flag_by_events() {
    follows_a_flag_by_events(NODE_IN_PROCESS).await;
}

async fn a_page_follows_a_flag_by_events(provider: &str) {
    let mut world = World::start(", cors_origins: ['*']").await;
    let settings = json!({"provider": provider, "address": world.port.address().to_string()});
    let mut page = Page::open("events", &settings).await;
    page.reaches("following").await;
    world.switch("on");
    page.go();
    page.reaches("changed").await;
    world
        .killed_while("off", async || {
            page.go();
            page.reaches("alone").await;
        })
        .await;
    page.go();
    page.reaches("back").await;
    world.switch("on");
    page.go();
    page.passes().await;
    world.drained().await;
}

#[tokio::test]
async fn a_page_over_ofrep_follows_a_flag_by_events() {
    a_page_follows_a_flag_by_events("ofrep").await;
}

#[tokio::test]
async fn a_page_over_connect_follows_a_flag_by_events() {
    a_page_follows_a_flag_by_events("rpc").await;
}
