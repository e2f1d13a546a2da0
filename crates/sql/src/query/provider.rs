//! Stored tables inside plans: the table provider.
//!
//! A scan reads pages of rows at the statement's snapshot through [`crate::context::ReadView`] and
//! decodes the wanted columns straight into Arrow builders. Absent columns (added after a row was
//! written) get the value that the descriptor says. Pages may be in memory already ([`super::columns`]).

use super::access::{key_condition, probe, span_of};
use super::columns::Found;
use super::errors::external;
use super::scan::{GROWN_PAGE_ROWS, Keeper, PAGE_ROWS, Scan, ScanExec, Segment};
use super::statement::Statement;
use crate::arrow_bridge::field;
use crate::catalog::descriptor::Table;
use crate::table_codec::TableCodec;
use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::DefaultTableSource;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::fmt;
use std::sync::Arc;

/// A stored table as DataFusion scans it.
pub struct TableData {
    pub table: Arc<Table>,
    schema: SchemaRef,
    /// An error if the descriptor makes no sense; then its scans say so.
    codec: types::Result<Arc<TableCodec>>,
    /// Positions in the stored row of the schema's columns.
    positions: Vec<usize>,
}

impl fmt::Debug for TableData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableData({})", self.table.name)
    }
}

/// The Arrow schema of a table's live columns.
pub fn arrow_schema(table: &Table) -> Schema {
    Schema::new(
        table
            .live_columns()
            .map(|(_, c)| field(&c.name, &c.sql_type, !c.not_null))
            .collect::<Vec<_>>(),
    )
}

/// The stored table behind a scan's source, if it is one.
pub fn table_of(source: &Arc<dyn TableSource>) -> Option<&Arc<Table>> {
    let source = source.as_ref();
    let provider = source.downcast_ref::<DefaultTableSource>()?;
    let provider: &dyn std::any::Any = provider.table_provider.as_ref();
    provider.downcast_ref::<TableData>().map(|data| &data.table)
}

impl TableData {
    pub fn new(table: Arc<Table>) -> Self {
        TableData {
            schema: Arc::new(arrow_schema(&table)),
            codec: TableCodec::new(table.clone()).map(Arc::new),
            positions: table.live_columns().map(|(position, _)| position).collect(),
            table,
        }
    }

    fn codec(&self) -> Result<&Arc<TableCodec>> {
        self.codec.as_ref().map_err(|e| external(e.clone()))
    }
}

#[async_trait]
impl TableProvider for TableData {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let codec = self.codec()?;
        Ok(filters
            .iter()
            .map(|filter| match key_condition(codec, filter) {
                Some(_) => TableProviderFilterPushDown::Inexact,
                None => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let context = Statement::of(state.config_options())?.clone();
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let codec = self.codec()?;
        let whole = span_of(codec, filters);
        let bounded = filters.iter().any(|f| key_condition(codec, f).is_some());
        let columns: Vec<usize> = wanted.iter().map(|i| self.positions[*i]).collect();
        let schema: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let partitions = state.config().target_partitions();
        let view = &context.view;
        let cache = Statement::columns(state.config_options());
        let (parts, statistics, keeper) = match cache {
            Some(cache) => {
                let found = cache.find(&self.table, &columns, &whole, view);
                let keeper = Keeper::new(cache.clone(), found.scan);
                (found.parts, found.statistics, Some(keeper))
            }
            None => (vec![Found::Gap(whole.clone())], Vec::new(), None),
        };
        if parts
            .iter()
            .any(|part| matches!(part, Found::Memory { .. }))
        {
            view.note_read(&whole);
        }
        let mut segments = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Found::Memory { rows, arrays } => {
                    let options = RecordBatchOptions::new().with_row_count(Some(rows));
                    let batch =
                        RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?;
                    segments.push(Segment::Memory(batch));
                }
                Found::Store {
                    span,
                    rows,
                    also,
                    keep,
                } => segments.push(Segment::Store {
                    span,
                    rows: Some(rows),
                    page_rows: GROWN_PAGE_ROWS,
                    also,
                    keep,
                }),
                Found::Gap(span) => {
                    let keep = !bounded && !view.has_own_writes(&span);
                    let (spans, rows) = match limit {
                        Some(limit) if limit <= PAGE_ROWS => (vec![span], None),
                        _ => {
                            let facts = probe(view, span, partitions).await.map_err(external)?;
                            let rows = facts.rows as usize / facts.parts.len().max(1);
                            (facts.parts, Some(rows))
                        }
                    };
                    segments.extend(spans.into_iter().map(|span| Segment::Store {
                        span,
                        rows,
                        page_rows: PAGE_ROWS,
                        also: Vec::new(),
                        keep,
                    }));
                }
            }
        }
        let scan = Scan {
            table: self.table.clone(),
            codec: codec.clone(),
            schema,
            columns,
            limit,
            bounded,
            keeper: keeper.filter(|_| limit.is_none()),
            context,
        };
        Ok(Arc::new(ScanExec::new(
            scan, segments, statistics, partitions,
        )))
    }
}
