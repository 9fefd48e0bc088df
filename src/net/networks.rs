//! Networks in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3), and whether an address is in one. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotNetwork {
    /// The part before the slash.
    #[error("no IP address before the slash")]
    Address,
    /// The part behind the slash.
    #[error("the prefix length is not a number from 0 to {0}")]
    Length(u8),
    /// Bits that do not count are set: whoever wrote it meant another network, or a host.
    #[error("bits behind the prefix are set")]
    HostBits,
}

impl Network {
    /// Whether `address` is in it. An IPv4 address in its IPv6 form (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (address, width) = number(address.to_canonical());
        let (network, own_width) = number(self.address);
        width == own_width && masked(address, self.bits, width) == network
    }
}

impl FromStr for Network {
    type Err = NotNetwork;

    fn from_str(text: &str) -> Result<Self, NotNetwork> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| NotNetwork::Address)?;
        let (bits_set, width) = number(address);
        let bits = match length {
            None => width,
            Some(length) if length.starts_with('+') => return Err(NotNetwork::Length(width)),
            Some(length) => length.parse().ok().filter(|bits| *bits <= width).ok_or(NotNetwork::Length(width))?,
        };
        if masked(bits_set, bits, width) != bits_set {
            return Err(NotNetwork::HostBits);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// An address as a number, and its width in bits.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn masked(address: u128, bits: u8, width: u8) -> u128 {
    let behind = u32::from(width - bits);
    address.checked_shr(behind).and_then(|kept| kept.checked_shl(behind)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_by_its_leading_bits() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "10.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::1/128", "::1", true),
        ] {
            let network: Network = network.parse().expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for (text, expected) in [
            ("", NotNetwork::Address),
            ("localhost/8", NotNetwork::Address),
            ("10.0.0.0/33", NotNetwork::Length(32)),
            ("10.0.0.0/+8", NotNetwork::Length(32)),
            ("10.0.0.0/", NotNetwork::Length(32)),
            ("::/129", NotNetwork::Length(128)),
            ("10.0.0.1/8", NotNetwork::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(expected), "{text}");
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().expect("a network").to_string(), "10.0.0.0/8");
    }
}
