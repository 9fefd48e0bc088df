//! Tunnels between two ends that a test plays, on a held clock.

use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::lifecycle::machine::{Ending, Outcome};

const SECOND: Duration = Duration::from_secs(1);

/// To the client: 1001, not masked.
const AWAY: &[u8] = b"\x88\x0c\x03\xe9going away";
/// The client's answer, masked with zeros.
const ANSWERED: &[u8] = b"\x88\x82\0\0\0\0\x03\xe9";
/// A client's text frame, masked with zeros.
const HELLO: &[u8] = b"\x81\x85\0\0\0\0Hello";

/// A tunnel that runs, and its two ends.
struct Rig {
    client: DuplexStream,
    app: DuplexStream,
    phase: watch::Sender<Phase>,
    ended: JoinHandle<Carried>,
    counters: Arc<Counters>,
}

#[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
fn rig(speaks: Speaks, idle: Option<Duration>) -> Rig {
    let ((client, ours), (app, apps)) = (duplex(32), duplex(32));
    let (sender, phase) = watch::channel(Phase::Serving);
    let counters = Arc::new(Counters::default());
    let terms = Terms { phase, tunnels: Tunnels::Wait, idle, counters: counters.clone() };
    let ended = tokio::spawn(Tunnel::new(ours, apps, speaks).run(terms));
    Rig { client, app, phase: sender, ended, counters }
}

impl Rig {
    /// Sheds from now on; the deadline is in 40 s and tunnels leave 3 s before.
    fn shed(&self) {
        let since = now();
        self.phase.send_replace(Phase::Shedding { since, deadline: since + 40 * SECOND, ending: Ending::Stay });
    }

    async fn ends(self) -> EndedBy {
        self.ended.await.expect("no panic").by
    }
}

/// Reads exactly these bytes.
async fn reads(from: &mut DuplexStream, expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    from.read_exact(&mut read).await.unwrap_or_else(|e| panic!("{e}, instead of {expected:02x?}"));
    assert_eq!(read, expected);
}

