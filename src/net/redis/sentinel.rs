//! Who the master is: asked of every Sentinel at once, for one of them may have missed a failover.

use std::collections::HashMap;
use std::time::Duration;

use redis::{AsyncConnectionConfig, ProtocolVersion};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Endpoint, Error, Node, dial, within};

/// The master called `name`, by the highest configuration epoch among the Sentinels that answered: the epoch rises with
/// every failover. A majority of answers ends the asking early.
pub(super) async fn master(
    endpoint: &Endpoint,
    sentinels: &[Node],
    name: &str,
    limit: Duration,
) -> Result<Node, Error> {
    // The other half of the limit is for the master.
    let deadline = Instant::now() + limit / 2;
    let mut asked = JoinSet::new();
    for sentinel in sentinels {
        let (endpoint, sentinel, name) = (endpoint.clone(), sentinel.clone(), name.to_owned());
        asked.spawn(async move { within(limit / 2, ask(&endpoint, &sentinel, &name)).await });
    }
    let mut answers: Vec<(u64, Node)> = Vec::new();
    let mut failure = Error::Timeout(limit / 2);
    while answers.len() * 2 <= sentinels.len() {
        match timeout_at(deadline, asked.join_next()).await {
            Ok(Some(Ok(Ok(answer)))) => answers.push(answer),
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(Some(Err(ended))) => failure = Error::Refused(ended.to_string()),
            Ok(None) | Err(_) => break,
        }
    }
    match answers.into_iter().max_by_key(|(epoch, _)| *epoch) {
        Some((_, node)) => Ok(node),
        None => Err(match failure {
            Error::Refused(text) => Error::Refused(format!("no sentinel knows the master {name:?}: {text}")),
            other => other,
        }),
    }
}

/// What one Sentinel says: the configuration epoch and the address.
async fn ask(endpoint: &Endpoint, sentinel: &Node, name: &str) -> Result<(u64, Node), Error> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let login = &endpoint.0.target.sentinel_login;
    let mut link = dial::open(endpoint, sentinel, login, ProtocolVersion::RESP2, config).await?;
    let fields: HashMap<String, String> = redis::cmd("SENTINEL")
        .arg("MASTER")
        .arg(name)
        .query_async(&mut link.commands)
        .await
        .map_err(|e| Error::Refused(format!("{sentinel}: {}", endpoint.scrub(&e))))?;
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let unusable = || Error::Refused(format!("{sentinel} tells no address of the master {name:?}"));
    let (host, port) = (field("ip"), field("port").parse().map_err(|_| unusable())?);
    if host.is_empty() {
        return Err(unusable());
    }
    Ok((field("config-epoch").parse().unwrap_or(0), Node::Tcp(host.to_owned(), port)))
}
