//! Certificates that are replaced while they are in use: by better ones, by worse ones, and by none.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{start, tls};
use crate::support::app::App;
use crate::support::authority::{Authority, Issued};
use crate::support::eventually;
use crate::support::sidecar::{Sidecar, cli};
use crate::support::tls::{Tls, certificate, shown};

const PATIENCE: Duration = Duration::from_secs(30);
const REFUSED: &str = "new certificates are not taken; those before stay in force";

/// A volume as the kubelet makes one of a Secret: files are links through `..data`, which is swapped.
struct Volume {
    directory: tempfile::TempDir,
    versions: usize,
}

impl Volume {
    fn new(issued: &Issued) -> Self {
        let mut volume = Self { directory: tempfile::tempdir().unwrap(), versions: 0 };
        volume.write(&issued.certificate, &issued.key);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), volume.at(name)).unwrap();
        }
        volume
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Swaps in a new version made of these files.
    fn write(&mut self, chain: &str, key: &str) {
        let version = format!("..version-{}", self.versions);
        self.versions += 1;
        std::fs::create_dir(self.at(&version)).unwrap();
        std::fs::copy(chain, self.at(&version).join("tls.crt")).unwrap();
        std::fs::copy(key, self.at(&version).join("tls.key")).unwrap();
        symlink(&version, self.at("..data_tmp")).unwrap();
        std::fs::rename(self.at("..data_tmp"), self.at("..data")).unwrap();
    }

    fn issued(&self) -> Issued {
        let text = |name: &str| self.at(name).display().to_string();
        Issued { certificate: text("tls.crt"), key: text("tls.key") }
    }
}

/// Waits until new connections are shown `issued`.
async fn until_shown(authority: &Authority, sidecar: &Sidecar, issued: &Issued) {
    eventually(PATIENCE, "the new certificate is shown", async || {
        // A client of its own, because a resumed session goes on with the certificate that began it.
        let client = Tls::new(authority, None, &[]);
        let stream = client.stream(sidecar.proxy(), "localhost").await.unwrap();
        shown(&stream) == certificate(&issued.certificate)
    })
    .await;
}

