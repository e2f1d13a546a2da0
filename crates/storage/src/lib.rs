//! Storage: an ordered key-value engine, and multi-version data upon it.
//!
//! - [`engine`]: the contract: four ordered keyspaces, atomic batches, one sync.
//! - [`fjall_engine`]: the real disk, an LSM tree with a write-ahead journal.
//! - [`sim_disk`]: a disk in memory that forgets unsynced bytes and fails on demand.
//! - [`mvcc`]: versions of user keys over any engine; [`gc`] removes the ones nobody can read.

mod disk_space;
pub mod engine;
pub mod fjall_engine;
mod folder_lock;
mod frontier;
pub mod gc;
mod journal_check;
mod manifest_check;
pub mod mvcc;
pub mod sim_disk;

pub use engine::{
    Damage, Engine, Error, KeyRange, Keyspace, Pairs, Result, Snapshot, TableRef, WriteBatch,
};
pub use fjall_engine::{CACHE_DEFAULT_BYTES, FjallEngine, FjallOptions};
pub use sim_disk::SimDisk;
