//! Comparisons of a value with the elements of an array, and the small array functions behind
//! `ARRAY[…]` and `a[i]`.
//!
//! They are ordinary [`ScalarFunction`]s, so both roads run them, but they are named by syntax only
//! and stand in no registry.

use crate::context::StatementContext;
use crate::functions::{ArgType, Evaluate, ReturnType, ScalarFunction, Volatility};
use datafusion::logical_expr::Operator;
use std::cmp::Ordering;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

const EQ: u8 = 0;
const NE: u8 = 1;
const LT: u8 = 2;
const LE: u8 = 3;
const GT: u8 = 4;
const GE: u8 = 5;

fn holds<const OP: u8>(ordering: Ordering) -> bool {
    match OP {
        EQ => ordering == Ordering::Equal,
        NE => ordering != Ordering::Equal,
        LT => ordering == Ordering::Less,
        LE => ordering != Ordering::Greater,
        GT => ordering == Ordering::Greater,
        _ => ordering != Ordering::Less,
    }
}

fn two(arguments: &[Datum]) -> Result<(&Datum, &Datum)> {
    match arguments {
        [a, b] => Ok((a, b)),
        _ => Err(Error::internal("a comparison without two operands")),
    }
}

/// `value op ANY (array)` and `value op ALL (array)` in three-valued logic.
fn with_elements<const OP: u8, const ALL: bool>(
    _: &StatementContext,
    arguments: &[Datum],
) -> Result<Datum> {
    let (value, list) = two(arguments)?;
    let Datum::Array(list) = list else {
        return Ok(Datum::Null);
    };
    let mut unknown = false;
    for element in &list.elements {
        if matches!(value, Datum::Null) || matches!(element, Datum::Null) {
            unknown = true;
        } else if holds::<OP>(value.compare(element)) != ALL {
            return Ok(Datum::Bool(!ALL));
        }
    }
    Ok(if unknown {
        Datum::Null
    } else {
        Datum::Bool(ALL)
    })
}

fn function(
    name: &'static str,
    arguments: Vec<ArgType>,
    returns: ReturnType,
    strict: bool,
    evaluate: Evaluate,
) -> ScalarFunction {
    ScalarFunction {
        name,
        arguments,
        variadic: false,
        returns,
        volatility: Volatility::Immutable,
        strict,
        evaluate,
        kernel: None,
    }
}

fn boolean() -> ReturnType {
    ReturnType::Exact(SqlType::Bool)
}

/// A comparison of a value with any or all elements of an array.
pub fn array_comparison(operator: Operator, all: bool) -> ScalarFunction {
    let (name, evaluate): (_, Evaluate) = match (operator, all) {
        (Operator::NotEq, false) => ("op <> any", with_elements::<NE, false>),
        (Operator::Lt, false) => ("op < any", with_elements::<LT, false>),
        (Operator::LtEq, false) => ("op <= any", with_elements::<LE, false>),
        (Operator::Gt, false) => ("op > any", with_elements::<GT, false>),
        (Operator::GtEq, false) => ("op >= any", with_elements::<GE, false>),
        (_, false) => ("op = any", with_elements::<EQ, false>),
        (Operator::NotEq, true) => ("op <> all", with_elements::<NE, true>),
        (Operator::Lt, true) => ("op < all", with_elements::<LT, true>),
        (Operator::LtEq, true) => ("op <= all", with_elements::<LE, true>),
        (Operator::Gt, true) => ("op > all", with_elements::<GT, true>),
        (Operator::GtEq, true) => ("op >= all", with_elements::<GE, true>),
        (_, true) => ("op = all", with_elements::<EQ, true>),
    };
    let arguments = vec![ArgType::AnyElement, ArgType::AnyArray];
    function(name, arguments, boolean(), false, evaluate)
}

