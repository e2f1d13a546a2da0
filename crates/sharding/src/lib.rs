//! Sharding: which shard holds a key, and who serves it.

pub mod load_balancer;
pub mod router;
pub mod shard_map;

pub use load_balancer::{LoadBalancer, Policy};
pub use router::Router;
pub use shard_map::{Replica, ShardDescriptor, ShardId, ShardMap};
