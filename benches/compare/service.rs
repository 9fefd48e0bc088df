//! Services that answer by themselves, measured side by side at full rate.

use std::net::SocketAddr;

use crate::child::Running;
use crate::lab::{Ask, Cores, Lab, Load, Measured};
use crate::series::Series;

/// A service and the request to measure it with.
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a str,
    pub(crate) running: &'a Running,
    pub(crate) address: SocketAddr,
    pub(crate) ask: Ask<'a>,
}

impl<'a> Asked<'a> {
    fn load(&self, requests: u64) -> Load<'a> {
        Load::closed(32, requests, self.ask, Cores::One)
    }
}

/// The figures of one service, round by round.
#[derive(Default, Clone)]
pub(crate) struct Answered {
    /// Microseconds per request.
    pub(crate) cpu: Series,
    /// Requests per second of CPU: what one core would serve if nothing else ran on it.
    pub(crate) per_cpu: Series,
    /// Requests per second beside the load.
    pub(crate) rate: Series,
}

impl Answered {
    /// One round's.
    pub(crate) fn push(&mut self, measured: &Measured) {
        self.cpu.push(measured.cpu);
        self.per_cpu.push(1e6 / measured.cpu);
        self.rate.push(measured.report.requests as f64 / measured.report.seconds);
    }
}

/// Asks each in turn over 32 connections, `requests` times a round, round after round; also the number of failed requests.
///
/// # Errors
/// When a service ends, or the load cannot be run.
pub(crate) fn compare(lab: &Lab, services: &[Asked<'_>], requests: u64) -> anyhow::Result<(Vec<Answered>, u64)> {
    let mut answered = vec![Answered::default(); services.len()];
    let mut failed = 0;
    for service in services {
        lab.load(service.address, service.load(requests.min(2000)))?;
    }
    for round in lab.rounds() {
        for turn in 0..services.len() {
            let at = (round + turn) % services.len();
            let service = &services[at];
            let measured = lab.measure(service.running, service.address, service.load(requests))?;
            answered[at].push(&measured);
            failed += measured.report.failed;
        }
    }
    Ok((answered, failed))
}

/// The figures by name, the first service's apart if it is Tidegate.
pub(crate) fn split(
    services: &[Asked<'_>],
    answered: &[Answered],
    pick: impl Fn(&Answered) -> &Series,
) -> (Option<Series>, Vec<(String, Series)>) {
    let mut own = None;
    let mut peers = Vec::new();
    for (service, figures) in services.iter().zip(answered) {
        match service.name {
            "tidegate" => own = Some(pick(figures).clone()),
            name => peers.push((name.to_owned(), pick(figures).clone())),
        }
    }
    (own, peers)
}
