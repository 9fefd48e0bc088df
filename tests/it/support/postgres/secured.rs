//! A server with TLS by an authority of the test's own, which may ask for certificates of its clients.

use std::path::Path;
use std::process::Command;

use super::{Postgres, as_postgres, run, template};
use crate::support::authority::{Authority, Issued};

impl Postgres {
    /// A server that shows `issued` and takes over TCP only who has a certificate of `authority` in the user's name, or
    /// the password.
    pub(crate) fn start_secured(authority: &Authority, issued: &Issued, hba: &str) -> Self {
        let mut postgres = Self::at_rest(&[
            "ssl=on",
            "ssl_cert_file=server.pem",
            "ssl_key_file=server.key",
            "ssl_ca_file=authority.pem",
        ]);
        run(Command::new("cp").arg("-a").arg(template()).arg(&postgres.directory));
        postgres.show(issued);
        postgres.place("authority.pem", authority.certificate().as_ref());
        let rules = format!("local all all trust\n{hba}\n");
        let own = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(own.path(), rules).unwrap();
        postgres.place("pg_hba.conf", own.path());
        postgres.resume();
        postgres
    }

    /// From the next start on, it shows this certificate.
    pub(crate) fn show(&self, issued: &Issued) {
        self.place("server.pem", issued.certificate.as_ref());
        self.place("server.key", issued.key.as_ref());
    }

    /// Copies a file so that the server's user alone can read it, as the server demands of keys.
    fn place(&self, name: &str, from: &Path) {
        let to = self.directory.join(name);
        run(Command::new("cp").arg(from).arg(&to));
        if super::is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(&to));
        }
        run(as_postgres("chmod").arg("600").arg(&to));
    }
}
