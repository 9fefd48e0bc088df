//! The last known good on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use tidegate::secret::Secret;

use crate::support::eventually;
use crate::support::flags::{Flags, PATIENCE, Writer, kept_in, number, quick};
use crate::support::redis::Redis;

/// The one file kept.
fn kept_file(state_dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(state_dir.join("flags")).ok()?;
    let mut kept = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().unwrap() == "kept");
    kept.next()
}

/// Follows until `a` at 1 is on disk, and lets Redis die.
async fn kept(redis: &mut Redis, state_dir: &Path) {
    Writer::to(&redis.url(), "orders").await.set("a", 1).await;
    let flags = Flags::start(kept_in(state_dir, &redis.url(), &["orders"]), quick());
    flags.until("the flag is on disk", |_| kept_file(state_dir).is_some()).await;
    redis.kill();
}

#[tokio::test]
async fn a_start_without_redis_serves_the_last_known_good_and_says_its_age() {
    let (mut redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    kept(&mut redis, directory.path()).await;
    let hour = Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(kept_file(directory.path()).unwrap()).unwrap();
    file.set_modified(SystemTime::now() - hour).unwrap();

    let flags = Flags::start(kept_in(directory.path(), &redis.url(), &["orders"]), quick());
    flags.until("what was kept is in force", |flags| flags.status().ready).await;
    let source = flags.source(0);
    assert_eq!((flags.value("a"), source.from_disk, source.revision), (Some(1), true, Some(1)));
    assert!(flags.status().stale && flags.store.load().stale());
    let now = SystemTime::now();
    assert!(source.age(now).unwrap() >= hour, "{source:?}");
    flags.until("redis was found to be away", |flags| !flags.why(0).contains("start")).await;
    let why = flags.status().unready(now, Some(hour / 2)).unwrap();
    assert!(why.starts_with("redis:orders not confirmed for 1h"), "{why}");
    assert_eq!(flags.status().unready(now, Some(hour * 2)), None);

    redis.resume();
    flags.until("the loss is noticed", |flags| flags.state(0) == "missing").await;
    assert_eq!(flags.value("a"), Some(1), "what redis lost is served on");
    Writer::to(&redis.url(), "orders").await.set("a", 2).await;
    flags.until("redis is the truth again", |flags| flags.value("a") == Some(2)).await;
    assert!(!flags.source(0).from_disk && !flags.status().stale);
}

#[tokio::test]
async fn an_empty_redis_at_start_does_not_cover_the_last_known_good() {
    let (mut redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    kept(&mut redis, directory.path()).await;
    redis.resume();
    let flags = Flags::start(kept_in(directory.path(), &redis.url(), &["orders"]), quick());
    flags.until("the loss is noticed", |flags| flags.status().ready && flags.state(0) == "missing").await;
    assert_eq!((flags.value("a"), flags.status().stale), (Some(1), true));
}

#[tokio::test]
async fn a_malformed_scope_at_start_does_not_cover_the_last_known_good() {
    let (mut redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    kept(&mut redis, directory.path()).await;
    redis.resume();
    Writer::to(&redis.url(), "orders").await.write(&[("a", Some(r#"{"state":1}"#))]).await;
    let flags = Flags::start(kept_in(directory.path(), &redis.url(), &["orders"]), quick());
    flags.until("it is refused", |flags| flags.status().ready && flags.state(0) == "rejected").await;
    assert_eq!(flags.value("a"), Some(1));
}

#[tokio::test]
async fn a_redis_that_hangs_at_start_is_not_waited_for_when_something_is_kept() {
    let (mut redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    kept(&mut redis, directory.path()).await;
    redis.resume();
    redis.freeze();
    let flags = Flags::start(kept_in(directory.path(), &redis.url(), &["orders"]), quick());
    // The first attempt has 10 s; the last known good serves long before it ends.
    flags.until("what was kept is in force", |flags| flags.value("a") == Some(1)).await;
    assert!(flags.why(0).contains("since the start"), "the attempt still runs: {}", flags.why(0));
    redis.thaw();
}

#[tokio::test]
async fn what_is_kept_and_damaged_is_ignored() {
    let (mut redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    kept(&mut redis, directory.path()).await;
    let path = kept_file(directory.path()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let flags = Flags::start(kept_in(directory.path(), &redis.url(), &["orders"]), quick());
    flags.until("redis was found to be away", |flags| flags.state(0) == "stale").await;
    assert!(!flags.status().ready && flags.value("a").is_none());
    redis.resume();
    Writer::to(&redis.url(), "orders").await.set("a", 2).await;
    flags.until("redis is followed", |flags| flags.value("a") == Some(2)).await;
    flags
        .until("a good one replaces it", |_| fs::read_to_string(&path).is_ok_and(|text| text.contains(r#"\"v\":2"#)))
        .await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_an_alarm_and_nothing_else() {
    let (redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    // A file where the directory should be: not even root can write there.
    let in_the_way = directory.path().join("flags");
    fs::write(&in_the_way, "").unwrap();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(kept_in(directory.path(), &redis.url(), &["orders"]), quick());
    flags.until("the failure is told", |flags| flags.source(0).disk_error.is_some()).await;
    assert!(flags.metrics().contains("tidegate_flags_disk_failures_total{"), "{}", flags.metrics());
    writer.set("a", 2).await;
    flags.until("changes come into force", |flags| flags.value("a") == Some(2)).await;
    assert_eq!((flags.state(0), flags.status().stale), ("fresh", false));
    fs::remove_file(in_the_way).unwrap();
    flags.until("it is written by itself", |flags| flags.source(0).disk_error.is_none()).await;
    let text = fs::read_to_string(kept_file(directory.path()).unwrap()).unwrap();
    assert!(text.contains(&number(2).replace('"', "\\\"")), "{text}");
}

/// Where a child of [`kill_dash_nine_in_the_middle_of_a_write_leaves_a_whole_one`] follows, and keeps.
const CHILD: &str = "TIDEGATE_TEST_FOLLOW_AND_KEEP";

/// Alone it is a test; as a child it goes on until it is killed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how a child of a test is told what to do")]
async fn the_last_of_many_changes_is_on_disk_in_the_end() {
    if let Ok(told) = std::env::var(CHILD) {
        let (url, state_dir) = told.split_once(' ').unwrap();
        let _flags = Flags::start(kept_in(Path::new(state_dir), &Secret::new(url), &["orders"]), quick());
        return std::future::pending().await;
    }
    let (redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    let mut writer = Writer::to(&redis.url(), "orders").await;
    let _flags = Flags::start(kept_in(directory.path(), &redis.url(), &["orders"]), quick());
    for value in 1..=50 {
        writer.set("a", value).await;
    }
    let last = number(50).replace('"', "\\\"");
    eventually(PATIENCE, "the last change is on disk", async || {
        kept_file(directory.path()).is_some_and(|file| fs::read_to_string(file).unwrap().contains(&last))
    })
    .await;
}

/// Follows in a process of its own; killed on drop.
struct Following(Child);

impl Following {
    fn start(url: &Secret, state_dir: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "flags_redis::kept::the_last_of_many_changes_is_on_disk_in_the_end"])
            .env(CHILD, format!("{} {}", url.expose(), state_dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn kill_dash_nine_in_the_middle_of_a_write_leaves_a_whole_one() {
    let (redis, directory) = (Redis::start(), tempfile::tempdir().unwrap());
    let mut writer = Writer::to(&redis.url(), "orders").await;
    // Enough to take a while to write.
    let large = format!(
        r#"{{"state":"ENABLED","variants":{{"v":1}},"defaultVariant":"v","metadata":{{"x":"{}"}}}}"#,
        "x".repeat(50_000)
    );
    let keys: Vec<String> = (0..20).map(|k| format!("large{k}")).collect();
    writer.write(&keys.iter().map(|key| (key.as_str(), Some(large.as_str()))).collect::<Vec<_>>()).await;
    let mut value = 0;
    for round in 0..12u64 {
        let following = Following::start(&redis.url(), directory.path());
        let before = kept_file(directory.path()).map(|file| fs::metadata(file).unwrap().modified().unwrap());
        let changed = async |after: Option<SystemTime>| {
            let now = kept_file(directory.path()).and_then(|file| fs::metadata(file).ok()?.modified().ok());
            now.is_some() && now != after
        };
        // Changes go on while it is killed, at another moment each time.
        let mut storm = 0;
        eventually(PATIENCE, "something was kept", async || {
            value += 1;
            writer.write(&[("n", Some(&number(value))), ("m", Some(&number(value)))]).await;
            storm += 1;
            storm > round && changed(before).await
        })
        .await;
        drop(following);
        let left = fs::read_dir(directory.path().join("flags")).unwrap().count();
        assert!(left <= 2, "round {round}: {left} files pile up");

        let nowhere = Secret::new(format!("redis+unix://{}/nobody", directory.path().display()));
        let flags = Flags::start(kept_in(directory.path(), &nowhere, &["orders"]), quick());
        flags.until("what was kept is in force", |flags| flags.status().ready).await;
        assert_eq!(flags.value("n"), flags.value("m"), "round {round}: torn");
        assert!(flags.store.load().len() >= keys.len(), "round {round}: {} flags", flags.store.load().len());
    }
}
