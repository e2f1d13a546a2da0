//! What SQL shows of the cluster, and does to it: schema `phantom`.
//!
//! The rows of its views come from whoever knows the cluster, the moment a query asks for them. Its functions
//! are in `actions`.

pub(crate) mod actions;
mod split;

pub use actions::ClusterActions;

use crate::context::StatementContext;
use crate::pg_catalog::VirtualTable;
use types::env::BoxFuture;
use types::{Result, Row, SqlType};

const SCHEMA: &str = "phantom";
/// Object ids of the views, in their order.
const FIRST_OID: u32 = 13_900;

/// Knows the cluster.
pub trait ClusterStatus: Send + Sync {
    /// The rows of a view, with the columns of [`View::columns`].
    fn rows(&self, view: View) -> BoxFuture<Result<Vec<Row>>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Every node that belongs to the cluster or once did.
    Nodes,
    /// Every shard, and where it is.
    Shards,
    /// Every replica that a store reports.
    Replicas,
    /// Every lease that is held now.
    Leases,
    /// What the cluster manager has decided, and why.
    Moves,
    /// What has happened to nodes.
    Events,
}

impl View {
    const ALL: [View; 6] = [
        View::Nodes,
        View::Shards,
        View::Replicas,
        View::Leases,
        View::Moves,
        View::Events,
    ];

    pub fn name(self) -> &'static str {
        match self {
            View::Nodes => "nodes",
            View::Shards => "shards",
            View::Replicas => "replicas",
            View::Leases => "leases",
            View::Moves => "moves",
            View::Events => "events",
        }
    }

    pub fn columns(self) -> Vec<(&'static str, SqlType)> {
        use SqlType::{Bool, Int8, Text, TimestampTz};
        match self {
            View::Nodes => vec![
                ("id", Int8),
                ("state", Text),
                ("sql_address", Text),
                ("rpc_address", Text),
                ("http_address", Text),
                ("locality", Text),
                ("version", Text),
                ("replicas", Int8),
                ("leases", Int8),
                ("used_bytes", Int8),
                ("sessions", Int8),
                ("wanted", Text),
                ("manages", Bool),
                ("health", Text),
                ("sync_millis", Int8),
                ("clock_ahead_millis", Int8),
            ],
            View::Shards => vec![
                ("id", Int8),
                ("start_key", Text),
                ("end_key", Text),
                ("generation", Int8),
                ("replicas", Text),
                ("lease_holder", Int8),
                ("bytes", Int8),
                ("wanted_replicas", Int8),
            ],
            View::Replicas => vec![
                ("shard", Int8),
                ("node", Int8),
                ("id", Int8),
                ("role", Text),
                ("leads", Bool),
                ("term", Int8),
                ("applied", Int8),
                ("log_entries", Int8),
            ],
            View::Leases => vec![("shard", Int8), ("node", Int8), ("term", Int8)],
            View::Moves => vec![
                ("id", Int8),
                ("shard", Int8),
                ("move", Text),
                ("reason", Text),
                ("state", Text),
                ("begun", TimestampTz),
                ("ended", TimestampTz),
            ],
            View::Events => vec![
                ("id", Int8),
                ("time", TimestampTz),
                ("node", Int8),
                ("event", Text),
                ("detail", Text),
            ],
        }
    }

    pub(crate) fn of(table: &VirtualTable) -> Option<View> {
        let mut all = Self::ALL.into_iter();
        all.find(|view| table.schema == SCHEMA && table.name == view.name())
    }
}

/// The views as tables. A node that knows of no cluster shows them empty.
pub(crate) fn tables() -> impl Iterator<Item = VirtualTable> {
    let oids = FIRST_OID..;
    View::ALL
        .into_iter()
        .zip(oids)
        .map(|(view, oid)| VirtualTable {
            oid,
            schema: SCHEMA,
            name: view.name(),
            columns: view.columns(),
            rows: none,
        })
}

fn none(_context: &StatementContext) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
