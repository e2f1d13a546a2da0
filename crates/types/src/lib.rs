//! The words every crate shares: SQL values and their types, errors with SQLSTATE, timestamps,
//! the order-preserving key encoding, the row encoding, and the traits through which pure code
//! reaches the world.
//!
//! Invariant: nothing here reads a clock, a random source, a socket or a file.

pub mod array;
pub mod array_text;
pub mod binary;
pub mod cast;
pub mod codec;
pub mod compare;
pub mod datetime;
pub mod datetime_fn;
pub mod datetime_parse;
pub mod datum;
pub mod env;
pub mod error;
pub mod extract;
pub mod from_char;
pub mod hlc;
pub mod ids;
pub mod interval;
pub mod interval_parse;
pub mod json;
pub mod jsonb;
pub mod jsonb_ops;
pub mod key;
pub mod locality;
pub mod maybe_ready;
pub mod numeric;
pub mod numeric_arith;
pub mod numeric_math;
pub mod numeric_order;
#[cfg(test)]
mod property_tests;
pub mod row;
pub mod sql_type;
mod stored;
pub mod text;
pub mod timezone;
pub mod to_char;
pub mod to_char_number;
pub mod type_name;

pub use array::Array;
pub use cast::{CastContext, can_cast, cast};
pub use datum::Datum;
pub use error::{Error, Result, SqlState};
pub use hlc::{Hlc, Timestamp};
pub use ids::StoreId;
pub use interval::Interval;
pub use jsonb::Jsonb;
pub use locality::Locality;
pub use maybe_ready::MaybeReady;
pub use numeric::Numeric;
pub use row::{RowLayout, RowView};
pub use sql_type::SqlType;
pub use text::{FormatContext, ObjectNames};
pub use timezone::TimeZone;

/// A row as the executors pass it: one datum per column, in column order.
pub type Row = Vec<Datum>;
