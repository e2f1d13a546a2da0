//! The entry into analysis: a parsed query or expression becomes a typed DataFusion plan.

use super::binder::Binder;
use super::coerce::CastContext;
use super::returned::Surrounding;
use super::scope::Scope;
use crate::catalog::Catalog;
use crate::catalog::descriptor::{ObjectId, Table};
use crate::context::ExprSettings;
use crate::functions::{Registry, Volatility};
use crate::pg_catalog::VirtualTables;
use crate::response::ResultColumn;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast;
use std::sync::Arc;
use types::{Result, SqlType};

/// All that analysis depends on. Cheap to make, one per statement.
pub struct Planner<'a> {
    pub catalog: &'a Arc<Catalog>,
    pub database: ObjectId,
    pub settings: &'a Arc<ExprSettings>,
    pub registry: &'a Arc<Registry>,
    pub virtual_tables: &'a Arc<VirtualTables>,
    /// What stands around a statement that is a part of another.
    pub surrounding: Surrounding<'a>,
}

/// A query that is ready to run any number of times: nothing in it depends on a snapshot.
#[derive(Clone, Debug)]
pub struct AnalyzedQuery {
    /// Typed, with placeholders; not optimised.
    pub plan: LogicalPlan,
    /// What the client sees. Names may repeat; the plan's own are unique.
    pub columns: Arc<[ResultColumn]>,
    pub parameter_types: Vec<SqlType>,
    /// Tables and views it depends on, with their versions.
    pub tables: Vec<(ObjectId, u64)>,
    pub volatility: Volatility,
    /// FOR UPDATE and its kin, in the order written.
    pub locking: Vec<Locking>,
}

/// A row-locking clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Locking {
    pub strength: LockStrength,
    pub wait: LockWait,
    /// Object ids of the tables whose rows are locked.
    pub tables: Vec<ObjectId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockStrength {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    Block,
    NoWait,
    SkipLocked,
}

impl<'a> Planner<'a> {
    /// Analyses a query. `declared` are the parameter types the client gave; `None` is to be inferred.
    pub fn query(&self, query: &ast::Query, declared: &[Option<SqlType>]) -> Result<AnalyzedQuery> {
        let mut binder = Binder::new(self, declared.to_vec());
        let bound = binder.surrounded(|binder| binder.query(query, None))?;
        let bound = binder.settle_unknowns(bound)?;
        let columns = bound
            .columns
            .iter()
            .map(|column| ResultColumn {
                name: column.name.clone(),
                sql_type: column.shown_type(),
                table: column.table,
                attribute: column.attribute,
            })
            .collect();
        let parts = binder.finish();
        let plan = super::nested::settle(bound.plan)?;
        if let Some(acts) = parts.acts {
            super::actions::check_places(&plan, acts)?;
        }
        Ok(AnalyzedQuery {
            plan,
            columns,
            parameter_types: parts.parameter_types,
            tables: parts.tables,
            volatility: parts.volatility,
            locking: parts.locking,
        })
    }

    /// Analyses an expression over the columns of `schema`. With a `target` it is converted to that
    /// type as far as the context allows; otherwise, and when that is not possible, it keeps its own
    /// (the caller compares and words the error). Parameter types found are written to `declared`.
    pub fn scalar(
        &self,
        expr: &ast::Expr,
        schema: &DFSchema,
        target: Option<(&SqlType, CastContext)>,
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<Expr> {
        self.typed_scalar(expr, schema, target, declared)
            .map(|(expr, _)| expr)
    }

    /// [`Planner::scalar`], with the expression's SQL type.
    pub fn typed_scalar(
        &self,
        expr: &ast::Expr,
        schema: &DFSchema,
        target: Option<(&SqlType, CastContext)>,
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<(Expr, SqlType)> {
        let mut binder = Binder::new(self, std::mem::take(declared));
        let scope = Scope::of_schema(schema);
        let result = binder.surrounded(|binder| binder.scalar(expr, &scope, target));
        if let Some(acts) = binder.acts {
            return Err(super::actions::misplaced(acts));
        }
        *declared = binder.into_declared();
        result.map(|typed| (typed.expr, typed.ty))
    }

    /// The columns of a table as a plan's schema: live columns, qualified by `alias`.
    pub fn table_schema(table: &Table, alias: &str) -> Result<DFSchema> {
        let schema = super::provider::arrow_schema(table);
        DFSchema::try_from_qualified_schema(alias, &schema).map_err(super::errors::from_datafusion)
    }
}