fn build_array(_: &StatementContext, arguments: &[Datum]) -> Result<Datum> {
    // The element type of the arguments is the call's; NULLs alone leave it to the column.
    let nested: Vec<&types::Array> = arguments
        .iter()
        .filter_map(|a| match a {
            Datum::Array(array) => Some(array.as_ref()),
            _ => None,
        })
        .collect();
    if let Some(first) = nested.first() {
        let element = first.element_type.clone();
        return Ok(Datum::Array(Arc::new(types::Array::nest(
            element, &nested,
        )?)));
    }
    let element = arguments
        .iter()
        .find_map(type_of_value)
        .unwrap_or(SqlType::Text);
    Ok(Datum::Array(Arc::new(types::Array::from_elements(
        element,
        arguments.to_vec(),
    ))))
}

/// A type whose values look like `value`.
fn type_of_value(value: &Datum) -> Option<SqlType> {
    Some(match value {
        Datum::Null => return None,
        Datum::Bool(_) => SqlType::Bool,
        Datum::Int2(_) => SqlType::Int2,
        Datum::Int4(_) => SqlType::Int4,
        Datum::Int8(_) => SqlType::Int8,
        Datum::Oid(_) => SqlType::Oid,
        Datum::Float4(_) => SqlType::Float4,
        Datum::Float8(_) => SqlType::Float8,
        Datum::Numeric(_) => SqlType::Numeric(None),
        Datum::Text(_) => SqlType::Text,
        Datum::Bytea(_) => SqlType::Bytea,
        Datum::Date(_) => SqlType::Date,
        Datum::Time(_) => SqlType::Time,
        Datum::Timestamp(_) => SqlType::Timestamp,
        Datum::TimestampTz(_) => SqlType::TimestampTz,
        Datum::Interval(_) => SqlType::Interval,
        Datum::Uuid(_) => SqlType::Uuid,
        Datum::Json(_) => SqlType::Json,
        Datum::Jsonb(_) => SqlType::Jsonb,
        Datum::Array(array) => SqlType::Array(Box::new(array.element_type.clone())),
    })
}

/// `ARRAY[a, b, …]`.
pub fn array_constructor() -> ScalarFunction {
    ScalarFunction {
        variadic: true,
        ..function(
            "array",
            vec![ArgType::AnyElement],
            ReturnType::ArrayOfElement,
            false,
            build_array,
        )
    }
}

/// `a[i]`: NULL outside the bounds.
pub fn subscript() -> ScalarFunction {
    function(
        "array_subscript",
        vec![ArgType::AnyArray, ArgType::Exact(SqlType::Int4)],
        ReturnType::Element,
        true,
        |_, arguments| match arguments {
            [Datum::Array(array), Datum::Int4(index)] => Ok(array.subscript(&[*index])),
            _ => Ok(Datum::Null),
        },
    )
}

/// The first argument, whatever the others are: `pg_typeof` knows its answer before it runs.
pub fn first_argument() -> ScalarFunction {
    function(
        "pg_typeof",
        vec![ArgType::Exact(SqlType::Regtype), ArgType::Any],
        ReturnType::Exact(SqlType::Regtype),
        false,
        |_, arguments| Ok(arguments.first().cloned().unwrap_or(Datum::Null)),
    )
}

fn pick<const GREATEST: bool>(_: &StatementContext, arguments: &[Datum]) -> Result<Datum> {
    let mut best = &Datum::Null;
    for candidate in arguments {
        if matches!(candidate, Datum::Null) {
            continue;
        }
        let better = match best {
            Datum::Null => true,
            current => {
                let wanted = if GREATEST {
                    Ordering::Greater
                } else {
                    Ordering::Less
                };
                candidate.compare(current) == wanted
            }
        };
        if better {
            best = candidate;
        }
    }
    Ok(best.clone())
}

/// GREATEST and LEAST, which pass over NULLs.
pub fn extreme(greatest: bool) -> ScalarFunction {
    let (name, evaluate): (_, Evaluate) = if greatest {
        ("greatest", pick::<true>)
    } else {
        ("least", pick::<false>)
    };
    ScalarFunction {
        variadic: true,
        ..function(
            name,
            vec![ArgType::AnyElement],
            ReturnType::Element,
            false,
            evaluate,
        )
    }
}
