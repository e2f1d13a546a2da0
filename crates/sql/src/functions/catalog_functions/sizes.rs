//! Sizes in bytes.

use super::*;

pub(super) fn sizes(to: &mut Register<'_>) {
    for name in [
        "pg_relation_size",
        "pg_total_relation_size",
        "pg_table_size",
        "pg_indexes_size",
    ] {
        to.add(name, &[Regclass], Int8, |_, _| Ok(Datum::Null));
    }
    to.add("pg_relation_size", &[Regclass, Text], Int8, |_, _| {
        Ok(Datum::Null)
    });
    for name in ["pg_database_size", "pg_tablespace_size"] {
        to.add(name, &[Name], Int8, |_, _| Ok(Datum::Null));
        to.add(name, &[Oid], Int8, |_, _| Ok(Datum::Null));
    }
    to.immutable("pg_size_pretty", &[Int8], Text, |_, args| match &args[0] {
        Datum::Int8(bytes) => Ok(text(&size_pretty(*bytes))),
        _ => Err(bad_call("pg_size_pretty")),
    });
    to.immutable(
        "pg_size_pretty",
        &[SqlType::Numeric(None)],
        Text,
        |_, args| match &args[0] {
            Datum::Numeric(bytes) => {
                let bytes = Numeric::to_i64(&bytes.trunc(0)).ok_or_else(|| {
                    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range")
                })?;
                Ok(text(&size_pretty(bytes)))
            }
            _ => Err(bad_call("pg_size_pretty")),
        },
    );
}

/// Units grow by 1024 once ten of them are there; halves round up (PostgreSQL's rule).
pub(super) fn size_pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let limit: u64 = 10 * 1024;
    let negative = bytes < 0;
    let mut size = bytes.unsigned_abs();
    let sign = if negative { "-" } else { "" };
    if size < limit {
        return format!("{sign}{size} bytes");
    }
    // One bit more than the unit, so that the last step can round.
    size >>= 9;
    for (at, unit) in UNITS.iter().enumerate().skip(1) {
        if size < 2 * limit - 1 || at + 1 == UNITS.len() {
            return format!("{sign}{} {unit}", size.div_ceil(2));
        }
        size >>= 10;
    }
    format!("{sign}{size}")
}
