//! The integration tests: one module per flow, against real servers started by the tests themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]
#![allow(clippy::let_underscore_must_use, reason = "fixtures outlive the peers they talk to")]
#![allow(clippy::print_stderr, reason = "a failed test shows its servers' logs")]
#![allow(
    clippy::disallowed_methods,
    reason = "fixtures end with their runtime, and may read the environment they run in"
)]

mod support;

mod checks;
mod config;
mod conformance;
mod dashboards;
mod deploy;
mod differential;
mod drain;
mod edge;
mod endings;
mod events;
mod flagd;
mod flags_cli;
mod flags_file;
mod flags_redis;
mod flags_schedule;
mod fleet;
mod hold;
mod http2;
mod inject_cli;
mod inject_environment;
mod kube;
mod kubelet;
mod metrics;
mod native;
mod ofrep;
mod overrides;
mod proxy;
mod readiness;
mod readme;
mod sdk;
mod secrets;
mod tunnels;
mod webhook;
mod webhook_cert;
