//! Between SQL values and Arrow.
//!
//! | SQL | Arrow |
//! | --- | --- |
//! | bool, int2/4/8, float4/8 | Boolean, Int16/32/64, Float32/64 |
//! | numeric(p ≤ 38, s) | Decimal128(p, s) |
//! | numeric, numeric(p > 38, s) | Decimal256(76, 38), or Decimal256(p, s) |
//! | text, varchar, char, name, "char" | Utf8 |
//! | bytea | Binary |
//! | date, time, timestamp, timestamptz | Date32, Time64(µs), Timestamp(µs), Timestamp(µs, UTC) |
//! | interval | Interval(MonthDayNano) |
//! | uuid | FixedSizeBinary(16) |
//! | json | LargeUtf8 |
//! | jsonb | LargeBinary, the stored canonical form |
//! | oid, reg* | UInt32 |
//! | T[] | List(T) |
//! | unknown | Utf8; bare NULL is Null |
//!
//! The Arrow type alone tells the SQL type up to its modifier; field metadata [`TYPE_KEY`] keeps the
//! modifier and the distinctions that Arrow lacks (varchar(n), name, regclass …) for columns that
//! come straight from a table.

/// Field metadata key whose value is the [`types::SqlType`] as JSON.
pub const TYPE_KEY: &str = "phantom.type";
