//! The sidecar's own surroundings: the app, its flags and a disk.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidegate::readiness::settings::{Access, App, AppAddress, Check, Disk, Kind};

use super::{fails, impatient, passes};
use crate::readiness::{PATIENCE, check, watch};
use crate::support::chaos::{Chaos, Upstream};
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw;
use crate::support::sidecar::Sidecar;

fn app(address: AppAddress, path: Option<&str>) -> Check {
    check("app", Kind::App(App { address, path: path.map(str::to_owned), status: vec![(200, 399)] }))
}

#[tokio::test]
async fn the_app_is_asked_where_the_proxy_sends_its_requests() {
    let app_server = crate::support::app::App::start().await;
    let chaos = Chaos::to(Upstream::Tcp(app_server.address));
    let address = AppAddress::Tcp("127.0.0.1".to_owned(), chaos.address().port());
    let asked = watch([impatient(app(address.clone(), Some("/")))]);
    let connected = watch([app(address, None)]);
    passes(&asked, "app").await;
    passes(&connected, "app").await;
    chaos.stall();
    fails(&asked, "app", "timeout after 300ms").await;
    passes(&connected, "app").await;
    chaos.refuse();
    fails(&asked, "app", "connection refused").await;
    fails(&connected, "app", "connection refused").await;
    chaos.restore();
    passes(&asked, "app").await;
    passes(&connected, "app").await;

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("app.sock");
    let watched = watch([app(AppAddress::Unix(socket.clone()), None)]);
    fails(&watched, "app", "no such socket").await;
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    passes(&watched, "app").await;
}

#[tokio::test]
async fn a_configured_app_is_that_of_its_route() {
    let app_server = crate::support::app::App::start().await;
    let sidecar = Sidecar::start(app_server.address, "checks: { app: { app: { path: / }, interval: 100ms } }");
    sidecar.ready().await;
    let closed = Port::reserve();
    let sidecar = Sidecar::start(closed.address(), "checks: { app: { app: {}, interval: 100ms } }");
    eventually(Duration::from_secs(20), "the app is not there", async || {
        let answer = raw::get(sidecar.ops, "/readyz").await.unwrap();
        (answer.status, answer.json()["error"].clone()) == (503, json!("app: connection refused"))
    })
    .await;
}

#[tokio::test]
async fn a_disk_is_full_or_gone_or_writable() {
    let directory = tempfile::tempdir().unwrap();
    let of = |path: &Path, min_free, access| {
        let disk = Disk { path: path.to_owned(), min_free, min_free_percent: 0, access };
        check("disk", Kind::Disk(disk))
    };
    let path = directory.path().join("data");
    let watched = watch([of(&path, 1, Access::Write)]);
    fails(&watched, "disk", "no such directory").await;
    std::fs::create_dir(&path).unwrap();
    passes(&watched, "disk").await;
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    // The space of a file can be asked for; nothing can be written below it.
    passes(&watch([of(&path, 1, Access::Space)]), "disk").await;
    fails(&watched, "disk", "Not a directory (os error 20)").await;
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    passes(&watched, "disk").await;
    let short = watch([of(&path, u64::MAX, Access::Space)]);
    eventually(PATIENCE, "short of space", async || {
        short.readyz().1.contains(" MiB free, less than 17592186044415 MiB")
    })
    .await;
}

/// Puts a pipe where the check writes its file, as soon as there is none: to open it for writing lasts until somebody reads.
async fn hang(pipe: &Path) {
    eventually(PATIENCE, "between two attempts", async || {
        let made = std::process::Command::new("mkfifo").arg(pipe).output().unwrap();
        made.status.success()
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_hangs_is_red_holds_one_thread_and_holds_up_no_end() {
    let disk = tempfile::tempdir().unwrap();
    let settings = format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\ndrain: {{ delay: 0s, quiet: 0s }}\n\
         checks: {{ disk: {{ disk: {{ path: '{}', min_free_percent: 0, access: write }}, interval: 300ms, timeout: 300ms }} }}",
        disk.path().display()
    );
    let mut sidecar = Sidecar::start_with(&settings);
    sidecar.ready().await;
    let pipe = disk.path().join(format!(".tidegate-check-{}", sidecar.pid()));
    let timeouts = async || sidecar.metric("tidegate_check_attempts_total", r#"check="disk",result="timeout""#).await;
    hang(&pipe).await;
    eventually(PATIENCE, "many attempts find it hanging", async || timeouts().await >= 8.0).await;
    let answer = raw::get(sidecar.ops, "/readyz").await.unwrap();
    assert_eq!((answer.status, answer.json()["error"].clone()), (503, json!("disk: timeout after 300ms")));
    // It goes on: every thread that hung writes its line.
    let reader = pipe.clone();
    let written = tokio::task::spawn_blocking(move || std::fs::read_to_string(reader).unwrap()).await.unwrap();
    assert_eq!(written, "tidegate looks whether it can write here\n");
    sidecar.ready().await;
    assert!(!pipe.exists() || pipe.is_file(), "the pipe was removed as the check's own file");

    hang(&pipe).await;
    let before = timeouts().await;
    eventually(PATIENCE, "it hangs again", async || timeouts().await > before).await;
    sidecar.signal("TERM");
    assert!(sidecar.ended(PATIENCE).await.success());
}

#[tokio::test]
async fn flags_that_no_source_confirms_grow_old() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flags.json");
    std::fs::write(&file, r#"{"flags":{}}"#).unwrap();
    let name = format!("file:{}", file.display());
    let settings = |source: &str, age: &str| {
        format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\nflags: {{ files: ['{}'] }}\n\
             checks: {{ age: {{ flags: {{ max_age: {age}, sources: ['{source}'] }}, interval: 100ms }} }}",
            file.display()
        )
    };
    let sidecar = Sidecar::start_with(&settings(&name, "10m"));
    sidecar.ready().await;
    let (code, table, _) = sidecar.cli(&["check"]);
    assert_eq!(code, 1, "{table}");
    assert!(table.contains("only the running sidecar knows the age of its flags"), "{table}");
}
