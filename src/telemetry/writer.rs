//! Lines leave through a thread of their own: whoever reads standard error or standard output may be slow or stuck, and
//! an event loop that waits for them would fail its liveness probe. The queue is bounded; what does not fit is counted and
//! dropped.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES: usize = 4096;
/// Bytes of lines that may wait.
const BYTES: usize = 2 << 20;
/// Bytes that are written at once, if so many wait: a line each would cost a system call each.
const BATCH: usize = 64 * 1024;
/// Between two remarks that lines were lost.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// How long the last lines may take to be written when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Hands lines to the writing thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: SyncSender<Entry>,
    counts: Arc<Counts>,
}

/// What became of the lines.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes in the queue.
    waiting: AtomicUsize,
    /// Dropped because the queue was full.
    dropped: AtomicU64,
    written: AtomicU64,
    /// Dropped because nothing can be written.
    unwritten: AtomicU64,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before has been written once this is answered.
    Flush(SyncSender<()>),
}

/// One line being formatted; handed over when dropped.
#[derive(Debug)]
pub struct Line {
    text: Vec<u8>,
    lines: Lines,
}

impl Lines {
    /// Starts the thread `name`, which writes to `out`.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn to(name: &str, out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, entries) = sync_channel(LINES);
        let counts = Arc::<Counts>::default();
        let lines = Self { queue, counts: counts.clone() };
        let writing = Writing { name: name.to_owned(), counts, told: 0, said: None, failing: false };
        std::thread::Builder::new().name(name.to_owned()).spawn(move || writing.run(out, &entries))?;
        Ok(lines)
    }

    /// Hands over a line, its end included. Never waits.
    pub fn send(&self, line: Vec<u8>) {
        let length = line.len();
        let waiting = self.counts.waiting.fetch_add(length, Relaxed);
        if waiting + length > BYTES || self.queue.try_send(Entry::Line(line)).is_err() {
            self.counts.waiting.fetch_sub(length, Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// How many lines were written, and how many lost.
    pub fn count(&self) -> (u64, u64) {
        let Counts { dropped, written, unwritten, .. } = &*self.counts;
        (written.load(Relaxed), dropped.load(Relaxed) + unwritten.load(Relaxed))
    }

    /// Waits until what was logged so far is written, a second at most: whoever reads may be stuck, and the process ends
    /// all the same.
    pub fn flush(&self) {
        let (written, done) = sync_channel(1);
        let queue = self.queue.clone();
        // On a thread of its own, because a full queue has no way to wait for a place for so long and no longer.
        let asked = std::thread::Builder::new().spawn(move || drop(queue.send(Entry::Flush(written))));
        if asked.is_err() || done.recv_timeout(LAST_WORDS).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// The thread that writes.
struct Writing {
    name: String,
    counts: Arc<Counts>,
    /// How many dropped lines have been remarked on, and when last.
    told: u64,
    said: Option<Instant>,
    failing: bool,
}

impl Writing {
    fn run(mut self, mut out: impl Write, entries: &Receiver<Entry>) {
        let mut batch = Vec::new();
        while let Ok(first) = entries.recv() {
            let (mut lines, mut flush, mut next) = (0, None, Some(first));
            while let Some(entry) = next.take() {
                match entry {
                    Entry::Line(line) => {
                        lines += 1;
                        self.counts.waiting.fetch_sub(line.len(), Relaxed);
                        batch.extend_from_slice(&line);
                    }
                    Entry::Flush(written) => {
                        flush = Some(written);
                        break;
                    }
                }
                if batch.len() < BATCH {
                    next = entries.try_recv().ok();
                }
            }
            let written = out.write_all(&batch).and_then(|()| out.flush());
            self.note(written, lines);
            batch.clear();
            if flush.is_some_and(|flush| flush.send(()).is_err()) {
                tracing::debug!(log = self.name, "flushed too late");
            }
        }
    }

    /// Counts what was written or not, and says when that changes: once, because what is said may have to leave here.
    fn note(&mut self, written: io::Result<()>, lines: u64) {
        match written {
            Ok(()) => {
                self.counts.written.fetch_add(lines, Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(log = self.name, "lines can be written again");
                }
            }
            Err(error) => {
                self.counts.unwritten.fetch_add(lines, Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(log = self.name, %error, "lines cannot be written, and are lost");
                }
            }
        }
        let lost = self.counts.dropped.load(Relaxed) - self.told;
        if lost > 0 && self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.told += lost;
            self.said = Some(Instant::now());
            tracing::warn!(log = self.name, lost, "lines were dropped: their reader is too slow");
        }
    }
}

/// Registers what became of the access log's lines, of which there are none when there is no such log.
pub fn register(registry: &mut Registry, access: Option<Lines>) {
    registry.register_collector(Box::new(AccessLog(access)));
}

#[derive(Debug)]
struct AccessLog(Option<Lines>);

impl Collector for AccessLog {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (written, lost) = self.0.as_ref().map_or((0, 0), Lines::count);
        let help = "Lines of the access log.";
        let mut family = encoder.encode_descriptor("access_log_lines", help, None, MetricType::Counter)?;
        for (result, count) in [("written", written), ("lost", lost)] {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::with_capacity(256), lines: self.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.lines.send(std::mem::take(&mut self.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Written to only while nobody holds it.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_never_time() {
        let shared = Shared::default();
        let lines = Lines::to("test", shared.clone()).expect("a thread");
        {
            let _stuck = shared.0.lock().expect("unpoisoned");
            for index in 0..2 * LINES {
                writeln!(lines.make_writer(), "{index:0>100}").expect("never fails");
            }
        }
        lines.flush();
        let written = String::from_utf8(shared.0.lock().expect("unpoisoned").clone()).expect("text");
        let written: Vec<usize> = written.lines().map(|line| line.parse().expect("whole lines")).collect();
        assert!(written.len() >= LINES && written.len() < 2 * LINES, "{}", written.len());
        assert!(written.is_sorted(), "in order");
        assert_eq!(lines.count(), (written.len() as u64, (2 * LINES - written.len()) as u64));
    }

    #[test]
    fn few_long_lines_fill_the_queue_as_many_short_ones_do() {
        let shared = Shared::default();
        let lines = Lines::to("test", shared.clone()).expect("a thread");
        {
            let _stuck = shared.0.lock().expect("unpoisoned");
            for _ in 0..10 {
                lines.send(vec![b'x'; BYTES / 4]);
            }
        }
        lines.flush();
        let written = shared.0.lock().expect("unpoisoned").len();
        assert!((BYTES..2 * BYTES).contains(&written), "{written}");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_later_ones_are_written() {
        struct Full(u64);

        impl Write for Full {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 < 3 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(text.len()) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let lines = Lines::to("test", Full(0)).expect("a thread");
        for _ in 0..5 {
            lines.send(b"line\n".to_vec());
            lines.flush();
        }
        assert_eq!(lines.count(), (3, 2));
    }
}
