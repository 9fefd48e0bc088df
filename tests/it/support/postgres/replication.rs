//! A second server that follows the first by streaming replication.

use super::{Postgres, USER, as_postgres, binary, run};

impl Postgres {
    /// A hot standby of this server, which runs. Blocks until it answers.
    pub(crate) fn standby(&self) -> Self {
        // It tries again at once when its primary has been away.
        let mut standby = Self::at_rest(&["hot_standby=on", "wal_retrieve_retry_interval=100ms"]);
        run(as_postgres(binary("pg_basebackup"))
            .arg("-D")
            .arg(&standby.directory)
            .arg("-h")
            .arg(&self.directory)
            .args(["-p", &self.port.address().port().to_string(), "-U", USER])
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]));
        standby.resume();
        standby
    }
}
