//! The cluster as a whole: who belongs to it, where replicas and leases should be, and who sees to it.
//!
//! - `system`: what the cluster remembers of itself, as rows in the system shard.
//! - `wire`: what nodes ask each other about it.
//! - `shards`: their names and rows, and how one is split.
//! - `sizes`: which are too large.
//! - `service`: the answers, on every node.
//! - `rounds`: the cluster manager: it runs on the store that holds the system shard's lease, and fails over
//!   with it.
//! - `events`: what happened to the nodes, written down in order.
//! - `operator`: what people ask for, and why it may not be done.
//! - `status`: how all of it stands, for people.
//! - `joining`: how a node without a name becomes a member, and finds the others again when it restarts.

mod consistency;
mod events;
mod joining;
mod operator;
mod rounds;
mod rules;
mod service;
mod shards;
mod sizes;
mod status;
mod system;
mod wire;

pub use joining::{JoinError, join};
pub use shards::Split;
pub use status::ClusterState;
pub use system::{Addresses, EventRow, MoveRow, NodeRow};
pub use wire::{ReplicaReport, Report};

use crate::gateway::Gateway;
use crate::local_shards::LocalShards;
use crate::metrics::ManagerMetrics;
use crate::mover::Mover;
use crate::node_clock::NodeClock;
use crate::registry::Registry;
use cluster::rebalance::Move;
use events::EventLog;
use membership::service::{Event, Intent, MembershipService};
use parking_lot::Mutex;
use rounds::Settled;
use sharding::ShardId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use system::SystemRows;
use tokio::sync::{Notify, broadcast, watch};
use txn::Coordinator;
use types::StoreId;
use types::env::{Env, Transport};

#[derive(Clone, Copy, Debug)]
pub struct ManagerOptions {
    /// Between two rounds of the manager.
    pub round: Duration,
    /// Silence and what follows from it.
    pub membership: membership::service::Options,
    /// From one comparison of the copies of all shards to the next, at least.
    pub check: Duration,
    /// Copies of each shard, once there are as many nodes.
    pub replication_factor: usize,
    /// A shard with more bytes of keys and values is split, where there are several nodes; 0: none is.
    pub shard_max_bytes: u64,
    /// Between two looks at the shards' sizes.
    pub size_round: Duration,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        ManagerOptions {
            round: Duration::from_secs(1),
            membership: membership::service::Options::default(),
            // All rows of a shard are read on each of its nodes.
            check: Duration::from_secs(24 * 3600),
            replication_factor: 3,
            shard_max_bytes: 512 << 20,
            size_round: Duration::from_secs(5),
        }
    }
}

/// See the module. One per node.
pub(crate) struct Manager {
    identity: crate::Identity,
    options: ManagerOptions,
    registry: Arc<Registry>,
    shards: Arc<LocalShards>,
    gateway: Arc<Gateway>,
    rows: SystemRows,
    transport: Arc<dyn Transport>,
    env: Env,
    time: Arc<NodeClock>,
    mover: Mover,
    /// Addresses at which other nodes were, or may be.
    targets: Mutex<Vec<String>>,
    /// Where nodes are by the rows that were read last.
    met: Mutex<BTreeMap<StoreId, String>>,
    members: Mutex<MembershipService>,
    /// What the stores said last, while this store is in charge.
    known: Mutex<BTreeMap<StoreId, Arc<Report>>>,
    /// What the last plan was made of, if it had no moves: as long as nothing changes, the next has none either.
    settled: Mutex<Option<Settled>>,
    /// Shards are being split for tables.
    splitting: AtomicBool,
    /// Shards that are being moved by this manager.
    moving: Mutex<BTreeMap<ShardId, Move>>,
    /// Up to which generation the rows of shards are written, while this store is in charge; `None` until read.
    noted: Mutex<Option<BTreeMap<ShardId, u64>>>,
    /// The number of the last move; `None` until it was read.
    last_move: Mutex<Option<u64>>,
    /// What has happened and what of it is written down, while this store is in charge.
    events: Mutex<EventLog>,
    /// Stores that have left for good, as far as this node has heard.
    gone: Mutex<BTreeSet<StoreId>>,
    metrics: ManagerMetrics,
    /// What the cluster wants of this node, as far as this node has heard.
    intent: watch::Sender<Intent>,
    /// This node is about to stop: it gives up its leases and takes no new sessions.
    draining: AtomicBool,
    /// Something has changed: do not wait for the next round.
    wake: Notify,
}

/// What a manager works with.
pub(crate) struct Parts {
    pub(crate) identity: crate::Identity,
    pub(crate) options: ManagerOptions,
    pub(crate) registry: Arc<Registry>,
    pub(crate) shards: Arc<LocalShards>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) coordinator: Coordinator,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) env: Env,
}

impl Manager {
    pub(crate) fn new(parts: Parts) -> Self {
        let clock = Arc::clone(&parts.env.clock);
        Manager {
            mover: Mover::new(Arc::clone(&parts.registry), clock, parts.identity.store),
            time: Arc::clone(&parts.shards.time),
            members: Mutex::new(MembershipService::new(parts.options.membership)),
            rows: SystemRows::new(parts.coordinator),
            identity: parts.identity,
            options: parts.options,
            registry: parts.registry,
            shards: parts.shards,
            gateway: parts.gateway,
            transport: parts.transport,
            env: parts.env,
            known: Mutex::default(),
            settled: Mutex::default(),
            splitting: AtomicBool::new(false),
            targets: Mutex::default(),
            met: Mutex::default(),
            moving: Mutex::default(),
            noted: Mutex::default(),
            last_move: Mutex::new(None),
            events: Mutex::default(),
            gone: Mutex::default(),
            metrics: ManagerMetrics::new(),
            intent: watch::Sender::new(Intent::Serve),
            draining: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// What the cluster wants of this node.
    pub(crate) fn intent(&self) -> watch::Receiver<Intent> {
        self.intent.subscribe()
    }

    /// Changes of nodes' states, as this store sees them while it is in charge.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.members.lock().subscribe()
    }

    /// Stores that have left for good.
    pub(crate) fn gone(&self) -> BTreeSet<StoreId> {
        self.gone.lock().clone()
    }

    pub(crate) async fn events(&self, after: u64) -> types::Result<Vec<EventRow>> {
        self.rows.events(after).await
    }

    /// The cluster wants this of this node. Who has left does not come back.
    fn note_intent(&self, intent: Intent) {
        self.intent.send_if_modified(|known| {
            let changed = *known != intent && *known != Intent::Gone;
            if changed {
                tracing::info!(?intent, "the cluster wants something else of this node");
                *known = intent;
            }
            changed
        });
    }

    fn is_open(&self) -> bool {
        self.registry.shared.inbox.is_open()
    }

    fn now_millis(&self) -> u64 {
        self.env.clock.monotonic_nanos() / 1_000_000
    }
}
