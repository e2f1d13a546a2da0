//! The operators of text, bytes, bits and arrays; those of numbers and times are in
//! [`super::arithmetic`], LIKE is in [`super::comparison`].
//!
//! A binary operator `X` stands in the registry as `op X`, a prefix one as `op Xu`.

use super::arithmetic::wrong_arguments;
use super::{
    ArgType, Registry, ReturnType, ScalarFunction, Volatility, arithmetic, comparison,
    json_operators, pattern,
};
use std::sync::Arc;
use types::array::ArrayDim;
use types::{Array, Datum, Error, Result, SqlState, SqlType};

/// Puts all operators into the registry.
pub fn register(registry: &mut Registry) {
    arithmetic::register(registry);
    comparison::register(registry);
    json_operators::register(registry);
    pattern::register(registry);
    text_operators(registry);
    array_operators(registry);
}

fn text_operators(registry: &mut Registry) {
    arithmetic::add(
        registry,
        "op ||",
        &[SqlType::Text, SqlType::Text],
        SqlType::Text,
        |_, args| match args {
            [Datum::Text(a), Datum::Text(b)] => {
                let mut out = String::with_capacity(a.len() + b.len());
                out.push_str(a);
                out.push_str(b);
                Ok(Datum::Text(out.into()))
            }
            _ => Err(wrong_arguments("op ||")),
        },
    );
    arithmetic::add(
        registry,
        "op ||",
        &[SqlType::Bytea, SqlType::Bytea],
        SqlType::Bytea,
        |_, args| match args {
            [Datum::Bytea(a), Datum::Bytea(b)] => {
                Ok(Datum::Bytea([&a[..], &b[..]].concat().into()))
            }
            _ => Err(wrong_arguments("op ||")),
        },
    );
}

fn polymorphic(
    registry: &mut Registry,
    name: &'static str,
    arguments: [ArgType; 2],
    returns: ReturnType,
    strict: bool,
    evaluate: super::Evaluate,
) {
    registry.add(ScalarFunction {
        name,
        arguments: arguments.into(),
        variadic: false,
        returns,
        volatility: Volatility::Immutable,
        strict,
        evaluate,
        kernel: None,
    });
}

fn array_operators(registry: &mut Registry) {
    use ArgType::{AnyArray, AnyElement};
    let bool_result = || ReturnType::Exact(SqlType::Bool);
    polymorphic(
        registry,
        "op @>",
        [AnyArray, AnyArray],
        bool_result(),
        true,
        |_, args| {
            let (a, b) = two_arrays("op @>", args)?;
            Ok(Datum::Bool(array_contains(a, b)))
        },
    );
    polymorphic(
        registry,
        "op <@",
        [AnyArray, AnyArray],
        bool_result(),
        true,
        |_, args| {
            let (a, b) = two_arrays("op <@", args)?;
            Ok(Datum::Bool(array_contains(b, a)))
        },
    );
    polymorphic(
        registry,
        "op &&",
        [AnyArray, AnyArray],
        bool_result(),
        true,
        |_, args| {
            let (a, b) = two_arrays("op &&", args)?;
            Ok(Datum::Bool(
                b.elements.iter().any(|element| array_has(a, element)),
            ))
        },
    );
    let array = || ReturnType::ArrayOfElement;
    polymorphic(
        registry,
        "op ||",
        [AnyArray, AnyArray],
        array(),
        false,
        |_, args| match args {
            [Datum::Null, other] | [other, Datum::Null] => Ok(other.clone()),
            [Datum::Array(a), Datum::Array(b)] => concatenate(a, b).map(Datum::Array),
            _ => Err(wrong_arguments("op ||")),
        },
    );
    polymorphic(
        registry,
        "op ||",
        [AnyArray, AnyElement],
        array(),
        false,
        |_, args| match args {
            [Datum::Array(a), element] => append(a, element).map(Datum::Array),
            [Datum::Null, Datum::Null] => Ok(Datum::Null),
            [Datum::Null, element] => Ok(single(element)),
            _ => Err(wrong_arguments("op ||")),
        },
    );
    polymorphic(
        registry,
        "op ||",
        [AnyElement, AnyArray],
        array(),
        false,
        |_, args| match args {
            [element, Datum::Array(a)] => prepend(element, a).map(Datum::Array),
            [Datum::Null, Datum::Null] => Ok(Datum::Null),
            [element, Datum::Null] => Ok(single(element)),
            _ => Err(wrong_arguments("op ||")),
        },
    );
}

fn two_arrays<'a>(name: &str, args: &'a [Datum]) -> Result<(&'a Array, &'a Array)> {
    match args {
        [Datum::Array(a), Datum::Array(b)] => Ok((a, b)),
        _ => Err(wrong_arguments(name)),
    }
}

