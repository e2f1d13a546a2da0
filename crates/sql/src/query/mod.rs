//! Queries: PostgreSQL's semantics on DataFusion.
//!
//! A statement's query goes through three steps.
//!
//! 1. **Binding** ([`planner::Planner`]). Syntax becomes a typed `LogicalPlan`. Names are resolved by
//!    PostgreSQL's rules (`scope`), unknown literals and parameters take types from their context,
//!    every operator and function is resolved to one overload ([`overload`]) with explicit
//!    conversions ([`casts`]) around its arguments. Errors are PostgreSQL's because they are found
//!    here, where PostgreSQL finds them.
//! 2. The plan is cached or not, runs on the direct road if it is simple enough, or
//! 3. **Execution** ([`runtime::Runtime`]): parameters are filled in, DataFusion optimises and runs
//!    the plan over our table provider ([`provider`]) at the statement's snapshot.
//!
//! What a plan's parts mean to other modules:
//!
//! | In the plan | It is |
//! | --- | --- |
//! | a scan whose source holds a [`provider::TableData`] | a stored table ([`provider::table_of`]) |
//! | a call of a [`functions::FunctionUdf`] | one overload of a registry function or operator |
//! | a call of a [`casts::CastUdf`] | a conversion with PostgreSQL's rules |
//! | a DataFusion `Cast` | a conversion that Arrow makes alike and that cannot fail |
//! | `=`, `<` … as a `BinaryExpr` | a comparison of two values of one type |
//! | `Like` | LIKE with `\` as escape |
//!
//! **Numerics.** In a plan a numeric is a decimal of known scale wherever the scale follows from the
//! expression: `numeric(15,2) * (1 - numeric(15,2))` has scale 4, as PostgreSQL shows it. Where it
//! does not (an unconstrained column, a quotient, a CASE over several scales) every value carries its
//! own, in its stored form, and only the registry's functions compute with it.
//!
//! **Equality.** A bound plan compares values of one type, whatever the type. Where SQL's equality is
//! not Arrow's (`equality`), DataFusion is given keys to compare.

pub(crate) mod access;
mod actions;
pub(crate) mod aggregate_types;
pub(crate) mod aggregates;
pub(crate) mod array_expressions;
pub(crate) mod binder;
pub(crate) mod branches;
pub(crate) mod calls;
pub(crate) mod case_sums;
pub mod casts;
pub mod coerce;
pub mod columns;
pub(crate) mod comparisons;
pub(crate) mod decode;
pub(crate) mod equality;
pub mod errors;
pub(crate) mod expressions;
pub(crate) mod facts;
pub(crate) mod from;
mod from_functions;
mod from_tables;
pub mod functions;
mod grouping;
pub(crate) mod kernels;
pub(crate) mod key_function;
mod limit;
pub(crate) mod literals;
mod locking;
pub(crate) mod maybe_null;
pub(crate) mod memory;
pub mod names;
mod nested;
pub(crate) mod nested_function;
pub mod object_names;
pub(crate) mod operators;
mod ordering;
pub(crate) mod output_columns;
pub mod overload;
pub mod planner;
pub(crate) mod predicates;
pub mod provider;
pub(crate) mod quantified;
pub mod returned;
pub mod runtime;
pub(crate) mod scan;
pub(crate) mod scope;
pub(crate) mod select;
mod select_list;
pub(crate) mod set_functions;
mod set_operations;
pub(crate) mod sleep;
pub mod statement;
mod subexpressions;
pub mod type_names;
pub mod virtual_table;
pub(crate) mod windows;
mod with;

pub use casts::CastUdf;
pub use coerce::CastContext;
pub use functions::FunctionUdf;
pub use planner::{AnalyzedQuery, LockStrength, LockWait, Locking, Planner};
pub use provider::{TableData, table_of};
pub use runtime::Runtime;

/// Whether a function runs a query, so that it needs more than its row.
pub(crate) fn runs_a_query(function: &datafusion::logical_expr::ScalarUDF) -> bool {
    nested_function::NestedQuery::is(function)
}

#[cfg(test)]
mod columns_tests;
#[cfg(test)]
mod function_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tpch_tests;
