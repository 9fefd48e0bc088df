//! Which node of a cluster has a key: the slot of its hash tag, and the map of slots that any node can tell.

use std::time::Duration;

use redis::{AsyncConnectionConfig, ProtocolVersion, Value};

use super::connection::Link;
use super::{Endpoint, Error, Node, dial, within};

/// Slots of a cluster.
const SLOTS: u16 = 16384;

/// The node that has `key`, or without one any node that answers. Asks one node after the other, those that answered
/// last first.
pub(super) async fn owner(endpoint: &Endpoint, key: Option<&str>, limit: Duration) -> Result<Node, Error> {
    // A node that hangs must not take the time of all others.
    let each = limit / 4;
    let mut failure = Error::Refused("no node of the cluster is known".to_owned());
    let mut silent = Vec::new();
    for node in endpoint.known() {
        match within(each, ask(endpoint, &node, key)).await {
            Ok((owner, told)) => {
                endpoint.remember(&node, &silent, told);
                return Ok(owner);
            }
            Err(error) => failure = error,
        }
        silent.push(node);
    }
    Err(failure)
}

/// Every master that has slots, as the first node that answers tells.
pub(super) async fn masters(endpoint: &Endpoint, limit: Duration) -> Result<Vec<Node>, Error> {
    let each = limit / 4;
    let mut failure = Error::Refused("no node of the cluster is known".to_owned());
    for node in endpoint.known() {
        match within(each, map(endpoint, &node)).await {
            Ok(map) => {
                let mut masters: Vec<Node> = Vec::new();
                for master in map.into_iter().filter_map(|range| range.nodes.into_iter().next()) {
                    if !masters.contains(&master) {
                        masters.push(master);
                    }
                }
                return Ok(masters);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// What one node says: the owner, and which nodes there are.
async fn ask(endpoint: &Endpoint, node: &Node, key: Option<&str>) -> Result<(Node, Vec<Node>), Error> {
    let map = map(endpoint, node).await?;
    let told = map.iter().flat_map(|range| range.nodes.iter().cloned()).collect();
    let Some(key) = key else { return Ok((node.clone(), told)) };
    let slot = slot(key);
    match map.iter().find(|range| (range.first..=range.last).contains(&slot)) {
        Some(Range { nodes, .. }) if !nodes.is_empty() => Ok((nodes[0].clone(), told)),
        _ => Err(Error::Refused(format!("{node}: no node of the cluster serves slot {slot}"))),
    }
}

/// The slots as one node knows them.
async fn map(endpoint: &Endpoint, node: &Node) -> Result<Vec<Range>, Error> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let login = &endpoint.0.target.login;
    let mut link: Link = dial::open(endpoint, node, login, ProtocolVersion::RESP2, config).await?;
    let map: Vec<Value> = redis::cmd("CLUSTER")
        .arg("SLOTS")
        .query_async(&mut link.commands)
        .await
        .map_err(|e| Error::Refused(format!("{node}: {}", endpoint.scrub(&e))))?;
    Ok(map.into_iter().filter_map(|range| Range::read(range, node)).collect())
}

/// Slots that are together, and who has them, the master first.
struct Range {
    first: u16,
    last: u16,
    nodes: Vec<Node>,
}

impl Range {
    /// `[first, last, [host, port, …], …]`, as `asked` told it.
    fn read(value: Value, asked: &Node) -> Option<Self> {
        let mut fields = redis::from_redis_value::<Vec<Value>>(value).ok()?.into_iter();
        let mut number = || redis::from_redis_value::<u16>(fields.next()?).ok();
        let (first, last) = (number()?, number()?);
        let node = |value: Value| {
            let mut fields = redis::from_redis_value::<Vec<Value>>(value).ok()?.into_iter();
            let host = redis::from_redis_value::<Option<String>>(fields.next()?).ok()?;
            let port = redis::from_redis_value(fields.next()?).ok()?;
            beside(asked, host.as_deref().unwrap_or_default(), port)
        };
        Some(Self { first, last, nodes: fields.filter_map(node).collect() })
    }
}

/// The node at `host` and `port` as `teller` told of it: a host that it does not say, or does not know, is its own.
pub(super) fn beside(teller: &Node, host: &str, port: u16) -> Option<Node> {
    match (host, teller) {
        ("" | "?", Node::Tcp(own, _)) => Some(Node::Tcp(own.clone(), port)),
        ("" | "?", Node::Unix(_)) => None,
        (host, _) => Some(Node::Tcp(host.to_owned(), port)),
    }
}

/// The slot of a key: CRC16 of what stands in its first braces, if anything does, else of all of it
/// (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>).
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    // CRC-16/XMODEM: polynomial 1021, nothing reflected, from 0.
    let crc = hashed.bytes().fold(0u16, |crc, byte| {
        (0..8)
            .fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // From the specification, and from CLUSTER KEYSLOT of a Redis 7.0.
        for (key, expected) in
            [("123456789", 0x31c3), ("foo", 12182), ("{foo}.x", 12182), ("a{foo}b{bar}", 12182), ("", 0)]
        {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(slot("tidegate:{orders}:flags"), slot("orders"));
        assert_ne!(slot("{}a"), slot("{}b"));
    }

    #[test]
    fn a_node_that_does_not_know_its_name_has_that_of_who_told() {
        let teller = Node::Tcp("10.0.0.1".to_owned(), 1);
        assert_eq!(beside(&teller, "", 2), Some(Node::Tcp("10.0.0.1".to_owned(), 2)));
        assert_eq!(beside(&teller, "?", 2), Some(Node::Tcp("10.0.0.1".to_owned(), 2)));
        assert_eq!(beside(&teller, "h", 2), Some(Node::Tcp("h".to_owned(), 2)));
        assert_eq!(beside(&Node::Unix("/s".into()), "", 2), None);
    }
}
