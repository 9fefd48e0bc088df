//! Log lines leave through a thread of their own: whoever reads standard error may be slow or stuck, and an event loop
//! that waits for them would fail its liveness probe. The queue is bounded; what does not fit is counted and dropped.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES: usize = 4096;
/// How long the last lines may take to be written when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Hands lines to the writing thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
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
    /// Starts the thread, which writes to `out`.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, entries) = sync_channel(LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let lines = Self { queue, dropped: dropped.clone() };
        std::thread::Builder::new().name("log".into()).spawn(move || write(out, &entries, &dropped))?;
        Ok(lines)
    }

    /// Waits until what was logged so far is written, a second at most: whoever reads may be stuck, and the process ends
    /// all the same.
    pub fn flush(&self) {
        let (written, done) = sync_channel(1);
        let queue = self.queue.clone();
        // On a thread of its own, because a full queue has no way to wait for a place for so long and no longer.
        let asked = std::thread::Builder::new().spawn(move || drop(queue.send(Entry::Flush(written))));
        if asked.is_err() || done.recv_timeout(LAST_WORDS).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

fn write(mut out: impl Write, entries: &Receiver<Entry>, dropped: &AtomicU64) {
    while let Ok(entry) = entries.recv() {
        // A standard error that is closed takes nothing; there is nowhere to say so.
        match entry {
            Entry::Line(text) => drop(out.write_all(&text)),
            Entry::Flush(written) => drop(out.flush().map(|()| written.send(()))),
        }
        let lost = dropped.swap(0, Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "log lines were dropped: their reader is too slow");
        }
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
        if self.lines.queue.try_send(Entry::Line(std::mem::take(&mut self.text))).is_err() {
            self.lines.dropped.fetch_add(1, Relaxed);
        }
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
        let lines = Lines::to(shared.clone()).expect("a thread");
        {
            let _stuck = shared.0.lock().expect("unpoisoned");
            for index in 0..LINES + 100 {
                writeln!(lines.make_writer(), "{index}").expect("never fails");
            }
        }
        lines.flush();
        let written = String::from_utf8(shared.0.lock().expect("unpoisoned").clone()).expect("text");
        let written: Vec<usize> = written.lines().map(|line| line.parse().expect("whole lines")).collect();
        assert!(written.len() >= LINES && written.len() < LINES + 100, "{}", written.len());
        assert!(written.is_sorted(), "in order");
    }
}
