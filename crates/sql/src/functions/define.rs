//! How functions are put into the registry, and how their arguments are read.
//!
//! A signature is written as `name(type, type) result` with PostgreSQL's internal type names, as
//! `pg_proc` has them: `lpad(text, int4, text) text`. The polymorphic names are `any`, `anyelement`
//! and `anyarray`; `variadic` before the last type lets it repeat.

use super::arithmetic::wrong_arguments;
use super::{ArgType, Evaluate, Kernel, Registry, ReturnType, ScalarFunction, Volatility};
use crate::context::StatementContext;
use bytes::Bytes;
use std::sync::Arc;
use types::{
    Array, Datum, Error, FormatContext, Interval, Jsonb, Numeric, Result, SqlState, SqlType,
};

/// Adds functions of one volatility.
pub(super) struct Definitions<'a> {
    registry: &'a mut Registry,
    volatility: Volatility,
}

impl<'a> Definitions<'a> {
    pub fn new(registry: &'a mut Registry, volatility: Volatility) -> Self {
        Definitions {
            registry,
            volatility,
        }
    }

    /// A function that is NULL when any argument is, and does not see NULLs.
    pub fn strict(&mut self, signature: &'static str, evaluate: Evaluate) {
        self.add(signature, true, evaluate, None);
    }

    /// A function that is called with NULLs too.
    pub fn nullable(&mut self, signature: &'static str, evaluate: Evaluate) {
        self.add(signature, false, evaluate, None);
    }

    /// A strict function that also has a whole-column form.
    pub fn vectorised(&mut self, signature: &'static str, evaluate: Evaluate, kernel: Kernel) {
        self.add(signature, true, evaluate, Some(kernel));
    }

    fn add(
        &mut self,
        signature: &'static str,
        strict: bool,
        evaluate: Evaluate,
        kernel: Option<Kernel>,
    ) {
        let mut function = constant(signature);
        function.volatility = self.volatility;
        function.strict = strict;
        function.evaluate = evaluate;
        function.kernel = kernel;
        self.registry.add(function);
    }
}

/// A strict function that gives NULL, for its signature.
pub(super) fn constant(signature: &'static str) -> ScalarFunction {
    parse(signature).unwrap_or_else(|| unreachable!("{signature} is a constant that a test reads"))
}

fn parse(signature: &'static str) -> Option<ScalarFunction> {
    let (name, rest) = signature.split_once('(')?;
    let (inside, result) = rest.split_once(')')?;
    let mut variadic = false;
    let mut arguments = Vec::new();
    for argument in inside.split(',').map(str::trim).filter(|a| !a.is_empty()) {
        let argument = match argument.strip_prefix("variadic ") {
            Some(repeated) => {
                variadic = true;
                repeated
            }
            None => argument,
        };
        arguments.push(match argument {
            "any" => ArgType::Any,
            "anyelement" => ArgType::AnyElement,
            "anyarray" => ArgType::AnyArray,
            name => ArgType::Exact(sql_type(name)?),
        });
    }
    let returns = match result.trim() {
        "anyelement" => ReturnType::Element,
        "anyarray" => ReturnType::ArrayOfElement,
        name => ReturnType::Exact(sql_type(name)?),
    };
    Some(ScalarFunction {
        name,
        arguments,
        variadic,
        returns,
        volatility: Volatility::Immutable,
        strict: true,
        evaluate: |_, _| Ok(Datum::Null),
        kernel: None,
    })
}

fn sql_type(name: &str) -> Option<SqlType> {
    match name.strip_suffix("[]") {
        Some(element) => Some(SqlType::array_of(
            SqlType::from_internal_name(element).ok()?,
        )),
        None => SqlType::from_internal_name(name).ok(),
    }
}

// ---- arguments --------------------------------------------------------------------------------

fn wrong(args: &[Datum], index: usize) -> Error {
    wrong_arguments(&format!(
        "a function of {} with argument {index}",
        args.len()
    ))
}

macro_rules! reader {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(super) fn $name(args: &[Datum], index: usize) -> Result<$type> {
            match args.get(index) {
                Some(Datum::$variant(value)) => Ok(value.clone()),
                _ => Err(wrong(args, index)),
            }
        }
    };
}

reader!(boolean, Bool, bool);
reader!(int4, Int4, i32);
reader!(int8, Int8, i64);
reader!(float8, Float8, f64);
reader!(oid, Oid, u32);
reader!(numeric, Numeric, Numeric);
reader!(bytea, Bytea, Bytes);
reader!(date, Date, i32);
reader!(time, Time, i64);
reader!(timestamp, Timestamp, i64);
reader!(timestamptz, TimestampTz, i64);
reader!(interval, Interval, Interval);
reader!(array, Array, Arc<Array>);
reader!(jsonb, Jsonb, Jsonb);

pub(super) fn text(args: &[Datum], index: usize) -> Result<&str> {
    args.get(index)
        .and_then(Datum::as_str)
        .ok_or_else(|| wrong(args, index))
}

/// The texts of a `text[]`, NULLs as `None`.
pub(super) fn texts(args: &[Datum], index: usize) -> Result<Vec<Option<String>>> {
    let array = array(args, index)?;
    Ok(array
        .elements
        .iter()
        .map(|element| element.as_str().map(str::to_string))
        .collect())
}

pub(super) fn text_array<T: AsRef<str>>(items: impl IntoIterator<Item = Option<T>>) -> Datum {
    let elements = items
        .into_iter()
        .map(|item| item.map_or(Datum::Null, |text| Datum::Text(text.as_ref().into())))
        .collect();
    Datum::Array(Arc::new(Array::from_elements(SqlType::Text, elements)))
}

/// A text result.
pub(super) fn text_datum(text: impl Into<Arc<str>>) -> Result<Datum> {
    Ok(Datum::Text(text.into()))
}

/// The text form of a value of unknown declared type.
pub(super) fn shown(context: &StatementContext, datum: &Datum) -> String {
    let sql_type = super::operators::type_of_datum(datum);
    datum.to_text(&sql_type, &format_context(context))
}

pub(super) fn format_context(context: &StatementContext) -> FormatContext {
    crate::query::casts::format_context(&context.settings)
}

pub(super) fn zone(context: &StatementContext) -> types::TimeZone {
    types::TimeZone::parse(&context.settings.time_zone).unwrap_or_default()
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

pub(super) fn out_of_range(message: impl Into<String>) -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

/// The longest value a function may make: PostgreSQL's 1 GB.
pub(super) const MAX_VALUE_BYTES: usize = 0x3fff_ffff;

pub(super) fn check_length(bytes: usize) -> Result<()> {
    if bytes > MAX_VALUE_BYTES {
        return Err(Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "requested length too large",
        ));
    }
    Ok(())
}
