//! The gateway's side of transactions: begins them and knows what they share.

use crate::budget::NodeBudget;
use crate::kv::{Isolation, ReadScope, Shards, TxnId};
use crate::snapshots::ActiveSnapshots;
use crate::transaction::Transaction;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::env::Env;
use types::{MaybeReady, Result, Timestamp};

/// Memory that transactions may take before they are refused (53200).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Buffered writes, locks and read set of one transaction, in bytes.
    pub transaction_bytes: usize,
    /// The same of all transactions of this gateway.
    pub node_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transaction_bytes: 512 << 20,
            node_bytes: 1 << 30,
        }
    }
}

/// One per gateway; cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    shared: Arc<Shared>,
}

/// What all transactions of one gateway share.
pub(crate) struct Shared {
    pub(crate) shards: Arc<dyn Shards>,
    pub(crate) budget: NodeBudget,
    pub(crate) limits: Limits,
    pub(crate) snapshots: Arc<ActiveSnapshots>,
    /// Upper half of all transaction ids of this life of the gateway.
    incarnation: u64,
    next: AtomicU64,
}

impl Coordinator {
    pub fn new(shards: Arc<dyn Shards>, env: Env, limits: Limits) -> Self {
        Coordinator {
            shared: Arc::new(Shared {
                shards,
                budget: NodeBudget::new(limits.node_bytes),
                limits,
                snapshots: Arc::default(),
                incarnation: env.rng.next_u64(),
                next: AtomicU64::new(1),
            }),
        }
    }

    /// Begins a transaction. Nothing is asked of a shard yet.
    pub fn begin(&self, isolation: Isolation, read_only: bool) -> Transaction {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let id = TxnId((u128::from(self.shared.incarnation) << 64) | u128::from(number));
        Transaction::new(Arc::clone(&self.shared), id, isolation, read_only)
    }

    /// A timestamp whose snapshot holds every commit acknowledged before this call in the scope.
    /// Nothing keeps its history from being collected; use a transaction to read for longer than
    /// moments.
    pub fn read_timestamp(&self, scope: ReadScope<'_>) -> MaybeReady<Result<Timestamp>> {
        self.shared.shards.read_timestamp(scope)
    }

    pub fn shards(&self) -> &Arc<dyn Shards> {
        &self.shared.shards
    }

    /// The open snapshots, for garbage collection to respect.
    pub fn snapshots(&self) -> Arc<ActiveSnapshots> {
        Arc::clone(&self.shared.snapshots)
    }

    /// Bytes taken by open transactions.
    pub fn memory_used(&self) -> usize {
        self.shared.budget.used()
    }
}
