//! A certificate authority of a test's own, by the `openssl` command.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// An authority; its files live as long as it does.
pub(crate) struct Authority {
    directory: TempDir,
}

/// A certificate and its key, as files in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        openssl(&[
            &["req", "-x509", "-days", "2", "-subj", "/CN=Test authority"][..],
            &NEW_KEY,
            &["-keyout", &authority.at("ca.key"), "-out", &authority.certificate()],
        ]);
        authority
    }

    /// Its own certificate, which trusts all that it issues.
    pub(crate) fn certificate(&self) -> String {
        self.at("ca.pem")
    }

    /// A certificate for `localhost`, as server and client, valid for `days` from now: -1 is expired.
    pub(crate) fn issue(&self, name: &str, days: i32) -> Issued {
        self.issue_for(name, "/CN=localhost", "DNS:localhost", days)
    }

    /// The same for another subject and other names.
    pub(crate) fn issue_for(&self, name: &str, subject: &str, names: &str, days: i32) -> Issued {
        let issued = Issued { certificate: self.at(&format!("{name}.pem")), key: self.at(&format!("{name}.key")) };
        let request = self.at(&format!("{name}.csr"));
        openssl(&[
            &["req", "-utf8", "-subj", subject, "-addext", &format!("subjectAltName={names}")][..],
            &NEW_KEY,
            &["-keyout", &issued.key, "-out", &request],
        ]);
        if days < 0 {
            self.sign_for_the_past(name, &request, &issued.certificate, days);
            return issued;
        }
        openssl(&[
            &["x509", "-req", "-in", &request, "-CA", &self.certificate(), "-CAkey", &self.at("ca.key")][..],
            &["-CAcreateserial", "-copy_extensions", "copy", "-days", &days.to_string(), "-out", &issued.certificate],
        ]);
        issued
    }

    /// A certificate for `localhost` that nobody else vouches for, as `openssl req -x509` makes it, with one more extension.
    pub(crate) fn self_signed(&self, name: &str, extension: Option<&str>) -> Issued {
        let issued = Issued { certificate: self.at(&format!("{name}.pem")), key: self.at(&format!("{name}.key")) };
        let extension = extension.map_or(vec![], |extension| vec!["-addext", extension]);
        openssl(&[
            &["req", "-x509", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"][..],
            &extension,
            &NEW_KEY,
            &["-keyout", &issued.key, "-out", &issued.certificate],
        ]);
        issued
    }

    /// Signs for the ten days until `days` from now. `x509` knows of no begin but now, which would be after that end.
    fn sign_for_the_past(&self, name: &str, request: &str, certificate: &str, days: i32) {
        let at = |days: i32| {
            let ago = Duration::from_secs(u64::from(days.unsigned_abs()) * 24 * 3600);
            let text = humantime::format_rfc3339_seconds(SystemTime::now() - ago).to_string();
            text.replace(['-', ':', 'T'], "")
        };
        let (settings, index) = (self.at(&format!("{name}.cnf")), self.at(&format!("{name}.index")));
        std::fs::write(&index, "").unwrap();
        let directory = self.directory.path().display();
        let text = format!(
            "[ca]\ndefault_ca = x\n[x]\ndatabase = {index}\nnew_certs_dir = {directory}\npolicy = any\ndefault_md = sha256\n\
             copy_extensions = copyall\nrand_serial = yes\n[any]\ncommonName = optional\n"
        );
        std::fs::write(&settings, text).unwrap();
        let (authority, key) = (self.certificate(), self.at("ca.key"));
        openssl(&[
            &["ca", "-batch", "-notext", "-config", &settings, "-cert", &authority, "-keyfile", &key][..],
            &["-startdate", &at(days - 10), "-enddate", &at(days), "-in", request, "-out", certificate],
        ]);
    }

    fn at(&self, name: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        path.display().to_string()
    }
}

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

fn openssl(arguments: &[&[&str]]) {
    let made = Command::new("openssl")
        .args(arguments.concat())
        .output()
        .unwrap_or_else(|e| panic!("openssl: {e}; install it with: apt-get install -y openssl"));
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
}
