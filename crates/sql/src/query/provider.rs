//! Stored tables inside plans: the table provider.
//!
//! A scan reads pages of rows at the statement's snapshot through [`crate::context::ReadView`] and
//! decodes the wanted columns straight into Arrow builders. Absent columns (added after a row was
//! written) get the value that the descriptor says. Pages may be in memory already ([`super::columns`]).

use super::access::{key_condition, probe, spans_of};
use super::columns::{ColumnCache, Found};
use super::errors::external;
use super::scan::{GROWN_PAGE_ROWS, Keeper, PAGE_ROWS, Scan, ScanExec, Segment};
use super::statement::Statement;
use crate::arrow_bridge::field;
use crate::catalog::descriptor::Table;
use crate::context::ReadView;
use crate::table_codec::TableCodec;
use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ColumnStatistics, Result};
use datafusion::datasource::DefaultTableSource;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::try_join_all;
use std::fmt;
use std::sync::Arc;
use txn::kv::Span;

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

    /// Where the columns at these positions are, span after span.
    fn look_up(
        &self,
        cache: &Arc<ColumnCache>,
        columns: &[usize],
        spans: &[Span],
        view: &ReadView,
    ) -> (Vec<Found>, Vec<ColumnStatistics>, Option<Keeper>) {
        let mut parts = Vec::with_capacity(spans.len());
        let mut statistics = Vec::new();
        let mut keeper = None;
        for span in spans {
            let found = cache.find(&self.table, columns, span, view);
            if found
                .parts
                .iter()
                .any(|p| matches!(p, Found::Memory { .. }))
            {
                view.note_read(span);
            }
            parts.extend(found.parts);
            statistics = found.statistics;
            // All of them are one scan: the first name keeps what the others find.
            keeper.get_or_insert_with(|| Keeper::new(cache.clone(), found.scan));
        }
        (parts, statistics, keeper)
    }
}

/// How a scan makes segments of what the cache has found.
struct SegmentPlan<'a> {
    view: &'a ReadView,
    schema: &'a SchemaRef,
    partitions: usize,
    /// The cache may have what nobody has read yet.
    keep: bool,
    limit: Option<usize>,
}

impl SegmentPlan<'_> {
    async fn segments(&self, part: Found) -> Result<Vec<Segment>> {
        Ok(match part {
            Found::Memory { rows, arrays } => {
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let schema = self.schema.clone();
                let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
                vec![Segment::Memory(batch)]
            }
            Found::Store {
                span,
                rows,
                also,
                keep,
            } => vec![Segment::Store {
                span,
                rows: Some(rows),
                page_rows: GROWN_PAGE_ROWS,
                also,
                keep,
            }],
            Found::Gap(span) => {
                let keep = self.keep && !self.view.has_own_writes(&span);
                let (spans, rows) = match self.limit {
                    Some(limit) if limit <= PAGE_ROWS => (vec![span], None),
                    _ => {
                        let facts = probe(self.view, span, self.partitions).await;
                        let facts = facts.map_err(external)?;
                        let rows = facts.rows as usize / facts.parts.len().max(1);
                        (facts.parts, Some(rows))
                    }
                };
                let store = |span| Segment::Store {
                    span,
                    rows,
                    page_rows: PAGE_ROWS,
                    also: Vec::new(),
                    keep,
                };
                spans.into_iter().map(store).collect()
            }
        })
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
        let spans = spans_of(codec, filters);
        let bounded = filters.iter().any(|f| key_condition(codec, f).is_some());
        let columns: Vec<usize> = wanted.iter().map(|i| self.positions[*i]).collect();
        let schema: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let view = &context.view;
        let (parts, statistics, keeper) = match Statement::columns(state.config_options()) {
            Some(cache) => self.look_up(cache, &columns, &spans, view),
            None => (
                spans.iter().cloned().map(Found::Gap).collect(),
                Vec::new(),
                None,
            ),
        };
        let partitions = state.config().target_partitions();
        let plan = SegmentPlan {
            view,
            schema: &schema,
            partitions,
            keep: !bounded,
            limit,
        };
        let segments = parts.into_iter().map(|part| plan.segments(part));
        let segments = try_join_all(segments).await?.into_iter().flatten();
        let segments = segments.collect();
        let scan = Scan {
            table: self.table.clone(),
            codec: codec.clone(),
            schema,
            columns,
            limit,
            bounded,
            buckets: match codec.buckets() {
                0 => None,
                all => Some((spans.len() as u16, all)),
            },
            keeper: keeper.filter(|_| limit.is_none()),
            context,
        };
        Ok(Arc::new(ScanExec::new(
            scan, segments, statistics, partitions,
        )))
    }
}