#[tokio::test]
async fn a_swapped_secret_is_in_force_at_once_and_no_request_fails() {
    let (app, authority) = (App::start().await, Authority::new());
    let issued = [1, 2, 3, 4].map(|days| authority.issue(&format!("server-{days}"), days));
    let mut volume = Volume::new(&issued[0]);
    let sidecar = start(app.address, &tls(&volume.issued(), ""), "");
    let client = Tls::new(&authority, None, &["http/1.1"]);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|at| {
            let (client, stop, address) = (client.clone(), stop.clone(), sidecar.proxy());
            tokio::spawn(async move {
                let (mut kept, mut asked) = (client.client(address).await.unwrap(), 0);
                while !stop.load(Ordering::SeqCst) {
                    if at % 2 == 0 {
                        kept = client.client(address).await.unwrap();
                    }
                    assert_eq!(kept.get("/").await.unwrap().status, 200);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let day = 24.0 * 3600.0;
    let left = async || sidecar.metric("tidegate_tls_certificate_expiry_seconds", "proxy[0]").await;
    assert!((left().await - day).abs() < 3600.0);
    for (round, next) in issued.iter().enumerate().skip(1) {
        volume.write(&next.certificate, &next.key);
        until_shown(&authority, &sidecar, next).await;
        let expected = day * (round as f64 + 1.0);
        eventually(PATIENCE, "the metric follows", async || (left().await - expected).abs() < 3600.0).await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in load {
        assert!(client.await.unwrap() > 0);
    }
    assert_eq!(sidecar.metric("tidegate_tls_reload_failures_total", "proxy[0]").await, 0.0);
    eventually(PATIENCE, "each is told once", async || sidecar.logs("new certificates are in force").await == 3).await;
}

#[tokio::test]
async fn what_is_worse_is_not_taken_and_alarms_until_it_is_mended() {
    let (app, authority) = (App::start().await, Authority::new());
    let [good, other, better] = ["good", "other", "better"].map(|name| authority.issue(name, 2));
    let expired = authority.issue("expired", -1);
    let mut volume = Volume::new(&good);
    let sidecar = start(app.address, &tls(&volume.issued(), ""), "");
    let garbage = volume.at("garbage");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nmushroom soup\n").unwrap();
    let garbage = garbage.display().to_string();
    let failures = async || sidecar.metric("tidegate_tls_reload_failures_total", "proxy[0]").await;
    let refused = || {
        let lines = sidecar.log().into_iter().filter(|line| line["message"] == REFUSED);
        lines.map(|line| line["why"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (round, (chain, key, expected)) in [
        (&garbage, &good.key, "not PEM"),
        (&good.certificate, &garbage, "not PEM"),
        (&other.certificate, &good.key, "not the key of the certificate"),
        (&expired.certificate, &expired.key, "expired at"),
    ]
    .into_iter()
    .enumerate()
    {
        volume.write(chain, key);
        eventually(PATIENCE, expected, async || failures().await == round as f64 + 1.0).await;
        eventually(PATIENCE, "and it is said", async || refused().len() == round + 1).await;
        assert!(refused()[round].contains(expected), "{:?}", refused());
        assert!(!refused()[round].contains("mushroom"), "no file is quoted");
        assert_eq!(sidecar.metric("tidegate_tls_reload_ok", "proxy[0]").await, 0.0);
        let stream = Tls::new(&authority, None, &[]).stream(sidecar.proxy(), "localhost").await.unwrap();
        assert_eq!(shown(&stream), certificate(&good.certificate), "the one before stays");
    }
    std::fs::remove_file(volume.at("tls.crt")).unwrap();
    eventually(PATIENCE, "a file that is gone", async || failures().await == 5.0).await;
    symlink("..data/tls.crt", volume.at("tls.crt")).unwrap();
    volume.write(&better.certificate, &better.key);
    until_shown(&authority, &sidecar, &better).await;
    eventually(PATIENCE, "the alarm is over", async || {
        sidecar.metric("tidegate_tls_reload_ok", "proxy[0]").await == 1.0
    })
    .await;
    assert_eq!(failures().await, 5.0);
}

#[tokio::test]
async fn files_written_one_after_the_other_alarm_nobody() {
    let (app, authority) = (App::start().await, Authority::new());
    let [old, new] = ["old", "new"].map(|name| authority.issue(name, 2));
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let files = Issued { certificate: at("tls.crt"), key: at("tls.key") };
    std::fs::copy(&old.certificate, &files.certificate).unwrap();
    std::fs::copy(&old.key, &files.key).unwrap();
    let sidecar = start(app.address, &tls(&files, ""), "");
    std::fs::copy(&new.certificate, &files.certificate).unwrap();
    // Long enough for the change to be seen, and for nobody to be alarmed.
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::copy(&new.key, &files.key).unwrap();
    until_shown(&authority, &sidecar, &new).await;
    assert_eq!(sidecar.metric("tidegate_tls_reload_failures_total", "").await, 0.0);
}

#[test]
fn a_check_tells_everything_that_is_wrong_with_the_files() {
    let authority = Authority::new();
    let [one, two] = ["one", "two"].map(|name| authority.issue(name, 2));
    let expired = authority.issue("expired", -1);
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (garbage, empty) = (write("garbage", "mushroom soup"), write("empty", ""));
    let encrypted =
        write("encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let pairs = [
        ("/nonexistent", one.key.as_str()),
        (&garbage, &empty),
        (&one.certificate, &two.key),
        (&expired.certificate, &expired.key),
        (&two.certificate, &encrypted),
        (&one.key, &one.certificate),
    ];
    let pairs = pairs.map(|(chain, key)| format!("{{ chain: '{chain}', key: '{key}' }}")).join(", ");
    let config = write(
        "config.yaml",
        &format!(
            "proxy: [{{ tls: {{ certificates: [{pairs}], client_ca: '{garbage}' }}, proxy_protocol_trusted: [10.0.0.1/8] }}]\n\
             ops: {{ tls: {{ certificates: [], client_auth: require }} }}\n"
        ),
    );
    let (code, _, told) = cli(&["--config", &config, "config", "check"]);
    assert_eq!(code, 64, "{told}");
    let at = |key: &str, what: &str| {
        let found = told
            .lines()
            .any(|line| line.starts_with(&format!("{key}: ")) && line.contains(what) && line.contains("; "));
        assert!(found, "{key} {what} in:\n{told}");
    };
    at("proxy[0].tls.certificates[0].chain", "\"/nonexistent\": no such file");
    at("proxy[0].tls.certificates[1].chain", "no certificate in it");
    at("proxy[0].tls.certificates[1].key", "no private key in it");
    at("proxy[0].tls.certificates[2].key", "not the key of the certificate");
    at("proxy[0].tls.certificates[3].chain", "expired at");
    at("proxy[0].tls.certificates[4].key", "encrypted");
    at("proxy[0].tls.certificates[5].chain", "no certificate in it");
    at("proxy[0].tls.certificates[5].key", "no private key in it");
    at("proxy[0].tls.client_ca", "no certificate in it");
    at("proxy[0].proxy_protocol_trusted[0]", "bits behind the prefix are set");
    at("ops.tls.certificates", "no element");
    at("ops.tls.client_auth", "nobody's certificates would be believed");
    assert_eq!(told.lines().count(), 12, "{told}");
    assert!(!told.contains("mushroom"), "no file is quoted: {told}");
}
