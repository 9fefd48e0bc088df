//! Who the master is: asked of every Sentinel at once, for one of them may have missed a failover.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{AsyncConnectionConfig, ProtocolVersion};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Endpoint, Error, Node, dial, within};

/// The master called `name`, by the highest configuration epoch among the Sentinels that answered: the epoch rises with
/// every failover. A majority of answers ends the asking early; fewer count only if they know of no failover less than we
/// do. (A majority may: whoever sets up Sentinels anew begins at epoch 0.)
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
    let most = answers.len() * 2 > sentinels.len();
    match answers.into_iter().max_by_key(|(epoch, _)| *epoch) {
        Some((epoch, node)) => {
            let seen = &endpoint.0.epoch;
            if !most && epoch < seen.load(Ordering::Relaxed) {
                let why = format!("the sentinels that answer missed a failover of {name:?}; no majority of them does");
                return Err(Error::Refused(why));
            }
            seen.store(epoch, Ordering::Relaxed);
            Ok(node)
        }
        None => Err(match failure {
            Error::Refused(text) => Error::Refused(format!("no sentinel tells where the master {name:?} is: {text}")),
            other => other,
        }),
    }
}

/// What one Sentinel says: the configuration epoch and the address.
async fn ask(endpoint: &Endpoint, sentinel: &Node, name: &str) -> Result<(u64, Node), Error> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let login = &endpoint.0.target.sentinel_login;
    let mut link = dial::open(endpoint, sentinel, login, ProtocolVersion::RESP2, config).await?;
    let refused = |e: redis::RedisError| Error::Refused(format!("{sentinel}: {}", endpoint.scrub(&e)));
    let command = |subcommand: &str| redis::cmd("SENTINEL").arg(subcommand).arg(name).to_owned();
    let fields: HashMap<String, String> = command("MASTER").query_async(&mut link.commands).await.map_err(refused)?;
    let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    // Not `ip` and `port` from above: whoever leads a failover goes on showing the old ones there until it is over.
    let address: Option<(String, u16)> =
        command("GET-MASTER-ADDR-BY-NAME").query_async(&mut link.commands).await.map_err(refused)?;
    let Some((host, port)) = address else {
        return Err(Error::Refused(format!("{sentinel} tells no address of the master {name:?}")));
    };
    Ok((epoch, Node::Tcp(host, port)))
}