/// Reads a masked frame and returns its first byte and payload.
async fn reads_masked(from: &mut DuplexStream) -> (u8, Vec<u8>) {
    let mut head = [0; 6];
    from.read_exact(&mut head).await.expect("a head");
    assert!(head[1] & 0x80 != 0, "masked: {head:02x?}");
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    from.read_exact(&mut payload).await.expect("a payload");
    payload.iter_mut().zip(head[2..].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    (head[0], payload)
}

async fn reads_end(from: &mut DuplexStream) {
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await.expect("an orderly end");
    assert_eq!(rest, b"");
}

async fn writes(to: &mut DuplexStream, bytes: &[u8]) {
    to.write_all(bytes).await.expect("taken");
}

/// The app reads its Close, and answers it.
async fn app_answers(app: &mut DuplexStream) {
    assert_eq!(reads_masked(app).await, (0x88, b"\x03\xe9going away".to_vec()));
    writes(app, b"\x88\x02\x03\xe9").await;
    reads_end(app).await;
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_and_half_closes_with_them() {
    let mut rig = rig(Speaks::Other, None);
    writes(&mut rig.client, b"ping").await;
    reads(&mut rig.app, b"ping").await;
    rig.client.shutdown().await.expect("closed");
    reads_end(&mut rig.app).await;
    writes(&mut rig.app, b"still heard").await;
    reads(&mut rig.client, b"still heard").await;
    tokio::time::sleep(1000 * SECOND).await;
    writes(&mut rig.app, b"!").await;
    reads(&mut rig.client, b"!").await;
    rig.app.shutdown().await.expect("closed");
    reads_end(&mut rig.client).await;
    assert_eq!(rig.ends().await, EndedBy::Client);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_does_not_read_stops_the_other_and_loses_nothing() {
    let mut rig = rig(Speaks::Other, None);
    let all: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let (sent, taken) = (Arc::new(AtomicBool::new(false)), all.clone());
    let (mut client, done) = (rig.client, sent.clone());
    let writing = async move {
        client.write_all(&taken).await.expect("taken in the end");
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        client.shutdown().await.expect("closed");
    };
    let reading = async {
        tokio::time::sleep(60 * SECOND).await;
        assert!(!sent.load(std::sync::atomic::Ordering::SeqCst), "held back");
        let mut read = Vec::new();
        rig.app.read_to_end(&mut read).await.expect("all of it");
        assert!(read == all, "{} of {} bytes", read.len(), all.len());
    };
    tokio::join!(writing, reading);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_both_ends_of_a_websocket_get_a_close_and_answer_it() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.client, HELLO).await;
    reads(&mut rig.app, HELLO).await;
    rig.shed();
    let began = now();
    reads(&mut rig.client, AWAY).await;
    assert_eq!(now() - began, 37 * SECOND, "left alone until then");
    app_answers(&mut rig.app).await;
    writes(&mut rig.client, ANSWERED).await;
    reads_end(&mut rig.client).await;
    drop((rig.client, rig.app));
    assert_eq!(rig.ended.await.expect("no panic").by, EndedBy::Deadline);
    assert_eq!(now() - began, 37 * SECOND, "nothing to wait for");
    assert_eq!(rig.counters.tunnel_bytes(), [11, 0], "what we made up is not counted");
}

/// A frame towards the client that is under way at the deadline, cut at `at`, is finished before the Close.
async fn check_finished(frame: &[u8], at: usize) {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.app, &frame[..at]).await;
    reads(&mut rig.client, &frame[..at]).await;
    rig.shed();
    assert_eq!(reads_masked(&mut rig.app).await.0, 0x88, "the other direction has no frame to wait for");
    // The rest, and a frame that nobody will see.
    writes(&mut rig.app, &[&frame[at..], b"\x81\x04late"].concat()).await;
    reads(&mut rig.client, &frame[at..]).await;
    reads(&mut rig.client, AWAY).await;
    writes(&mut rig.client, ANSWERED).await;
    writes(&mut rig.app, b"\x88\x02\x03\xe9").await;
    reads_end(&mut rig.client).await;
    reads_end(&mut rig.app).await;
    drop((rig.client, rig.app));
    assert_eq!(rig.ended.await.expect("no panic").by, EndedBy::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_frame_under_way_at_the_deadline_is_finished_first() {
    for at in 1..7 {
        check_finished(b"\x81\x05Hello", at).await;
    }
    for at in 1..12 {
        // A 64-bit length, which is small.
        check_finished(b"\x82\x7f\0\0\0\0\0\0\0\x02ab", at).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_goes_between_the_fragments_of_a_message() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.app, b"\x01\x03Hel").await;
    reads(&mut rig.client, b"\x01\x03Hel").await;
    rig.shed();
    reads(&mut rig.client, AWAY).await;
    writes(&mut rig.app, b"\x80\x02lo").await;
    app_answers(&mut rig.app).await;
    writes(&mut rig.client, ANSWERED).await;
    reads_end(&mut rig.client).await;
    assert_eq!(rig.ends().await, EndedBy::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_never_ends_is_cut_at_the_deadline() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.app, b"\x81\x05Hel").await;
    reads(&mut rig.client, b"\x81\x05Hel").await;
    rig.shed();
    let began = now();
    reads_end(&mut rig.client).await;
    assert_eq!(now() - began, 40 * SECOND);
    assert_eq!(rig.ends().await, EndedBy::Deadline);
}

#[tokio::test(start_paused = true)]
async fn no_close_is_made_up_where_one_has_passed() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.client, b"\x88\x82\0\0\0\0\x03\xe8").await;
    reads(&mut rig.app, b"\x88\x82\0\0\0\0\x03\xe8").await;
    rig.shed();
    let began = now();
    // The app is slow to answer, and is waited for until the deadline.
    tokio::time::sleep(38 * SECOND).await;
    writes(&mut rig.app, b"\x88\x02\x03\xe8").await;
    reads(&mut rig.client, b"\x88\x02\x03\xe8").await;
    reads_end(&mut rig.client).await;
    assert_eq!(now() - began, 38 * SECOND);
    assert_eq!(rig.ends().await, EndedBy::Client);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_after_ours_is_read_on_without_harm() {
    let mut rig = rig(Speaks::WebSocket, None);
    rig.shed();
    reads(&mut rig.client, AWAY).await;
    // Both were on their way when ours arrived.
    writes(&mut rig.client, HELLO).await;
    writes(&mut rig.client, b"\x88\x82\0\0\0\0\x03\xe8").await;
    app_answers(&mut rig.app).await;
    reads_end(&mut rig.client).await;
    assert_eq!(rig.ends().await, EndedBy::Deadline);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_goes_without_a_close_is_said_to_restart() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.app, b"\x81\x03end").await;
    drop(rig.app);
    reads(&mut rig.client, b"\x81\x03end").await;
    reads(&mut rig.client, b"\x88\x11\x03\xf4service restart").await;
    writes(&mut rig.client, ANSWERED).await;
    reads_end(&mut rig.client).await;
    assert_eq!(rig.ended.await.expect("no panic").by, EndedBy::Broken);
}

/// Else a client that closes while its app is stopped has lost a connection.
#[tokio::test(start_paused = true)]
async fn an_app_that_goes_instead_of_answering_a_close_is_answered_for() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.client, b"\x88\x82\0\0\0\0\x03\xe8").await;
    reads(&mut rig.app, b"\x88\x82\0\0\0\0\x03\xe8").await;
    drop(rig.app);
    reads(&mut rig.client, b"\x88\x02\x03\xe8").await;
    reads_end(&mut rig.client).await;
    assert_eq!(rig.ended.await.expect("no panic").by, EndedBy::Client);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_goes_in_the_middle_of_a_frame_ends_the_tunnel() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.app, b"\x81\x03en").await;
    drop(rig.app);
    reads(&mut rig.client, b"\x81\x03en").await;
    reads_end(&mut rig.client).await;
    assert_eq!(rig.ended.await.expect("no panic").by, EndedBy::Broken);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_without_a_word_ends_the_apps_side() {
    let mut rig = rig(Speaks::WebSocket, None);
    writes(&mut rig.client, HELLO).await;
    drop(rig.client);
    reads(&mut rig.app, HELLO).await;
    reads_end(&mut rig.app).await;
    let began = now();
    assert_eq!(rig.ended.await.expect("no panic").by, EndedBy::Broken);
    assert!(now() - began <= HALF + LINGER, "an app that does not close is not waited for long");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_websocket_after_all_passes_and_is_half_closed_at_the_deadline() {
    let mut rig = rig(Speaks::WebSocket, None);
    let garbage = [&b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"anything"].concat();
    writes(&mut rig.app, &garbage).await;
    reads(&mut rig.client, &garbage).await;
    rig.shed();
    reads_end(&mut rig.client).await;
    reads_end(&mut rig.app).await;
    assert_eq!(rig.ends().await, EndedBy::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_idle_when_nothing_moves_either_way() {
    let mut rig = rig(Speaks::WebSocket, Some(10 * SECOND));
    for _ in 0..5 {
        tokio::time::sleep(9 * SECOND).await;
        writes(&mut rig.app, b"\x89\x00").await;
        reads(&mut rig.client, b"\x89\x00").await;
    }
    let began = now();
    reads(&mut rig.client, AWAY).await;
    assert_eq!(now() - began, 10 * SECOND);
    app_answers(&mut rig.app).await;
    writes(&mut rig.client, ANSWERED).await;
    reads_end(&mut rig.client).await;
    assert_eq!(rig.ends().await, EndedBy::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_opened_too_late_is_told_at_once() {
    let mut rig = rig(Speaks::WebSocket, None);
    let since = now();
    rig.phase.send_replace(Phase::Closing { since, outcome: Outcome::Clean, deadline: since + 2 * SECOND });
    reads(&mut rig.client, AWAY).await;
    assert_eq!(now(), since);
    // Neither answers.
    assert_eq!(rig.ends().await, EndedBy::Deadline);
    assert!(now() - since < 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_was_none_leaves_tunnels_alone() {
    let mut rig = rig(Speaks::WebSocket, None);
    rig.shed();
    tokio::time::sleep(36 * SECOND).await;
    rig.phase.send_replace(Phase::Serving);
    tokio::time::sleep(100 * SECOND).await;
    writes(&mut rig.client, HELLO).await;
    reads(&mut rig.app, HELLO).await;
}
