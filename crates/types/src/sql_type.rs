//! SQL types and their PostgreSQL object ids.

use serde::{Deserialize, Serialize};
use std::fmt;

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

/// What `pg_type` says about one base type.
struct Facts {
    oid: u32,
    array_oid: u32,
    /// `pg_type.typname`.
    name: &'static str,
    /// What `format_type` prints.
    display: &'static str,
    len: i16,
    category: char,
    preferred: bool,
}

const fn facts(
    oid: u32,
    array_oid: u32,
    name: &'static str,
    display: &'static str,
    len: i16,
    category: char,
    preferred: bool,
) -> Facts {
    Facts {
        oid,
        array_oid,
        name,
        display,
        len,
        category,
        preferred,
    }
}

/// All types that are not arrays, with no modifier.
pub const BASE_TYPES: [SqlType; 32] = [
    SqlType::Bool,
    SqlType::Int2,
    SqlType::Int4,
    SqlType::Int8,
    SqlType::Float4,
    SqlType::Float8,
    SqlType::Numeric(None),
    SqlType::Text,
    SqlType::Varchar(None),
    SqlType::BPCHAR,
    SqlType::Name,
    SqlType::InternalChar,
    SqlType::Bytea,
    SqlType::Date,
    SqlType::Time,
    SqlType::Timestamp,
    SqlType::TimestampTz,
    SqlType::Interval,
    SqlType::Uuid,
    SqlType::Json,
    SqlType::Jsonb,
    SqlType::Oid,
    SqlType::Regclass,
    SqlType::Regtype,
    SqlType::Regproc,
    SqlType::Regnamespace,
    SqlType::Regrole,
    SqlType::Int2Vector,
    SqlType::OidVector,
    SqlType::Unknown,
    SqlType::Void,
    SqlType::Record,
];

/// The longest `varchar(n)` or `char(n)` that may be declared, in characters.
pub const MAX_CHARACTER_LENGTH: u32 = 10_485_760;
/// What PostgreSQL adds to a length to make a type modifier of it.
const TYPMOD_HEADER: i32 = 4;

impl SqlType {
    /// `bpchar`: blank-padded text of no declared length.
    pub const BPCHAR: SqlType = SqlType::Char(0);

