//! Flags from files: replaced, half written, gone; ConfigMaps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tidegate::flags::settings::{OnMissing, Settings};
use tidegate::flags::sources::Pace;

use crate::support::eventually;
use crate::support::flags::{Flags, PATIENCE, number, quick};
use crate::support::sidecar::Sidecar;

fn settings(files: &[&Path]) -> Settings {
    Settings { files: files.iter().map(|file| (*file).to_owned()).collect(), ..Settings::default() }
}

fn document(value: u64) -> String {
    format!(r#"{{"flags":{{"a":{}}}}}"#, number(value))
}

/// Looks at files by itself often; where a test is about being told, [`quick`] never does.
fn looking() -> Pace {
    Pace { look: Duration::from_millis(20), ..quick() }
}

/// A directory with `flags.json` at 1, followed.
async fn followed(pace: Pace) -> (tempfile::TempDir, Flags) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flags.json");
    fs::write(&file, document(1)).unwrap();
    let flags = Flags::start(settings(&[&file]), pace);
    flags.until("the file is in force", |flags| flags.status().ready && flags.value("a") == Some(1)).await;
    (directory, flags)
}

#[tokio::test]
async fn a_file_that_is_not_there_is_legal_and_warned_of_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("later.json");
    let sidecar = Sidecar::start_with(&format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\nflags: {{ files: ['{}'] }}",
        file.display()
    ));
    let (code, said, error) = sidecar.cli(&["config", "check"]);
    assert_eq!(code, 0, "{said}{error}");
    let about = || sidecar.log().into_iter().filter(|line| line["source"] == format!("file:{}", file.display()));
    eventually(PATIENCE, "it is warned of", async || about().count() > 0).await;
    let line = about().next().unwrap();
    let message = "flag file is not there; its flags come into force once it is";
    assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("WARN"), Some(message)), "{line}");
    sidecar.ready().await;
    fs::write(&file, document(1)).unwrap();
    eventually(PATIENCE, "it is in force", async || about().any(|line| line["message"] == "flag source is fresh"))
        .await;
    assert_eq!(about().count(), 2, "{:#?}", about().collect::<Vec<_>>());
}

#[tokio::test]
async fn without_any_source_a_start_is_ready_and_empty() {
    let flags = Flags::start(Settings::default(), quick());
    flags.until("the empty snapshot is in force", |flags| flags.status().generation == 1).await;
    assert!(flags.status().ready && !flags.status().stale && flags.store.load().is_empty());
}

#[tokio::test]
async fn a_file_written_over_comes_into_force_when_it_is_told() {
    let (directory, flags) = followed(quick()).await;
    let file = directory.path().join("flags.json");
    fs::write(&file, document(2)).unwrap();
    flags.until("the change is in force", |flags| flags.value("a") == Some(2)).await;
    // As editors do.
    fs::write(directory.path().join("new"), document(3)).unwrap();
    fs::rename(directory.path().join("new"), &file).unwrap();
    flags.until("the replacement is in force", |flags| flags.value("a") == Some(3)).await;
    assert_eq!((flags.state(0), flags.source(0).name.to_string()), ("fresh", format!("file:{}", file.display())));
}

#[tokio::test]
async fn a_config_map_swap_comes_into_force_when_it_is_told() {
    // As the kubelet lays a volume out: file → ..data/file, ..data → a directory, and ..data replaced by rename.
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let lay = |name: &str, value| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("flags.yaml"), format!("flags:\n  a: {}\n", number(value))).unwrap();
    };
    lay("..1", 1);
    symlink("..1", at("..data")).unwrap();
    symlink("..data/flags.yaml", at("flags.yaml")).unwrap();
    let flags = Flags::start(settings(&[&at("flags.yaml")]), quick());
    flags.until("the file is in force", |flags| flags.value("a") == Some(1)).await;
    for value in 2..5 {
        let name = format!("..{value}");
        lay(&name, value);
        symlink(&name, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at(&format!("..{}", value - 1))).unwrap();
        flags.until("the swap is in force", |flags| flags.value("a") == Some(value)).await;
    }
}

#[tokio::test]
async fn a_file_half_written_leaves_the_last_good_in_force_until_it_is_whole() {
    let (directory, flags) = followed(quick()).await;
    let file = directory.path().join("flags.json");
    let whole = document(2);
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..cut]).unwrap();
        flags.until("what is half written is refused", |flags| flags.state(0) == "rejected").await;
        assert_eq!((flags.value("a"), flags.status().stale), (Some(1), true));
        fs::write(&file, document(1)).unwrap();
        flags.until("what is whole is taken", |flags| flags.state(0) == "fresh").await;
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    flags.until("what is no text is refused", |flags| flags.why(0).contains("UTF-8")).await;
    fs::write(&file, &whole).unwrap();
    flags.until("the change is in force", |flags| flags.value("a") == Some(2)).await;
    assert!(!flags.status().stale);
}

