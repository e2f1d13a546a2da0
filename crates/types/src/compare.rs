//! The order of SQL values: what `ORDER BY`, b-tree keys and `DISTINCT` see.
//!
//! NaN is equal to itself and above all other numbers, -0 equals 0, text is ordered by its bytes
//! (collation C), NULL is above everything. Numbers of different types compare as PostgreSQL's
//! implicit casts would have it: through `float8` if one is a float, else exactly.

use crate::{Array, Datum, Numeric, SqlType};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// Total order of floats with NaN above infinity.
pub fn compare_f64(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// A datum seen as a number.
enum Number<'a> {
    Int(i64),
    Float(f64),
    Numeric(&'a Numeric),
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    fn as_number(&self) -> Option<Number<'_>> {
        Some(match self {
            Datum::Int2(v) => Number::Int(i64::from(*v)),
            Datum::Int4(v) => Number::Int(i64::from(*v)),
            Datum::Int8(v) => Number::Int(*v),
            Datum::Oid(v) => Number::Int(i64::from(*v)),
            Datum::Float4(v) => Number::Float(f64::from(*v)),
            Datum::Float8(v) => Number::Float(*v),
            Datum::Numeric(v) => Number::Numeric(v),
            _ => return None,
        })
    }

    /// SQL order. Values of types that have no common order are ordered by type, so that the order
    /// stays total.
    pub fn compare(&self, other: &Datum) -> Ordering {
        match (self, other) {
            (Datum::Int4(a), Datum::Int4(b)) => a.cmp(b),
            (Datum::Int8(a), Datum::Int8(b)) => a.cmp(b),
            (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Datum::Null, Datum::Null) => Ordering::Equal,
            (Datum::Null, _) => Ordering::Greater,
            (_, Datum::Null) => Ordering::Less,
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
            (Datum::Bytea(a), Datum::Bytea(b)) => a.cmp(b),
            (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
            (Datum::Time(a), Datum::Time(b)) => a.cmp(b),
            (Datum::Timestamp(a), Datum::Timestamp(b)) => a.cmp(b),
            (Datum::TimestampTz(a), Datum::TimestampTz(b)) => a.cmp(b),
            (Datum::Date(a), Datum::Timestamp(b)) => {
                crate::datetime::compare_date_timestamp(*a, *b)
            }
            (Datum::Timestamp(a), Datum::Date(b)) => {
                crate::datetime::compare_date_timestamp(*b, *a).reverse()
            }
            (Datum::Interval(a), Datum::Interval(b)) => a.cmp(b),
            (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
            (Datum::Json(a), Datum::Json(b)) => a.cmp(b),
            (Datum::Jsonb(a), Datum::Jsonb(b)) => a.cmp(b),
            (Datum::Array(a), Datum::Array(b)) => a.compare(b),
            _ => match (self.as_number(), other.as_number()) {
                (Some(a), Some(b)) => compare_numbers(a, b),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }

    /// As [`Datum::compare`], where the type says more than the value: `char(n)` ignores trailing
    /// blanks.
    pub fn compare_typed(&self, other: &Datum, sql_type: &SqlType) -> Ordering {
        if let (SqlType::Char(_), Datum::Text(a), Datum::Text(b)) = (sql_type, self, other) {
            return a
                .trim_end_matches(' ')
                .as_bytes()
                .cmp(b.trim_end_matches(' ').as_bytes());
        }
        self.compare(other)
    }

    /// Equality of two non-null values in the sense of [`Datum::compare`].
    pub fn sql_eq(&self, other: &Datum) -> bool {
        self.compare(other) == Ordering::Equal
    }

    /// Feeds a hash that agrees with [`Datum::compare`] among values of one type and among the
    /// integer types.
    pub fn hash_into<H: Hasher>(&self, state: &mut H) {
        match self {
            Datum::Null => 0u8.hash(state),
            Datum::Bool(v) => v.hash(state),
            Datum::Int2(v) => i64::from(*v).hash(state),
            Datum::Int4(v) => i64::from(*v).hash(state),
            Datum::Int8(v) => v.hash(state),
            Datum::Oid(v) => i64::from(*v).hash(state),
            Datum::Float4(v) => hash_f64(f64::from(*v), state),
            Datum::Float8(v) => hash_f64(*v, state),
            Datum::Numeric(v) => v.hash(state),
            Datum::Text(v) | Datum::Json(v) => v.hash(state),
            Datum::Bytea(v) => v.hash(state),
            Datum::Date(v) => v.hash(state),
            Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => v.hash(state),
            Datum::Interval(v) => v.hash(state),
            Datum::Uuid(v) => v.hash(state),
            Datum::Jsonb(v) => v.hash(state),
            Datum::Array(v) => {
                v.elements.len().hash(state);
                for element in &v.elements {
                    element.hash_into(state);
                }
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Datum::Bool(_) => 0,
            Datum::Int2(_)
            | Datum::Int4(_)
            | Datum::Int8(_)
            | Datum::Oid(_)
            | Datum::Float4(_)
            | Datum::Float8(_)
            | Datum::Numeric(_) => 1,
            Datum::Text(_) => 2,
            Datum::Bytea(_) => 3,
            Datum::Date(_) | Datum::Timestamp(_) => 4,
            Datum::Time(_) => 5,
            Datum::TimestampTz(_) => 6,
            Datum::Interval(_) => 7,
            Datum::Uuid(_) => 8,
            Datum::Json(_) => 9,
            Datum::Jsonb(_) => 10,
            Datum::Array(_) => 11,
            Datum::Null => 12,
        }
    }
}

fn hash_f64<H: Hasher>(value: f64, state: &mut H) {
    let canonical = if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    };
    canonical.to_bits().hash(state);
}

fn compare_numbers(a: Number<'_>, b: Number<'_>) -> Ordering {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a.cmp(&b),
        (Number::Float(a), Number::Float(b)) => compare_f64(a, b),
        (Number::Numeric(a), Number::Numeric(b)) => a.cmp(b),
        (Number::Int(a), Number::Numeric(b)) => Numeric::from(a).cmp(b),
        (Number::Numeric(a), Number::Int(b)) => a.cmp(&Numeric::from(b)),
        (Number::Int(a), Number::Float(b)) => compare_f64(a as f64, b),
        (Number::Float(a), Number::Int(b)) => compare_f64(a, b as f64),
        (Number::Float(a), Number::Numeric(b)) => compare_f64(a, b.to_f64()),
        (Number::Numeric(a), Number::Float(b)) => compare_f64(a.to_f64(), b),
    }
}

impl Array {
    /// PostgreSQL's array order: elements first, then how many, then the shape.
    pub fn compare(&self, other: &Array) -> Ordering {
        for (a, b) in self.elements.iter().zip(&other.elements) {
            match a.compare(b) {
                Ordering::Equal => {}
                decided => return decided,
            }
        }
        self.elements
            .len()
            .cmp(&other.elements.len())
            .then_with(|| self.dims.len().cmp(&other.dims.len()))
            .then_with(|| {
                let lens = |a: &Array| a.dims.iter().map(|d| d.len).collect::<Vec<_>>();
                lens(self).cmp(&lens(other))
            })
            .then_with(|| {
                let bounds = |a: &Array| a.dims.iter().map(|d| d.lower_bound).collect::<Vec<_>>();
                bounds(self).cmp(&bounds(other))
            })
    }
}

/// A datum as a key of maps and sets: equality and hash are SQL's within a type.
#[derive(Clone, Debug)]
pub struct DatumKey(pub Datum);

impl PartialEq for DatumKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.sql_eq(&other.0)
    }
}

impl Eq for DatumKey {}

impl Hash for DatumKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash_into(state);
    }
}

impl Ord for DatumKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(&other.0)
    }
}

impl PartialOrd for DatumKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
