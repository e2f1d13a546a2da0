//! Membership: which stores there are, and who stands by whom.
//!
//! - [`Liveness`]: the store liveness protocol, on which leases rest. Pure.

pub mod liveness;

pub use liveness::{Epoch, Liveness};