#[tokio::test]
async fn a_file_that_is_gone_leaves_its_flags_in_force_until_it_is_back() {
    let (directory, flags) = followed(quick()).await;
    let file = directory.path().join("flags.json");
    fs::remove_file(&file).unwrap();
    flags.until("the loss is noticed", |flags| flags.state(0) == "missing").await;
    assert_eq!((flags.value("a"), flags.status().stale), (Some(1), true));
    // The same again is no new revision.
    fs::write(&file, document(1)).unwrap();
    flags.until("it is back", |flags| flags.state(0) == "fresh").await;
    assert_eq!((flags.source(0).revision, flags.status().stale), (Some(1), false));
    fs::write(&file, r#"{"flags":{}}"#).unwrap();
    flags.until("an empty document empties", |flags| flags.value("a").is_none()).await;
}

#[tokio::test]
async fn a_directory_replaced_under_its_watch_is_found_again() {
    let (directory, flags) = followed(looking()).await;
    let nested = directory.path().join("nested");
    let file = nested.join("flags.json");
    let later = Flags::start(settings(&[&file]), looking());
    later.until("there is nothing yet", |flags| flags.status().ready && flags.state(0) == "missing").await;
    fs::create_dir(&nested).unwrap();
    fs::write(&file, document(5)).unwrap();
    later.until("the file of a new directory is in force", |flags| flags.value("a") == Some(5)).await;
    fs::remove_dir_all(&nested).unwrap();
    later.until("the loss is noticed", |flags| flags.state(0) == "missing").await;
    fs::create_dir(&nested).unwrap();
    fs::write(&file, document(6)).unwrap();
    later.until("the file of the next directory is in force", |flags| flags.value("a") == Some(6)).await;
    assert_eq!(flags.value("a"), Some(1));
}

#[tokio::test]
async fn a_change_that_no_watch_tells_is_found_by_looking() {
    // A link out of the directory: what happens at its target happens elsewhere.
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (link, target) = (directory.path().join("flags.json"), elsewhere.path().join("flags.json"));
    fs::write(&target, document(1)).unwrap();
    symlink(&target, &link).unwrap();
    let flags = Flags::start(settings(&[&link]), looking());
    flags.until("the file is in force", |flags| flags.value("a") == Some(1)).await;
    let confirmed = flags.source(0).confirmed_at;
    flags.until("an unchanged file is confirmed", |flags| flags.source(0).confirmed_at > confirmed).await;
    assert_eq!(flags.status().generation, 1, "and not put in force again");
    fs::write(&target, document(2)).unwrap();
    flags.until("the change is in force", |flags| flags.value("a") == Some(2)).await;
}

#[tokio::test]
async fn an_invalid_file_at_start_waits_unless_a_start_may_be_empty() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flags.json");
    fs::write(&file, r#"{"flags":{"a":{"state":"ENABLED"},"b":{"state":"X"}}}"#).unwrap();
    let flags = Flags::start(settings(&[&file]), quick());
    flags.until("it is refused", |flags| flags.state(0) == "rejected").await;
    let (status, why) = (flags.status(), flags.why(0));
    assert!(!status.ready && why.contains("flags.a") && why.contains("flags.b"), "{why}");
    let empty = Flags::start(Settings { on_missing: OnMissing::Empty, ..settings(&[&file]) }, quick());
    empty.until("the start went on", |flags| flags.status().ready && flags.state(0) == "rejected").await;
    fs::write(&file, document(1)).unwrap();
    flags.until("what is valid is in force", |flags| flags.status().ready && flags.value("a") == Some(1)).await;
}

#[tokio::test]
async fn the_first_of_two_files_covers_the_second() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("1.json"), directory.path().join("2.yml"));
    fs::write(&first, document(1)).unwrap();
    fs::write(&second, format!(r#"{{"flags":{{"a":{0},"b":{0}}}}}"#, number(2))).unwrap();
    let flags = Flags::start(settings(&[&first, &second]), quick());
    flags.until("both are in force", |flags| flags.status().ready).await;
    assert_eq!((flags.value("a"), flags.value("b")), (Some(1), Some(2)));
    fs::write(&first, r#"{"flags":{}}"#).unwrap();
    flags.until("the second shows", |flags| flags.value("a") == Some(2)).await;
}
