//! Consensus: one Raft group per shard, on raft-rs.
//!
//! - [`Group`]: a replica of one group. Pure: it proposes, steps and answers with [`Effects`];
//!   whoever drives it writes, syncs and sends.
//! - [`LogStore`]: the log as raft-rs sees it, in memory, and its records in the `raft` keyspace.
//! - [`Command`]: what an entry of a shard's log says: a commit, a part of one, or that the shard is split.
//!
//! Invariant: no clock, thread, socket or file. Protobuf is never parsed from disk or network: the
//! records here are our own, checksummed, and converted field by field.

pub mod command;
pub mod group;
pub mod log_store;
pub mod membership;
pub mod snapshot;
pub mod wire;

#[cfg(test)]
mod cluster_tests;

pub use command::{Command, Commit, CommitName, Finish, Part, ReadLease, Replaced, Split};
pub use group::{Awaited, Effects, Group, GroupOptions};
pub use log_store::{GroupId, HardState, LogEntry, LogStore, ORIGIN, Position, ReplicaId};
pub use membership::{Change, Membership};
pub use snapshot::Snapshot;

/// A message between replicas of a group.
pub use raft::eraftpb::Message;
