//! SQL: from statement text to rows.
//!
//! Two roads, one semantics. Every statement is analysed once, by our own binder, into a typed
//! DataFusion `LogicalPlan` with PostgreSQL's rules ([`query`]). Point reads and writes, short ranges
//! and single-table changes then run on the [`direct`] executor; everything else is a DataFusion
//! physical plan. Both roads evaluate the same analysed expressions.

pub mod arrow_bridge;
pub mod catalog;
pub mod cluster;
pub mod context;
pub mod copy;
pub mod ddl;
pub mod direct;
pub mod dml;
pub mod functions;
pub mod instance;
pub mod pg_catalog;
pub mod plan_cache;
pub mod query;
pub mod response;
pub mod session;
pub mod statement;
pub mod table_codec;
pub mod text;

#[cfg(test)]
mod test_effects;
#[cfg(test)]
mod test_world;
