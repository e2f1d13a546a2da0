//! Scalar functions and operators, each written once for both roads.
//!
//! A [`ScalarFunction`] works on [`Datum`]s. The direct executor calls it as it is; for DataFusion
//! [`crate::query`] wraps all overloads of a name in one `ScalarUDF`. An overload may also bring an
//! Arrow kernel for speed; a property test holds the two to the same answers.

pub mod aggregates;
pub mod arithmetic;
mod arrays;
mod bytes;
pub mod catalog_functions;
pub mod comparison;
mod datetime;
mod define;
mod float_math;
mod formatting;
mod json;
pub mod json_operators;
mod kernels;
mod math;
pub mod operators;
pub mod pattern;
mod regexp;
mod session;
pub mod sets;
mod strings;
mod text_format;
#[cfg(test)]
mod truth;

use crate::context::StatementContext;
use datafusion::arrow::array::ArrayRef;
use std::collections::BTreeMap;
use types::{Datum, Result, SqlType};

/// How much a call's result can change (PostgreSQL's `provolatile`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Same arguments, same result, for ever: may be folded at planning.
    Immutable,
    /// Fixed within a statement (`now()`, anything that reads the time zone or the catalog).
    Stable,
    /// `random()`, `nextval()`.
    Volatile,
}

/// A parameter's type in a signature; PostgreSQL's polymorphic pseudo-types are the `Any*` ones.
#[derive(Clone, Debug, PartialEq)]
pub enum ArgType {
    Exact(SqlType),
    /// Any type at all (`"any"`).
    Any,
    /// One type for all `AnyElement` of a call; `AnyArray` is an array of it.
    AnyElement,
    AnyArray,
}

/// A result's type.
#[derive(Clone, Debug, PartialEq)]
pub enum ReturnType {
    Exact(SqlType),
    /// The call's `AnyElement` type.
    Element,
    /// An array of it.
    ArrayOfElement,
    /// The type of argument n with its modifier.
    SameAs(usize),
}

pub type Evaluate = fn(&StatementContext, &[Datum]) -> Result<Datum>;

/// An optional vectorised form: whole columns in the Arrow shapes of [`crate::arrow_bridge`].
pub type Kernel = fn(&StatementContext, &[ArrayRef], rows: usize) -> Result<ArrayRef>;

#[derive(Clone)]
pub struct ScalarFunction {
    pub name: &'static str,
    pub arguments: Vec<ArgType>,
    /// The last argument may repeat, also zero times.
    pub variadic: bool,
    pub returns: ReturnType,
    pub volatility: Volatility,
    /// NULL in, NULL out, without a call (PostgreSQL's STRICT).
    pub strict: bool,
    pub evaluate: Evaluate,
    pub kernel: Option<Kernel>,
}

/// All scalar functions by lower-case name. Operators are functions too, under the names of
/// [`operator_function`].
#[derive(Default)]
pub struct Registry {
    by_name: BTreeMap<&'static str, Vec<ScalarFunction>>,
}

impl Registry {
    /// Every function and operator there is.
    pub fn with_all() -> Registry {
        let mut registry = Registry::default();
        operators::register(&mut registry);
        strings::register(&mut registry);
        text_format::register(&mut registry);
        bytes::register(&mut registry);
        regexp::register(&mut registry);
        math::register(&mut registry);
        float_math::register(&mut registry);
        datetime::register(&mut registry);
        formatting::register(&mut registry);
        json::register(&mut registry);
        arrays::register(&mut registry);
        session::register(&mut registry);
        sets::register(&mut registry);
        catalog_functions::register(&mut registry);
        registry
    }

    pub fn add(&mut self, function: ScalarFunction) {
        self.by_name
            .entry(function.name)
            .or_default()
            .push(function);
    }

    pub fn overloads(&self, name: &str) -> &[ScalarFunction] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }
}

/// A function without a body, by its signature as [`define`] reads it.
pub(crate) fn signature(text: &'static str, volatility: Volatility) -> ScalarFunction {
    ScalarFunction {
        volatility,
        ..define::constant(text)
    }
}

/// The registry name under which a binary operator's implementations stand: `+` is `op +`.
pub fn operator_function(symbol: &str) -> String {
    format!("op {symbol}")
}
