//! A SQL value.

use crate::numeric::Numeric;
use crate::{Interval, Jsonb};
use bytes::Bytes;
use std::sync::Arc;

/// One SQL value in memory. Comparison and hashing follow SQL *within* a type; see
/// [`Datum::compare`]. Instants use the Unix epoch, as Arrow does, so scans need no conversion.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    /// `oid` and the `reg*` types.
    Oid(u32),
    Float4(f32),
    Float8(f64),
    Numeric(Numeric),
    /// `text`, `varchar`, `char(n)` (padded), `name`, `"char"`.
    Text(Arc<str>),
    Bytea(Bytes),
    /// Days since 1970-01-01; `i32::MAX`/`MIN` are ±infinity.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00, no zone; `i64::MAX`/`MIN` are ±infinity.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00:00 UTC; `i64::MAX`/`MIN` are ±infinity.
    TimestampTz(i64),
    Interval(Interval),
    Uuid([u8; 16]),
    /// The text as the client wrote it.
    Json(Arc<str>),
    Jsonb(Jsonb),
    Array(Arc<crate::Array>),
}
