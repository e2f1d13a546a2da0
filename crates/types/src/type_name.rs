//! Reading type names as SQL spells them, with all of PostgreSQL's aliases.

use crate::numeric::MAX_PRECISION;
use crate::sql_type::MAX_CHARACTER_LENGTH;
use crate::{Error, Result, SqlState, SqlType};

/// The scale bounds of a `numeric(p, s)` declaration.
const NUMERIC_SCALE_RANGE: std::ops::RangeInclusive<i64> = -1000..=1000;
/// Digits after the second's point that all times carry.
const TIME_PRECISION: i64 = 6;

fn invalid_modifier(message: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

impl SqlType {
    /// The type called `name` (lower case, one or more words, no modifiers or brackets) with
    /// `modifiers`, the numbers in its parentheses. 42704 if there is none, 22023 for bad modifiers.
    pub fn from_name(name: &str, modifiers: &[i64]) -> Result<SqlType> {
        let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
        let base = match name {
            "bool" | "boolean" => SqlType::Bool,
            "int2" | "smallint" => SqlType::Int2,
            "int" | "int4" | "integer" => SqlType::Int4,
            "int8" | "bigint" => SqlType::Int8,
            "float4" | "real" => SqlType::Float4,
            "float8" | "double precision" => SqlType::Float8,
            "float" => return float_type(modifiers),
            "numeric" | "decimal" | "dec" => return numeric_type(modifiers),
            "text" => SqlType::Text,
            "varchar"
            | "character varying"
            | "char varying"
            | "nchar varying"
            | "national character varying"
            | "national char varying" => {
                return Ok(SqlType::Varchar(length(modifiers, "varchar")?));
            }
            "char" | "character" | "nchar" | "national character" | "national char" => {
                return Ok(SqlType::Char(length(modifiers, "char")?.unwrap_or(1)));
            }
            "bpchar" => return Ok(SqlType::Char(length(modifiers, "char")?.unwrap_or(0))),
            "\"char\"" => SqlType::InternalChar,
            "name" => SqlType::Name,
            "bytea" => SqlType::Bytea,
            "date" => SqlType::Date,
            "time" | "time without time zone" => return precise(SqlType::Time, modifiers),
            "timestamp" | "timestamp without time zone" => {
                return precise(SqlType::Timestamp, modifiers);
            }
            "timestamptz" | "timestamp with time zone" => {
                return precise(SqlType::TimestampTz, modifiers);
            }
            "interval" => return precise(SqlType::Interval, modifiers),
            "uuid" => SqlType::Uuid,
            "json" => SqlType::Json,
            "jsonb" => SqlType::Jsonb,
            "oid" => SqlType::Oid,
            "regclass" => SqlType::Regclass,
            "regtype" => SqlType::Regtype,
            "regproc" => SqlType::Regproc,
            "regnamespace" => SqlType::Regnamespace,
            "regrole" => SqlType::Regrole,
            "int2vector" => SqlType::Int2Vector,
            "oidvector" => SqlType::OidVector,
            "unknown" => SqlType::Unknown,
            "void" => SqlType::Void,
            "record" => SqlType::Record,
            "timetz" | "time with time zone" => {
                return Err(Error::unsupported("type time with time zone"));
            }
            "xml" | "money" | "bit" | "varbit" | "bit varying" | "inet" | "cidr" | "macaddr"
            | "macaddr8" | "point" | "line" | "lseg" | "box" | "path" | "polygon" | "circle"
            | "tsvector" | "tsquery" | "int4range" | "int8range" | "numrange" | "tsrange"
            | "tstzrange" | "daterange" | "jsonpath" | "pg_lsn" | "xid" | "xid8" | "cid"
            | "tid" => return Err(Error::unsupported(format!("type {name}"))),
            _ => {
                if let Some(element) = name.strip_prefix('_')
                    && let Ok(element) = SqlType::from_internal_name(element)
                {
                    return Ok(SqlType::array_of(element));
                }
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("type \"{}\" does not exist", name.trim_matches('"')),
                ));
            }
        };
        if modifiers.is_empty() {
            Ok(base)
        } else {
            Err(invalid_modifier(format!(
                "type modifier is not allowed for type \"{}\"",
                base.internal_name()
            )))
        }
    }

    /// The type with this `pg_type.typname`, where `char` is the one-byte type.
    pub fn from_internal_name(name: &str) -> Result<SqlType> {
        match name {
            "char" => Ok(SqlType::InternalChar),
            _ => SqlType::from_name(name, &[]),
        }
    }

    /// Parses a whole type as it is written in SQL: `varchar(10)`, `Timestamp With Time Zone`,
    /// `numeric(10, 2)[]`, `int array`.
    pub fn parse(text: &str) -> Result<SqlType> {
        let lower = text.trim().to_ascii_lowercase();
        let mut rest = lower.as_str();
        let mut is_array = false;
        while let Some(inner) = rest.strip_suffix(']') {
            let Some(open) = inner.rfind('[') else { break };
            rest = inner[..open].trim_end();
            is_array = true;
        }
        if let Some(inner) = rest.strip_suffix(" array") {
            rest = inner.trim_end();
            is_array = true;
        }
        let mut modifiers = Vec::new();
        let mut name = String::new();
        match rest.split_once('(') {
            None => name.push_str(rest),
            Some((before, after)) => {
                let (inside, tail) = after
                    .split_once(')')
                    .ok_or_else(|| Error::syntax(format!("syntax error at or near \"{text}\"")))?;
                for part in inside.split(',') {
                    modifiers.push(part.trim().parse::<i64>().map_err(|_| {
                        invalid_modifier(format!("invalid type modifier \"{}\"", part.trim()))
                    })?);
                }
                // `timestamp(6) with time zone` has its modifier in the middle.
                name.push_str(before.trim());
                if !tail.trim().is_empty() {
                    name.push(' ');
                    name.push_str(tail.trim());
                }
            }
        }
        let words: Vec<&str> = name.split_ascii_whitespace().collect();
        let found = SqlType::from_name(&words.join(" "), &modifiers)?;
        Ok(if is_array && !matches!(found, SqlType::Array(_)) {
            SqlType::array_of(found)
        } else {
            found
        })
    }
}