    fn facts(&self) -> Facts {
        match self {
            SqlType::Bool => facts(16, 1000, "bool", "boolean", 1, 'B', true),
            SqlType::Int2 => facts(21, 1005, "int2", "smallint", 2, 'N', false),
            SqlType::Int4 => facts(23, 1007, "int4", "integer", 4, 'N', false),
            SqlType::Int8 => facts(20, 1016, "int8", "bigint", 8, 'N', false),
            SqlType::Float4 => facts(700, 1021, "float4", "real", 4, 'N', false),
            SqlType::Float8 => facts(701, 1022, "float8", "double precision", 8, 'N', true),
            SqlType::Numeric(_) => facts(1700, 1231, "numeric", "numeric", -1, 'N', false),
            SqlType::Text => facts(25, 1009, "text", "text", -1, 'S', true),
            SqlType::Varchar(_) => {
                facts(1043, 1015, "varchar", "character varying", -1, 'S', false)
            }
            SqlType::Char(_) => facts(1042, 1014, "bpchar", "character", -1, 'S', false),
            SqlType::Name => facts(19, 1003, "name", "name", 64, 'S', false),
            SqlType::InternalChar => facts(18, 1002, "char", "\"char\"", 1, 'Z', false),
            SqlType::Bytea => facts(17, 1001, "bytea", "bytea", -1, 'U', false),
            SqlType::Date => facts(1082, 1182, "date", "date", 4, 'D', false),
            SqlType::Time => facts(1083, 1183, "time", "time without time zone", 8, 'D', false),
            SqlType::Timestamp => facts(
                1114,
                1115,
                "timestamp",
                "timestamp without time zone",
                8,
                'D',
                false,
            ),
            SqlType::TimestampTz => facts(
                1184,
                1185,
                "timestamptz",
                "timestamp with time zone",
                8,
                'D',
                true,
            ),
            SqlType::Interval => facts(1186, 1187, "interval", "interval", 16, 'T', true),
            SqlType::Uuid => facts(2950, 2951, "uuid", "uuid", 16, 'U', false),
            SqlType::Json => facts(114, 199, "json", "json", -1, 'U', false),
            SqlType::Jsonb => facts(3802, 3807, "jsonb", "jsonb", -1, 'U', false),
            SqlType::Oid => facts(26, 1028, "oid", "oid", 4, 'N', true),
            SqlType::Regclass => facts(2205, 2210, "regclass", "regclass", 4, 'N', false),
            SqlType::Regtype => facts(2206, 2211, "regtype", "regtype", 4, 'N', false),
            SqlType::Regproc => facts(24, 1008, "regproc", "regproc", 4, 'N', false),
            SqlType::Regnamespace => {
                facts(4089, 4090, "regnamespace", "regnamespace", 4, 'N', false)
            }
            SqlType::Regrole => facts(4096, 4097, "regrole", "regrole", 4, 'N', false),
            SqlType::Int2Vector => facts(22, 1006, "int2vector", "int2vector", -1, 'A', false),
            SqlType::OidVector => facts(30, 1013, "oidvector", "oidvector", -1, 'A', false),
            SqlType::Unknown => facts(705, 0, "unknown", "unknown", -2, 'X', false),
            SqlType::Void => facts(2278, 0, "void", "void", 4, 'P', false),
            SqlType::Record => facts(2249, 2287, "record", "record", -1, 'P', false),
            SqlType::Array(element) => {
                let inner = element.facts();
                Facts {
                    oid: inner.array_oid,
                    array_oid: inner.array_oid,
                    len: -1,
                    category: 'A',
                    preferred: false,
                    ..inner
                }
            }
        }
    }

    pub fn array_of(element: SqlType) -> SqlType {
        SqlType::Array(Box::new(element))
    }

    /// The type's object id in `pg_type`.
    pub fn oid(&self) -> u32 {
        self.facts().oid
    }

    /// The object id of the array over this type; 0 if there is none.
    pub fn array_oid(&self) -> u32 {
        self.facts().array_oid
    }

    /// The type with this object id, with no modifier.
    pub fn from_oid(oid: u32) -> Option<SqlType> {
        SqlType::from_oid_typmod(oid, -1)
    }

    /// The type with this object id and type modifier (-1: none).
    pub fn from_oid_typmod(oid: u32, typmod: i32) -> Option<SqlType> {
        if oid == 0 {
            return None;
        }
        for base in &BASE_TYPES {
            let facts = base.facts();
            if facts.oid == oid {
                return Some(base.clone().with_typmod(typmod));
            }
            if facts.array_oid == oid {
                return Some(SqlType::array_of(base.clone().with_typmod(typmod)));
            }
        }
        None
    }

    /// The type with the modifier that PostgreSQL writes as `typmod`.
    pub fn with_typmod(self, typmod: i32) -> SqlType {
        let bare = typmod - TYPMOD_HEADER;
        match self {
            SqlType::Varchar(_) => SqlType::Varchar(u32::try_from(bare).ok()),
            SqlType::Char(_) => SqlType::Char(u32::try_from(bare).unwrap_or(0)),
            SqlType::Numeric(_) if bare < 0 => SqlType::Numeric(None),
            SqlType::Numeric(_) => {
                // The scale is an 11-bit two's complement number.
                let scale = (((bare & 0x7ff) ^ 1024) - 1024) as i16;
                SqlType::Numeric(Some(((bare >> 16) as u16, scale)))
            }
            SqlType::Array(element) => SqlType::array_of(element.with_typmod(typmod)),
            other => other,
        }
    }

