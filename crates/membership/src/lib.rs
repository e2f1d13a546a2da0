//! Membership: which stores there are, and who stands by whom.
//!
//! - [`Liveness`]: the store liveness protocol, on which leases rest. Pure.

//! - [`MembershipService`]: the state of every store, from what is decided and what is heard. Pure.

pub mod liveness;
pub mod service;

pub use liveness::{Epoch, Liveness};
pub use service::{Event, Intent, MembershipService, State};
