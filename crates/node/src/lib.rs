//! One node: its store, and the loops that drive it.
//!
//! - [`Store`]: opened on an engine; recovers, and hands out [`txn::Coordinator`]s.
//! - [`gateway`]: how the calls of a node's transactions reach the stores that hold the leases.
//! - [`rpc`]: those calls over the network.
//! - [`local_shards`]: reads, locks and commits of the shards whose lease is here.
//! - [`log_writer`]: the one loop that orders, syncs, applies and acknowledges commits.
//! - [`manager`]: who belongs to the cluster, and where replicas and leases should be.
//! - [`read_leases`]: how stores without the lease answer what is newest.
//! - [`snapshots`]: copies of replicas for stores that lack them.
//! - [`observe`]: what a store shows of its replicas to whoever checks it.
//! - [`scrub`]: reads all that is on the disk, so that damage is found early.
//! - [`health`]: whether the store is fit to lead.
//! - [`gc`]: removes history that nobody can read.
//!
//! Invariant: everything that waits, does so through [`types::env::Env`], so the simulator runs this
//! same code in virtual time.

pub mod gateway;
pub mod gc;
pub mod health;
mod identity;
mod inbox;
mod lease_ends;
mod liveness_record;
pub mod local_shards;
mod lock_manager;
pub mod log_writer;
pub mod manager;
mod member;
mod metrics;
mod mover;
pub mod node_clock;
pub mod observe;
mod outbox;
pub mod parts;
mod peer;
mod prompt;
pub mod read_leases;
mod registry;
mod replica;
mod replica_record;
pub mod rpc;
pub mod scrub;
pub mod shard_server;
mod sizes;
pub mod snapshots;
pub mod store;
mod table_changes;
pub mod testing;

pub use identity::Identity;
pub use manager::{Addresses, ManagerOptions};
pub use store::{Options, Store};

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod split_tests;
#[cfg(test)]
mod store_tests;
