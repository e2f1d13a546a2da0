//! The direct executor: statements that touch a few rows of one table, without a DataFusion plan.
//!
//! [`compile_query`] looks at an analysed plan. If it reads one table through a bounded part of its
//! primary key or of an index, or no table at all, the plan becomes a [`DirectQuery`]: an access path
//! ([`access`]), then a short list of steps over rows. Anything else is left to DataFusion.
//!
//! Expressions become [`Scalar`]s, trees over [`types::Datum`]. An expression that has no tree of its
//! own is evaluated by DataFusion on one row (`physical`), so the two roads have one meaning.
//!
//! Decisions that depend on values (which keys, NULL in a bound, LIMIT) are made at execution, since
//! plans are shared by executions with different parameters.

pub mod access;
mod bounds;
mod choice;
mod compile;
pub mod cursor;
mod describe;
mod merge;
mod physical;
pub mod query;
pub mod scalar;
mod scalar_compile;
mod scalar_eval;
mod steps;

#[cfg(test)]
mod property_tests;

pub use access::{AccessPath, Locator};
pub use compile::compile_query;
pub use query::{DirectQuery, RowLock};
pub use scalar::{Input, Scalar};
pub use scalar_eval::convert;
