//! The words every crate shares: SQL values and their types, errors with SQLSTATE, timestamps,
//! the order-preserving key encoding, the row encoding, and the traits through which pure code
//! reaches the world.
//!
//! Invariant: nothing here reads a clock, a random source, a socket or a file.

pub mod datum;
pub mod env;
pub mod error;
pub mod hlc;
pub mod maybe_ready;
pub mod sql_type;

pub use datum::Datum;
pub use error::{Error, Result, SqlState};
pub use hlc::{Hlc, Timestamp};
pub use maybe_ready::MaybeReady;
pub use sql_type::SqlType;

/// A row as the executors pass it: one datum per column, in column order.
pub type Row = Vec<Datum>;
