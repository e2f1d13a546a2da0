//! One node: its store, and the loops that drive it.
//!
//! - [`Store`]: opened on an engine; recovers, and hands out [`txn::Coordinator`]s.
//! - [`log_writer`]: the one loop that orders, syncs, applies and acknowledges commits.
//! - [`local_shards`]: reads, locks and commits of the shards whose lease is here.
//! - [`gc`]: removes history that nobody can read.
//!
//! Invariant: everything that waits, does so through [`types::env::Env`], so the simulator runs this
//! same code in virtual time.

pub mod gc;
mod identity;
pub mod local_shards;
mod lock_manager;
pub mod log_writer;
mod metrics;
mod pipeline;
pub mod store;
mod table_changes;
pub mod testing;

pub use identity::Identity;
pub use store::{Options, Store};

#[cfg(test)]
mod store_tests;
