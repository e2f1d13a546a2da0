//! Datums of catalog columns.

use smallvec::smallvec;
use std::sync::Arc;
use types::array::ArrayDim;
use types::{Array, Datum, SqlType};

pub fn text(value: &str) -> Datum {
    Datum::Text(value.into())
}

pub fn optional_text(value: Option<&str>) -> Datum {
    value.map_or(Datum::Null, text)
}

pub fn character(value: char) -> Datum {
    let mut bytes = [0; 4];
    Datum::Text((&*value.encode_utf8(&mut bytes)).into())
}

pub fn bool(value: bool) -> Datum {
    Datum::Bool(value)
}

pub fn oid(value: u32) -> Datum {
    Datum::Oid(value)
}

/// A count or position; those of the catalog are far below the limit.
pub fn int2(value: usize) -> Datum {
    Datum::Int2(i16::try_from(value).unwrap_or(i16::MAX))
}

pub fn int4(value: usize) -> Datum {
    Datum::Int4(i32::try_from(value).unwrap_or(i32::MAX))
}

pub fn array(element: SqlType, values: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(Array::from_elements(element, values)))
}

pub fn int2_array(values: impl Iterator<Item = i16>) -> Datum {
    array(SqlType::Int2, values.map(Datum::Int2).collect())
}

/// Vectors count from zero.
fn vector(element: SqlType, elements: Vec<Datum>) -> Datum {
    let len = i32::try_from(elements.len()).unwrap_or(i32::MAX);
    Datum::Array(Arc::new(Array {
        element_type: element,
        dims: if elements.is_empty() {
            smallvec![]
        } else {
            smallvec![ArrayDim {
                len,
                lower_bound: 0
            }]
        },
        elements,
    }))
}

pub fn int2_vector(values: Vec<i16>) -> Datum {
    vector(SqlType::Int2, values.into_iter().map(Datum::Int2).collect())
}

pub fn oid_vector(values: Vec<u32>) -> Datum {
    vector(SqlType::Oid, values.into_iter().map(Datum::Oid).collect())
}
