//! The gateway of a node: how its sessions' calls reach the lease holders.
//!
//! [`Gateway`] is [`txn::kv::Shards`] over many stores. It knows a map of the shards and has a guess about each
//! one's lease holder ([`sharding::Router`]); both may be old.
//!
//! # A call
//! ```text
//!   key ──► shard, believed holder ──► this store? ──► ready answers pass straight through
//!              ▲                         │ no, or a refusal
//!              │                         ▼
//!              └── what refusals teach ── ask the store; the next one; pause; again …
//! ```
//! - *Not the lease holder*: the store that the refusal names is asked, then all other replicas, then after a
//!   pause all again. After five seconds the call fails (57P03): a shard without quorum answers with an error.
//! - *Other keys*: the newer descriptors are taken into the map, and the call is routed again. If they do not tell who
//!   holds the key, or nobody that is known answers for it, all stores are asked for the map ([`Gateway::read_map_from`]).
//! - *Out of reach*: another replica is asked. That is safe for reads and locks even if the first store has done
//!   what it was asked. A commit is another matter.
//!
//! # What it guarantees
//! - A read timestamp holds every commit acknowledged before, in the shards of the scope (`gateway/snapshot.rs`).
//! - A transaction commits only while its locks stand, within the bounds that `gateway/commit.rs` states, and
//!   holds none of them after its end, if necessary by the roll call (`gateway/roll_call.rs`).
//! - A commit is sent once; if its answer is lost, the error is 40003.
//!
//! # What it does not do
//! - Transactions that write several shards are refused (0A000).
//! - Transactions that wait for each other at different stores are not found out: each store knows its own
//!   queues only. A `lock_timeout` ends them.

mod asking;
mod commit;
#[cfg(test)]
pub(crate) mod fakes;
mod locks;
#[cfg(test)]
mod model_tests;
mod opening;
#[cfg(test)]
mod opening_tests;
mod roll_call;
mod scans;
mod search;
mod snapshot;
#[cfg(test)]
mod tests;
mod touched;

use crate::node_clock::NodeClock;
use crate::shard_server::ShardServer;
use asking::Shared;
pub use asking::{Connect, MapSource};
pub use search::PATIENCE;
use sharding::{Route, Router, ShardDescriptor, ShardMap};
use std::sync::Arc;
use std::time::Duration;
use txn::kv::{
    Changes, CommitRequest, Committed, Key, LockMode, Opened, Opening, ReadScope, ScanPage,
    ScanRequest, Shards, Span, TxnId, Value, Visitor, WaitPolicy,
};
use types::env::Env;
use types::{MaybeReady, Result, StoreId, Timestamp};

/// See the module. One per node.
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// - `store`, `local`: this node's own.
    /// - `connect`: makes what asks another store; called once for each.
    /// - `patience`: how long a shard may go without a lease holder before calls fail.
    pub fn new(
        store: StoreId,
        local: Arc<dyn ShardServer>,
        map: ShardMap,
        connect: Connect,
        node: Arc<NodeClock>,
        env: Env,
        patience: Duration,
    ) -> Self {
        let router = Router::new(map);
        Gateway {
            shared: Arc::new(Shared::new(
                store, local, router, connect, node, env, patience,
            )),
        }
    }

    /// Starts the roll calls, which end when the gateway is dropped. A cluster of one node needs none.
    pub fn start(&self) {
        let shared = Arc::downgrade(&self.shared);
        let task = Box::pin(roll_call::run(shared));
        self.shared.env.spawn.spawn("roll-call", task);
    }

    /// Takes in descriptors that somebody else heard of. `false`: nothing new.
    pub fn learn(&self, newer: &[ShardDescriptor]) -> bool {
        self.shared.learn(newer)
    }

    /// Whom to ask for the map when answers do not tell enough. Set once.
    pub fn read_map_from(&self, source: MapSource) {
        // A second one is refused, as said.
        let _ = self.shared.map_source.set(source);
    }

    /// The map and the lease holders as they are believed to be now.
    pub fn router(&self) -> Arc<Router> {
        self.shared.router.load_full()
    }
}

impl Shards for Gateway {
    fn read_timestamp(&self, scope: ReadScope<'_>) -> MaybeReady<Result<Timestamp>> {
        self.shared.read_timestamp(scope)
    }

    fn asks_for_points(&self, span: &Span) -> bool {
        let router = self.shared.router.load();
        let mut routes = router.overlapping(&span.start, Some(&span.end));
        let is_near = |route: Route<'_>| route.holder == Some(self.shared.store);
        !routes.next().is_some_and(is_near) || routes.next().is_some()
    }

    fn open(&self, opening: &Opening<'_>) -> Option<MaybeReady<Result<Opened>>> {
        self.shared.open(opening)
    }

    fn catalog_changed(&self) -> Timestamp {
        self.shared.node.catalog_changed()
    }

    fn get(&self, key: &[u8], at: Timestamp) -> MaybeReady<Result<Option<(Value, Timestamp)>>> {
        self.shared.get(key, at)
    }

    fn newest_version(&self, key: &[u8]) -> MaybeReady<Result<Option<Timestamp>>> {
        self.shared.newest_version(key)
    }

    fn scan(&self, request: ScanRequest) -> MaybeReady<Result<ScanPage>> {
        self.shared.scan(request)
    }

    fn visit(&self, request: &ScanRequest, show: &mut Visitor<'_>) -> Option<Result<Option<Key>>> {
        self.shared.visit(request, show)
    }

    fn changes(&self, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        self.shared.changes(span, after, upto)
    }

    fn lock(
        &self,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>> {
        self.shared.lock(txn, key, mode, policy)
    }

    fn lock_fresh(&self, txn: TxnId, keys: &Arc<[Key]>) -> MaybeReady<Result<bool>> {
        self.shared.lock_fresh(txn, keys)
    }

    fn unlock(&self, txn: TxnId, keys: &[Key]) {
        self.shared.unlock(txn, keys);
    }

    fn unlock_all(&self, txn: TxnId) {
        self.shared.unlock_all(txn);
    }

    fn commit(&self, request: CommitRequest) -> MaybeReady<Result<Committed>> {
        self.shared.commit(request)
    }
}
