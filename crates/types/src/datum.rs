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

impl Datum {
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Datum::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// The value of any integer type.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Datum::Int2(v) => Some(i64::from(*v)),
            Datum::Int4(v) => Some(i64::from(*v)),
            Datum::Int8(v) => Some(*v),
            Datum::Oid(v) => Some(i64::from(*v)),
            _ => None,
        }
    }

    /// The text of any string type, and of `json`.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::Text(v) | Datum::Json(v) => Some(v),
            _ => None,
        }
    }

    /// Bytes the value takes in memory, roughly: for memory budgets.
    pub fn memory_size(&self) -> usize {
        let heap = match self {
            Datum::Text(v) | Datum::Json(v) => v.len(),
            Datum::Bytea(v) => v.len(),
            Datum::Jsonb(v) => v.memory_size(),
            Datum::Array(v) => v.elements.iter().map(Datum::memory_size).sum(),
            _ => 0,
        };
        size_of::<Datum>() + heap
    }
}

impl From<bool> for Datum {
    fn from(value: bool) -> Self {
        Datum::Bool(value)
    }
}

impl From<i32> for Datum {
    fn from(value: i32) -> Self {
        Datum::Int4(value)
    }
}

impl From<i64> for Datum {
    fn from(value: i64) -> Self {
        Datum::Int8(value)
    }
}

impl From<f64> for Datum {
    fn from(value: f64) -> Self {
        Datum::Float8(value)
    }
}

impl From<&str> for Datum {
    fn from(value: &str) -> Self {
        Datum::Text(value.into())
    }
}
