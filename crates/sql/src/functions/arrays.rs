//! Functions of arrays. Their rules are in [`types::array`] and [`super::operators`].

use super::define::*;
use super::operators::{append, concatenate, prepend, type_of_datum};
use super::{Registry, Volatility};
use std::sync::Arc;
use types::array::ArrayDim;
use types::{Array, Datum, Error, Result, SqlState};

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Immutable);
    shapes(&mut d);
    joining(&mut d);
    searching(&mut d);
    filling(&mut d);
    let mut d = Definitions::new(registry, Volatility::Volatile);
    sampling(&mut d);
}

fn optional(value: Option<i32>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, Datum::Int4))
}

fn shapes(d: &mut Definitions<'_>) {
    d.strict("array_length(anyarray, int4) int4", |_, args| {
        optional(array(args, 0)?.length(int4(args, 1)?))
    });
    d.strict("array_lower(anyarray, int4) int4", |_, args| {
        optional(array(args, 0)?.lower(int4(args, 1)?))
    });
    d.strict("array_upper(anyarray, int4) int4", |_, args| {
        optional(array(args, 0)?.upper(int4(args, 1)?))
    });
    d.strict("array_ndims(anyarray) int4", |_, args| {
        let count = array(args, 0)?.dims.len() as i32;
        optional((count > 0).then_some(count))
    });
    d.strict("array_dims(anyarray) text", |_, args| {
        let shown = array(args, 0)?.dims_text();
        Ok(shown.map_or(Datum::Null, |shown| Datum::Text(shown.into())))
    });
    d.strict("cardinality(anyarray) int4", |_, args| {
        Ok(Datum::Int4(array(args, 0)?.elements.len() as i32))
    });
    d.strict("trim_array(anyarray, int4) anyarray", |_, args| {
        let (array, n) = (array(args, 0)?, int4(args, 1)?);
        let len = array.dims.first().map_or(0, |dim| dim.len);
        if !(0..=len).contains(&n) {
            return Err(Error::new(
                SqlState::ARRAY_SUBSCRIPT_ERROR,
                format!("number of elements to trim must be between 0 and {len}"),
            ));
        }
        let Some(dim) = array.dims.first() else {
            return Ok(Datum::Array(array));
        };
        let upper = dim.lower_bound + len - n - 1;
        Ok(Datum::Array(Arc::new(array.slice(&[(None, Some(upper))]))))
    });
}

/// An array of one element.
fn single(element: &Datum) -> Datum {
    Datum::Array(Arc::new(Array::from_elements(
        type_of_datum(element),
        vec![element.clone()],
    )))
}

fn joining(d: &mut Definitions<'_>) {
    d.nullable(
        "array_append(anyarray, anyelement) anyarray",
        |_, args| match args {
            [Datum::Array(array), element] => append(array, element).map(Datum::Array),
            [_, element] => Ok(single(element)),
            _ => Ok(Datum::Null),
        },
    );
    d.nullable(
        "array_prepend(anyelement, anyarray) anyarray",
        |_, args| match args {
            [element, Datum::Array(array)] => prepend(element, array).map(Datum::Array),
            [element, _] => Ok(single(element)),
            _ => Ok(Datum::Null),
        },
    );
    d.nullable(
        "array_cat(anyarray, anyarray) anyarray",
        |_, args| match args {
            [Datum::Null, other] | [other, Datum::Null] => Ok(other.clone()),
            [Datum::Array(a), Datum::Array(b)] => concatenate(a, b).map(Datum::Array),
            _ => Ok(Datum::Null),
        },
    );
}

/// IS NOT DISTINCT FROM.
fn same(a: &Datum, b: &Datum) -> bool {
    match (a.is_null(), b.is_null()) {
        (true, true) => true,
        (false, false) => a.sql_eq(b),
        _ => false,
    }
}

fn only_one_dimension(array: &Array, what: &str) -> Result<()> {
    if array.dims.len() > 1 {
        return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, what));
    }
    Ok(())
}

/// Subscripts of the elements that equal `wanted`, from `start` on.
fn places(array: &Array, wanted: &Datum, start: Option<i32>) -> Result<Vec<i32>> {
    only_one_dimension(
        array,
        "searching for elements in multidimensional arrays is not supported",
    )?;
    let lower = array.dims.first().map_or(1, |dim| dim.lower_bound);
    Ok((lower..)
        .zip(&array.elements)
        .filter(|(at, element)| start.is_none_or(|start| *at >= start) && same(element, wanted))
        .map(|(at, _)| at)
        .collect())
}