    /// PostgreSQL's type modifier; -1 if the type has none.
    pub fn typmod(&self) -> i32 {
        match self {
            SqlType::Varchar(Some(n)) => *n as i32 + TYPMOD_HEADER,
            SqlType::Char(n) if *n > 0 => *n as i32 + TYPMOD_HEADER,
            SqlType::Numeric(Some((precision, scale))) => {
                ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + TYPMOD_HEADER
            }
            SqlType::Array(element) => element.typmod(),
            _ => -1,
        }
    }

    /// The same type with no modifier.
    pub fn without_typmod(&self) -> SqlType {
        self.clone().with_typmod(-1)
    }

    /// What `format_type` prints: `integer`, `character varying(10)`, `integer[]`.
    pub fn name(&self) -> String {
        match self {
            SqlType::Varchar(Some(n)) => format!("character varying({n})"),
            SqlType::Char(0) => "bpchar".into(),
            SqlType::Char(n) => format!("character({n})"),
            SqlType::Numeric(Some((precision, scale))) => format!("numeric({precision},{scale})"),
            SqlType::Array(element) => format!("{}[]", element.name()),
            other => other.facts().display.into(),
        }
    }

    /// What PostgreSQL prints in error messages, where modifiers are left out.
    pub fn bare_name(&self) -> String {
        match self {
            SqlType::Array(element) => format!("{}[]", element.bare_name()),
            other => other.facts().display.into(),
        }
    }

    /// `pg_type.typname`: `int4`, `_int4`.
    pub fn internal_name(&self) -> String {
        match self {
            SqlType::Array(element) => format!("_{}", element.internal_name()),
            other => other.facts().name.into(),
        }
    }

    /// `pg_type.typlen`: bytes, -1 for variable, -2 for a C string.
    pub fn typlen(&self) -> i16 {
        self.facts().len
    }

    /// `pg_type.typcategory`.
    pub fn category(&self) -> char {
        self.facts().category
    }

    /// `pg_type.typispreferred`.
    pub fn is_preferred(&self) -> bool {
        self.facts().preferred
    }

    /// A type of numbers that can be computed with.
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || self.is_float() || matches!(self, SqlType::Numeric(_))
    }

    pub fn is_integer(&self) -> bool {
        matches!(self, SqlType::Int2 | SqlType::Int4 | SqlType::Int8)
    }

    pub fn is_float(&self) -> bool {
        matches!(self, SqlType::Float4 | SqlType::Float8)
    }

    /// A type whose values are `Datum::Text`.
    pub fn is_string(&self) -> bool {
        matches!(
            self,
            SqlType::Text
                | SqlType::Varchar(_)
                | SqlType::Char(_)
                | SqlType::Name
                | SqlType::InternalChar
                | SqlType::Unknown
        )
    }

    /// A type whose values are `Datum::Oid`.
    pub fn is_oid(&self) -> bool {
        matches!(
            self,
            SqlType::Oid
                | SqlType::Regclass
                | SqlType::Regtype
                | SqlType::Regproc
                | SqlType::Regnamespace
                | SqlType::Regrole
        )
    }

    pub fn is_datetime(&self) -> bool {
        matches!(
            self,
            SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::TimestampTz
        )
    }

    pub fn is_array(&self) -> bool {
        matches!(
            self,
            SqlType::Array(_) | SqlType::Int2Vector | SqlType::OidVector
        )
    }

    /// The element type of an array.
    pub fn element_type(&self) -> Option<SqlType> {
        match self {
            SqlType::Array(element) => Some((**element).clone()),
            SqlType::Int2Vector => Some(SqlType::Int2),
            SqlType::OidVector => Some(SqlType::Oid),
            _ => None,
        }
    }

    /// The same type apart from modifiers.
    pub fn same_base(&self, other: &SqlType) -> bool {
        self.oid() == other.oid()
    }

    /// Whether values of the type can be ordered (`json` and `record` cannot).
    pub fn is_orderable(&self) -> bool {
        match self {
            SqlType::Json | SqlType::Void | SqlType::Record => false,
            SqlType::Array(element) => element.is_orderable(),
            _ => true,
        }
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
