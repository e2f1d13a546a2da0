//! Sharding: which shard holds a key, and who serves it.

pub mod load_balancer;
pub mod router;
pub mod shard_map;
pub mod strategy;
pub mod table_rule;

pub use load_balancer::{LoadBalancer, Policy};
pub use router::{Route, Router};
pub use shard_map::{InvalidMap, Replica, ShardDescriptor, ShardId, ShardMap};
pub use strategy::{Placement, ShardingStrategy};
pub use table_rule::{ShardRule, TableRule, TableRules};