fn searching(d: &mut Definitions<'_>) {
    d.nullable(
        "array_position(anyarray, anyelement) int4",
        |_, args| match args {
            [Datum::Array(array), wanted] => {
                optional(places(array, wanted, None)?.first().copied())
            }
            _ => Ok(Datum::Null),
        },
    );
    d.nullable(
        "array_position(anyarray, anyelement, int4) int4",
        |_, args| match args {
            [_, _, Datum::Null] => Err(Error::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "initial position must not be null",
            )),
            [Datum::Array(array), wanted, Datum::Int4(start)] => {
                optional(places(array, wanted, Some(*start))?.first().copied())
            }
            _ => Ok(Datum::Null),
        },
    );
    d.nullable(
        "array_positions(anyarray, anyelement) int4[]",
        |_, args| match args {
            [Datum::Array(array), wanted] => {
                let found = places(array, wanted, None)?;
                let elements = found.into_iter().map(Datum::Int4).collect();
                Ok(Datum::Array(Arc::new(Array::from_elements(
                    types::SqlType::Int4,
                    elements,
                ))))
            }
            _ => Ok(Datum::Null),
        },
    );
    d.nullable(
        "array_remove(anyarray, anyelement) anyarray",
        |_, args| match args {
            [Datum::Array(array), unwanted] => {
                only_one_dimension(
                    array,
                    "removing elements from multidimensional arrays is not supported",
                )?;
                let kept: Vec<Datum> = array
                    .elements
                    .iter()
                    .filter(|element| !same(element, unwanted))
                    .cloned()
                    .collect();
                let mut result = Array::from_elements(array.element_type.clone(), kept);
                if let (Some(new), Some(old)) = (result.dims.first_mut(), array.dims.first()) {
                    new.lower_bound = old.lower_bound;
                }
                Ok(Datum::Array(Arc::new(result)))
            }
            _ => Ok(Datum::Null),
        },
    );
    d.nullable(
        "array_replace(anyarray, anyelement, anyelement) anyarray",
        |_, args| match args {
            [Datum::Array(array), from, to] => {
                let mut result = Array::clone(array);
                for element in &mut result.elements {
                    if same(element, from) {
                        *element = to.clone();
                    }
                }
                Ok(Datum::Array(Arc::new(result)))
            }
            _ => Ok(Datum::Null),
        },
    );
}

fn filling(d: &mut Definitions<'_>) {
    for signature in [
        "array_fill(anyelement, int4[]) anyarray",
        "array_fill(anyelement, int4[], int4[]) anyarray",
    ] {
        d.nullable(signature, |_, args| fill(args));
    }
}

fn bounds(array: &Array) -> Result<Vec<i32>> {
    if array.dims.len() > 1 {
        return Err(Error::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            "wrong number of array subscripts",
        ));
    }
    array
        .elements
        .iter()
        .map(|element| match element {
            Datum::Int4(value) => Ok(*value),
            _ => Err(Error::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "dimension values cannot be null",
            )),
        })
        .collect()
}

fn fill(args: &[Datum]) -> Result<Datum> {
    let (Some(value), Some(Datum::Array(lens))) = (args.first(), args.get(1)) else {
        return Err(Error::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "dimension array or low bound array cannot be null",
        ));
    };
    let lens = bounds(lens)?;
    let lowers = match args.get(2) {
        None => vec![1; lens.len()],
        Some(Datum::Array(lowers)) => bounds(lowers)?,
        Some(_) => {
            return Err(Error::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "dimension array or low bound array cannot be null",
            ));
        }
    };
    if lens.len() != lowers.len() {
        return Err(Error::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            "wrong number of array subscripts",
        ));
    }
    let mut count: usize = 1;
    for len in &lens {
        let len = usize::try_from(*len).unwrap_or(usize::MAX);
        count = count.saturating_mul(len);
    }
    if lens.is_empty() {
        count = 0;
    }
    if count > types::array::MAX_ELEMENTS {
        return Err(Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!(
                "array size exceeds the maximum allowed ({})",
                types::array::MAX_ELEMENTS
            ),
        ));
    }
    let dims = lens
        .into_iter()
        .zip(lowers)
        .map(|(len, lower_bound)| ArrayDim { len, lower_bound })
        .collect();
    let elements = vec![value.clone(); count];
    Ok(Datum::Array(Arc::new(Array::with_dims(
        type_of_datum(value),
        dims,
        elements,
    )?)))
}

fn sampling(d: &mut Definitions<'_>) {
    d.strict("array_shuffle(anyarray) anyarray", |context, args| {
        let array = array(args, 0)?;
        only_one_dimension(&array, "shuffling multidimensional arrays is not supported")?;
        let mut result = Array::clone(&array);
        for last in (1..result.elements.len()).rev() {
            let span = last as u128 + 1;
            let other = (u128::from(context.env.rng.next_u64()) * span) >> u64::BITS;
            result.elements.swap(last, other as usize);
        }
        Ok(Datum::Array(Arc::new(result)))
    });
}
