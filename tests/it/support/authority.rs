//! A certificate authority of a test's own, by the `openssl` command.

use std::path::PathBuf;
use std::process::Command;

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
        openssl(&[
            &["x509", "-req", "-in", &request, "-CA", &self.certificate(), "-CAkey", &self.at("ca.key")][..],
            &["-CAcreateserial", "-copy_extensions", "copy", "-days", &days.to_string(), "-out", &issued.certificate],
        ]);
        issued
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
