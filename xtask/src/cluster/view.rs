//! What the cluster says of itself, by its SQL views.
//!
//! A server that has no such view (a single node, PostgreSQL) is asked nothing: it is as healthy as it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::peer::{Session, describe, sqlstate};

/// Relation or schema is not there.
const UNKNOWN_RELATION: [&str; 2] = ["42P01", "3F000"];

/// Live nodes.
const LIVE_NODES: &str = "SELECT count(*) FROM phantom.nodes WHERE state = 'live'";
const APPLIED: &str = "SELECT shard, applied, leads FROM phantom.replicas";
/// A leader tells what is committed with the next entries, or soon if there are none. So under load its replicas are
/// a little behind at any moment, but not behind where it was so long ago.
const NEWS_TAKE: Duration = Duration::from_millis(25);
const NEWS_LOOKS: usize = 4;
const LEASES: &str = "SELECT l.shard, l.node, n.rpc_address FROM phantom.leases l \
                      JOIN phantom.nodes n ON n.id = l.node ORDER BY l.shard";
const REPLICAS: &str = "SELECT node, count(*) FROM phantom.replicas GROUP BY node";
const LEASES_BY_NODE: &str = "SELECT node, count(*) FROM phantom.leases GROUP BY node";
const NODE_BY_ADDRESS: &str = "SELECT id FROM phantom.nodes WHERE rpc_address = $1";

/// Who serves a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub shard: i64,
    /// The holder's id in the cluster.
    pub node: i64,
    /// The holder's address for other nodes.
    pub address: String,
}

/// What keeps the cluster from being healthy, seen from the node of the session.
pub async fn complaint(session: &Session, nodes: usize) -> Result<Option<String>> {
    let live = count(session, LIVE_NODES).await?;
    if let Some(live) = live
        && live != nodes as i64
    {
        return Ok(Some(format!("sees {live} live nodes of {nodes}")));
    }
    let before = applied(session).await?;
    let led = before.into_iter().filter(|(_, _, leads)| *leads);
    let led: BTreeMap<i64, i64> = led.map(|(shard, applied, _)| (shard, applied)).collect();
    let mut behind = 0;
    for _ in 0..NEWS_LOOKS {
        let now = applied(session).await?;
        let is_behind = |(shard, applied, _): &&(i64, i64, bool)| {
            led.get(shard).is_some_and(|before| applied < before)
        };
        behind = now.iter().filter(is_behind).count();
        if behind == 0 {
            return Ok(None);
        }
        tokio::time::sleep(NEWS_TAKE).await;
    }
    Ok(Some(format!("{behind} replicas are behind")))
}

/// Of each replica its shard, what it has applied, and whether it leads; nothing where there is no such view.
async fn applied(session: &Session) -> Result<Vec<(i64, i64, bool)>> {
    match session.query(APPLIED, &[]).await {
        Ok(rows) => Ok(rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect()),
        Err(error) if is_unknown(&error) => Ok(Vec::new()),
        Err(error) => Err(anyhow!("{}: {APPLIED}", describe(&error))),
    }
}

/// All leases; nothing where there is no such view.
pub async fn leases(session: &Session) -> Result<Option<Vec<Lease>>> {
    let rows = match session.query(LEASES, &[]).await {
        Ok(rows) => rows,
        Err(error) if is_unknown(&error) => return Ok(None),
        Err(error) => return Err(anyhow!("{}: {LEASES}", describe(&error))),
    };
    let lease = |row: tokio_postgres::Row| Lease {
        shard: row.get(0),
        node: row.get(1),
        address: row.get(2),
    };
    Ok(Some(rows.into_iter().map(lease).collect()))
}

/// Replicas and leases by node id; nothing where there are no such views.
pub async fn spread(session: &Session) -> Result<Option<BTreeMap<i64, Spread>>> {
    let mut spread: BTreeMap<i64, Spread> = BTreeMap::new();
    for (sql, is_lease) in [(REPLICAS, false), (LEASES_BY_NODE, true)] {
        let rows = match session.query(sql, &[]).await {
            Ok(rows) => rows,
            Err(error) if is_unknown(&error) => return Ok(None),
            Err(error) => return Err(anyhow!("{}: {sql}", describe(&error))),
        };
        for row in rows {
            let of_node = spread.entry(row.get(0)).or_default();
            match is_lease {
                true => of_node.leases = row.get(1),
                false => of_node.replicas = row.get(1),
            }
        }
    }
    Ok(Some(spread))
}

/// What one node carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    pub replicas: i64,
    pub leases: i64,
}

/// The id of the node with that address for other nodes.
pub async fn node_id(session: &Session, rpc_address: &str) -> Result<i64> {
    let row = session
        .query_one(NODE_BY_ADDRESS, &[&rpc_address])
        .await
        .map_err(|error| anyhow!("{}: {NODE_BY_ADDRESS} [{rpc_address}]", describe(&error)))?;
    Ok(row.get(0))
}

/// A count, or nothing where the relation is not there.
async fn count(session: &Session, sql: &str) -> Result<Option<i64>> {
    match session.query_one(sql, &[]).await {
        Ok(row) => Ok(Some(row.get(0))),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(anyhow!("{}: {sql}", describe(&error))),
    }
}

fn is_unknown(error: &tokio_postgres::Error) -> bool {
    sqlstate(error).is_some_and(|code| UNKNOWN_RELATION.contains(&code))
}
