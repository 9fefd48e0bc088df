//! The choices that hyper and tokio leave to a proxy, one name each, so that their cost can be measured and not guessed.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use hyper::{client, server};
use hyper_util::rt::TokioTimer;

/// One deviation of the bare proxy from its defaults.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tune {
    /// Drive the upstream connection inside the request's own task instead of a task of its own.
    Inline,
    /// `pipeline_flush(true)` on the server side.
    PipelineFlush,
    /// `writev(false)` on both sides: header and body are copied into one buffer.
    Flatten,
    /// `writev(true)` on both sides: never copy, always a vectored write.
    Vectored,
    /// `max_buf_size(8192)` on both sides, the least that hyper allows.
    SmallBuffers,
    /// `half_close(true)` on the server side.
    HalfClose,
    /// `title_case_headers(true)` on both sides.
    TitleCase,
    /// `auto_date_header(false)` on the server side.
    NoDate,
    /// A timer and hyper's `header_read_timeout` on the server side: the guard against slow headers.
    HeaderTimeout,
    /// `read_buf_exact_size(4096)` on the client side.
    ExactReads,
    /// Tasks on a `LocalSet` instead of the runtime.
    SpawnLocal,
    /// Sockets without `TCP_NODELAY`.
    Nagle,
    /// A runtime that looks for IO after every 16 tasks instead of 61.
    EagerEvents,
    /// The headers that a polite proxy adds: `X-Forwarded-*`, `Forwarded`, `X-Request-Id`, `traceparent`.
    ForwardHeaders,
    /// A `tokio::time::timeout` around each wait for the upstream's answer.
    AnswerTimeout,
}

/// What to compare with the defaults: nothing, which shows the noise; each deviation by itself, and those that a real proxy needs, with and without the
/// one that gains most.
pub(crate) fn sets() -> Vec<String> {
    let alone =
        Tune::value_variants().iter().filter_map(Tune::to_possible_value).map(|tune| tune.get_name().to_owned());
    let needed = "header-timeout,answer-timeout,forward-headers";
    std::iter::once(String::new()).chain(alone).chain([needed.to_owned(), format!("inline,{needed}")]).collect()
}

/// A set of deviations.
#[derive(Clone)]
pub(super) struct Tuning(pub(super) Arc<[Tune]>);

impl Tuning {
    pub(super) fn has(&self, tune: Tune) -> bool {
        self.0.contains(&tune)
    }

    pub(super) fn server(&self) -> server::conn::http1::Builder {
        let mut builder = server::conn::http1::Builder::new();
        for tune in self.0.iter() {
            match tune {
                Tune::PipelineFlush => builder.pipeline_flush(true),
                Tune::Flatten => builder.writev(false),
                Tune::Vectored => builder.writev(true),
                Tune::SmallBuffers => builder.max_buf_size(8192),
                Tune::HalfClose => builder.half_close(true),
                Tune::TitleCase => builder.title_case_headers(true),
                Tune::NoDate => builder.auto_date_header(false),
                Tune::HeaderTimeout => builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30)),
                _ => &mut builder,
            };
        }
        builder
    }

    pub(super) fn client(&self) -> client::conn::http1::Builder {
        let mut builder = client::conn::http1::Builder::new();
        for tune in self.0.iter() {
            match tune {
                Tune::Flatten => builder.writev(false),
                Tune::Vectored => builder.writev(true),
                Tune::SmallBuffers => builder.max_buf_size(8192),
                Tune::TitleCase => builder.title_case_headers(true),
                Tune::ExactReads => builder.read_buf_exact_size(Some(4096)),
                _ => &mut builder,
            };
        }
        builder
    }
}
