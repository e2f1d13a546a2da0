//! What a node tells the others about itself.
//!
//! Facts are hearsay: they may be old, and nothing that must be true rests on them. What the cluster has
//! decided stands in the system shard; who is alive is the business of [`crate::liveness`]. Facts say how to
//! reach a node, where it stands, what it has room for and how busy it is; the planner of moves, the choice
//! of replicas and the views of the console read them.
//!
//! A node reads and writes facts through a [`Directory`] and does not see how they travel:
//! [`crate::gossip`] carries them between processes, [`SharedDirectory`] between parts of one.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use types::{Locality, StoreId};

mod encoding;

/// Of an encoded record of facts, in bytes: some addresses and numbers take a few hundred.
pub const MAX_FACTS_BYTES: usize = 8 << 10;

/// One node's facts, at the moment it told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    pub store: StoreId,
    /// Counts the starts of the node. Facts of a later start win over those of an earlier one.
    pub incarnation: u64,
    /// `host:port` for other nodes.
    pub rpc_address: String,
    /// `host:port` for PostgreSQL clients.
    pub sql_address: String,
    /// `host:port` of metrics and health; empty: none.
    pub http_address: String,
    pub locality: Locality,
    /// Of the program, such as `0.1.0`.
    pub version: String,
    /// Of the disk that its store is on, in bytes.
    pub capacity_bytes: u64,
    /// What the store takes of it, in bytes.
    pub used_bytes: u64,
    /// Processor cores.
    pub cores: u64,
    /// It gives up its leases and takes no new sessions.
    pub draining: bool,
    /// Microseconds since the Unix epoch, of its own wall clock.
    pub started_at_micros: i64,
    /// Shards whose lease it holds.
    pub leases: u64,
    /// Shards of which it has a replica.
    pub replicas: u64,
    /// Connected clients.
    pub sessions: u64,
    /// Of its disk and network: 0 as quick as ever, 100 stalled.
    pub slow_score: u64,
}

impl NodeFacts {
    /// How much of its disk is in use, 0 to 1. A disk of unknown size counts as empty.
    pub fn fullness(&self) -> f64 {
        match self.capacity_bytes {
            0 => 0.0,
            capacity => (self.used_bytes as f64 / capacity as f64).min(1.0),
        }
    }
}

/// The facts of every node heard of, one's own among them.
pub type Nodes = Arc<BTreeMap<StoreId, NodeFacts>>;

/// What a node knows of the others, and what it tells them.
pub trait Directory: Send + Sync {
    /// Replaces what the others are told about this node. Cheap; called whenever a fact changes, and told
    /// to the others at the pace of whoever carries it.
    fn publish(&self, facts: NodeFacts);

    /// Of every node heard of, dead ones too, as they were last heard.
    fn nodes(&self) -> Nodes;

    /// Changes whenever [`Directory::nodes`] does. Its value is that of [`Directory::nodes`].
    fn changed(&self) -> watch::Receiver<Nodes>;
}

/// A directory of nodes in one process: what one publishes, all know at once. For a node alone, and for
/// tests of what reads facts.
#[derive(Clone)]
pub struct SharedDirectory {
    /// Held while the map is changed, so that no publisher overwrites another.
    nodes: Arc<Mutex<watch::Sender<Nodes>>>,
}

impl Default for SharedDirectory {
    fn default() -> Self {
        SharedDirectory {
            nodes: Arc::new(Mutex::new(watch::Sender::new(Nodes::default()))),
        }
    }
}

impl Directory for SharedDirectory {
    fn publish(&self, facts: NodeFacts) {
        self.nodes.lock().send_if_modified(|nodes| {
            let changed = nodes.get(&facts.store) != Some(&facts);
            if changed {
                Arc::make_mut(nodes).insert(facts.store, facts);
            }
            changed
        });
    }

    fn nodes(&self) -> Nodes {
        Arc::clone(&self.nodes.lock().borrow())
    }

    fn changed(&self) -> watch::Receiver<Nodes> {
        self.nodes.lock().subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(store: u64, leases: u64) -> NodeFacts {
        NodeFacts {
            store: StoreId(store),
            leases,
            ..NodeFacts::default()
        }
    }

    #[test]
    fn a_shared_directory_tells_of_changes_only() {
        let directory = SharedDirectory::default();
        let other = directory.clone();
        let mut changed = directory.changed();
        directory.publish(facts(1, 0));
        other.publish(facts(2, 7));
        assert_eq!(changed.borrow_and_update().len(), 2);
        other.publish(facts(2, 7));
        assert!(!changed.has_changed().expect("the directory is there"));
        other.publish(facts(2, 8));
        assert!(changed.has_changed().expect("the directory is there"));
        assert_eq!(directory.nodes()[&StoreId(2)].leases, 8);
        assert_eq!(other.nodes(), directory.nodes());
    }

    #[test]
    fn a_disk_of_unknown_size_is_empty() {
        let mut facts = facts(1, 0);
        assert_eq!(facts.fullness(), 0.0);
        (facts.capacity_bytes, facts.used_bytes) = (200, 50);
        assert_eq!(facts.fullness(), 0.25);
        facts.used_bytes = 300;
        assert_eq!(facts.fullness(), 1.0);
    }
}
