//! SQL types and their PostgreSQL object ids.

use serde::{Deserialize, Serialize};

/// A column's or expression's type with its modifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SqlType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// `numeric` or `numeric(precision, scale)`.
    Numeric(Option<(u16, i16)>),
    Text,
    /// `varchar` or `varchar(n)`; n in characters.
    Varchar(Option<u32>),
    /// `char(n)`, blank-padded; n in characters.
    Char(u32),
    /// PostgreSQL's 63-byte identifier type, used by catalogs.
    Name,
    /// PostgreSQL's one-byte `"char"`, used by catalogs.
    InternalChar,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    Oid,
    Regclass,
    Regtype,
    Regproc,
    Regnamespace,
    Regrole,
    /// Vectors of catalog columns, such as `pg_index.indkey`: one-dimensional, zero-based arrays.
    Int2Vector,
    OidVector,
    /// A literal whose type the context decides.
    Unknown,
    Void,
    Record,
    Array(Box<SqlType>),
}
