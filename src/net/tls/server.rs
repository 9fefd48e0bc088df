//! A listener's side of TLS: certificates that are followed as their files change, and never replaced by worse ones.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::material::{self, Fault, Material};
use super::metrics::Reloads;
use super::names::ByName;
use super::settings::{ClientAuth, Settings};
use crate::net::directory::{self, Watch};

/// Between two looks at the files, in case a change was not told.
const LOOK: Duration = Duration::from_secs(10);
/// After a change: whoever writes has this long to write the next file.
const SETTLE: Duration = Duration::from_millis(50);
/// Files that do not fit together are looked at again after this, before anybody is alarmed: chain and key may be
/// written one after the other.
const AGAIN: Duration = Duration::from_secs(1);
/// Files that change while they are read are read again so often before what was read is told.
const LOOKS: usize = 3;

/// What a TLS listener serves with. Handshakes take what is in force when they begin.
pub struct Server {
    /// The listener's name in logs and metrics.
    listener: Arc<str>,
    settings: Settings,
    protocols: Vec<Vec<u8>>,
    current: ArcSwap<ServerConfig>,
    /// The tickets' keys, and the authorities whose clients they were made for.
    tickets: Mutex<(Arc<dyn ProducesTickets>, u64)>,
    /// Of the files as they were at first.
    opened: u64,
    reloads: Reloads,
}

impl Server {
    /// Reads the files. `protocols` are offered by ALPN (RFC 7301), the preferred first.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn open(
        listener: &str,
        settings: Settings,
        protocols: &[&[u8]],
        reloads: &Reloads,
    ) -> Result<Arc<Self>, Vec<Fault>> {
        // Before they are read: what changes in between is found by the first look.
        let opened = material::fingerprint(&settings, material::read);
        let material = material::gather(&settings, material::read, SystemTime::now())?;
        let authorities = material::authorities_fingerprint(&settings, material::read);
        let protocols: Vec<_> = protocols.iter().map(|name| name.to_vec()).collect();
        let expires = material.expires;
        let tickets = tickets();
        let config = assemble(material, &protocols, tickets.clone());
        reloads.loaded(listener, expires);
        Ok(Arc::new(Self {
            listener: listener.into(),
            settings,
            protocols,
            current: ArcSwap::new(config),
            tickets: Mutex::new((tickets, authorities)),
            opened,
            reloads: reloads.clone(),
        }))
    }

    /// What a handshake that begins now is made with.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// When the first of the certificates in force expires.
    pub fn expires(&self) -> SystemTime {
        self.reloads.expires(&self.listener).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Whether clients are asked for certificates.
    pub fn client_auth(&self) -> ClientAuth {
        self.settings.client_auth
    }

    /// Follows the files for ever.
    ///
    /// # Cancellation
    /// At any point; what is in force is whole.
    pub async fn follow(self: Arc<Self>) {
        let (tell, mut told) = mpsc::channel(1);
        let mut directories: Vec<PathBuf> = self.paths().map(|path| directory::of(path)).collect();
        directories.sort();
        directories.dedup();
        let mut watches: Vec<_> =
            directories.into_iter().map(|directory| Watch::new(directory, tell.clone())).collect();
        let (mut seen, mut alarm) = (self.opened, None);
        loop {
            watches.iter_mut().for_each(Watch::renew);
            alarm = self.look(&mut seen, alarm).await;
            tokio::select! {
                _ = told.recv() => {
                    sleep(SETTLE).await;
                    while told.try_recv().is_ok() {}
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Takes what is new in the files; returns what is wrong with them.
    async fn look(self: &Arc<Self>, seen: &mut u64, alarm: Option<String>) -> Option<String> {
        let fingerprint = |server: Arc<Self>| move || material::fingerprint(&server.settings, material::read);
        let Ok(mut found) = spawn_blocking(fingerprint(self.clone())).await else { return alarm };
        // What was wrong may be right now without having changed: its time may have come.
        if *seen == found && alarm.is_none() {
            return None;
        }
        let mut outcome = self.reload().await;
        for _ in 0..LOOKS {
            if outcome.is_err() && *seen != found {
                sleep(AGAIN).await;
            }
            let Ok(now) = spawn_blocking(fingerprint(self.clone())).await else { break };
            if now == found {
                break;
            }
            // They changed while they were read.
            found = now;
            outcome = self.reload().await;
        }
        let changed = *seen != found;
        *seen = found;
        let listener = &*self.listener;
        match outcome {
            Ok(expires) => {
                self.reloads.loaded(listener, expires);
                let expires = humantime::format_rfc3339_seconds(expires).to_string();
                tracing::info!(listener, expires, "new certificates are in force");
                None
            }
            Err(why) => {
                if changed {
                    self.reloads.failed(listener);
                }
                if alarm.as_ref() != Some(&why) {
                    tracing::error!(listener, why, "new certificates are not taken; those before stay in force");
                }
                Some(why)
            }
        }
    }

    /// Reads the files and puts them in force; returns when the first certificate expires, or what is wrong.
    async fn reload(self: &Arc<Self>) -> Result<SystemTime, String> {
        let server = self.clone();
        let gathered = spawn_blocking(move || {
            let material = material::gather(&server.settings, material::read, SystemTime::now())?;
            Ok((material, material::authorities_fingerprint(&server.settings, material::read)))
        });
        let (material, authorities) = match gathered.await {
            Ok(gathered) => gathered.map_err(|faults: Vec<Fault>| said(&faults))?,
            Err(ended) => return Err(format!("reading them failed: {ended}")),
        };
        let expires = material.expires;
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.1 != authorities {
            // A ticket vouches for the certificate that its client showed; other authorities may not.
            *tickets = (self::tickets(), authorities);
        }
        self.current.store(assemble(material, &self.protocols, tickets.0.clone()));
        Ok(expires)
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let pairs = self.settings.certificates.iter().flat_map(|pair| [&pair.chain, &pair.key]);
        pairs.chain(&self.settings.client_ca)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).field("settings", &self.settings).finish()
    }
}

/// What is wrong, on one line.
pub fn said(faults: &[Fault]) -> String {
    let each = faults.iter().map(|fault| format!("{}: {}; {}", fault.path.display(), fault.what, fault.remedy));
    each.collect::<Vec<_>>().join(" · ")
}

/// The settings of handshakes: TLS 1.2 and 1.3 with the library's suites; sessions are resumed by tickets alone
/// (RFC 8446 section 4.6.1), which cost no memory here.
fn assemble(material: Material, protocols: &[Vec<u8>], tickets: Arc<dyn ProducesTickets>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(material::provider())
        .with_safe_default_protocol_versions()
        .expect("ring serves the default versions");
    let builder = match material.verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(material.keys)));
    config.alpn_protocols = protocols.to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    Arc::new(config)
}

/// Keys for tickets, changed every six hours by themselves.
fn tickets() -> Arc<dyn ProducesTickets> {
    rustls::crypto::ring::Ticketer::new().expect("the kernel has random numbers")
}
