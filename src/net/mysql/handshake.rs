//! The opening of a connection: what the server greets with, what we answer, and the proofs of a password. Pure.

use ring::digest::{Context, SHA256};
use sha1_smol::Sha1;

use super::Error;
use super::packet::Fields;
use super::url::Target;

/// Capabilities that are asked for (MySQL, "Capabilities Flags").
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const MULTI_RESULTS: u32 = 1 << 17;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(super) const CONNECT_ATTRS: u32 = 1 << 20;
}

/// utf8mb4_general_ci: known to every version.
const CHARSET: u8 = 45;

/// What a server begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) mariadb: bool,
    pub(super) tls: bool,
    capabilities: u32,
    pub(super) challenge: Challenge,
}

/// How a password is to be proved, and over which nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) plugin: String,
    nonce: Vec<u8>,
}

/// What is sent to prove the password.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Bytes(Vec<u8>),
    /// The plugin is unknown, or would have the password in the clear where it can be heard.
    Refused(String),
}

/// Whether somebody on the way could read what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privacy {
    /// TLS, or a unix socket.
    Private,
    Open,
}

impl Greeting {
    /// Reads a greeting of protocol version 10.
    pub(super) fn read(packet: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields(packet);
        if fields.byte()? != 10 {
            return Err(Error::Protocol("not a server of MySQL"));
        }
        let version = String::from_utf8_lossy(fields.terminated()).into_owned();
        fields.bytes(4)?;
        let mut nonce = fields.bytes(8)?.to_vec();
        fields.byte()?;
        let low = fields.u16()?;
        fields.bytes(3)?;
        let capabilities = u32::from(low) | u32::from(fields.u16()?) << 16;
        let length = usize::from(fields.byte()?);
        fields.bytes(10)?;
        nonce.extend_from_slice(fields.bytes(length.saturating_sub(8).max(13))?);
        // The last byte is a NUL that belongs to no nonce.
        nonce.truncate(20);
        let plugin = String::from_utf8_lossy(fields.terminated()).into_owned();
        if capabilities & capability::PROTOCOL_41 == 0 || capabilities & capability::PLUGIN_AUTH == 0 {
            return Err(Error::Protocol("the server is older than MySQL 5.5.7"));
        }
        let mariadb = version.contains("MariaDB");
        let tls = capabilities & capability::SSL != 0;
        Ok(Self { mariadb, tls, capabilities, challenge: Challenge { plugin, nonce } })
    }

    fn wanted(&self, target: &Target, encrypted: bool) -> u32 {
        use capability as is;
        let always = is::LONG_PASSWORD | is::PROTOCOL_41 | is::TRANSACTIONS | is::SECURE_CONNECTION | is::PLUGIN_AUTH;
        let ssl = if encrypted { is::SSL } else { 0 };
        let database = if target.database.is_some() { is::CONNECT_WITH_DB } else { 0 };
        always | ssl | database | (self.capabilities & (is::MULTI_RESULTS | is::CONNECT_ATTRS))
    }

    fn head(&self, target: &Target, encrypted: bool) -> Vec<u8> {
        let mut packet = self.wanted(target, encrypted).to_le_bytes().to_vec();
        packet.extend_from_slice(&(1_u32 << 24).to_le_bytes());
        packet.push(CHARSET);
        packet.resize(packet.len() + 23, 0);
        packet
    }

    /// Asks for TLS; what follows is encrypted.
    pub(super) fn ask_for_tls(&self, target: &Target) -> Vec<u8> {
        self.head(target, true)
    }

    /// Says who we are.
    pub(super) fn respond(&self, target: &Target, privacy: Privacy, encrypted: bool) -> Vec<u8> {
        let mut packet = self.head(target, encrypted);
        let mut text = |text: &[u8]| {
            packet.extend_from_slice(text);
            packet.push(0);
        };
        text(target.user.as_bytes());
        // A plugin that we cannot serve is answered with nothing: the server then asks for the one of this user.
        let (plugin, proof) = match self.challenge.prove(target.password.expose(), privacy) {
            Proof::Bytes(proof) if proof.len() < 251 => (self.challenge.plugin.as_str(), proof),
            _ => ("mysql_native_password", Vec::new()),
        };
        packet.push(u8::try_from(proof.len()).unwrap_or_default());
        packet.extend_from_slice(&proof);
        for part in target.database.as_deref().into_iter().chain([plugin]) {
            packet.extend_from_slice(part.as_bytes());
            packet.push(0);
        }
        if self.capabilities & capability::CONNECT_ATTRS != 0 {
            // Shown by performance_schema.session_connect_attrs.
            packet.extend_from_slice(b"\x16\x0cprogram_name\x08tidegate");
        }
        packet
    }
}

