//! The simulator: the same `node` code on one thread, in virtual time, over a disk that forgets.
//!
//! A run is a function of its seed. The [`Executor`] picks which ready task runs next, time moves
//! only there, and disks fail where the seed says. So a failure found once is found again, and its seed
//! becomes a test.
//!
//! ```text
//!   seed ──► Dice ──► order of tasks, crash points, faults, the clients' choices
//!                         │
//!            clients ──► Coordinator ──► Store ──► FaultyEngine ──► SimDisk
//!                         │                │                           │ crash: unsynced bytes go
//!                         │              SimTransport ──► Network ──► other stores
//!                         ▼                                            │
//!                  what they were told ◄────────── checks ─────────────┘
//! ```
//!
//! - [`executor`]: tasks of many nodes in virtual time, each node with a clock of its own; kills and stops them.
//! - [`network`]: connections that are slow, cut and broken.
//! - [`faulty_engine`]: disks that die, fill up, hang and rot.
//! - [`checker`]: what must be true of histories, Raft groups, leases and shard maps; of real clusters, too.
//!
//! Worlds: [`one_node`], [`cluster_world`]. What is missing: SQL.

pub mod checker;
pub mod cluster_world;
pub mod dice;
pub mod executor;
pub mod faulty_engine;
pub mod model;
pub mod network;
pub mod one_node;
mod workload;

pub use dice::Dice;
pub use executor::Executor;
pub use faulty_engine::FaultyEngine;
pub use one_node::{Report, Violation};

/// The default world at its default length.
pub fn run(seed: u64) -> Result<Report, Violation> {
    one_node::run(seed, one_node::DEFAULT_STEPS)
}
