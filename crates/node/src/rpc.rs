//! What passes between nodes, and the calls of [`ShardServer`] over the network.
//!
//! - [`wire`]: questions and answers as bytes.
//! - [`RemoteShards`]: another node's store as a [`ShardServer`]: the asking end.
//! - [`Service`]: the answering end, before this node's own store.
//! - `staged`: a large commit travels in pieces, which wait there for the last one.
//!
//! [`ShardServer`]: crate::shard_server::ShardServer

mod opening;
mod remote;
mod service;
mod staged;
#[cfg(test)]
mod tests;
pub mod wire;

pub use remote::RemoteShards;
pub(crate) use service::EXPEL_AFTER;
pub use service::Service;

/// Longest request in bytes, below what the network takes as one body (32 MiB). Commits travel in pieces, so
/// only a single row can be longer.
pub const REQUEST_BYTES: usize = 24 << 20;

/// Longest answer in bytes: what a scan's page is kept to. A single row that is larger is sent all the same.
pub const ANSWER_BYTES: usize = 8 << 20;

/// Which part of a node a message or a call is for. The first byte says it: each part has sixteen kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// Messages between the replicas of a group, and support between stores.
    Raft = 0x10,
    /// Reads, locks and commits: [`wire`].
    Kv = 0x30,
    /// Joining, and what the cluster manager asks of stores.
    Manager = 0x40,
    /// A replica's data.
    Snapshot = 0x50,
    /// What nodes tell each other of themselves.
    Gossip = 0x60,
    /// Of nodes that look for their cluster.
    Discovery = 0x70,
}

impl Part {
    const ALL: [Part; 6] = [
        Part::Raft,
        Part::Kv,
        Part::Manager,
        Part::Snapshot,
        Part::Gossip,
        Part::Discovery,
    ];

    /// Whose this message or call is. `None`: of a newer version than this program.
    pub fn of(frame: &[u8]) -> Option<Part> {
        let part = frame.first()? & 0xf0;
        Part::ALL.into_iter().find(|known| *known as u8 == part)
    }
}
