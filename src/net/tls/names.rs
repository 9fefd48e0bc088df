//! Which of a listener's certificates a client is shown, by the name it asks for (RFC 6066 section 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate;

/// A listener's certificates, by the names in them.
#[derive(Debug)]
pub(super) struct ByName {
    /// In the configured order; at least one.
    all: Vec<Arc<CertifiedKey>>,
    /// Places in `all`, by name; a wildcard's by what follows its `*.`.
    exact: HashMap<String, Vec<usize>>,
    wildcards: HashMap<String, Vec<usize>>,
}

impl ByName {
    /// Serves `all`, of which there must be one.
    pub(super) fn new(all: Vec<Arc<CertifiedKey>>) -> Self {
        let mut by_name = Self { all, exact: HashMap::new(), wildcards: HashMap::new() };
        for (place, key) in by_name.all.iter().enumerate() {
            let names = key.end_entity_cert().ok().and_then(|leaf| certificate::names(leaf).ok()).unwrap_or_default();
            for name in names.dns {
                match name.strip_prefix("*.") {
                    Some(parent) => by_name.wildcards.entry(parent.to_owned()).or_default().push(place),
                    None => by_name.exact.entry(name).or_default().push(place),
                }
            }
        }
        by_name
    }

    /// Places of the certificates for `name`: those that name it, else those whose wildcard covers it, which stands for
    /// one label (RFC 9525 section 6.3), else the first of all.
    fn places(&self, name: Option<&str>) -> &[usize] {
        const FIRST: &[usize] = &[0];
        let Some(name) = name else { return FIRST };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
        self.exact.get(&name).or_else(wildcard).map_or(FIRST, Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    /// Among several for one name, the first whose key the client can verify: an ECDSA and an RSA certificate may stand
    /// side by side.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let places = self.places(hello.server_name());
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let keys = || places.iter().filter_map(|place| self.all.get(*place));
        keys().find(fits).or_else(|| keys().next()).cloned()
    }
}
