//! Transactions.
//!
//! Gateway: [`Coordinator`] begins a [`Transaction`], which buffers writes, locks rows and commits,
//! all through the seam [`kv::Shards`]. Lease holder: [`LockTable`] and [`Sequencer`], both pure.
//!
//! Invariant: nothing here knows how a shard stores or replicates.

mod budget;
mod coordinator;
mod fresh;
pub mod kv;
pub mod lock_table;
mod merge;
mod newest;
mod read_set;
mod runs;
mod savepoint;
pub mod sequencer;
mod snapshots;
pub mod testing;
mod transaction;
mod writes;

pub use coordinator::{Coordinator, Limits};
pub use fresh::{FreshBuilder, FreshRows};
pub use kv::{Committed, Isolation, LockMode, ReadScope, Shards, Span, TxnId, WaitPolicy};
pub use lock_table::{Acquire, LockLimits, LockTable, Ticket};
pub use merge::OWN_WRITE;
pub use savepoint::SavepointId;
pub use sequencer::{Footprint, Sequencer};
pub use snapshots::ActiveSnapshots;
pub use transaction::{LockedRow, SnapshotGuard, Transaction};
pub use writes::Overlay;

#[cfg(test)]
mod transaction_tests;
