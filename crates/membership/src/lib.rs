//! Membership: which stores there are, where they are, and who stands by whom.
//!
//! - [`Discovery`]: how a node finds its cluster, and which node founds one. Pure.
//! - [`NodeFacts`], [`Directory`]: what nodes tell each other about themselves.
//! - [`gossip`]: how it travels. The protocol is pure; its driver knows the world by `types::env`.
//! - [`Liveness`]: the store liveness protocol, on which leases rest. Pure.
//! - [`SlowScore`], [`ClockOffsets`]: whether a store's disk or clock make it unfit to hold leases. Pure.
//! - [`MembershipService`]: the state of every store, from what is decided and what is heard. Pure.

pub mod clock_offset;
pub mod discovery;
pub mod facts;
pub mod gossip;
pub mod liveness;
pub mod service;
pub mod slow_score;

pub use clock_offset::ClockOffsets;
pub use discovery::Discovery;
pub use facts::{Directory, NodeFacts, Nodes, SharedDirectory};
pub use gossip::GossipDirectory;
pub use liveness::{Epoch, Liveness};
pub use service::{Event, Intent, MembershipService, State};
pub use slow_score::SlowScore;
