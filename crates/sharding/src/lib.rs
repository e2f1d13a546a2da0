//! Sharding: which shard holds a key, and who serves it.

pub mod router;
pub mod shard_map;

pub use router::Router;
pub use shard_map::{Replica, ShardDescriptor, ShardId, ShardMap};
