//! The sidecar's own surroundings: the app, its flags and a disk.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate::cli::Output;
use tidegate::local::settings::Socket;
use tidegate::readiness::settings::{Access, App, AppAddress, Check, Disk, Http, Kind};

use super::{fails, impatient, passes};
use crate::readiness::{PATIENCE, check, watch};
use crate::support::chaos::{Chaos, Upstream};
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw;
use crate::support::sidecar::{Sidecar, cli};

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
    // Between two attempts, when their file is not in it.
    eventually(PATIENCE, "the directory is removed", async || std::fs::remove_dir(&path).is_ok()).await;
    std::fs::write(&path, "a file").unwrap();
    // The space of a file can be asked for; nothing can be written below it.
    passes(&watch([of(&path, 1, Access::Space)]), "disk").await;
    fails(&watched, "disk", "not a directory").await;
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    passes(&watched, "disk").await;
    let short = watch([of(&path, u64::MAX, Access::Space)]);
    eventually(PATIENCE, "short of space", async || {
        short.readyz().1.contains(" MiB free, less than 17592186044415 MiB")
    })
    .await;
}

/// A library that makes `fsync` hang for as long as a file called `hang` is there.
fn hanging_library(directory: &Path) -> PathBuf {
    const SOURCE: &str = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
        int fsync(int file) {\n  while (access(getenv(\"HANG\"), F_OK) == 0) usleep(1000);\n\
          return ((int (*)(int))dlsym(RTLD_NEXT, \"fsync\"))(file);\n}\n";
    let (source, library) = (directory.join("hang.c"), directory.join("hang.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}

#[tokio::test]
async fn a_disk_that_hangs_is_red_holds_one_thread_and_holds_up_no_end() {
    let (disk, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (hang, library) = (other.path().join("hang"), hanging_library(other.path()));
    let settings = format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\ndrain: {{ delay: 0s, quiet: 0s }}\n\
         checks: {{ disk: {{ disk: {{ path: '{}', min_free_percent: 0, access: write }}, interval: 300ms, timeout: 300ms }} }}",
        disk.path().display()
    );
    let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("HANG", hang.to_str().unwrap())];
    let mut sidecar = Sidecar::start_where(&environment, &settings);
    sidecar.ready().await;
    let files = || std::fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap()).collect::<Vec<_>>();
    let timeouts = async || sidecar.metric("tidegate_check_attempts_total", r#"check="disk",result="timeout""#).await;
    std::fs::write(&hang, "").unwrap();
    eventually(PATIENCE, "many attempts find it hanging", async || timeouts().await >= 8.0).await;
    let answer = raw::get(sidecar.ops, "/readyz").await.unwrap();
    assert_eq!((answer.status, answer.json()["error"].clone()), (503, json!("disk: timeout after 300ms")));
    // One thread hangs, with one file, however often it was asked.
    let hung = files();
    assert_eq!(hung.len(), 1, "{hung:?}");
    assert!(hung[0].file_name().to_str().unwrap().starts_with(".tidegate-check-"), "{hung:?}");
    assert_eq!(hung[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&hang).unwrap();
    sidecar.ready().await;
    eventually(PATIENCE, "the file is removed", async || files().is_empty()).await;

    let before = timeouts().await;
    std::fs::write(&hang, "").unwrap();
    eventually(PATIENCE, "it hangs again", async || timeouts().await > before).await;
    sidecar.signal("TERM");
    assert!(sidecar.ended(PATIENCE).await.success());
}

#[tokio::test]
async fn what_lies_in_the_directory_is_neither_opened_nor_followed() {
    let (disk, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept = other.path().join("kept");
    std::fs::write(&kept, "of somebody else").unwrap();
    // The name that this process's check had when it could be guessed.
    let guessed = disk.path().join(format!(".tidegate-check-{}", std::process::id()));
    std::os::unix::fs::symlink(&kept, &guessed).unwrap();
    let settings = Disk { path: disk.path().to_owned(), min_free: 0, min_free_percent: 0, access: Access::Write };
    passes(&watch([check("disk", Kind::Disk(settings))]), "disk").await;
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "of somebody else");
    assert!(guessed.is_symlink());
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
    let (code, table, error) = sidecar.cli(&["check"]);
    assert_eq!(code, 0, "{table}{error}");
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["age", "flags", "critical", "ok"], "{table}");
    // The same question to nobody: it has neither passed nor failed.
    let directory = sidecar.kill();
    let config = directory.path().join("tidegate.yaml");
    let alone = ["--config", config.to_str().unwrap(), "check"];
    let (code, table, error) = cli(&alone);
    assert_eq!(code, 0, "{table}{error}");
    assert!(
        table.contains("not asked") && table.contains("only a running sidecar knows the age of its flags"),
        "{table}"
    );
    let (_, rows, _) = cli(&[&alone[..], &["--output", "json"]].concat());
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows[0]["ok"], serde_json::Value::Null, "{rows}");

    let sidecar = Sidecar::start_with(&settings(&name, "1s"));
    sidecar.ready().await;
    let (mut last, mut code) = (String::new(), 0);
    eventually(PATIENCE * 3, "a file that is not confirmed grows old", async || {
        std::fs::remove_file(&file).unwrap_or_default();
        (code, last, _) = sidecar.cli(&["check"]);
        code == 1
    })
    .await;
    assert!(last.contains("has confirmed its flags") && last.contains("FLAG SOURCE"), "{last}");
}

#[tokio::test]
async fn the_command_asks_a_bounded_number_of_checks_at_once_and_tells_all_in_order() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn({
        let (open, most) = (open.clone(), most.clone());
        async move {
            let mut streams = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let open = open.clone();
                // It never answers: the end comes from who asked.
                streams.spawn(async move {
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop).unwrap_or_default();
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }
    });
    let url = format!("http://{address}/");
    let of = |at: usize| impatient(check(&format!("c{at:02}"), Kind::Http(Http::new(&url))));
    let settings = tidegate::readiness::Settings { checks: (0..20).map(of).collect() };
    let report = tidegate::cli::check::run(&settings, &Socket::None).await;
    let rows: serde_json::Value = serde_json::from_str(&report.render(Output::Json).unwrap()).unwrap();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["check"].as_str().unwrap()).collect();
    assert_eq!(names, (0..20).map(|at| format!("c{at:02}")).collect::<Vec<_>>());
    assert!(rows.as_array().unwrap().iter().all(|row| row["error"] == "timeout after 300ms"), "{rows}");
    // A connection that was given up may be seen to end after the next has begun.
    let most = most.load(Ordering::SeqCst);
    assert!((8..16).contains(&most), "{most} at once");
}

#[test]
fn the_command_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let (file, path) = (directory.path().join("tidegate.yaml"), directory.path().display());
    let closed = Port::reserve();
    let settings = format!(
        "checks:\n  data: {{ disk: {{ path: '{path}', min_free: 1048576GiB }} }}\n  \
         proc: {{ disk: {{ path: /proc, min_free_percent: 0, access: write }} }}\n  \
         cache: {{ tcp: {{ address: '{}' }} }}\n",
        closed.address()
    );
    std::fs::write(&file, settings).unwrap();
    let (code, rows, error) = cli(&["--config", file.to_str().unwrap(), "check", "--output", "json"]);
    assert_eq!(code, 1, "{error}");
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let remedies: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["remedy"].as_str().unwrap()).collect();
    assert_eq!(remedies[0], "start the server, or correct host and port in checks.cache.tcp.address");
    assert!(
        remedies[1].starts_with("free ")
            && remedies[1].contains(&format!(" MiB on the file system of {path}, or lower min_free"))
    );
    assert_eq!(remedies[2], "name a directory of files in place of /proc");
}