fn float_type(modifiers: &[i64]) -> Result<SqlType> {
    match modifiers {
        [] => Ok(SqlType::Float8),
        [p] if *p < 1 => Err(invalid_modifier(
            "precision for type float must be at least 1 bit".into(),
        )),
        [p] if *p <= 24 => Ok(SqlType::Float4),
        [p] if *p <= 53 => Ok(SqlType::Float8),
        _ => Err(invalid_modifier(
            "precision for type float must be less than 54 bits".into(),
        )),
    }
}

fn numeric_type(modifiers: &[i64]) -> Result<SqlType> {
    let (precision, scale) = match modifiers {
        [] => return Ok(SqlType::Numeric(None)),
        [p] => (*p, 0),
        [p, s] => (*p, *s),
        _ => return Err(invalid_modifier("invalid NUMERIC type modifier".into())),
    };
    if !(1..=i64::from(MAX_PRECISION)).contains(&precision) {
        return Err(invalid_modifier(format!(
            "NUMERIC precision {precision} must be between 1 and {MAX_PRECISION}"
        )));
    }
    if !NUMERIC_SCALE_RANGE.contains(&scale) {
        return Err(invalid_modifier(format!(
            "NUMERIC scale {scale} must be between {} and {}",
            NUMERIC_SCALE_RANGE.start(),
            NUMERIC_SCALE_RANGE.end()
        )));
    }
    Ok(SqlType::Numeric(Some((precision as u16, scale as i16))))
}

fn length(modifiers: &[i64], name: &str) -> Result<Option<u32>> {
    match modifiers {
        [] => Ok(None),
        [n] if *n < 1 => Err(invalid_modifier(format!(
            "length for type {name} must be at least 1"
        ))),
        [n] if *n <= i64::from(MAX_CHARACTER_LENGTH) => Ok(Some(*n as u32)),
        [_] => Err(invalid_modifier(format!(
            "length for type {name} cannot exceed {MAX_CHARACTER_LENGTH}"
        ))),
        _ => Err(invalid_modifier("invalid type modifier".into())),
    }
}

/// Times keep microseconds; a smaller precision would have to round, which is not there yet.
fn precise(base: SqlType, modifiers: &[i64]) -> Result<SqlType> {
    match modifiers {
        [] => Ok(base),
        [p] if *p >= TIME_PRECISION => Ok(base),
        _ => Err(Error::unsupported(format!(
            "type {} with a precision below {TIME_PRECISION}",
            base.internal_name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases() {
        let check = |text: &str, name: &str| {
            assert_eq!(
                SqlType::parse(text).map(|t| t.name()),
                Ok(name.to_string()),
                "{text}"
            );
        };
        check("int", "integer");
        check("INT8", "bigint");
        check("varchar(10)", "character varying(10)");
        check("Character  Varying", "character varying");
        check("char", "character(1)");
        check("bpchar", "bpchar");
        check("\"char\"", "\"char\"");
        check("decimal(10, 2)", "numeric(10,2)");
        check("numeric(5)", "numeric(5,0)");
        check("float(24)", "real");
        check("float", "double precision");
        check("timestamp(6) with time zone", "timestamp with time zone");
        check("timestamptz[]", "timestamp with time zone[]");
        check("_int4", "integer[]");
        check("integer[][]", "integer[]");
        check("int array", "integer[]");
        check("pg_catalog.int4", "integer");
    }

    #[test]
    fn refusals() {
        let state = |text: &str| SqlType::parse(text).map_err(|e| e.state);
        assert_eq!(state("nosuch"), Err(SqlState::UNDEFINED_OBJECT));
        assert_eq!(state("int(3)"), Err(SqlState::INVALID_PARAMETER_VALUE));
        assert_eq!(state("varchar(0)"), Err(SqlState::INVALID_PARAMETER_VALUE));
        assert_eq!(
            state("numeric(1001)"),
            Err(SqlState::INVALID_PARAMETER_VALUE)
        );
        assert_eq!(state("money"), Err(SqlState::FEATURE_NOT_SUPPORTED));
        assert_eq!(state("timestamp(3)"), Err(SqlState::FEATURE_NOT_SUPPORTED));
    }

    #[test]
    fn oids_and_typmods_return() {
        for base in &crate::sql_type::BASE_TYPES {
            assert_eq!(SqlType::from_oid(base.oid()).as_ref(), Some(base));
            let array = SqlType::array_of(base.clone());
            if array.oid() != 0 {
                assert_eq!(SqlType::from_oid(array.oid()), Some(array));
            }
        }
        for t in [
            SqlType::Varchar(Some(10)),
            SqlType::Char(3),
            SqlType::Numeric(Some((10, 2))),
            SqlType::Numeric(Some((3, -2))),
        ] {
            assert_eq!(SqlType::from_oid_typmod(t.oid(), t.typmod()), Some(t));
        }
        assert_eq!(SqlType::Numeric(Some((10, 2))).typmod(), 655_366);
    }
}
