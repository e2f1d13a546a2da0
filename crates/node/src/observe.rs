//! What a store shows of its replicas to whoever checks it from outside, as the simulator does after each step.
//! It costs nothing as long as nobody looks.

use consensus::Position;
use sharding::ShardId;
use types::StoreId;

/// A replica's Raft group at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    pub store: StoreId,
    pub shard: ShardId,
    /// It has its rows and its log. If not, it waits for a snapshot, and the rest means nothing.
    pub is_whole: bool,
    pub term: u64,
    pub is_leader: bool,
    /// The position before the first entry that is kept.
    pub before: Position,
    /// Positions of the entries on this disk, and checksums of what they say.
    pub log: Vec<(Position, u64)>,
    pub commit: u64,
    pub applied: u64,
}

/// A lease that a store holds, or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub shard: ShardId,
    /// The term in which it was granted.
    pub term: u64,
    /// Its time is not over by the store's clock.
    pub is_valid: bool,
}

/// Is shown the groups of a store after each turn of its loop.
pub trait Observer: Send + Sync {
    fn group(&self, view: GroupView);
}