fn array_has(array: &Array, element: &Datum) -> bool {
    !element.is_null()
        && array
            .elements
            .iter()
            .any(|own| !own.is_null() && own.sql_eq(element))
}

/// Every element of `b` is one of `a`; NULL is in nothing.
fn array_contains(a: &Array, b: &Array) -> bool {
    b.elements.iter().all(|element| array_has(a, element))
}

fn incompatible() -> Error {
    Error::new(
        SqlState::ARRAY_SUBSCRIPT_ERROR,
        "cannot concatenate incompatible arrays",
    )
}

/// Arrays of equal shape join along their first dimension; one with a dimension less is one element
/// of the other.
pub fn concatenate(a: &Arc<Array>, b: &Arc<Array>) -> Result<Arc<Array>> {
    if a.dims.is_empty() {
        return Ok(b.clone());
    }
    if b.dims.is_empty() {
        return Ok(a.clone());
    }
    let lens = |dims: &[ArrayDim]| dims.iter().map(|dim| dim.len).collect::<Vec<_>>();
    let mut dims = if a.dims.len() >= b.dims.len() {
        a.dims.clone()
    } else {
        b.dims.clone()
    };
    let added = if a.dims.len() == b.dims.len() {
        if lens(&a.dims[1..]) != lens(&b.dims[1..]) {
            return Err(incompatible());
        }
        b.dims[0].len
    } else if a.dims.len() == b.dims.len() + 1 {
        if lens(&a.dims[1..]) != lens(&b.dims) {
            return Err(incompatible());
        }
        1
    } else if b.dims.len() == a.dims.len() + 1 {
        if lens(&b.dims[1..]) != lens(&a.dims) {
            return Err(incompatible());
        }
        1
    } else {
        return Err(incompatible());
    };
    dims[0].len = dims[0].len.checked_add(added).ok_or_else(incompatible)?;
    let elements = a.elements.iter().chain(&b.elements).cloned().collect();
    Ok(Arc::new(Array {
        element_type: a.element_type.clone(),
        dims,
        elements,
    }))
}

fn one_dimension(array: &Array) -> Result<()> {
    if array.dims.len() > 1 {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "argument must be empty or one-dimensional array",
        ));
    }
    Ok(())
}

/// `array_append`.
pub fn append(array: &Arc<Array>, element: &Datum) -> Result<Arc<Array>> {
    one_dimension(array)?;
    let mut out = Array::clone(array);
    out.elements.push(element.clone());
    grow(&mut out);
    Ok(Arc::new(out))
}

/// `array_prepend`: the lower bound stays.
pub fn prepend(element: &Datum, array: &Arc<Array>) -> Result<Arc<Array>> {
    one_dimension(array)?;
    let mut out = Array::clone(array);
    out.elements.insert(0, element.clone());
    grow(&mut out);
    Ok(Arc::new(out))
}

fn grow(array: &mut Array) {
    match array.dims.first_mut() {
        Some(dim) => dim.len += 1,
        None => array.dims.push(ArrayDim {
            len: 1,
            lower_bound: 1,
        }),
    }
}

fn single(element: &Datum) -> Datum {
    let element_type = type_of_datum(element);
    Datum::Array(Arc::new(Array::from_elements(
        element_type,
        vec![element.clone()],
    )))
}

/// The type of a value by itself, where nothing else tells it.
pub fn type_of_datum(datum: &Datum) -> SqlType {
    match datum {
        Datum::Null | Datum::Text(_) => SqlType::Text,
        Datum::Bool(_) => SqlType::Bool,
        Datum::Int2(_) => SqlType::Int2,
        Datum::Int4(_) => SqlType::Int4,
        Datum::Int8(_) => SqlType::Int8,
        Datum::Oid(_) => SqlType::Oid,
        Datum::Float4(_) => SqlType::Float4,
        Datum::Float8(_) => SqlType::Float8,
        Datum::Numeric(_) => SqlType::Numeric(None),
        Datum::Bytea(_) => SqlType::Bytea,
        Datum::Date(_) => SqlType::Date,
        Datum::Time(_) => SqlType::Time,
        Datum::Timestamp(_) => SqlType::Timestamp,
        Datum::TimestampTz(_) => SqlType::TimestampTz,
        Datum::Interval(_) => SqlType::Interval,
        Datum::Uuid(_) => SqlType::Uuid,
        Datum::Json(_) => SqlType::Json,
        Datum::Jsonb(_) => SqlType::Jsonb,
        Datum::Array(array) => SqlType::array_of(array.element_type.clone()),
    }
}
