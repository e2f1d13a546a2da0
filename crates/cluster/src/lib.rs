//! The cluster manager: what it sees, and what it decides.
//!
//! - [`view`]: stores and shards as the manager knows them.
//! - [`rebalance`]: the pure planner of moves, each with its reason; `ranked` says where shards lie whose stores are ranked.

mod ranked;
pub mod rebalance;
pub mod view;

pub use rebalance::{Move, Planned, Policy, plan_moves};
pub use view::{ClusterView, ShardView, StoreState, StoreView};
