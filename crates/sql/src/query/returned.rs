//! What a data-modifying part of a statement returns, as a table for the parts after it.
//!
//! `WITH d AS (DELETE … RETURNING *) SELECT … FROM d` runs the DELETE first and leaves its rows in
//! [`StatementParts`]; a scan of `ReturnedData` reads them there, so that plans hold no rows.

use super::binder::{Binder, Bound};
use super::errors::{external, from_datafusion};
use super::output_columns::output;
use super::statement::Statement;
use crate::arrow_bridge::{array_from_datums, field};
use crate::context::StatementParts;
use crate::response::ResultColumn;
use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as DfResult, TableReference};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use sqlparser::ast;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

/// The WITH queries around a statement that is a part of another one.
#[derive(Clone, Copy, Default)]
pub struct Surrounding<'a> {
    /// Those that the part may name.
    pub with: Option<&'a ast::With>,
    /// The data-modifying ones among them, in the order in which they run.
    pub returned: &'a [ReturnedRows],
}

/// A data-modifying WITH query that was planned.
pub struct ReturnedRows {
    pub name: String,
    /// `None`: it has no RETURNING.
    pub columns: Option<Arc<[ResultColumn]>>,
}

/// Whether a query's body is a change of rows.
pub fn changes_rows(query: &ast::Query) -> bool {
    matches!(
        query.body.as_ref(),
        ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_)
    )
}

impl Binder<'_> {
    /// Runs `step` with the WITH queries around the statement in reach.
    pub(super) fn surrounded<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let Some(with) = self.planner.surrounding.with else {
            return step(self);
        };
        let outer = self.common_tables.len();
        let result = self.with(with, None).and_then(|()| step(self));
        self.common_tables.truncate(outer);
        result
    }

    /// The rows of the data-modifying WITH query `name`.
    pub(super) fn returned_rows(&mut self, name: &str) -> Result<Bound> {
        let known = self.planner.surrounding.returned;
        let slot = known.iter().position(|r| r.name == name);
        let slot = slot.ok_or_else(|| {
            Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "WITH clause containing a data-modifying statement must be at the top level",
            )
        })?;
        // Without RETURNING there is nothing to see; naming it is an error that `table` finds.
        let shown = known[slot].columns.as_deref().unwrap_or_default();
        let mut columns = Vec::with_capacity(shown.len());
        for (number, column) in shown.iter().enumerate() {
            columns.push(super::binder::OutputColumn {
                internal: format!("returned#{number}"),
                ..output(column.name.clone(), column.sql_type.clone())
            });
        }
        let data = ReturnedData::new(
            slot,
            columns
                .iter()
                .map(|c| (c.internal.clone(), c.ty.clone()))
                .collect(),
        );
        let qualifier = self.qualifier(name);
        let plan = LogicalPlanBuilder::scan(
            TableReference::bare(qualifier),
            provider_as_source(Arc::new(data)),
            None,
        )
        .and_then(|b| b.build())
        .map_err(from_datafusion)?;
        Ok(Bound { plan, columns })
    }

    /// 0A000 for a WITH query that returns nothing.
    pub(super) fn must_return(&self, name: &str) -> Result<()> {
        let known = self.planner.surrounding.returned;
        match known.iter().find(|r| r.name == name) {
            Some(part) if part.columns.is_none() => Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("WITH query \"{name}\" does not have a RETURNING clause"),
            )),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct ReturnedData {
    slot: usize,
    types: Vec<SqlType>,
    schema: SchemaRef,
}

impl ReturnedData {
    fn new(slot: usize, columns: Vec<(String, SqlType)>) -> Self {
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, ty)| field(name, ty, true))
            .collect();
        ReturnedData {
            slot,
            types: columns.into_iter().map(|(_, ty)| ty).collect(),
            schema: Arc::new(Schema::new(fields)),
        }
    }
}

#[async_trait]
impl TableProvider for ReturnedData {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let parts = Statement::of(state.config_options())?.parts.as_deref();
        let rows = parts
            .and_then(|parts: &StatementParts| parts.returned(self.slot))
            .ok_or_else(|| DataFusionError::Internal("a part of WITH has not run".into()))?;
        let all: Vec<usize> = (0..self.types.len()).collect();
        let wanted = projection.unwrap_or(&all);
        let schema: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let mut arrays = Vec::with_capacity(wanted.len());
        for index in wanted {
            let values = rows.iter().map(|row| &row[*index]);
            arrays.push(array_from_datums(values, &self.types[*index]).map_err(external)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?;
        Ok(plan)
    }
}