impl Challenge {
    /// Reads a demand for another plugin.
    pub(super) fn switched(packet: &[u8]) -> Self {
        let mut fields = Fields(packet);
        let plugin = String::from_utf8_lossy(fields.terminated()).into_owned();
        let nonce = fields.0.strip_suffix(&[0]).unwrap_or(fields.0);
        Self { plugin, nonce: nonce.to_vec() }
    }

    pub(super) fn prove(&self, password: &str, privacy: Privacy) -> Proof {
        let password = password.as_bytes();
        match self.plugin.as_str() {
            "mysql_native_password" | "caching_sha2_password" if password.is_empty() => Proof::Bytes(Vec::new()),
            "mysql_native_password" => Proof::Bytes(native(password, &self.nonce)),
            "caching_sha2_password" => Proof::Bytes(caching_sha2(password, &self.nonce)),
            "mysql_clear_password" | "sha256_password" => in_the_clear(password, privacy),
            other => Proof::Refused(format!("authentication plugin {other} is not supported")),
        }
    }
}

/// The password itself, where nobody can listen.
pub(super) fn in_the_clear(password: &[u8], privacy: Privacy) -> Proof {
    match privacy {
        Privacy::Private => Proof::Bytes([password, &[0]].concat()),
        Privacy::Open => Proof::Refused("the server wants the password in the clear: add ssl-mode=REQUIRED".to_owned()),
    }
}

/// `SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))`
fn native(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let sha1 = |parts: &[&[u8]]| {
        let mut hash = Sha1::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.digest().bytes()
    };
    let once = sha1(&[password]);
    let twice = sha1(&[&once]);
    xor(&once, &sha1(&[nonce, &twice]))
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)`
fn caching_sha2(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let sha256 = |parts: &[&[u8]]| {
        let mut hash = Context::new(&SHA256);
        parts.iter().for_each(|part| hash.update(part));
        hash.finish()
    };
    let once = sha256(&[password]);
    let twice = sha256(&[once.as_ref()]);
    xor(once.as_ref(), sha256(&[twice.as_ref(), nonce]).as_ref())
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn passwords_are_proved_as_other_clients_prove_them() {
        // Made with PyMySQL 2.2.8's scramble_native_password and scramble_caching_sha2.
        let nonce: Vec<u8> = (1..=20).collect();
        for (plugin, expected) in [("mysql_native_password", NATIVE), ("caching_sha2_password", SHA2)] {
            let challenge = Challenge { plugin: plugin.to_owned(), nonce: nonce.clone() };
            let Proof::Bytes(proof) = challenge.prove("s3cr3t", Privacy::Open) else { panic!("{plugin}") };
            assert_eq!(hex(&proof), expected, "{plugin}");
            assert_eq!(challenge.prove("", Privacy::Open), Proof::Bytes(Vec::new()));
        }
    }

    const NATIVE: &str = "5b020dedd7e93970806c75727c9da7392a248157";
    const SHA2: &str = "eaaa1f23aa3a7aa171e525c43fe5fe33338896b259c9cd4c8827d484a76382fc";

    #[test]
    fn a_password_is_never_sent_where_it_can_be_heard() {
        for plugin in ["mysql_clear_password", "sha256_password"] {
            let challenge = Challenge { plugin: plugin.to_owned(), nonce: Vec::new() };
            assert_eq!(challenge.prove("pw", Privacy::Private), Proof::Bytes(b"pw\0".to_vec()));
            assert!(matches!(challenge.prove("pw", Privacy::Open), Proof::Refused(_)));
        }
        let unknown = Challenge { plugin: "dialog".to_owned(), nonce: Vec::new() };
        assert!(matches!(unknown.prove("pw", Privacy::Private), Proof::Refused(why) if why.contains("dialog")));
    }

    #[test]
    fn a_greeting_that_is_cut_short_anywhere_is_refused() {
        let mut whole = b"\x0a11.4.2-MariaDB\0\x01\0\0\0abcdefgh\0".to_vec();
        whole.extend_from_slice(&[0xfe, 0xff, 45, 2, 0, 0xff, 0x81, 21]);
        whole.extend_from_slice(&[0; 10]);
        whole.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        let greeting = Greeting::read(&whole).expect("whole");
        assert!(greeting.mariadb && greeting.tls);
        assert_eq!(greeting.challenge.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.challenge.plugin, "mysql_native_password");
        let nonce_ends = whole.len() - b"mysql_native_password\0".len();
        for length in 0..nonce_ends {
            assert!(Greeting::read(&whole[..length]).is_err(), "{length}");
        }
        assert!(Greeting::read(b"SSH-2.0-OpenSSH_9.2\r\n").is_err());
    }
}
